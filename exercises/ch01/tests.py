"""Chapter 1's tests. Each function tries one random case; its loops are the specification."""

import math

import torch
from torch import Tensor

from ..case import Case, Mistake
from ..registry import exercise


@exercise("1.1", "bilinear_scores")
def bilinear_scores(answer, case: Case) -> None:
    batch, tokens, width = case.different(3, 2, 7)
    x, m = case.normal(batch, tokens, width), case.normal(width, width)
    want = torch.zeros(batch, tokens, tokens, dtype=torch.float64)
    for b, sequence in enumerate(x.tolist()):
        for i, query in enumerate(sequence):
            for j, key in enumerate(sequence):
                want[b, i, j] = sum(
                    query[k] * m_kn * key[n] for k, row in enumerate(m.tolist()) for n, m_kn in enumerate(row)
                )
    case.same(
        answer(x, m),
        want,
        {
            "query and key are exchanged: this is x_j^T M x_i (M transposed, or the scores)": want.mT,
            "M is left out: this is x_i^T x_j": lambda: x @ x.mT,
            "each token is scored with itself alone: this is x_i^T M x_i": lambda: want.diagonal(dim1=-2, dim2=-1),
            "the scores are divided by the root of the width; here they are not": want / width**0.5,
            "M appears twice": lambda: x @ m @ m.mT @ x.mT,
            "the product runs over all sequences at once: scores of different sequences are mixed": lambda: mixed(x, m),
        },
        what="score",
    )


def mixed(x: Tensor, m: Tensor) -> Tensor:
    flat = x.flatten(0, 1)
    return flat @ m @ flat.mT


@exercise("1.2", "causal_softmax")
def causal_softmax(answer, case: Case) -> None:
    tokens = case.integer(3, 7)
    scores = case.normal(tokens, tokens)
    past = torch.ones(tokens, tokens).tril().bool()
    got = answer(scores)
    wide = scores.double()
    visible = wide.masked_fill(~past, -torch.inf)
    case.same(
        got,
        softmax_by_loops(scores),
        {
            "there is no mask: token i sees the tokens after it": wide.softmax(-1),
            "softmax first and mask after it: the rows no longer sum to 1": wide.softmax(-1) * past,
            "the mask fills in 0 before the softmax, but exp(0) = 1; fill in -inf": (wide * past).softmax(-1),
            "the softmax runs down the columns (over the queries); each row should sum to 1": visible.softmax(-2),
            "the mask hides the token itself too: row i should keep j = i": visible.masked_fill(
                torch.eye(tokens).bool(), -torch.inf
            ).softmax(-1),
            "the mask hides the past and keeps the future": wide.masked_fill(past.tril(-1), -torch.inf).softmax(-1),
            "the mask is there, the softmax is missing": visible,
            "sum(-1) without keepdim=True: column j is divided by the sum of row j": lambda: across(visible),
            "sum(-1) without keepdim=True: column j is divided by the sum of row j, taken after the largest score": (
                lambda: across(visible - visible.amax(-1, keepdim=True))
            ),
            "amax(-1) without keepdim=True: column j loses the largest score of row j": (
                (visible - visible.amax(-1)).softmax(-1)
            ),
            "amax(-1) and sum(-1) without keepdim=True: column j gets what belongs to row j": lambda: across(
                visible - visible.amax(-1)
            ),
        },
        what="attention weight",
    )
    if (got[~past] != 0).any():
        raise Mistake(
            "weights above the diagonal should be exactly 0, and are only small", "fill in -inf, nothing finite"
        )
    large = 200 if case.dtype == torch.float32 else 800  # too large for exp, and not for differences in float32
    rows = torch.randperm(tokens, generator=case.generator).to(case.dtype) % 2
    for likely, difficult in {
        "exp overflows: subtract the largest score of the row first": scores + large,
        "one maximum for the whole matrix: rows far below it underflow to 0/0; subtract each row's own": (
            scores - large * rows[:, None]
        ),
        "the maximum is taken over hidden scores too, and the visible ones underflow: mask first": (
            scores + large * ~past
        ),
    }.items():
        got, want = answer(difficult), softmax_by_loops(difficult)
        hard = case.tensor(got, (tokens, tokens), finite=False)
        for i in range(tokens):
            if not hard[i].isfinite().all() or not case.close(hard[i], want[i], got.dtype):
                cut_off = (
                    "scores that are cut off (clamp) are other scores: subtract the row's largest in place of that"
                )
                raise Mistake(
                    f"for the scores {numbers(difficult[i])} row {i} of the weights is {numbers(hard[i])}, "
                    f"and should be {numbers(want[i])}",
                    cut_off if hard[i].isfinite().all() else likely,
                )


def softmax_by_loops(scores: Tensor) -> Tensor:
    weights = torch.zeros(scores.shape, dtype=torch.float64)
    for i, row in enumerate(scores.tolist()):
        powers = [math.exp(score - max(row[: i + 1])) for score in row[: i + 1]]
        for j, power in enumerate(powers):
            weights[i, j] = power / sum(powers)
    return weights


def across(scores: Tensor) -> Tensor:
    """A softmax whose sums lie along the wrong axis."""
    powers = scores.exp()
    return powers / powers.sum(-1)


def numbers(x: Tensor) -> str:
    return "[" + ", ".join(f"{value:.4g}" for value in x.tolist()) + "]"


