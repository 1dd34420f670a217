"""Chapter 1's tests. Each function tries one random case; its loops are the specification."""

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


@exercise("1.2", "causal_softmax", cases=30)
def causal_softmax(answer, case: Case) -> None:
    tokens = case.integer(2, 7)
    scores = case.normal(tokens, tokens) * case.choice(1, 4)
    if kind := case.integer(0, 2):
        # large scores, and rows that lie far apart: both are harmless to a softmax that looks at each row by itself
        scores = scores * 300 if kind == 1 else scores + 2000 * case.normal(tokens, 1)
    want = torch.zeros(tokens, tokens, dtype=torch.float64)
    for i in range(tokens):
        row = [float(scores[i, j]) for j in range(i + 1)]
        powers = torch.tensor([score - max(row) for score in row], dtype=torch.float64).exp()
        for j in range(i + 1):
            want[i, j] = powers[j] / powers.sum()
    got = answer(scores)
    wide = scores.double()
    past = torch.ones(tokens, tokens).tril().bool()
    case.same(
        got,
        want,
        {
            "there is no mask: token i sees the tokens after it": wide.softmax(-1),
            "softmax first and mask after it: the rows no longer sum to 1": lambda: wide.softmax(-1) * past,
            "the mask fills in 0 before the softmax, but exp(0) = 1; fill in -inf": lambda: (wide * past).softmax(-1),
            "the softmax runs down the columns (over the queries); each row should sum to 1": lambda: wide.masked_fill(
                ~past, -torch.inf
            ).softmax(-2),
            "the mask hides the token itself too: row i should keep j = i": lambda: wide.masked_fill(
                ~past.tril(-1), -torch.inf
            ).softmax(-1),
            "the mask hides the past and keeps the future": lambda: wide.masked_fill(past.tril(-1), -torch.inf).softmax(
                -1
            ),
            "exp overflows: subtract the largest score of the row first": lambda: naive(scores, past),
            "one maximum for the whole matrix: rows far below it underflow to 0/0; subtract each row's own": lambda: (
                naive(scores - scores.max(), past)
            ),
            "the maximum is taken over the whole row, hidden scores included, and the visible ones underflow": lambda: (
                naive(scores - scores.amax(-1, keepdim=True), past)
            ),
        },
        what="attention weight",
    )
    if (got[~past] != 0).any():
        raise Mistake("weights above the diagonal should be exactly 0, and are only small", "fill in -inf, not -1e9")


def naive(scores: Tensor, past: Tensor) -> Tensor:
    powers = scores.exp().where(past, 0)
    return powers / powers.sum(-1, keepdim=True)


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
            "the heads are summed: M_h is one matrix for each head": lambda: want.sum(0),
            "W_Q alone is used, for queries and for keys": lambda: packed(columns(w_q), columns(w_q)),
            "M is divided by the root of r; that factor belongs to the scores, not to M": want / rank**0.5,
        },
        what="matrix",
    )


@exercise("1.4", "turn_inside")
def turn_inside(answer, case: Case) -> None:
    rank, width = case.integer(2, 4), case.integer(5, 9)
    w_q, w_k, g = case.normal(width, rank), case.normal(width, rank), well_conditioned(case, rank)
    pair = answer(w_q, w_k, g)
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise Mistake("the answer should be a pair of matrices: the new W_Q and the new W_K")
    queries, keys = (case.tensor(w, (width, rank), name) for w, name in zip(pair, ("new W_Q", "new W_K"), strict=True))
    case.same(pair[0], w_q.double() @ g.double(), {"W_Q is left as it was": w_q}, what="new W_Q")
    want = torch.zeros(width, width, dtype=torch.float64)
    for a in range(width):
        for b in range(width):
            want[a, b] = (w_q[a].double() * w_k[b].double()).sum()
    if case.close(queries @ keys.mT, want, min(pair[0].dtype, pair[1].dtype, key=lambda t: t.itemsize), loose=10):
        return
    inverse = g.double().inverse()
    likely = None
    for hint, turned in {
        "W_K is left as it was, and cannot undo what W_Q went through": w_k.double(),
        "both are multiplied by G: W_Q G G^T W_K^T is another matrix": w_k.double() @ g.double(),
        "W_K is multiplied by the inverse of G: in M it is W_K^T that meets G, so that a transpose is due": (
            w_k.double() @ inverse
        ),
        "W_K is multiplied by the transpose of G, which undoes G for rotations only": w_k.double() @ g.double().mT,
    }.items():
        if case.close(keys, turned, pair[1].dtype, loose=10):
            likely = hint
    raise Mistake(case.difference(queries @ keys.mT, want, "entry of W_Q' W_K'^T"), likely)


def well_conditioned(case: Case, size: int) -> Tensor:
    """An invertible matrix, far from every rotation, whose inverse loses few digits."""
    rotation = [torch.linalg.qr(case.normal(size, size)).Q for _ in range(2)]
    stretch = torch.linspace(0.5, 2.5, size, dtype=case.dtype)
    return rotation[0] * stretch @ rotation[1]


@exercise("1.5", "recover")
def recover(answer, case: Case) -> None:
    width = case.integer(2, 6)
    m = case.normal(width, width)
    asked = 0

    def score(x, y) -> Tensor:
        nonlocal asked
        asked += 1
        if asked > width**2:
            raise Mistake(
                f"score was called more than D^2 = {width**2} times",
                "M has D^2 numbers, and each call gives one: never ask for the same one twice",
            )
        x, y = (case.tensor(v, (width,), f"{which} argument of score") for v, which in ((x, "first"), (y, "second")))
        return (x @ m.double() @ y).to(case.dtype)

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
