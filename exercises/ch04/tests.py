"""Chapter 4's tests. Each function tries one random case against a specification that is not the solution's way."""

import math

import torch
from torch import Tensor

import structattn_minimal as sa

from ..case import Case, Mistake
from ..registry import exercise


def kron(a: Tensor, b: Tensor) -> Tensor:
    return torch.kron(a.contiguous(), b.contiguous())  # torch.kron refuses transposed views


@exercise("4.1", "kronecker_apply")
def kronecker_apply(answer, case: Case) -> None:
    large = case.turn(2)
    n, m = case.different(2, 8, 12) if large else case.different(2, 2, 5)
    a, b, x = case.normal(n, n), case.normal(m, m), case.normal(case.integer(2, 4), n * m)
    wide_a, wide_b, wide = a.double(), b.double(), x.double()
    eye_n, eye_m = torch.eye(n, dtype=torch.float64), torch.eye(m, dtype=torch.float64)

    def by(left: Tensor, right: Tensor) -> Tensor:
        return wide @ kron(left, right).mT

    def misread() -> Tensor:
        grid = wide.reshape(-1, m, n).mT  # the columns of the grid were written one after the other
        return (wide_a @ grid @ wide_b.mT).flatten(-2)

    case.same(
        answer(a, b, x),
        by(wide_a, wide_b),
        {
            "this is B kron A: the factors are exchanged": lambda: by(wide_b, wide_a),
            "this is (A kron B)^T x: A and B both enter transposed": lambda: by(wide_a.mT, wide_b.mT),
            "A enters transposed": lambda: by(wide_a.mT, wide_b),
            "B enters transposed: each row of the grid is multiplied by B, so the grid by B^T": lambda: by(
                wide_a, wide_b.mT
            ),
            "only A acts": lambda: by(wide_a, eye_m),
            "only B acts": lambda: by(eye_n, wide_b),
            "the two are added: this is the Kronecker sum": lambda: by(wide_a, eye_m) + by(eye_n, wide_b),
            "the grid is read by columns: x holds its n rows of m numbers one after the other": misread,
        },
        loose=10,
    )
    if large:
        case.without("the dense A kron B", n * m, n * m)


@exercise("4.2", "monarch_apply")
def monarch_apply(answer, case: Case) -> None:
    large = case.turn(2)
    n, m = case.different(2, 8, 12) if large else case.different(2, 2, 5)
    left, right, x = case.normal(m, n, n), case.normal(n, m, m), case.normal(case.integer(2, 4), n * m)
    L, R = torch.block_diag(*left.double()), torch.block_diag(*right.double())
    L_turned, R_turned = torch.block_diag(*left.double().mT), torch.block_diag(*right.double().mT)
    P = torch.zeros(n * m, n * m, dtype=torch.float64)
    for row in range(n):
        for column in range(m):
            P[column * n + row, row * m + column] = 1

    def by(*factors: Tensor) -> Tensor:
        y = x.double().mT
        for factor in reversed(factors):
            y = factor @ y
        return y.mT

    case.same(
        answer(left, right, x),
        by(P.mT, L, P, R),
        {
            "the last permutation is missing: the grid is still written by columns": lambda: by(L, P, R),
            "there is no permutation between the factors, nor after them": lambda: by(L, R),
            "there is no permutation between the factors": lambda: by(P.mT, L, R),
            "the permutation comes twice; the second time it must be undone": lambda: by(P, L, P, R),
            "P and P^T are exchanged": lambda: by(P, L, P.mT, R),
            "the left blocks enter transposed": lambda: by(P.mT, L_turned, P, R),
            "the right blocks enter transposed": lambda: by(P.mT, L, P, R_turned),
            "the left factor acts first; the right one stands next to x": lambda: by(R, P.mT, L, P),
            "the left factor does nothing": lambda: by(R),
            "the right factor does nothing": lambda: by(P.mT, L, P),
        },
        loose=10,
    )
    if large:
        case.without("a dense matrix of the whole width", n * m, n * m)