@exercise("1.3", "head_matrices")
def head_matrices(answer, case: Case) -> None:
    heads, rank = case.different(2, 2, 4)
    width = heads * rank
    w_q, w_k = case.normal(width, width), case.normal(width, width)
    want = torch.zeros(heads, width, width, dtype=torch.float64)
    for h in range(heads):
        for a, query in enumerate(w_q.tolist()):
            for b, key in enumerate(w_k.tolist()):
                want[h, a, b] = sum(query[h * rank + k] * key[h * rank + k] for k in range(rank))

    def packed(q: Tensor, k: Tensor) -> Tensor:
        return torch.einsum("ahr,bhr->hab", q, k)

    def columns(w: Tensor) -> Tensor:
        return w.reshape(width, heads, rank)

    def dealt(w: Tensor) -> Tensor:
        return w.reshape(width, rank, heads).mT

    def lying(w: Tensor) -> Tensor:
        return w.reshape(heads, width, rank).transpose(0, 1)

    case.same(
        answer(w_q, w_k, heads),
        want,
        {
            "query and key are exchanged: this is W_K W_Q^T": want.mT,
            "the columns are dealt out in turn (h, h + H, ...); head h owns r neighbouring ones": lambda: packed(
                dealt(w_q), dealt(w_k)
            ),
            "the heads are cut from the rows; W has shape (D, H r), and head h owns r columns": lambda: packed(
                columns(w_q.mT), columns(w_k.mT)
            ),
            "W is cut as it lies in memory, row after row: split its columns, (D, H, r), then move H to the front": (
                lambda: packed(lying(w_q), lying(w_k))
            ),
            "H is the middle axis of (D, H, r): move it to the front, or the product mixes the heads of each row": (
                lambda: columns(w_q) @ columns(w_k).mT
            ),
            "the heads are summed: M_h is one matrix for each head": lambda: want.sum(0),
            "W_Q alone is used, for queries and for keys": lambda: packed(columns(w_q), columns(w_q)),
            "M is divided by the root of r; that factor belongs to the scores, not to M": want / rank**0.5,
        },
        what="matrix",
    )


@exercise("1.4", "find_gauge")
def find_gauge(answer, case: Case) -> None:
    rank, width = case.integer(2, 4), case.integer(5, 9)
    w_q, w_k, g = case.normal(width, rank), case.normal(width, rank), well_conditioned(case, rank)
    wide = g.double()
    inverse = wide.inverse()
    other_q, other_k = (w_q.double() @ wide).to(case.dtype), (w_k.double() @ inverse.mT).to(case.dtype)
    case.same(
        answer(w_q, w_k, other_q, other_k),
        wide,
        {
            "this G leads back, from the other head to the first": inverse,
            "G is transposed": wide.mT,
            "this is what the keys are turned by, G^-T; the queries are turned by G": inverse.mT,
            "W_Q^T is no inverse of W_Q: its columns are not orthonormal": lambda: w_q.mT @ other_q,
            "this is the identity: the two heads have the same form, and different factors": torch.eye(rank),
            "the numbers are divided one by one; G mixes the columns": lambda: (other_q / w_q)[:rank],
        },
        what="entry of G",
        loose=100,
    )


def well_conditioned(case: Case, size: int) -> Tensor:
    """An invertible matrix, far from every rotation, whose inverse loses few digits."""
    rotation = [torch.linalg.qr(case.normal(size, size)).Q for _ in range(2)]
    stretch = torch.linspace(0.5, 2.5, size, dtype=case.dtype)
    return rotation[0] * stretch @ rotation[1]


@exercise("1.5", "recover", cases=8)
def recover(answer, case: Case) -> None:
    width = case.integer(2, 5)
    m = case.normal(width, width)
    m[0, 1] = m[1, 0] + case.choice(-1, 1)  # never nearly symmetric: M^T, or the mean of both, is always a mistake
    asked, alike = 0, True  # `alike`: every call so far had one vector on both sides

    def score(x, y) -> Tensor:
        nonlocal asked, alike
        left, right = (
            case.tensor(x, (width,), "first argument of score"),
            case.tensor(y, (width,), "second argument of score"),
        )
        asked, alike = asked + 1, alike and torch.equal(left, right)
        if asked > width**2:
            raise Mistake(
                f"score was called more than D^2 = {width**2} times",
                "score(x, x) sees the symmetric part of M alone, however often you ask: take two different vectors"
                if alike
                else "M has D^2 numbers, and each call gives one: never ask for the same one twice",
            )
        return (left @ m.double() @ right).to(x.dtype)  # the caller's dtype, whichever the case has

    wide = m.double()
    got = answer(score, width)
    case.same(
        got,
        wide,
        {
            "M is transposed: score(x, y) has the query first": wide.mT,
            "this is the symmetric part of M alone: ask with two different vectors": (wide + wide.mT) / 2,
            "this is M + M^T: score(e_i + e_j, e_i + e_j) holds both orders": wide + wide.mT,
            "only the diagonal is there: ask for every pair (i, j)": torch.diag(wide.diagonal()),
            "every entry is a sum over a whole row: the second argument should be one basis vector": wide.sum(
                1, keepdim=True
            ).expand(-1, width),
            "only one triangle is there: M need not be symmetric": wide.triu(),
            "M is mirrored across its diagonal: it need not be symmetric": wide.triu() + wide.triu(1).mT,
        },
        what="entry",
        loose=100,
    )
