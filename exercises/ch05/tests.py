"""Chapter 5's tests. Each function tries one random case against a specification that is not the solution's way."""

import math
from itertools import product

import torch
from torch import Tensor

import structattn_minimal as sa

from ..case import Case, Mistake
from ..ch02.tests import same_number
from ..registry import exercise


@exercise("5.1", "apply_btt")
def apply_btt(answer, case: Case) -> None:
    a, b, c, d = case.different(4, 2, 6)
    s, batch = case.integer(2, 3), case.integer(2, 4)
    x, right, left = case.normal(batch, c * d), case.normal(c, d, b, s), case.normal(b, c, s, a)
    wide = [t.double() for t in (x, right, left)]
    m = torch.zeros(a * b, c * d, dtype=torch.float64)
    for alpha, beta, gamma, delta in product(range(a), range(b), range(c), range(d)):
        m[alpha * b + beta, gamma * d + delta] = wide[2][beta, gamma, :, alpha] @ wide[1][gamma, delta, beta]
    case.same(
        answer(x, right, left),
        x.double() @ m.mT,
        {
            "the last shuffle is missing: entry alpha b + beta of y belongs to number alpha of group beta": (
                lambda: steps(*wide, back=False)
            ),
            "the shuffle between the two products is missing": lambda: steps(*wide, shuffled=False),
            "x is read by columns: its entry gamma d + delta belongs to row gamma": lambda: steps(*wide, by_rows=False),
            "b and s of the right core are exchanged: it holds (c, d, b, s)": lambda: steps(*wide, b_then_s=False),
            "only the first of the s terms is summed": lambda: steps(wide[0], wide[1][..., :1], wide[2][:, :, :1]),
        },
    )


def steps(x, right, left, *, by_rows=True, b_then_s=True, shuffled=True, back=True) -> Tensor:
    """The five steps, some of them wrongly."""
    (c, d, b, s), a = right.shape, left.shape[-1]
    grid = x.reshape(-1, c, d) if by_rows else x.reshape(-1, d, c).mT
    core = right if b_then_s else right.reshape(c, d, s, b).transpose(2, 3)
    z = torch.einsum("ncd,cdbs->ncbs", grid, core)
    z = z.transpose(1, 2) if shuffled else z.reshape(-1, b, c, s)
    y = torch.einsum("nbcs,bcsa->nba", z, left)
    return (y.mT if back else y).reshape(-1, a * b)


@exercise("5.2", "shuffle_order")
def shuffle_order(answer, case: Case) -> None:
    b, c = case.different(2, 2, 5)
    s = case.integer(2, 3)
    n = b * c * s
    got = answer(b, c, s)
    got = got.tolist() if isinstance(got, Tensor) else got
    if not isinstance(got, list | tuple) or not all(isinstance(i, int) for i in got) or not got:
        raise Mistake("the answer should be a list of whole numbers, one for each place after the shuffle")
    if len(got) != n:
        groups = "this orders the groups; each holds s numbers, which stay together" if len(got) == b * c else None
        raise Mistake(f"the answer has {len(got)} entries, and should have b c s = {n}", groups)
    want = [0] * n
    for gamma, beta, sigma in product(range(c), range(b), range(s)):
        want[(beta * c + gamma) * s + sigma] = (gamma * b + beta) * s + sigma
    flat = torch.arange(n)
    near = {
        "this says where each number goes; wanted is where it comes from": flat.reshape(b, c, s).transpose(0, 1),
        "the s numbers of a group stay together": flat.reshape(c, b * s).T,
        "the counting starts at 1": torch.tensor(want) + 1,
        "nothing changes place": flat,
        "the groups go backwards; they should be transposed": flat.reshape(c, b, s).flip(0, 1),
    }
    got = list(got)
    if got != want:
        at = next(i for i in range(n) if got[i] != want[i])
        likely = (hint for hint, order in near.items() if order.flatten().tolist() == got)
        failed = f"place {at} after the shuffle is filled from place {got[at]}, and should be from place {want[at]}"
        raise Mistake(failed, next(likely, None))


