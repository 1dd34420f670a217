"""Chapter 6's planted wrong answers."""

import itertools

import torch

from ..wrong import wrong
from .solutions import as_low_rank, entry, multiply, one_sweep

# 6.1


@wrong("6.1", "row and column exchanged", says="this is M[n, m]")
def exchanged(m, n, left, right):
    return entry(n, m, left, right)


@wrong("6.1", "levels that are not shared", says="do not share adds nothing")
def all_levels(m, n, left, right):
    return sum(
        u[m // u.shape[1], m % u.shape[1]] @ v[n // v.shape[1], n % v.shape[1]]
        for u, v in zip(left, right, strict=True)
    )


@wrong("6.1", "the finest shared level alone", says="not the finest of them alone")
def finest(m, n, left, right):
    shared = [l for l, u in enumerate(left) if m // u.shape[1] == n // u.shape[1]]
    return entry(m, n, left[shared[-1] :][:1], right[shared[-1] :][:1])


@wrong("6.1", "the first level forgotten", says="the first level is shared by all pairs")
def no_first(m, n, left, right):
    return entry(m, n, left[1:], right[1:])


@wrong("6.1", "the row's place for the column too", says="n % size, not m % size")
def same_place(m, n, left, right):
    return sum(
        u[m // u.shape[1], m % u.shape[1]] @ v[n // v.shape[1], m % v.shape[1]]
        for u, v in zip(left, right, strict=True)
        if m // u.shape[1] == n // u.shape[1]
    )


@wrong("6.1", "always the first block", says="not always the first")
def first_block(m, n, left, right):
    pairs = [(u, v) for u, v in zip(left, right, strict=True) if m // u.shape[1] == n // u.shape[1]]
    return sum(u[0, m % u.shape[1]] @ v[0, n % v.shape[1]] for u, v in pairs)


# 6.2


@wrong("6.2", "the transpose", says="this is M^T x")
def transposed(x, left, right):
    return multiply(x, right, left)


@wrong("6.2", "the mean of the levels", says="this is their mean")
def mean(x, left, right):
    return multiply(x, left, right) / len(left)


@wrong("6.2", "levels overwritten", says="each replaces the one before")
def overwritten(x, left, right):
    return multiply(x, left[-1:], right[-1:])


@wrong("6.2", "the first level alone", says="this is the first level alone")
def first(x, left, right):
    return x @ right[0][0] @ left[0][0].T


@wrong("6.2", "interleaved chunks", says="its chunk is contiguous")
def strided(x, left, right):
    y = torch.zeros_like(x)
    for u, v in zip(left, right, strict=True):
        for k in range(len(u)):
            y[:, k :: len(u)] += x[:, k :: len(u)] @ v[k] @ u[k].T
    return y


@wrong("6.2", "blocks in reverse", says="in reverse order")
def reverse(x, left, right):
    return multiply(x, [u.flip(0) for u in left], [v.flip(0) for v in right])


# 6.3


@wrong("6.3", "as many columns as the ranks", says="level l has p_l r_l of them")
def stacked(left, right):
    return tuple(torch.cat([level.flatten(0, 1) for level in side], 1) for side in (left, right))


@wrong("6.3", "the first level alone", says="this is the first level alone")
def first_level(left, right):
    if len(left) == 1:
        return as_low_rank(left, right)
    return left[0][0], right[0][0]


@wrong("6.3", "U and V exchanged", says="U and V are exchanged")
def turned(left, right):
    return as_low_rank(right, left)


@wrong("6.3", "transposed factors", says="it is transposed")
def on_their_side(left, right):
    return tuple(factor.T for factor in as_low_rank(left, right))


@wrong("6.3", "columns in different orders", says="must belong to the same level, block and rank")
def orders(left, right):
    u, v = as_low_rank(left, right)
    return u, v.flip(1)


@wrong("6.3", "no zeros outside the block", says="here they fill all rows")
def no_zeros(left, right):
    return tuple(
        torch.cat([level[k].repeat(len(level), 1) for level in side for k in range(len(level))], 1)
        for side in (left, right)
    )


# 6.4


@wrong("6.4", "greedy", says="(greedy)")
def greedy(worth, budget):
    ranks = [0] * len(worth)
    for _ in range(budget):
        rises = [level[rank + 1] - level[rank] for level, rank in zip(worth, ranks, strict=True)]
        ranks[rises.index(max(rises))] += 1
    return ranks


@wrong("6.4", "the whole budget for each", says="they share it")
def each(worth, budget):
    return [budget] * len(worth)


@wrong("6.4", "the worst allocation", says="worst of the allocations")
def worst(worth, budget):
    every = [ranks for ranks in itertools.product(range(budget + 1), repeat=len(worth)) if sum(ranks) == budget]
    return min(every, key=lambda ranks: sum(level[rank] for level, rank in zip(worth, ranks, strict=True)))


@wrong("6.4", "nothing spent", says="nothing is spent")
def nothing(worth, budget):
    return [0] * len(worth)


@wrong("6.4", "shares in proportion, not whole", says="whole numbers")
def fractions(worth, budget):
    full = sum(level[-1] for level in worth)
    return [budget * level[-1] / full for level in worth]


# 6.5


def approximate(block, rank):
    u, sigma, vh = torch.linalg.svd(block)
    return u[:, :rank] * sigma[:rank] @ vh[:rank]


def level_of(matrix, level, rank):
    size = len(matrix) >> level
    blocks = [matrix[k : k + size, k : k + size] for k in range(0, len(matrix), size)]
    return torch.block_diag(*(approximate(block, rank) for block in blocks))


@wrong("6.5", "the target in place of the residual", says="fitted to the target itself")
def fresh(target, ranks):
    return sum(level_of(target, level, rank) for level, rank in enumerate(ranks))


@wrong("6.5", "fine to coarse", says="fine to coarse")
def upwards(target, ranks):
    fitted = torch.zeros_like(target)
    for level, rank in reversed(list(enumerate(ranks))):
        fitted = fitted + level_of(target - fitted, level, rank)
    return fitted


@wrong("6.5", "no blocks", says="a level sees its diagonal blocks alone")
def no_blocks(target, ranks):
    fitted = torch.zeros_like(target)
    for rank in ranks:
        fitted = fitted + approximate(target - fitted, rank)
    return fitted


@wrong("6.5", "the residual returned", says="this is what is left")
def residual(target, ranks):
    return target - one_sweep(target, ranks)


@wrong("6.5", "the last level alone", says="the levels' parts add up")
def last(target, ranks):
    fitted = torch.zeros_like(target)
    for level, rank in enumerate(ranks):
        part = level_of(target - fitted, level, rank)
        fitted = fitted + part
    return part


@wrong("6.5", "smallest singular values", says="smallest singular values are kept")
def smallest(target, ranks):
    fitted = torch.zeros_like(target)
    for level, rank in enumerate(ranks):
        size = len(target) >> level
        rest, part = target - fitted, []
        for k in range(0, len(target), size):
            u, sigma, vh = torch.linalg.svd(rest[k : k + size, k : k + size])
            part.append(u[:, -rank:] * sigma[-rank:] @ vh[-rank:])
        fitted = fitted + torch.block_diag(*part)
    return fitted
