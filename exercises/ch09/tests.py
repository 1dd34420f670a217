"""Chapter 9's tests. Each function tries one random case against a specification that is not the solution's way."""

from itertools import pairwise

import torch

from ..case import Case, Mistake
from ..ch08.tests import same_numbers
from ..registry import exercise


def whole_numbers(case: Case, got, length: int, what: str) -> set[tuple[int, ...]]:
    """`got` as a set of tuples of `length` whole numbers."""
    if not isinstance(got, list | tuple):
        raise Mistake(f"the answer should be a list of {what}s, and is {type(got).__name__}")
    rows = []
    for row in got:
        if not isinstance(row, list | tuple) or len(row) != length:
            raise Mistake(f"each {what} should be {length} numbers, and one is {row!r}")
        numbers = [case.number(value, f"number in a {what}") for value in row]
        if any(number != int(number) for number in numbers):
            raise Mistake(f"a {what} holds whole numbers, and one is {row!r}")
        rows.append(tuple(map(int, numbers)))
    if len(rows) != len(set(rows)):
        twice = next(row for row in rows if rows.count(row) > 1)
        raise Mistake(f"the {what} {twice} is there more than once")
    return set(rows)


@exercise("9.1", "rectangles")
def rectangles(answer, case: Case) -> None:
    factors = [*case.different(2, 2, 4), 2]
    sizes = [case.integer(1, 3)]
    for factor in factors[: 1 + case.turn(3)]:
        sizes.insert(0, sizes[0] * factor)
    T = sizes[0]
    got = whole_numbers(case, answer(list(sizes)), 5, "rectangle")

    def shares(i, j):
        return sum(i // size == j // size for size in sizes)

    levels = {(i, j): [] for i in range(T) for j in range(i + 1)}  # of the rectangles over each causal pair
    for level, first, last, start, stop in sorted(got):
        name = f"the rectangle ({level}, {first}, {last}, {start}, {stop})"
        if not (0 <= first < last <= T and 0 <= start < stop <= T):
            likely = "the ends are one past the last query and key" if first == last or start == stop else None
            raise Mistake(f"{name} is empty, or leaves the {T} tokens", likely)
        if start > first or stop > first:
            likely = "the right part of a block asks, the left part is asked" if last <= start else None
            raise Mistake(f"{name} has keys that do not come before all of its queries", likely)
        found = {shares(i, j) for i in range(first, last) for j in range(start, stop)}
        if found != {level}:
            if found == {level - 1}:
                likely = "levels count from 1: pairs that share level 1 alone belong to level 1"
            elif found == {level + 1}:
                likely = "the pairs share level l, and lie in different blocks of level l + 1"
            elif len(found) > 1:
                likely = "cut where finer blocks begin, and a block may hold more than two of them"
            else:
                likely = None
            raise Mistake(f"{name} has pairs that share {sorted(found)} levels, not {level} alone", likely)
        for i in range(first, last):
            for j in range(start, stop):
                levels[i, j].append(level)
    wanted = {pair: level for pair in levels if (level := shares(*pair)) < len(sizes)}
    for (i, j), level in wanted.items():
        if len(levels[i, j]) != 1:
            how, likely = ("in two rectangles" if levels[i, j] else "in none"), None
            if not levels[i, j]:
                size = sizes[level - 1]
                first_block = all(levels[a, b] for (a, b), other in wanted.items() if other == level and a < size)
                likely = (
                    "each block of a level has such rectangles, not only the first one"
                    if first_block
                    else "a block may hold more than two blocks of the next level: each meets all that come before it"
                )
            raise Mistake(f"the pair of query {i} and key {j}, which shares {level} levels, is {how}", likely)
    least = sum(T // finer - T // size for size, finer in pairwise(sizes))
    if len(got) > least:
        raise Mistake(
            f"{len(got)} rectangles where {least} do",
            "let each finer block meet everything before it in its block at once, as one rectangle",
        )


@exercise("9.2", "merge")
def merge(answer, case: Case) -> None:
    rows, d = case.different(2, 3, 6)
    sizes = case.different(2, 2, 9)
    shift = (0.0, 0.0, 800.0, -800.0)[case.turn(4)]
    scores = [2 * case.normal(rows, n) + shift for n in sizes]
    values = [case.normal(n, d) for n in sizes]
    pieces = [s.double().softmax(1) @ v.double() for s, v in zip(scores, values, strict=True)]
    sums = [s.double().logsumexp(1) for s in scores]
    if case.turn(4) == 1:  # the first row met no key yet
        pieces[0][0], sums[0][0] = 0.0, -torch.inf
        scores[0][0] = -torch.inf
    want = torch.cat(scores, 1).double().softmax(1) @ torch.cat(values).double()
    want_lse = torch.cat(scores, 1).double().logsumexp(1)
    given = [t.to(case.dtype) for pair in zip(pieces, sums, strict=True) for t in pair]
    got = answer(*given)
    if not isinstance(got, list | tuple) or len(got) != 2:
        raise Mistake("the answer should be a pair, output and log-sum-exp")
    o, lse, o_new, lse_new = (t.double() for t in given)
    mean = (sizes[0] * o + sizes[1] * o_new) / sum(sizes)
    near = {
        "the pieces are averaged; each weighs as much as its sum of exponentials": (o + o_new) / 2,
        "the weights are the log-sum-exps themselves; their exponentials are the sums": (
            lse[:, None] * o + lse_new[:, None] * o_new
        )
        / (lse + lse_new)[:, None],
        "the pieces are weighted by their numbers of keys, which have no say": mean,
        "the two outputs are added; they are normalised each by its own sum": o + o_new,
        "the weights are exchanged: the louder piece weighs more": (lse_new - torch.logaddexp(lse, lse_new)).exp()[
            :, None
        ]
        * o
        + (lse - torch.logaddexp(lse, lse_new)).exp()[:, None] * o_new,
    }
    overflow = (
        "e^lse overflows or vanishes, and a piece without keys has lse = -inf: subtract the merged lse before exp, "
        "with torch.logaddexp"
    )
    if isinstance(got[0], torch.Tensor) and got[0].shape == want.shape and not got[0].isfinite().all():
        raise Mistake("the output holds nan or inf", overflow)
    case.same(got[0], want, near, what="output", loose=20, otherwise=overflow if shift or case.turn(4) == 1 else None)
    near = {
        "the two log-sum-exps are added; their exponentials are": lse + lse_new,
        "this is the larger of the two, not the logarithm of both sums": torch.maximum(lse, lse_new),
        "this is the sum itself; return its logarithm": (lse.exp() + lse_new.exp()),
        "this is the log-sum-exp of the mean; sums add up": torch.logaddexp(lse, lse_new)
        - torch.tensor(2.0, dtype=torch.float64).log(),
    }
    case.same(got[1], want_lse, near, what="log-sum-exp", loose=20)


@exercise("9.3", "online_attention")
def online_attention(answer, case: Case) -> None:
    rows, d, d_v = case.different(3, 2, 6)
    sizes = [case.integer(1, 5) for _ in range(4)]
    q = case.normal(rows, d)
    keys, values = [case.normal(n, d) for n in sizes], [case.normal(n, d_v) for n in sizes]
    if case.turn(3) == 0:  # the largest scores come first, and all are too large for exp
        order = torch.cat(keys).norm(dim=1).argsort(descending=True)
        keys = list((1000 * torch.cat(keys)[order]).split(sizes))
    wide_q, k, v = q.double(), torch.cat(keys).double(), torch.cat(values).double()
    tiles = [wide_q @ one.double().T for one in keys]
    outs = [s.softmax(1) @ one.double() for s, one in zip(tiles, values, strict=True)]

    def running(rescale_out=True, rescale_total=True, over=None):
        """The recurrence, with faults."""
        top = torch.full((rows, 1), -torch.inf, dtype=torch.float64)
        total, out = torch.zeros(rows, 1, dtype=torch.float64), torch.zeros(rows, d_v, dtype=torch.float64)
        for s, one in zip(tiles, values, strict=True):
            new = torch.maximum(top, s.amax(1, keepdim=True)) if over is None else s.amax(1, keepdim=True)
            p, shrink = (s - new).exp(), (top - new).exp()
            total = (shrink if rescale_total else 1.0) * total + p.sum(1, keepdim=True)
            out = (shrink if rescale_out else 1.0) * out + p @ one.double()
            top = new
        return out / total

    near = {
        "the output so far is not rescaled when a larger score appears": running(rescale_out=False),
        "the sum so far is not rescaled when a larger score appears": running(rescale_total=False),
        "nothing is rescaled: earlier tiles have been divided by another maximum": running(False, False),
        "each tile has its own softmax, and the tiles are averaged; one softmax runs over all keys": sum(outs) / 4,
        "each tile has its own softmax, and the outputs are added; one softmax runs over all keys": sum(outs),
        "this is the last tile alone": outs[-1],
        "the output is not divided by the sum of exponentials": running() * running_total(tiles),
        "the scores are scaled by 1 / sqrt(d), which was not asked here": (wide_q @ k.T / d**0.5).softmax(1) @ v,
    }
    got = answer(q, keys, values)
    if isinstance(got, torch.Tensor) and got.is_floating_point() and not got.isfinite().all():
        raise Mistake(
            "the output holds nan or inf",
            "exp of a large score overflows: subtract the largest score of the row so far",
        )
    case.same(got, (wide_q @ k.T).softmax(1) @ v, near, what="output", loose=20)


def running_total(tiles) -> torch.Tensor:
    """The sum of exponentials below the largest score of each row, (rows, 1)."""
    scores = torch.cat(tiles, 1)
    return (scores - scores.amax(1, keepdim=True)).exp().sum(1, keepdim=True)


@exercise("9.4", "piece_gradients")
def piece_gradients(answer, case: Case) -> None:
    rows, d, d_v, here, others = case.different(5, 2, 8)
    q, k, v = case.normal(rows, d), case.normal(here, d), case.normal(here, d_v)
    more_k, more_v = case.normal(others, d), case.normal(others, d_v)
    d_out, scale = case.normal(rows, d_v), case.choice(0.3, 0.5, 0.7)
    wide = [t.double().clone().requires_grad_() for t in (q, k, v)]
    with torch.enable_grad():  # all keys at once; q counts for this piece alone
        scores = scale * torch.cat([wide[0] @ wide[1].T, q.double() @ more_k.double().T], 1)
        whole = scores.softmax(1) @ torch.cat([wide[2], more_v.double()])
        want = torch.autograd.grad(whole, wide, d_out.double())
    out, lse = whole.detach(), scores.detach().logsumexp(1)
    given = [t.to(case.dtype) for t in (out, lse)]
    got = answer(q, k, v, scale, *given, d_out)
    if not isinstance(got, list | tuple) or len(got) != 3:
        raise Mistake("the answer should be three tensors: the gradients of q, k and v")

    Q, K, V, dO = (t.double() for t in (q, k, v, d_out))
    S = scale * Q @ K.T
    own_lse = S.logsumexp(1)

    def formula(lse=lse, out=out, delta=1.0, factor=scale):
        A = (S - lse[:, None]).exp()
        dS = A * (dO @ V.T - delta * (dO * out).sum(1, keepdim=True))
        return factor * dS @ K, factor * dS.T @ Q, A.T @ dO

    own_out = S.softmax(1) @ V
    unscaled = (Q @ K.T - lse[:, None]).exp()
    dS_unscaled = unscaled * (dO @ V.T - (dO * out).sum(1, keepdim=True))
    wrongs = {
        "lse and out of this piece alone; the weights of the whole row need those that are given": formula(
            own_lse, own_out
        ),
        "the softmax runs over this piece alone: the weights are exp(score - lse) with the given lse": formula(own_lse),
        "delta is taken from the output of this piece; the merged output is given": formula(out=own_out),
        "delta is summed over these keys alone; of the whole row it is d_out . out": formula(
            out=(S - lse[:, None]).exp() @ V
        ),
        "delta = d_out . out is missing: every other key of the row loses when one gains": formula(delta=0.0),
        "the sign of delta is wrong": formula(delta=-1.0),
        "scores are scale * q . k, and so dq and dk carry the scale once more": formula(factor=1.0),
        "the scale is missing from the scores": (
            scale * dS_unscaled @ K,
            scale * dS_unscaled.T @ Q,
            unscaled.T @ dO,
        ),
    }
    for n, name in enumerate(("q", "k", "v")):
        near = {likely: values[n] for likely, values in wrongs.items()}
        case.same(got[n], want[n], near, what=f"gradient of {name}", loose=20)


@exercise("9.5", "most_gain")
def most_gain(answer, case: Case) -> None:
    lists = [case.different(n, 1, 12) for n in (2, 3, 5)]
    asked = [(ranks, backward) for ranks in lists for backward in (False, True)]

    def over(count) -> list[float]:
        return [count(sum(r / 2**l for l, r in enumerate(ranks)) / sum(ranks), backward) for ranks, backward in asked]

    def products(narrow: int, wide: int, f: float) -> float:
        return (narrow + wide) / (narrow * f + wide)

    near = {
        "this is what is left, not the gain: dense over MLR": over(
            lambda f, b: 1 / products(4, 3, f) if b else 1 / products(1, 1, f)
        ),
        "the product with the values does not shrink: it is one of two forward, three of seven in all": over(
            lambda f, b: 1 / f
        ),
        "the backward pass takes the scores a second time: seven products in all": over(
            lambda f, b: products(3, 3, f) if b else products(1, 1, f)
        ),
        "this is the backward pass alone; the forward pass belongs to it": over(
            lambda f, b: products(3, 2, f) if b else products(1, 1, f)
        ),
        "level 1 holds all pairs, so its features count in full: rank times 2^-(l-1), with l from 1": over(
            lambda f, b: products(4, 3, f / 2) if b else products(1, 1, f / 2)
        ),
        "the forward count for both; with the backward pass it is seven products": over(lambda f, b: products(1, 1, f)),
        "dV and dO V^T have the width of the values, and do not shrink": over(
            lambda f, b: products(6, 1, f) if b else products(1, 1, f)
        ),
    }
    got = [answer(list(ranks), backward) for ranks, backward in asked]
    want = over(lambda f, b: products(4, 3, f) if b else products(1, 1, f))
    same_numbers(case, got, want, near, "gain")
