"""Chapter 8's tests. Each function tries one random case against a specification that is not the solution's way."""

import torch
from torch import Tensor

from ..case import Case, Mistake
from ..registry import exercise


def same_numbers(case: Case, got: list, want: list[float], near: dict[str, list[float]], what: str) -> None:
    """Several answers at once: one number can be right, or look like another mistake, by luck."""
    values = [case.number(value, what) for value in got]

    def alike(row):
        return all(abs(v - w) <= 1e-6 * max(1, abs(w)) for v, w in zip(values, row, strict=True))

    if not alike(want):
        likely = next((hint for hint, row in near.items() if alike(row)), None)
        value, right = next((v, w) for v, w in zip(values, want, strict=True) if abs(v - w) > 1e-6 * max(1, abs(w)))
        raise Mistake(f"the {what} is {value:.6g}, and should be {right:.6g}", likely)


@exercise("8.1", "levels_shared")
def levels_shared(answer, case: Case) -> None:
    n_levels = case.integer(3, 6)
    bits = n_levels + case.integer(2, 30)  # up to many billion tokens: no mask of all pairs fits
    seq_len = 2**bits
    half, finest = seq_len // 2, seq_len >> (n_levels - 1)
    far = case.integer(0, half - 1)
    pairs = [(half - 1, half), (far, far), (far, half + far), (finest - 1, finest), (1, 2), (half + 1, half)]
    want, by_distance, unclipped, from_halves = [], [], [], []
    for i, j in pairs:
        sizes = [seq_len >> level for level in range(bits + 1)]
        shared = [i // size == j // size for size in sizes]
        want.append(sum(shared[:n_levels]))
        unclipped.append(sum(shared))
        from_halves.append(sum(shared[1 : n_levels + 1]))
        by_distance.append(sum(abs(i - j) < size for size in sizes[:n_levels]))
    near = {
        "this looks at the distance; blocks do not: neighbours may lie in different blocks": by_distance,
        "levels are counted from 1: a pair shares level 1 at least": [n - 1 for n in want],
        "level 1 is one block, the whole sequence; it has 2^0 blocks, not 2": from_halves,
        "there are only n_levels levels; a token shares no more than these with itself": unclipped,
        "this is the number of levels that the pair does not share": [n_levels - n for n in want],
        "this is the length of the highest bit that differs, not yet a number of levels": [
            (i ^ j).bit_length() for i, j in pairs
        ],
    }
    same_numbers(case, [answer(i, j, seq_len, n_levels) for i, j in pairs], want, near, "number of shared levels")


@exercise("8.2", "scores_from_masks")
def scores_from_masks(answer, case: Case) -> None:
    ranks = case.different(3, 1, 5)
    seq_len = 4 * case.integer(2, 5)
    q, k = case.normal(seq_len, sum(ranks)), case.normal(seq_len, sum(ranks))
    wide_q, wide_k = q.double(), k.double()

    def scores(ranks=ranks, scales=None, shares=None) -> Tensor:
        """One pair, one level, one product at a time."""
        shares = shares or (lambda i, j, level: i // (seq_len >> level) == j // (seq_len >> level))
        scales = scales or [1 / rank for rank in ranks]
        S = torch.zeros(seq_len, seq_len, dtype=torch.float64)
        first = 0
        for level, rank in enumerate(ranks):
            part = wide_q[:, first : first + rank] @ wide_k[:, first : first + rank].mT
            for i in range(seq_len):
                for j in range(seq_len):
                    S[i, j] += scales[level] * part[i, j] if shares(i, j, level) else 0.0
            first += rank
        return S

    want = scores()
    count = torch.tensor(
        [
            [sum(i // (seq_len >> l) == j // (seq_len >> l) for l in range(3)) for j in range(seq_len)]
            for i in range(seq_len)
        ]
    )
    near = {
        "the scales 1 / r_l are missing": scores(scales=[1.0] * 3),
        "the scale is 1 / r for all levels; each level has its own, 1 / r_l": scores(scales=[1 / sum(ranks)] * 3),
        "the scale is 1 / sqrt(r_l), and should be 1 / r_l": scores(scales=[rank**-0.5 for rank in ranks]),
        "the ranks are taken in the wrong order: the first features belong to the coarsest level": scores(
            list(reversed(ranks))
        ),
        "level l has 2^(l-1) blocks: level 1 is one block that holds all tokens": scores(
            shares=lambda i, j, level: i // (seq_len >> (level + 1)) == j // (seq_len >> (level + 1))
        )
        if seq_len % 8 == 0
        else torch.full((1,), torch.nan),
        "these are blocks of 2^(l-1) tokens; level l has 2^(l-1) blocks, of T / 2^(l-1) tokens each": scores(
            shares=lambda i, j, level: i // 2**level == j // 2**level
        ),
        "a window of |i - j| < B_l is no block: pairs across a boundary share nothing": scores(
            shares=lambda i, j, level: abs(i - j) < seq_len >> level
        ),
        "each pair is scored by its finest level alone; the levels that it shares are added": scores(
            shares=lambda i, j, level: int(count[i, j]) == level + 1
        ),
        "the scores are divided by the number of shared levels, which was not asked here": want / count,
        "there is no mask: every pair uses every level": scores(shares=lambda i, j, level: True),
    }
    case.same(answer(q, k, ranks), want, near, what="score matrix", loose=20)


@exercise("8.3", "relative_cost")
def relative_cost(answer, case: Case) -> None:
    lists = [case.different(n, 1, 12) for n in (2, 3, 5)]

    def over(weigh, divide=True) -> list[float]:
        """The count by levels from 0, over the number of features."""
        return [sum(weigh(r, l) for l, r in enumerate(ranks)) / (sum(ranks) if divide else 1) for ranks in lists]

    near = {
        "this is E itself; divide it by r, the sum of the ranks": over(lambda r, l: r / 2**l, False),
        "level 1 has one block, and costs all T^2 pairs: the weights are 2^-(l-1), not 2^-l": over(
            lambda r, l: r / 2 ** (l + 1)
        ),
        "halving goes on from level to level: 1, 1/2, 1/4, not 1, 1/2, 1/3": over(lambda r, l: r / (l + 1)),
        "this is the cost of MLR in the features, where finer levels cost more": over(lambda r, l: r * 2**l),
        "a block has half the tokens, a quarter of the pairs; but there are twice as many blocks": over(
            lambda r, l: r / 4**l
        ),
    }
    got = [answer(ranks) for ranks in lists]
    same_numbers(case, got, over(lambda r, l: r / 2**l), near, "relative cost")


@exercise("8.4", "average_rank")
def average_rank(answer, case: Case) -> None:
    ranks = case.different(4, 2, 9)
    seq_len = 8 * case.integer(3, 8)
    half, finest = seq_len // 2, seq_len // 8
    distances = [0, 1, 2, finest + 1, half - 1, half + 1, seq_len - 1]

    def over(count) -> list[float]:
        return [sum(count(r, l, d) for l, r in enumerate(ranks)) for d in distances]

    def pairs(l, d):
        """Pairs at that distance within a block, one at a time."""
        size = seq_len >> l
        return sum(j // size == (j + d) // size for j in range(seq_len - d))

    want = over(lambda r, l, d: r * pairs(l, d) / (seq_len - d))
    near = {
        "at distance d there are T - d pairs, not T": over(lambda r, l, d: r * pairs(l, d) / seq_len),
        "a block too short for the distance holds no such pair: 0, not a negative number": over(
            lambda r, l, d: r * (seq_len - 2**l * d) / (seq_len - d)
        ),
        "not every pair closer than B_l lies in one block of level l": over(lambda r, l, d: r * (d < seq_len >> l)),
        "this is the rank of the pair (0, d); average over all pairs": over(
            lambda r, l, d: r * (d // (seq_len >> l) == 0)
        ),
        "level l has 2^(l-1) blocks, and each of them holds such pairs": over(
            lambda r, l, d: r * max(0, (seq_len >> l) - d) / (seq_len - d)
        ),
        "this is the mean number of shared levels; weigh each level with its rank": over(
            lambda r, l, d: pairs(l, d) / (seq_len - d)
        ),
    }
    same_numbers(case, [answer(ranks, seq_len, d) for d in distances], want, near, "average rank")


@exercise("8.5", "neighbours_at_level")
def neighbours_at_level(answer, case: Case) -> None:
    n_levels = case.integer(3, 5)
    seq_len = 2 ** (n_levels - 1) * case.integer(3, 6)
    levels = range(1, n_levels + 1)

    def shared(i):
        return sum(i // (seq_len >> l) == (i + 1) // (seq_len >> l) for l in range(n_levels))

    found = [shared(i) for i in range(seq_len - 1)]
    want = [found.count(level) for level in levels]
    near = {
        "this counts the pairs that share at least so many levels": [sum(n >= l for n in found) for l in levels],
        "each pair is counted twice": [2 * n for n in want],
        "pairs that share exactly l levels lie on the boundaries that are new at level l + 1": [2**l for l in levels],
        "at the finest level no boundary divides the pair any more: all the others are left": [
            2 ** (l - 1) for l in levels
        ],
        "these are all boundaries of level l + 1; those of level l were there before": [2**l - 1 for l in levels],
        "T tokens have T - 1 pairs of neighbours": [*want[:-1], want[-1] + 1],
    }
    got = [answer(seq_len, n_levels, level) for level in levels]
    same_numbers(case, got, want, near, "number of neighbours")
