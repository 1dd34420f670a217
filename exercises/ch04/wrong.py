"""Chapter 4's planted wrong answers."""

import math

import torch

from ..wrong import wrong
from .solutions import highest_ranks

# 4.1


def kron(a, b):
    return torch.kron(a.contiguous(), b.contiguous())  # torch.kron refuses transposed views


@wrong("4.1", "factors exchanged", says="factors are exchanged")
def exchanged(a, b, x):
    return x @ kron(b, a).T


@wrong("4.1", "B not transposed on the right of the grid", says="B enters transposed")
def b_turned(a, b, x):
    return (a @ x.reshape(-1, len(a), len(b)) @ b).flatten(-2)


@wrong("4.1", "A transposed", says="A enters transposed")
def a_turned(a, b, x):
    return (a.T @ x.reshape(-1, len(a), len(b)) @ b.T).flatten(-2)


@wrong("4.1", "the transpose of the product", says="both enter transposed")
def both_turned(a, b, x):
    return x @ kron(a, b)


@wrong("4.1", "A forgotten", says="only B acts")
def only_b(a, b, x):
    return (x.reshape(-1, len(a), len(b)) @ b.T).flatten(-2)


@wrong("4.1", "a sum of the two maps", says="Kronecker sum")
def added(a, b, x):
    grid = x.reshape(-1, len(a), len(b))
    return (a @ grid + grid @ b.T).flatten(-2)


@wrong("4.1", "grid by columns", says="read by columns")
def by_columns(a, b, x):
    return (a @ x.reshape(-1, len(b), len(a)).mT @ b.T).flatten(-2)


@wrong("4.1", "the dense matrix", says="the dense A kron B")
def kron_built(a, b, x):
    return x @ kron(a, b).T


# 4.2


def right_rows(right, x):
    return torch.einsum("nij,bnj->bni", right, x.reshape(len(x), len(right), -1))


def left_columns(left, grid):
    return torch.einsum("mij,bmj->bmi", left, grid)


@wrong("4.2", "no permutation at the end", says="last permutation is missing")
def not_back(left, right, x):
    return left_columns(left, right_rows(right, x).mT).flatten(-2)


@wrong("4.2", "no permutation at all", says="nor after them")
def no_shuffle(left, right, x):
    return left_columns(left, right_rows(right, x).reshape(len(x), len(left), -1)).flatten(-2)


@wrong("4.2", "left blocks transposed", says="left blocks enter transposed")
def left_turned(left, right, x):
    return left_columns(left.mT, right_rows(right, x).mT).mT.flatten(-2)


@wrong("4.2", "right blocks transposed", says="right blocks enter transposed")
def right_turned(left, right, x):
    return left_columns(left, right_rows(right.mT, x).mT).mT.flatten(-2)


@wrong("4.2", "left factor first", says="left factor acts first")
def left_first(left, right, x):
    grid = left_columns(left, x.reshape(len(x), len(right), -1).mT).mT
    return right_rows(right, grid.flatten(-2)).flatten(-2)


@wrong("4.2", "the permutation applied twice", says="must be undone")
def twice(left, right, x):
    grid = left_columns(left, right_rows(right, x).mT)
    return grid.reshape(len(x), len(right), -1).mT.flatten(-2)


@wrong("4.2", "block-diagonal matrices of the whole width", says="a dense matrix of the whole width")
def block_diagonals(left, right, x):
    n, m = len(right), len(left)
    grid = (x @ torch.block_diag(*right).T).reshape(-1, n, m)
    return (grid.mT.flatten(-2) @ torch.block_diag(*left).T).reshape(-1, m, n).mT.flatten(-2)


# 4.3


