"""Chapter 8's solutions, and for each another right answer."""

import torch
from jaxtyping import Float
from torch import Tensor


def levels_shared(i: int, j: int, seq_len: int, n_levels: int) -> int:
    """How many levels positions i and j share; seq_len is a power of two."""
    longest = seq_len.bit_length() - 1  # seq_len = 2^longest
    return min(n_levels, longest + 1 - (i ^ j).bit_length())


def levels_shared_another(i, j, seq_len, n_levels):
    return sum(i // (seq_len >> level) == j // (seq_len >> level) for level in range(n_levels))


def scores_from_masks(
    q: Float[Tensor, "seq d"], k: Float[Tensor, "seq d"], ranks: list[int]
) -> Float[Tensor, "seq seq"]:
    """The scores of MLR attention, with scale 1 / r_l at each level and no causal mask."""
    seq_len, scores, first = len(q), 0, 0
    position = torch.arange(seq_len)
    for level, rank in enumerate(ranks):
        block = position // (seq_len // 2**level)
        same = block[:, None] == block
        features = slice(first, first + rank)
        scores = scores + same * (q[:, features] @ k[:, features].T) / rank
        first += rank
    return scores


def scores_from_masks_another(q, k, ranks):
    seq_len = len(q)
    scores = torch.zeros(seq_len, seq_len, dtype=q.dtype)
    pairs = zip(q.split(list(ranks), dim=1), k.split(list(ranks), dim=1), ranks, strict=True)
    for level, (q_l, k_l, rank) in enumerate(pairs):
        size = seq_len // 2**level
        for start in range(0, seq_len, size):
            rows = slice(start, start + size)
            scores[rows, rows] += q_l[rows] @ k_l[rows].T / rank
    return scores


def relative_cost(ranks: list[int]) -> float:
    """The MACs of all scores over those of standard attention with as many features."""
    return sum(rank / 2**level for level, rank in enumerate(ranks)) / sum(ranks)


def relative_cost_another(ranks):
    seq_len = 2 ** len(ranks)
    macs = sum(rank * 2**level * (seq_len // 2**level) ** 2 for level, rank in enumerate(ranks))
    return macs / (seq_len**2 * sum(ranks))


def average_rank(ranks: list[int], seq_len: int, distance: int) -> float:
    """The mean effective rank of all pairs that lie so far apart."""
    pairs = [max(0, seq_len - 2**level * distance) for level in range(len(ranks))]
    return sum(rank * n for rank, n in zip(ranks, pairs, strict=True)) / (seq_len - distance)


def average_rank_another(ranks, seq_len, distance):
    total = 0
    for j in range(seq_len - distance):
        for level, rank in enumerate(ranks):
            size = seq_len >> level
            total += rank * (j // size == (j + distance) // size)
    return total / (seq_len - distance)


def neighbours_at_level(seq_len: int, n_levels: int, level: int) -> int:
    """How many of the pairs (i, i + 1) share exactly the levels 1 ... level."""
    return 2 ** (level - 1) if level < n_levels else seq_len - 2 ** (n_levels - 1)


def neighbours_at_level_another(seq_len, n_levels, level):
    count = 0
    for i in range(seq_len - 1):
        count += level == sum(i // (seq_len >> l) == (i + 1) // (seq_len >> l) for l in range(n_levels))
    return count