@exercise("5.3", "cheapest_grid")
def cheapest_grid(answer, case: Case) -> None:
    square = case.turn(2) == 0
    width = case.choice(36, 64, 100, 144, 256) if square else case.choice(60, 72, 128, 200, 512)
    got = answer(width)
    if not isinstance(got, list | tuple) or len(got) != 3:
        raise Mistake("the answer should be three whole numbers: b, c and the parameters")
    b, c, parameters = (case.number(value, name) for value, name in zip(got, ("b", "c", "parameters"), strict=True))
    if any(value < 1 or width % value for value in (b, c)):
        rounded = "the root of D, rounded, need not divide it" if b == c == math.isqrt(width) else None
        raise Mistake(f"your b = {b:g} and c = {c:g} should both divide D = {width}", rounded)
    if b * c < width:
        failed = f"on this grid a form of width {width} has rank {b * c:g} at most, since z has b c = {b * c:g} numbers"
        raise Mistake(failed, "full rank at s = 1 needs b c >= D")
    divisors = [i for i in range(1, width + 1) if width % i == 0]
    cheapest = min((width * (i + j), i, j) for i, j in product(divisors, divisors) if i * j >= width)
    if {int(b), int(c)} != set(cheapest[1:]):
        root = math.isqrt(width)
        above = min(i for i in divisors if i > width**0.5)
        likely = "the divisors on both sides of the root are the cheapest"
        if square and {int(b), int(c)} == {above, width // above}:
            likely = f"D is the square of {root}: the first divisor strictly greater than the root is one too far"
        elif 1 in (b, c):
            likely = "with b = 1 or c = 1 one core is a dense matrix"
        failed = f"your b = {b:g}, c = {c:g} is not the cheapest grid of {width}: b + c could be {sum(cheapest[1:])}"
        raise Mistake(failed, likely)
    if b > c:
        raise Mistake(f"your b = {b:g} and c = {c:g} are in the wrong order", "the smaller comes first")
    i, j = cheapest[1:]
    same_number(
        case,
        parameters,
        cheapest[0],
        {
            "2 D^1.5 is right only where D is a square": round(2 * width**1.5),
            "this is one core; there are two": width * i,
            "this is the larger core alone": width * j,
            "this is D b c; the cores have b c (a + d) = D (b + c) numbers": width * i * j,
            "this is b + c; each counts D times": i + j,
        },
        "number of parameters",
        1e-9,
    )


@exercise("5.4", "btt_rank")
def btt_rank(answer, case: Case) -> None:
    grids = [matrix_of_blocks(case) for _ in range(4)]  # one number may be right by luck: four matrices
    wanted = [ranks(*grid) for grid in grids]
    got = [case.number(answer(*grid), "rank") for grid in grids]
    for value, want in zip(got, wanted, strict=True):
        if value != want[""]:
            rows = list(zip(got, wanted, strict=True))
            likely = [hint for hint in want if hint and all(v == w[hint] for v, w in rows)]
            raise Mistake(f"the rank is {value:g}, and should be {want['']}", "; or ".join(likely) or None)


def matrix_of_blocks(case: Case) -> tuple[Tensor, tuple[int, int], tuple[int, int]]:
    """A matrix of whole numbers whose blocks have different ranks, 1 to 3."""
    (a, d), (b, c) = case.different(2, 4, 6), case.different(2, 2, 4)

    def whole(*shape):
        return torch.randint(-3, 4, shape, generator=case.generator).double()

    blocks = [[whole(a, r) @ whole(r, d) for r in (case.integer(1, 3) for _ in range(c))] for _ in range(b)]
    m = torch.stack([torch.stack(row) for row in blocks]).permute(2, 0, 1, 3).reshape(a * b, c * d)
    return m, (a, b), (c, d)


def ranks(m: Tensor, out: tuple[int, int], into: tuple[int, int]) -> dict[str, float]:
    (a, b), (c, d) = out, into

    def rank(block) -> int:
        return int(torch.linalg.matrix_rank(block, rtol=1e-9))

    def cut(rows, columns):
        return [rank(m[rows(i)][:, columns(j)]) for i in range(b) for j in range(c)]

    def strided(i):
        return torch.arange(i, a * b, b)

    def chunk(j):
        return torch.arange(j * d, (j + 1) * d)

    right = cut(strided, chunk)
    plain = [rank(m[i : i + b, chunk(j)]) for i in range(0, a * b, b) for j in range(c)]
    return {
        "": max(right),
        "the rows of a block are b apart, not neighbours": max(cut(lambda i: torch.arange(i * a, (i + 1) * a), chunk)),
        "a block belongs to beta and gamma: within it alpha and delta run, not beta and delta": max(plain),
        "the columns of a block are neighbours, not c apart": max(cut(strided, lambda j: torch.arange(j, c * d, c))),
        "this is the rank of M itself": rank(m),
        "this is the smallest rank of a block; s must be enough for all of them": min(right),
        "this is the rank of the first block; s must be enough for all of them": right[0],
        "this is the mean rank of the blocks; s must be enough for all of them": sum(right) / len(right),
        "this is the rank of a plain tensor train: it asks for one pair of cores for all blocks": rank(
            m.reshape(a, b, c, d).permute(0, 2, 1, 3).reshape(a * c, b * d)
        ),
    }


@exercise("5.5", "nearest_btt")
def nearest_btt(answer, case: Case) -> None:
    a, b, c, d = case.different(4, 3, 7)
    rank = case.integer(1, 2)
    m = case.normal(a * b, c * d)
    wide = m.double()
    want = torch.zeros_like(wide)
    for beta, gamma in product(range(b), range(c)):
        rows, columns = torch.arange(beta, a * b, b), torch.arange(gamma * d, (gamma + 1) * d)
        block = wide[rows][:, columns]
        # the specification: project the rows on the leading eigenvectors
        directions = torch.linalg.eigh(block.mT @ block).eigenvectors[:, -rank:]
        want[rows[:, None], columns] = block @ directions @ directions.mT

    def by_blocks(blocks, back, keep=slice(None, rank), power=1.0):
        u, sigma, vh = torch.linalg.svd(blocks, full_matrices=False)
        kept = torch.zeros_like(sigma)
        kept[..., keep] = sigma[..., keep] ** power
        return back(u * kept[..., None, :] @ vh).reshape(a * b, c * d)

    blocks = wide.reshape(a, b, c, d).permute(1, 2, 0, 3)

    def home(cut):
        return cut.permute(2, 0, 1, 3)

    case.same(
        answer(m, (a, b), (c, d), rank),
        want,
        {
            "the rows of a block are b apart, not neighbours": lambda: by_blocks(
                wide.reshape(b, a, c, d).transpose(1, 2), lambda cut: cut.transpose(1, 2)
            ),
            "the columns of a block are neighbours, not c apart": lambda: by_blocks(
                wide.reshape(a, b, d, c).permute(1, 3, 0, 2), lambda cut: cut.permute(2, 0, 3, 1)
            ),
            "the blocks are not put back where they came from: M[alpha b + beta, gamma d + delta]": lambda: by_blocks(
                blocks, lambda cut: cut
            ),
            "the rows are left sorted by block; row alpha of block beta belongs at alpha b + beta": lambda: by_blocks(
                blocks, lambda cut: cut.transpose(1, 2)
            ),
            "the whole matrix is cut to that rank; cut each block": lambda: by_blocks(wide, lambda cut: cut),
            "the smallest singular values are kept; the largest carry the block": lambda: by_blocks(
                blocks, home, slice(-rank, None)
            ),
            "one singular value too many in each block": lambda: by_blocks(blocks, home, slice(None, rank + 1)),
            "each singular value counts by its root; the root belongs to each of two cores": lambda: by_blocks(
                blocks, home, power=0.5
            ),
            "nothing is cut off: this is M": wide,
        },
        loose=10,
    )


@exercise("5.6", "scoring_bill")
def scoring_bill(answer, case: Case) -> None:
    width, heads = case.choice((36, 3), (36, 4), (64, 4), (64, 8), (144, 6))
    seq_len, rank = case.integer(5, 40), case.integer(2, 3)
    got = answer(width, heads, seq_len, rank)
    if not isinstance(got, dict) or set(got) != {"standard", "btt"}:
        raise Mistake('the answer should be a dict with the keys "standard" and "btt"')
    with torch.random.fork_rng(devices=[]):
        layers = {
            "standard": sa.StandardAttention(width, heads, qk_norm=False),
            "btt": sa.BilinearBTTAttention(width, heads, btt_rank=rank, qk_norm=False),
        }
    names = ("number of query-key parameters", "number of score MACs", "number of cached key elements")
    for kind, layer in layers.items():
        pair = got[kind]
        if not isinstance(pair, tuple | list) or len(pair) != 3:
            raise Mistake(f'"{kind}" should hold three numbers: parameters, score MACs, cached key elements')
        values = seq_len * width
        want = (layer.query_key_params(), layer.score_macs(seq_len), layer.cached_elements(seq_len) - values)
        hints = slips(kind, want, width, heads, seq_len, rank)
        for value, number, near, name in zip(pair, want, hints, names, strict=True):
            same_number(case, value, number, near, f'{name} for "{kind}"', 1e-9)


def slips(kind: str, want: tuple[int, int, int], width: int, heads: int, seq_len: int, rank: int) -> tuple[dict, ...]:
    """What goes wrong in each of the three counts, and the number it gives."""
    parameters, macs, cached = want
    causal = {"both halves of the T x T scores are counted, causal or not": macs * (seq_len + 1) / seq_len / 2}
    of_one = {"this is one head; count them all": parameters / heads}
    if kind == "standard":
        return (
            of_one | {"each head has D x r numbers on either side, and r = D / H": parameters * heads},
            causal | {"a dot product of a standard head runs over r = D / H features": macs * heads},
            {"each head caches r = D / H numbers a token": cached * heads, "values are not asked for": 2 * cached},
        )
    return (
        of_one
        | {
            "the rank s counts once in either core": parameters * rank,
            "the factor s is missing": parameters / rank,
            "there are two cores": parameters / 2,
        },
        causal
        | {
            "each of the H heads takes its dot products over all D features": macs / heads,
            "the rank s does not enter: the mapped query has D features for every s": macs * rank,
        },
        {
            "the key is x itself, one for all heads": cached * heads,
            "the key is x itself, with all its D features": cached / heads,
            "values are not asked for": 2 * cached,
        },
    )
