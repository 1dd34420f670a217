"""Chapter 1's solutions, and for each another right answer."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def bilinear_scores(
    x: Float[Tensor, "batch tokens width"], m: Float[Tensor, "width width"]
) -> Float[Tensor, "batch tokens tokens"]:
    """Scores s[b, i, j] = x_i^T M x_j for all pairs of tokens of each sequence."""
    return x @ m @ x.mT


def bilinear_scores_another(x, m):
    return torch.einsum("bik,kn,bjn->bij", x, m, x)


def causal_softmax(scores: Float[Tensor, "tokens tokens"]) -> Float[Tensor, "tokens tokens"]:
    """Row i: the softmax of scores[i, :i + 1], and exactly 0 after it; finite for scores of any size."""
    future = torch.ones_like(scores, dtype=torch.bool).triu(1)
    visible = scores.masked_fill(future, -torch.inf)
    powers = (visible - visible.amax(-1, keepdim=True)).exp()
    return powers / powers.sum(-1, keepdim=True)


def causal_softmax_another(scores):
    rows = torch.zeros(scores.shape)  # float32, for float64 scores too
    for i in range(len(scores)):
        rows[i, : i + 1] = (scores[i, : i + 1] - scores[i, : i + 1].logsumexp(0)).exp()
    return rows


def head_matrices(
    w_q: Float[Tensor, "width heads*rank"], w_k: Float[Tensor, "width heads*rank"], heads: int
) -> Float[Tensor, "heads width width"]:
    """M_h = W_Q^h (W_K^h)^T, where head h owns the columns h r, ..., h r + r - 1."""
    queries = w_q.unflatten(1, (heads, -1)).transpose(0, 1)  # (heads, width, rank)
    keys = w_k.unflatten(1, (heads, -1)).transpose(0, 1)
    return queries @ keys.mT


def head_matrices_another(w_q, w_k, heads):
    pairs = zip(w_q.chunk(heads, dim=1), w_k.chunk(heads, dim=1), strict=True)
    return torch.stack([queries @ keys.T for queries, keys in pairs])


def find_gauge(
    w_q: Float[Tensor, "width rank"],
    w_k: Float[Tensor, "width rank"],
    other_q: Float[Tensor, "width rank"],
    other_k: Float[Tensor, "width rank"],
) -> Float[Tensor, "rank rank"]:
    """The G that turns the first head's factors into the other's: other_q = w_q G, other_k = w_k G^-T."""
    return torch.linalg.lstsq(w_q, other_q).solution


def find_gauge_another(w_q, w_k, other_q, other_k):
    return (torch.linalg.pinv(w_k) @ other_k).inverse().T  # from the keys


def recover(score: Callable[[Tensor, Tensor], Tensor], width: int) -> Float[Tensor, "width width"]:
    """The matrix M behind score(x, y) = x^T M y, from at most width^2 calls."""
    basis = torch.eye(width, dtype=torch.float64)
    return torch.tensor([[float(score(x, y)) for y in basis] for x in basis])


def recover_another(score, width):
    probe = torch.linalg.qr(torch.randn(width, width)).Q  # any invertible matrix will do, in any dtype
    answers = torch.stack([torch.stack([score(x, y) for y in probe.T]) for x in probe.T])
    return probe @ answers @ probe.T
