"""Chapter 2's solutions, and for each another right answer."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def best_of_rank(m: Float[Tensor, "width width"], rank: int) -> tuple[Float[Tensor, "width width"], float, float]:
    """The closest matrix of that rank, and what it misses in the spectral and in the Frobenius norm."""
    u, sigma, vh = torch.linalg.svd(m)
    closest = u[:, :rank] * sigma[:rank] @ vh[:rank]
    return closest, float(sigma[rank]), float(sigma[rank:].square().sum().sqrt())


def best_of_rank_another(m, rank):
    closest = torch.zeros_like(m)
    rest = m.clone()
    for _ in range(rank):  # peel off one singular direction after the other
        u, sigma, vh = torch.linalg.svd(rest)
        layer = sigma[0] * torch.outer(u[:, 0], vh[0])
        closest, rest = closest + layer, rest - layer
    return closest, torch.linalg.matrix_norm(rest, 2), torch.linalg.matrix_norm(rest)


def right_neighbours(
    w_q: Float[Tensor, "d rank"],
    w_k: Float[Tensor, "d rank"],
    queries: Float[Tensor, "queries d"],
    keys: Float[Tensor, "keys d"],
) -> float:
    """The fraction of the queries for which the head's highest score goes to the nearest key."""
    chosen = (queries @ w_q @ (keys @ w_k).T).argmax(dim=-1)
    nearest = torch.cdist(queries, keys).argmin(dim=-1)
    return float((chosen == nearest).double().mean())


def right_neighbours_another(w_q, w_k, queries, keys):
    hits = 0
    for query in queries:
        scores = torch.stack([w_q.T @ query @ (w_k.T @ key) for key in keys])
        similarity = torch.stack([query @ key for key in keys])  # on the sphere the largest is the nearest
        hits += int(scores.argmax() == similarity.argmax())
    return hits / len(queries)


def effective_rank(m: Float[Tensor, "width width"]) -> float:
    """exp(H(p)) for the singular values' shares p_i = sigma_i / sum(sigma)."""
    sigma = torch.linalg.svdvals(m.double())
    p = sigma / sigma.sum()
    return float(torch.special.entr(p).sum().exp())  # entr(p) = -p log p, and 0 at 0


def effective_rank_another(m):
    sigma = torch.linalg.svdvals(m.double()).tolist()
    shares = [s / sum(sigma) for s in sigma]
    return math.prod(p**-p for p in shares if p > 1e-15)


def bill(width: int, heads: int, btt_rank: int) -> dict[str, tuple[int, int]]:
    """For "standard", "dense", "btt": the parameters of all heads' forms together, and the highest rank of one form."""
    side = math.isqrt(width)
    return {
        "standard": (2 * width**2, width // heads),
        "dense": (heads * width**2, width),
        "btt": (2 * heads * btt_rank * width * side, width),
    }


def bill_another(width, heads, btt_rank):
    side, rank = round(width**0.5), width // heads
    standard = sum(width * rank + width * rank for _ in range(heads))
    factor = side * (side * btt_rank) * side  # side blocks, each with side inputs and side * btt_rank outputs
    return {"standard": [standard, rank], "dense": [heads * width * width, width], "btt": [heads * 2 * factor, width]}


def fool_every_head(
    w_q: Float[Tensor, "heads d rank"], w_k: Float[Tensor, "heads d rank"]
) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"], Float[Tensor, " d"]]:
    """A query, a near key and a far key, all of length 1, where every head gives the far key the higher score."""
    heads, d, _ = w_q.shape
    seen = w_k.transpose(0, 1).reshape(d, -1)  # all directions that some head sees in a key, side by side
    near = torch.linalg.svd(seen.T).Vh[-1]  # orthogonal to them: it scores 0 with every query, in every head
    tilt = torch.randn(d, dtype=w_q.dtype)
    query = near + 0.3 * tilt / tilt.norm()
    likes = torch.einsum("hdr,her,d->he", w_q, w_k, query)  # M_h^T x, one row a head
    far = torch.linalg.pinv(likes) @ torch.ones(heads, dtype=w_q.dtype)  # the same score, more than 0, from every head
    return query / query.norm(), near, far / far.norm()


def fool_every_head_another(w_q, w_k):
    seen = torch.linalg.qr(torch.cat(list(w_k), dim=1)).Q
    near = torch.randn(w_q.shape[1], dtype=w_q.dtype)
    for _ in range(2):  # twice, for what rounding leaves the first time
        near = near - seen @ (seen.T @ near)
    near = near / near.norm()
    query = near + 0.4 * w_q.sum((0, 2)) / w_q.sum((0, 2)).norm()
    query = query / query.norm()
    likes = torch.stack([k @ (q.T @ query) for q, k in zip(w_q, w_k, strict=True)])
    far = torch.linalg.lstsq(likes.T, torch.eye(len(near), dtype=w_q.dtype)).solution.sum(0)
    return query, near, far / far.norm()
