"""Chapter 6's tests. Each function tries one random case against a specification that is not the solution's way."""

import itertools

import torch
from torch import Tensor

from ..case import Case, Mistake, coarsest
from ..registry import exercise


def factors(case: Case, least: int = 2) -> tuple[list[Tensor], list[Tensor]]:
    """The factors of a square MLR matrix: (p, D / p, r_l) for each level, coarsest first. No two ranks are equal."""
    levels = case.integer(least, 3)
    size = case.integer(3, 4)
    ranks = case.different(levels, 1, 4)
    shapes = [(2**level, size * 2 ** (levels - 1 - level), rank) for level, rank in enumerate(ranks)]
    return [case.normal(*shape) for shape in shapes], [case.normal(*shape) for shape in shapes]


def dense(left: list[Tensor], right: list[Tensor]) -> Tensor:
    """M, one entry after the other."""
    width = left[0].shape[1]
    m = torch.zeros(width, width, dtype=torch.float64)
    for u, v in zip(left, right, strict=True):
        size = u.shape[1]
        for i, j in itertools.product(range(width), repeat=2):
            if i // size == j // size:
                a, b = u[i // size, i % size].tolist(), v[j // size, j % size].tolist()
                m[i, j] += sum(x * y for x, y in zip(a, b, strict=True))
    return m


@exercise("6.1", "entry")
def entry(answer, case: Case) -> None:
    left, right = factors(case, least=3)
    width, sizes = left[0].shape[1], [u.shape[1] for u in left]
    # a pair that shares the first level alone, and one that shares all, in turn
    pairs = [p for p in itertools.product(range(width), repeat=2) if p[0] != p[1]]
    far = [(m, n) for m, n in pairs if m // sizes[1] != n // sizes[1]]
    near = [(m, n) for m, n in pairs if m // sizes[-1] == n // sizes[-1]]
    m, n = case.choice(*(far if case.turn(2) else near))
    m_dense = dense(left, right)

    def over(levels, block=None, column=n) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for l in levels:
            size = sizes[l]
            k, other = (m // size, n // size) if block is None else (block, block)
            total += left[l][k, m % size].double() @ right[l][other, column % size].double()
        return total

    every = range(len(left))
    shared = [l for l in every if m // sizes[l] == n // sizes[l]]
    case.same(
        answer(m, n, left, right),
        m_dense[m, n],
        {
            "this is M[n, m]: the row belongs to the left factor, the column to the right": m_dense[n, m],
            "a level that row and column do not share adds nothing": lambda: over(every),
            "all levels that they share add up, not the finest of them alone": lambda: over(shared[-1:]),
            "the first level is shared by all pairs, and adds to every entry": lambda: over(shared[1:]),
            "the block of a pair is m // size, not always the first": lambda: over(shared, block=0),
            "the place of column n in its block is n % size, not m % size": lambda: over(shared, column=m),
        },
        what="entry",
    )


@exercise("6.2", "multiply")
def multiply(answer, case: Case) -> None:
    left, right = factors(case)
    m = dense(left, right)
    x = case.normal(case.integer(5, 7), len(m))
    if len(x) == len(m):
        x = x[:-1]
    wide = x.double()

    def level(k: int) -> Tensor:
        return dense([torch.zeros_like(u) if l != k else u for l, u in enumerate(left)], right)

    turned = [u.flip(0) for u in left], [v.flip(0) for v in right]
    case.same(
        answer(x, left, right),
        wide @ m.mT,
        {
            "this is M^T x: the right factor meets x first, then the left one": lambda: wide @ m,
            "the levels add up; this is their mean": lambda: wide @ m.mT / len(left),
            "this is the last level alone: each replaces the one before": lambda: wide @ level(len(left) - 1).mT,
            "this is the first level alone": lambda: wide @ level(0).mT,
            "the finest level is missing": lambda: wide @ (m - level(len(left) - 1)).mT,
            "the blocks of a level are in reverse order": lambda: wide @ dense(*turned).mT,
            "each block gets every p-th feature; its chunk is contiguous": lambda: interleaved(wide, left, right),
        },
    )


def interleaved(x: Tensor, left: list[Tensor], right: list[Tensor]) -> Tensor:
    y = torch.zeros_like(x)
    for u, v in zip(left, right, strict=True):
        p = len(u)
        for k in range(p):
            y[:, k::p] += x[:, k::p] @ v[k].double() @ u[k].double().mT
    return y


@exercise("6.3", "as_low_rank")
def as_low_rank(answer, case: Case) -> None:
    left, right = factors(case, least=1)
    while (total := sum(u.shape[0] * u.shape[2] for u in left)) == left[0].shape[1]:
        left, right = factors(case, least=1)  # a square U would not show that it is transposed
    m = dense(left, right)
    got = answer(left, right)
    if not isinstance(got, tuple | list) or len(got) != 2:
        raise Mistake("the answer should be two matrices, U and V")
    for factor, name in zip(got, "UV", strict=True):
        if isinstance(factor, Tensor) and factor.dim() == 2 and tuple(factor.shape) != (len(m), total):
            raise Mistake(
                f"{name} should have shape {(len(m), total)}, and has {tuple(factor.shape)}",
                wrong_shape(tuple(factor.shape), len(m), total, left),
            )
        case.tensor(factor, (len(m), total), name)
    u, v = got
    product = u.double() @ v.double().mT
    case.same(
        product,
        m,
        {
            "U and V are exchanged: this is the transpose of M": lambda: m.mT,
            "a block's columns are 0 outside its rows; here they fill all rows": lambda: filled(left, right),
        },
        what="product U V^T",
        dtype=coarsest(u, v),
        otherwise="column number c of U and column number c of V must belong to the same level, block and rank",
    )


def wrong_shape(shape: tuple[int, int], width: int, total: int, left: list[Tensor]) -> str | None:
    if shape == (total, width):
        return "it is transposed: the columns are the rank-one parts"
    if shape == (width, sum(u.shape[2] for u in left)):
        return "each block has columns of its own: level l has p_l r_l of them, not r_l"
    if shape == (width, left[0].shape[2]):
        return "this is the first level alone"
    if shape == (width, width):
        return "this is as wide as M itself; no more columns are needed than the blocks have"
    return None


def filled(left: list[Tensor], right: list[Tensor]) -> Tensor:
    """Each block's columns repeated in all blocks of rows."""
    u, v = (torch.cat([level[k].repeat(len(level), 1) for level in side for k in range(len(level))], 1)
            for side in (left, right))  # fmt: skip
    return u.double() @ v.double().mT


@exercise("6.4", "best_ranks")
def best_ranks(answer, case: Case) -> None:
    levels, budget = case.integer(3, 4), case.integer(4, 5)
    rises = case.normal(levels, budget).abs().double()
    # one level is worth little at rank 1 and much at 2: what looks best step by step is not best in the end
    late = case.integer(0, levels - 1)
    rises[late, 0], rises[late, 1] = 0.01, 6.0
    worth = [[0.0, *level.cumsum(0).tolist()] for level in rises]

    def total(ranks) -> float:
        return sum(level[rank] for level, rank in zip(worth, ranks, strict=True))

    every = [ranks for ranks in itertools.product(range(budget + 1), repeat=levels) if sum(ranks) <= budget]
    best = max(every, key=total)
    got = answer([list(level) for level in worth], budget)
    got = got.tolist() if isinstance(got, Tensor) else got
    if not isinstance(got, tuple | list) or len(got) != levels:
        raise Mistake(f"the answer should be a list of {levels} ranks, one a level")
    ranks = [case.number(rank, "rank") for rank in got]
    if any(rank != int(rank) or rank < 0 for rank in ranks):
        raise Mistake(f"ranks are whole numbers from 0, and the answer is {ranks}")
    ranks = tuple(int(rank) for rank in ranks)
    if sum(ranks) > budget:
        likely = "every level got the budget; they share it" if set(ranks) == {budget} else None
        raise Mistake(f"the ranks {ranks} sum to {sum(ranks)}, and the budget is {budget}", likely)
    if total(ranks) < total(best) - 1e-9:
        alone = tuple(budget * (l == max(range(levels), key=lambda l: worth[l][budget])) for l in range(levels))
        hints = {
            "each rank went where it gains most at once (greedy); a level may gain only with its second": greedy,
            "this is the worst of the allocations that spend the budget": lambda *_: min(
                (r for r in every if sum(r) == budget), key=total
            ),
            "all of the budget went to one level": lambda *_: alone,
            "nothing is spent": lambda *_: (0,) * levels,
        }
        likely = next((hint for hint, wrong in hints.items() if wrong(worth, budget) == ranks), None)
        if likely is None and max(ranks) - min(ranks) <= 1:
            likely = "an even spread; the levels are not worth the same"
        failed = f"the ranks {ranks} are worth {total(ranks):.4g}, and {best} would be worth {total(best):.4g}"
        raise Mistake(failed, likely)


def greedy(worth: list[list[float]], budget: int) -> tuple[int, ...]:
    ranks = [0] * len(worth)
    for _ in range(budget):
        level = max(range(len(worth)), key=lambda l: worth[l][ranks[l] + 1] - worth[l][ranks[l]])
        ranks[level] += 1
    return tuple(ranks)


@exercise("6.5", "one_sweep")
def one_sweep(answer, case: Case) -> None:
    levels = case.integer(2, 3)
    width = 4 * 2 ** (levels - 1)
    ranks = [case.integer(1, 2) for _ in range(levels)]
    target = case.normal(width, width).double()
    want = swept(target, ranks)

    def variant(**options) -> Tensor:
        return swept(target, ranks, **options)

    case.same(
        answer(target, ranks),
        want,
        {
            "each level is fitted to the target itself, and not to what the levels before leave": lambda: variant(
                fresh=True
            ),
            "the levels are set fine to coarse": lambda: variant(order=-1),
            "the smallest singular values are kept": lambda: variant(largest=False),
            "every level approximates the whole matrix; a level sees its diagonal blocks alone": lambda: variant(
                whole=True
            ),
            "this is what is left, target less fit": lambda: target - want,
            "the last level alone: the levels' parts add up": lambda: variant(last=True),
        },
        loose=1000,
    )


def swept(target, ranks, fresh=False, order=1, largest=True, whole=False, last=False) -> Tensor:
    fitted = torch.zeros_like(target)
    for level, rank in list(enumerate(ranks))[::order]:
        rest = target if fresh else target - fitted
        size = len(target) if whole else len(target) >> level
        part = torch.zeros_like(target)
        for start in range(0, len(target), size):
            block = rest[start : start + size, start : start + size]
            directions = torch.linalg.eigh(block.mT @ block).eigenvectors
            kept = directions[:, -rank:] if largest else directions[:, :rank]
            part[start : start + size, start : start + size] = block @ kept @ kept.mT
        fitted = part + (0 if last and level == len(ranks) - 1 else fitted)
    return fitted
