"""Chapter 2's tests. Each function tries one random case against a specification that is not the solution's way."""

import math

import torch
from torch import Tensor

import structattn_minimal as sa

from ..case import Case, Mistake
from ..registry import exercise


def with_singular_values(case: Case, sigma: list[float]) -> Tensor:
    """A random square matrix with these singular values."""
    size = len(sigma)
    kept = sum(s > 0 for s in sigma)
    left, right = (torch.linalg.qr(case.normal(kept, kept).double()).Q for _ in range(2))
    m = torch.zeros(size, size, dtype=case.dtype)  # its lower right part stays exactly 0
    m[:kept, :kept] = left * torch.tensor(sigma[:kept], dtype=torch.float64) @ right
    return m


@exercise("2.1", "best_of_rank")
def best_of_rank(answer, case: Case) -> None:
    width = case.integer(3, 8)
    rank = case.integer(2, width - 1)
    sigma = [3 * 0.7**k for k in range(width)]
    m = with_singular_values(case, sigma)
    wide = m.double()
    # the specification: project the rows on the leading eigenvectors of M^T M
    directions = torch.linalg.eigh(wide.mT @ wide).eigenvectors.flip(-1)
    want = wide @ directions[:, :rank] @ directions[:, :rank].mT
    spectral, frobenius = sigma[rank], math.sqrt(sum(s**2 for s in sigma[rank:]))
    got = answer(m, rank)
    if not isinstance(got, tuple | list) or len(got) != 3:
        raise Mistake("the answer should be three things: the matrix, its spectral and its Frobenius error")
    u, s, vh = (factor.double() for factor in torch.linalg.svd(m))
    case.same(
        got[0],
        want,
        {
            "the smallest singular values are kept; the largest carry the matrix": lambda: (
                u[:, -rank:] * s[-rank:] @ vh[-rank:]
            ),
            "V enters transposed: torch.linalg.svd returns V^T, whose rows are the directions": lambda: (
                u[:, :rank] * s[:rank] @ vh[:, :rank].mT
            ),
            "the singular values are left out": lambda: u[:, :rank] @ vh[:rank],
            "this is the upper left corner of M, not its best approximation": lambda: corner(wide, rank),
            "one singular direction too many": lambda: u[:, : rank + 1] * s[: rank + 1] @ vh[: rank + 1],
            "nothing is cut off: this is M": wide,
        },
        what="matrix",
        loose=10,
    )
    same_number(
        case,
        got[1],
        spectral,
        {
            "this is sigma_r, the last one kept; the error is sigma_(r+1), the first one lost": sigma[rank - 1],
            "this is the Frobenius error": frobenius,
            "this is the norm of the approximation, not of what it misses": sigma[0],
            "the error is squared": spectral**2,
        },
        "spectral error",
    )
    same_number(
        case,
        got[2],
        frobenius,
        {
            "the root is missing: this is the sum of the squares": frobenius**2,
            "the singular values are added without squaring them": sum(sigma[rank:]),
            "this counts sigma_r too, which is kept": math.sqrt(sum(s**2 for s in sigma[rank - 1 :])),
            "this is the spectral error": spectral,
            "this is the norm of the approximation, not of what it misses": math.sqrt(sum(s**2 for s in sigma[:rank])),
        },
        "Frobenius error",
    )


def corner(m: Tensor, rank: int) -> Tensor:
    cut = torch.zeros_like(m)
    cut[:rank, :rank] = m[:rank, :rank]
    return cut


def same_number(case: Case, got, want: float, near: dict[str, float], what: str, rounding: float = 2e-4) -> None:
    """Like `case.same`, for one number."""
    value = case.number(got, what)
    if not abs(value - want) <= rounding * max(1, abs(want)):
        gaps = {hint: abs(value - wrong) / max(1, abs(wrong)) for hint, wrong in near.items()}
        gaps = {hint: gap for hint, gap in gaps.items() if gap <= rounding}
        likely = min(gaps, key=gaps.get, default=None)  # two may come near each other by chance: the nearest was made
        raise Mistake(f"the {what} is {value:.6g}, and should be {want:.6g}", likely)