@wrong("4.3", "one factor of low rank", says="two factors, U and V")
def one_factor(width, budget, levels):
    return highest_ranks(width, budget, levels) | {"low rank": min(width, budget // width)}


@wrong("4.3", "one factor of Monarch", says="a family without a member that small")
def half_monarch(width, budget, levels):
    fits = width * math.isqrt(width) <= budget
    return highest_ranks(width, budget, levels) | {"Monarch": width if fits else 0}


@wrong("4.3", "the size of a block for the rank", says="its blocks are small")
def block_rank(width, budget, levels):
    found = highest_ranks(width, budget, levels)
    return found | {"Monarch": math.isqrt(width) if found["Monarch"] else 0}


@wrong("4.3", "D parameters in a butterfly factor", says="2 D, and not D")
def half_butterfly(width, budget, levels):
    fits = width * int(math.log2(width)) <= budget
    return highest_ranks(width, budget, levels) | {"butterfly": width if fits else 0}


@wrong("4.3", "less than the budget", says="includes the budget itself")
def strictly_less(width, budget, levels):
    fits = 2 * width * int(math.log2(width)) < budget
    return highest_ranks(width, budget, levels) | {"butterfly": width if fits else 0}


@wrong("4.3", "ranks spread evenly", says="spread over all levels")
def evenly(width, budget, levels):
    total = budget // (2 * width)
    ranks = [total // levels + (level < total % levels) for level in range(levels)]
    rank = min(width, sum(r * 2**level for level, r in enumerate(ranks))) if total >= levels else 0
    return highest_ranks(width, budget, levels) | {"MLR": rank}


@wrong("4.3", "levels add their ranks", says="adds p r to the rank")
def plain_sum(width, budget, levels):
    total = budget // (2 * width)
    return highest_ranks(width, budget, levels) | {"MLR": min(width, total) if total >= levels else 0}


# 4.4


def stages(x, strides, minus=-1.0):
    for h in strides:
        pairs = x.unflatten(-1, (-1, 2, h))
        first, second = pairs[..., 0, :], pairs[..., 1, :]
        x = torch.stack([first + second, first + minus * second], dim=-2).flatten(-3)
    return x


def doubling(x):
    return [2**k for k in range(x.shape[-1].bit_length() - 1)]


@wrong("4.4", "one stage too few", says="last stage is missing")
def too_few(x):
    return stages(x, doubling(x)[:-1])


@wrong("4.4", "neighbours at every stage", says="the distance must double")
def neighbours(x):
    return stages(x, [1 for _ in doubling(x)])


@wrong("4.4", "sums only", says="the minus is missing")
def sums(x):
    return stages(x, doubling(x), minus=1.0)


@wrong("4.4", "orthonormal", says="root of the width")
def orthonormal(x):
    return stages(x, doubling(x)) / x.shape[-1] ** 0.5


@wrong("4.4", "bits reversed, as for the Fourier transform", says="bit-reversed order")
def bits_reversed(x):
    bits = x.shape[-1].bit_length() - 1
    return stages(x, doubling(x))[:, [int(f"{i:0{bits}b}"[::-1], 2) for i in range(x.shape[-1])]]


@wrong("4.4", "second minus first", says="the first minus the second")
def second_minus_first(x):
    for h in doubling(x):
        first, second = x.unflatten(-1, (-1, 2, h)).unbind(-2)
        x = torch.stack([first + second, second - first], dim=-2).flatten(-3)
    return x


@wrong("4.4", "H itself", says="Likely mistake: H, ")
def h_built(x):
    h = torch.ones(1, 1, dtype=x.dtype)
    while len(h) < x.shape[-1]:
        h = torch.cat([torch.cat([h, h], dim=1), torch.cat([h, -h], dim=1)])
    return x @ h


# 4.5


def blocks_of(m, n):
    b = len(m) // n
    return m.reshape(n, b, n, b).transpose(1, 2).reshape(n * n, b * b)


@wrong("4.5", "no rearrangement", says="best matrix of rank one")
def rank_one(m, n):
    u, s, vh = torch.linalg.svd(m)
    return s[0] * torch.outer(u[:, 0], vh[0])


@wrong("4.5", "sizes exchanged", says="sizes are exchanged")
def sizes_exchanged(m, n):
    b = len(m) // n
    u, s, vh = torch.linalg.svd(blocks_of(m, b))
    return kron(s[0] * u[:, 0].reshape(b, b), vh[0].reshape(n, n))


@wrong("4.5", "singular value forgotten", says="singular value is left out")
def no_sigma(m, n):
    b = len(m) // n
    u, _, vh = torch.linalg.svd(blocks_of(m, n))
    return kron(u[:, 0].reshape(n, n), vh[0].reshape(b, b))


@wrong("4.5", "average block", says="average of the blocks")
def average(m, n):
    b, rows = len(m) // n, blocks_of(m, n)
    block = rows.mean(0)
    return kron((rows @ block / (block @ block)).reshape(n, n), block.reshape(b, b))


@wrong("4.5", "V^T taken for V", says="B is transposed")
def b_transposed(m, n):
    b = len(m) // n
    u, s, vh = torch.linalg.svd(blocks_of(m, n))
    return kron(s[0] * u[:, 0].reshape(n, n), vh[0].reshape(b, b).T)


@wrong("4.5", "first block", says="B is the first block")
def first_block(m, n):
    b, rows = len(m) // n, blocks_of(m, n)
    return kron((rows @ rows[0] / (rows[0] @ rows[0])).reshape(n, n), rows[0].reshape(b, b))