@exercise("4.3", "highest_ranks")
def highest_ranks(answer, case: Case) -> None:
    width, levels = case.choice(64, 256, 1024), case.choice(2, 3)
    side, stages = math.isqrt(width), int(math.log2(width))
    kind = case.turn(6)
    budget = [
        2 * width * side,  # one Monarch matrix, to the last parameter
        2 * width * side - 1,
        2 * width * stages,  # one butterfly
        2 * width * stages - 1,
        2 * width * levels - 1,  # no MLR
        2 * width * width * 3,  # more than anybody needs
    ][kind]
    got = answer(width, budget, levels)
    names = ("low rank", "Monarch", "butterfly", "MLR")
    if not isinstance(got, dict) or set(got) != set(names):
        raise Mistake('the answer should be a dict with the keys "low rank", "Monarch", "butterfly" and "MLR"')
    total = budget // (2 * width)
    low = max((r for r in range(1, width + 1) if r * (width + width) <= budget), default=0)
    with torch.random.fork_rng(devices=[]):
        monarch = min(sa.Monarch(width, 2**k).num_params for k in range(1, stages))
        butterfly = sa.Butterfly(width).num_params
    ranks = [1] * (levels - 1) + [total - levels + 1]
    multi = min(width, sum(r * 2**level for level, r in enumerate(ranks))) if ranks[-1] >= 1 else 0
    even = [total // levels + (level < total % levels) for level in range(levels)]
    coarse = ranks[::-1]

    def rank_of(chosen: list[int]) -> int:
        return min(width, sum(r * 2**level for level, r in enumerate(chosen)))

    want = {"low rank": low, "Monarch": width * (monarch <= budget), "butterfly": width * (butterfly <= budget)}
    want["MLR"] = multi
    near = {
        "low rank": {
            "there are two factors, U and V, each with D r parameters": min(width, budget // width),
            "the rank of a D x D matrix is at most D": total,
            "this is the rank that the parameters of a dense matrix would have": budget // width**2,
        },
        "Monarch": {
            "a family without a member that small has rank 0 here": width if monarch > budget else -1,
            "its blocks are small, and yet the product has full rank": side,
            "it needs 2 D^1.5 parameters, and has them": 0 if monarch <= budget else -1,
        },
        "butterfly": {
            "each of the log2 D factors has D / 2 blocks of 2 x 2 numbers: 2 D, and not D": (
                width if butterfly > budget else -1
            ),
            "it needs 2 D log2 D parameters, and has them: at most `budget` includes the budget itself": (
                0 if butterfly <= budget else -1
            ),
        },
        "MLR": {
            "a level of p blocks of rank r adds p r to the rank, not r": min(width, total) if total >= levels else -1,
            "every level must have rank 1 at least": multi_without_levels(width, total, levels),
            "the spare rank is spread over all levels; it lifts the rank most where the blocks are finest": rank_of(
                even
            ),
            "the spare rank goes to the coarsest level; it lifts the rank most where the blocks are finest": rank_of(
                coarse
            ),
            "the rank of a D x D matrix is at most D": sum(r * 2**level for level, r in enumerate(ranks)),
        },
    }
    for name in names:
        value = case.number(got[name], f'rank for "{name}"')
        if value != want[name]:
            likely = (hint for hint, wrong in near[name].items() if value == wrong)
            failed = f'the rank for "{name}" with D = {width}, {budget} parameters and {levels} levels'
            raise Mistake(f"{failed} is {value:.6g}, and should be {want[name]}", next(likely, None))


def multi_without_levels(width: int, total: int, levels: int) -> int:
    """The rank if all of it could stand at the finest level."""
    return min(width, total * 2 ** (levels - 1))


@exercise("4.4", "hadamard_transform")
def hadamard_transform(answer, case: Case) -> None:
    large = case.turn(2)
    stages = case.integer(5, 7) if large else case.integer(2, 4)
    width = 2**stages
    x = case.normal(case.integer(2, 4), width)
    index = torch.arange(width)
    shared = sum((index[:, None] >> k) & (index >> k) & 1 for k in range(stages))  # ones that i and j share in binary
    H = 1.0 - 2.0 * (shared % 2).double()  # (-1)^shared
    wide = x.double()

    def through(steps: list[Tensor]) -> Tensor:
        y = wide
        for one in steps:
            y = y @ one.mT
        return y

    def stage(k: int, block: tuple = ((1, 1), (1, -1))) -> Tensor:
        before, after = (torch.eye(2**e, dtype=torch.float64) for e in (stages - 1 - k, k))
        return kron(kron(before, torch.tensor(block, dtype=torch.float64)), after)

    backwards = [int(f"{i:0{stages}b}"[::-1], 2) for i in range(width)]
    changes = (H[:, 1:] != H[:, :-1]).sum(1).argsort()
    case.same(
        answer(x),
        wide @ H,
        {
            "the last stage is missing: entries width / 2 apart must meet too": lambda: through(
                [stage(k) for k in range(stages - 1)]
            ),
            "the first stage is missing: neighbours must meet too": lambda: through(
                [stage(k) for k in range(1, stages)]
            ),
            "every stage pairs neighbours; the distance must double": lambda: through([stage(0)] * stages),
            "the differences have the wrong sign: the first minus the second": lambda: through(
                [stage(k, ((1, 1), (-1, 1))) for k in range(stages)]
            ),
            "the minus is missing: this only sums": lambda: through(
                [stage(k, ((1, 1), (1, 1))) for k in range(stages)]
            ),
            "divided by the root of the width; H has entries 1 and -1": lambda: wide @ H / width**0.5,
            "divided by the width; this is the inverse transform": lambda: wide @ H / width,
            "the answer is in bit-reversed order": lambda: (wide @ H)[:, backwards],
            "the rows are sorted by their changes of sign (Walsh's order)": lambda: wide @ H[changes].mT,
            "this is x: nothing is transformed": wide,
        },
        loose=10,
    )
    if large:
        case.without("H", width, width)


@exercise("4.5", "nearest_kronecker")
def nearest_kronecker(answer, case: Case) -> None:
    n, b = case.different(2, 2, 4)
    base = kron(case.normal(n, n), case.normal(b, b)).double()
    m = (2 * base / base.norm() + 0.6 * case.normal(n * b, n * b).double() / (n * b)).to(case.dtype)
    wide = m.double()

    def rows(first: int, second: int) -> Tensor:
        blocks = wide.reshape(first, second, first, second).permute(0, 2, 1, 3)
        return blocks.reshape(first * first, second * second)

    def nearest(first: int, second: int, keep: int = 0, scale: bool = True) -> Tensor:
        # the specification: the leading pair of eigenvectors, and the length of the target along it
        table = rows(first, second)
        right = torch.linalg.eigh(table.mT @ table).eigenvectors.flip(-1)[:, keep]
        left = table @ right
        left = left if scale else left / left.norm()
        return kron(left.reshape(first, first), right.reshape(second, second))

    def averaged() -> Tensor:
        block = rows(n, b).mean(0)
        weights = rows(n, b) @ block / (block @ block)
        return kron(weights.reshape(n, n), block.reshape(b, b))

    def corner() -> Tensor:
        block = rows(n, b)[0]
        weights = rows(n, b) @ block / (block @ block)
        return kron(weights.reshape(n, n), block.reshape(b, b))

    def best_rank_one() -> Tensor:
        u, s, vh = torch.linalg.svd(wide)
        return s[0] * torch.outer(u[:, 0], vh[0])

    def turned() -> Tensor:
        left, s, right = torch.linalg.svd(rows(n, b), full_matrices=False)
        return kron(s[0] * left[:, 0].reshape(n, n), right[0].reshape(b, b).mT)

    case.same(
        answer(m, n),
        nearest(n, b),
        {
            "the sizes are exchanged: A is n x n, B the rest": lambda: nearest(b, n),
            "the singular value is left out": lambda: nearest(n, b, scale=False),
            "this is the second singular pair": lambda: nearest(n, b, keep=1),
            "B is the average of the blocks; large blocks must count for more": averaged,
            "B is the first block; all blocks must have a say": corner,
            "this is the best matrix of rank one: rearrange m first, a row for each block": best_rank_one,
            "B is transposed": turned,
            "nothing is changed: this is m": wide,
        },
        loose=50,
        otherwise="rearrange m so that each row holds one block; then it is a matrix of rank one that you look for",
    )
