"""Chapter 8's planted wrong answers."""

import torch

from ..wrong import wrong
from .solutions import average_rank, levels_shared, neighbours_at_level, relative_cost, scores_from_masks

# 8.1


@wrong("8.1", "distance in place of blocks", says="this looks at the distance")
def by_distance(i, j, seq_len, n_levels):
    return sum(abs(i - j) < seq_len >> level for level in range(n_levels))


@wrong("8.1", "level 1 not counted", says="a pair shares level 1 at least")
def from_zero(i, j, seq_len, n_levels):
    return levels_shared(i, j, seq_len, n_levels) - 1


@wrong("8.1", "level 1 cut in halves", says="level 1 is one block")
def from_halves(i, j, seq_len, n_levels):
    return sum(i // (seq_len >> level) == j // (seq_len >> level) for level in range(1, n_levels + 1))


@wrong("8.1", "levels beyond the finest", says="there are only n_levels levels")
def unclipped(i, j, seq_len, n_levels):
    return seq_len.bit_length() - (i ^ j).bit_length()


@wrong("8.1", "levels not shared", says="does not share")
def not_shared(i, j, seq_len, n_levels):
    return n_levels - levels_shared(i, j, seq_len, n_levels)


@wrong("8.1", "the bits alone", says="not yet a number of levels")
def bits_alone(i, j, seq_len, n_levels):
    return (i ^ j).bit_length()


# 8.2


def scores(q, k, ranks, scale=lambda r, d: 1 / r, mask=None):
    T, S, first = len(q), 0, 0
    p = torch.arange(T)
    mask = mask or (lambda l: p[:, None] // (T >> l) == p // (T >> l))
    for l, r in enumerate(ranks):
        part = slice(first, first + r)
        S, first = S + mask(l) * (scale(r, q.shape[1]) * q[:, part] @ k[:, part].T), first + r
    return S


@wrong("8.2", "no scales", says="1 / r_l are missing")
def no_scales(q, k, ranks):
    return scores(q, k, ranks, lambda r, d: 1.0)


@wrong("8.2", "one scale for all levels", says="the scale is 1 / r for all levels")
def one_scale(q, k, ranks):
    return scores(q, k, ranks, lambda r, d: 1 / d)


@wrong("8.2", "root of the rank", says="should be 1 / r_l")
def root_scale(q, k, ranks):
    return scores(q, k, ranks, lambda r, d: r**-0.5)


@wrong("8.2", "ranks reversed", says="belong to the coarsest level")
def finest_first(q, k, ranks):
    return scores(q, k, ranks[::-1])


@wrong("8.2", "windows in place of blocks", says="is no block")
def windows(q, k, ranks):
    p = torch.arange(len(q))
    return scores(q, k, ranks, mask=lambda l: (p[:, None] - p).abs() < len(q) >> l)


@wrong("8.2", "as many tokens as there should be blocks", says="these are blocks of 2^(l-1) tokens")
def tokens_for_blocks(q, k, ranks):
    p = torch.arange(len(q))
    return scores(q, k, ranks, mask=lambda l: p[:, None] // 2**l == p // 2**l)


@wrong("8.2", "no mask", says="there is no mask")
def no_mask(q, k, ranks):
    return scores(q, k, ranks, mask=lambda l: True)


@wrong("8.2", "divided by the shared levels", says="which was not asked here")
def normalised(q, k, ranks):
    p, T = torch.arange(len(q)), len(q)
    return scores_from_masks(q, k, ranks) / sum(
        (p[:, None] // (T >> l) == p // (T >> l)).int() for l in range(len(ranks))
    )


# 8.3


@wrong("8.3", "not divided by r", says="divide it by r")
def absolute(ranks):
    return sum(r / 2**l for l, r in enumerate(ranks))


@wrong("8.3", "one level too far", says="not 2^-l")
def one_too_far(ranks):
    return relative_cost(ranks) / 2


@wrong("8.3", "harmonic weights", says="halving goes on")
def harmonic(ranks):
    return sum(r / (l + 1) for l, r in enumerate(ranks)) / sum(ranks)


@wrong("8.3", "the cost in the features", says="where finer levels cost more")
def in_features(ranks):
    return sum(r * 2**l for l, r in enumerate(ranks)) / sum(ranks)


@wrong("8.3", "a quarter of the pairs, once", says="twice as many blocks")
def quarters(ranks):
    return sum(r / 4**l for l, r in enumerate(ranks)) / sum(ranks)


# 8.4


@wrong("8.4", "divided by T", says="T - d pairs, not T")
def over_all_tokens(ranks, seq_len, distance):
    return average_rank(ranks, seq_len, distance) * (seq_len - distance) / seq_len


@wrong("8.4", "negative counts", says="not a negative number")
def negative(ranks, seq_len, distance):
    return sum(r * (seq_len - 2**l * distance) for l, r in enumerate(ranks)) / (seq_len - distance)


@wrong("8.4", "closer than a block", says="not every pair closer than B_l")
def closer(ranks, seq_len, distance):
    return sum(r for l, r in enumerate(ranks) if distance < seq_len >> l)


@wrong("8.4", "one block of each level", says="each of them holds such pairs")
def one_block(ranks, seq_len, distance):
    return sum(r * max(0, (seq_len >> l) - distance) for l, r in enumerate(ranks)) / (seq_len - distance)


@wrong("8.4", "levels in place of ranks", says="weigh each level with its rank")
def levels(ranks, seq_len, distance):
    return average_rank([1] * len(ranks), seq_len, distance)


# 8.5


@wrong("8.5", "at least", says="at least so many levels")
def at_least(seq_len, n_levels, level):
    return seq_len - 2 ** (level - 1)


@wrong("8.5", "counted twice", says="counted twice")
def twice(seq_len, n_levels, level):
    return 2 * neighbours_at_level(seq_len, n_levels, level)


@wrong("8.5", "blocks of the next level", says="new at level l + 1")
def next_level(seq_len, n_levels, level):
    return 2**level


@wrong("8.5", "all boundaries of the next level", says="were there before")
def all_boundaries(seq_len, n_levels, level):
    return 2**level - 1


@wrong("8.5", "the finest level like the others", says="all the others are left")
def finest_too(seq_len, n_levels, level):
    return 2 ** (level - 1)


@wrong("8.5", "as many pairs as tokens", says="T - 1 pairs of neighbours")
def one_more(seq_len, n_levels, level):
    return neighbours_at_level(seq_len, n_levels, level) + (level == n_levels)