@exercise("2.2", "right_neighbours", cases=8)
def right_neighbours(answer, case: Case) -> None:
    # one fraction can be right by luck, or look like another mistake: five heads, the first two of them good ones
    heads = [random_head(case, good=k < 2) for k in range(5)]
    wanted = [fractions(*head) for head in heads]
    got = [case.number(answer(*head), "fraction") for head in heads]
    for value, fraction in zip(got, wanted, strict=True):
        if abs(value - fraction[""]) > 1e-6:
            rows = list(zip(got, wanted, strict=True))
            likely = (hint for hint in fraction if hint and all(abs(v - f[hint]) < 1e-6 for v, f in rows))
            raise Mistake(f"the fraction is {value:.6g}, and should be {fraction['']:.6g}", next(likely, None))


def random_head(case: Case, good: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A head, and points on the sphere none of which is close to a tie."""
    d = case.integer(3, 6)
    rank, n = d if good else case.integer(2, d), case.integer(5, 9)
    w_q, w_k = case.normal(d, rank), case.normal(d, rank)
    if good:  # nearly M = I, which finds the nearest query of a key as well
        w_q = torch.linalg.qr(w_q).Q
        w_k = w_q + 0.15 * w_k
    keys, queries = case.sphere(n, d), case.sphere(50, d)
    scores, distances = tables(w_q, w_k, queries, keys)
    clear = [margin(s) > 1e-3 and margin([-x for x in row]) > 1e-3 for s, row in zip(scores, distances, strict=True)]
    return w_q, w_k, queries[torch.tensor(clear)], keys


def fractions(w_q: Tensor, w_k: Tensor, queries: Tensor, keys: Tensor) -> dict[str, float]:
    """The fraction of right neighbours, under "", and what typical mistakes make of it."""
    scores, distances = tables(w_q, w_k, queries, keys)

    def best(rows: list[list[float]]) -> list[int]:
        return [row.index(max(row)) for row in rows]

    def equal(a: list[int], b: list[int]) -> float:
        return sum(x == y for x, y in zip(a, b, strict=True)) / len(a)

    def negative(rows: list[list[float]]) -> list[list[float]]:
        return [[-x for x in row] for row in rows]

    def turned(rows: list[list[float]]) -> list[list[float]]:
        return [list(column) for column in zip(*rows, strict=True)]

    nearest = best(negative(distances))
    right = equal(best(scores), nearest)
    place, nearest_place = best([[x for row in rows for x in row] for rows in (scores, negative(distances))])
    return {
        "": right,
        "argmax() without a dim gives one place in the whole table of scores; each query needs its own": equal(
            [place] * len(nearest), nearest
        ),
        "argmax() and argmin() without a dim give one place in the whole table; each query needs its own": float(
            place == nearest_place
        ),
        "this is the fraction of queries that go wrong": 1 - right,
        "this is the number of right queries, not their fraction": right * len(queries),
        "the count is divided by the number of keys": right * len(queries) / len(keys),
        "the smallest score is taken, in place of the largest": equal(best(negative(scores)), nearest),
        "the maximum runs over the queries: a key is sought for every query": equal(
            best(turned(scores)), best(turned(negative(distances)))
        ),
        "W_Q and W_K are exchanged": equal(best(tables(w_k, w_q, queries, keys)[0]), nearest),
        "W_Q is used for the keys as well": equal(best(tables(w_q, w_q, queries, keys)[0]), nearest),
        "the farthest key is taken for the nearest": equal(best(scores), best(distances)),
        "the nearest key is sought among the projections; it is the one nearest to the query itself": equal(
            best(scores), best(negative(projected_distances(w_q, w_k, queries, keys)))
        ),
    }


def projected_distances(w_q: Tensor, w_k: Tensor, queries: Tensor, keys: Tensor) -> list[list[float]]:
    key_side = [project(w_k, key) for key in keys.tolist()]
    return [[math.dist(project(w_q, query), key) for key in key_side] for query in queries.tolist()]


def tables(w_q: Tensor, w_k: Tensor, queries: Tensor, keys: Tensor) -> tuple[list[list[float]], list[list[float]]]:
    """Scores and distances of all pairs, one at a time."""
    scores, distances = [], []
    key_side = [(key, project(w_k, key)) for key in keys.tolist()]
    for query in queries.tolist():
        q = project(w_q, query)
        scores.append([dot(q, k) for _, k in key_side])
        distances.append([math.dist(query, key) for key, _ in key_side])
    return scores, distances


def project(w: Tensor, x: list[float]) -> list[float]:
    return [dot(column, x) for column in w.mT.tolist()]


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def margin(row: list[float]) -> float:
    first, second = sorted(row, reverse=True)[:2]
    return first - second


@exercise("2.3", "effective_rank")
def effective_rank(answer, case: Case) -> None:
    width = case.integer(3, 9)
    kind = case.turn(4)
    sigma = [float(s) for s in case.normal(width).abs() + 0.1]
    if kind == 0:
        sigma = [2.5] * width  # a multiple of a rotation: every direction counts
    elif kind == 1:
        kept = case.integer(1, width - 1)
        sigma = sigma[:kept] + [0.0] * (width - kept)  # exactly low-rank: 0 log 0 is 0
    p = [s / sum(sigma) for s in sigma]
    squares = [s**2 / sum(t**2 for t in sigma) for s in sigma]

    def entropy(p: list[float]) -> float:
        return -sum(x * math.log(x) for x in p if x > 0)

    got = case.number(answer(with_singular_values(case, sigma)), "effective rank")
    if math.isnan(got):
        raise Mistake("the effective rank is nan", "0 * log 0: a singular value that is 0 adds nothing")
    same_number(
        case,
        got,
        math.exp(entropy(p)),
        {
            "this is the entropy; its exponential counts directions": entropy(p),
            "the shares are those of the squared singular values": math.exp(entropy(squares)),
            "the logarithm has base 2, and the exponential base e": math.exp(entropy(p) / math.log(2)),
            "the singular values are not divided by their sum": bounded_exp(
                -sum(s * math.log(s) for s in sigma if s > 0)
            ),
            "the sign of the entropy is wrong": math.exp(-entropy(p)),
            "this is the number of singular values that are not 0": float(sum(s > 0 for s in sigma)),
            "this is the stable rank: the sum of squares over the largest square": sum(s**2 for s in sigma)
            / max(sigma) ** 2,
            "this is the participation ratio: (sum sigma)^2 / sum sigma^2": sum(sigma) ** 2 / sum(s**2 for s in sigma),
        },
        "effective rank",
        rounding=1e-3 if case.dtype == torch.float32 else 1e-5,
    )


def bounded_exp(x: float) -> float:
    return math.exp(min(x, 700))


@exercise("2.4", "bill")
def bill(answer, case: Case) -> None:
    heads, side, s = case.choice(4, 8), case.choice(8, 16, 24), case.choice(1, 3)
    d = side**2
    got = answer(d, heads, s)
    if not isinstance(got, dict) or set(got) != {"standard", "dense", "btt"}:
        raise Mistake('the answer should be a dict with the keys "standard", "dense" and "btt"')
    with torch.random.fork_rng(devices=[]):
        head = sa.BTT((side, side), (side, side), rank=s)
    btt = heads * sum(p.numel() for p in head.parameters())
    r = d // heads
    want = {"standard": (heads * 2 * d * r, r), "dense": (heads * d * d, d), "btt": (btt, d)}
    near = {
        "standard": {
            "each head has D x r numbers on either side, and r = D / H": heads * 2 * d * d,
            "queries and keys both have weights": d * d,
            "this is one head; count them all": 2 * d * r,
        },
        "dense": {
            "this is one head; count them all": d * d,
            "a dense form is one D x D matrix for a head, not two": 2 * heads * d * d,
        },
        "btt": {
            "this is one head; count them all": btt // heads,
            "each block maps m numbers to s m of them (or back): the factor s is missing": btt // s,
            "there are two factors, a left and a right one": btt // 2,
            "s counts once in either factor": btt * s,
        },
    }
    ranks = {
        "standard": {"one head's form is W_Q W_K^T, which has rank r = D / H": d},
        "dense": {"a dense form has full rank": r},
        "btt": {
            "s = 1 gives full rank already: each factor is block-diagonal, and with invertible blocks is invertible": s,
            "the blocks are small, and yet the product of the two factors has full rank": side,
        },
    }
    for kind, numbers in want.items():
        pair = got[kind]
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise Mistake(f'"{kind}" should hold a pair: parameters, highest rank')
        for value, number, hints, what in zip(
            pair, numbers, (near[kind], ranks[kind]), ("parameters", "rank"), strict=True
        ):
            same_number(
                case,
                value,
                number,
                hints,
                f'number of {what} for "{kind}"' if what != "rank" else f'rank for "{kind}"',
                1e-9,
            )


@exercise("2.5", "fool_every_head")
def fool_every_head(answer, case: Case) -> None:
    rank, heads = case.choice((1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3), (3, 2))
    d = heads * rank + case.integer(1, 3)
    w_q, w_k = case.normal(heads, d, rank), case.normal(heads, d, rank)
    kind = case.turn(3)
    if kind == 1:
        w_k = w_q  # queries and keys are blind for the same directions
    elif kind == 2:  # the heads disagree: what one likes, the next dislikes
        w_q = w_q[:1] + 0.1 * w_q
        w_k = torch.tensor([1.0, -2.0, 1.0], dtype=case.dtype)[:heads, None, None] * (w_k[:1] + 0.3 * w_k)
    got = answer(w_q, w_k)
    if not isinstance(got, tuple | list) or len(got) != 3:
        raise Mistake("the answer should be three vectors: the query, the near key, the far key")
    names = ("query", "near key", "far key")
    query, near, far = (case.tensor(v, (d,), name) for v, name in zip(got, names, strict=True))
    for v, name in zip((query, near, far), names, strict=True):
        if abs(float(v.norm()) - 1) > 1e-3:
            failed = f"the {name} has length {float(v.norm()):.4g}, and should lie on the sphere"
            raise Mistake(failed, "divide it by its norm")
    close, distant = float((query - near).norm()), float((query - far).norm())
    if close >= distant - 1e-3:
        likely = "near and far key are exchanged" if distant < close - 1e-3 else None
        raise Mistake(f"the near key lies at distance {close:.4g} from the query, the far key at {distant:.4g}", likely)
    for h in range(heads):
        pair = w_q[h].double(), w_k[h].double()
        scale = float((pair[0] @ pair[1].mT).norm())
        scores = [float((pair[0].mT @ query) @ (pair[1].mT @ key)) / scale for key in (near, far)]
        if scores[1] <= scores[0] + 1e-6:
            low, high = (f"{score * scale:.4g}" for score in scores)
            failed = f"head {h} of {heads} scores the near key {low} and the far key {high}: it is not fooled"
            raise Mistake(failed, why_not_fooled(query, near, *pair, scores, heads))


def why_not_fooled(query: Tensor, near: Tensor, w_q: Tensor, w_k: Tensor, scores: list[float], heads: int) -> str:
    """What is missing in a triple that should fool this head."""
    if float((w_q.mT @ query).norm()) < 1e-4 * float(w_q.norm()):
        return (
            "the query is one that this head cannot see: all its scores are 0, which is a tie; tilt the query a little"
        )
    if max(abs(score) for score in scores) < 1e-5:
        return "both keys are ones that this head cannot see: only the near one should be"
    if float((w_k.mT @ near).norm()) > 1e-4 * float(w_k.norm()):
        return "this head sees the near key: make it orthogonal to all columns of all W_K, so that it scores 0"
    if heads == 1:
        return "the far key should score more than 0: take the key that the head likes best, along M^T x"
    return "the far key should score more than 0 in every head at once: solve (M_h^T x) . far = 1 for all h together"
