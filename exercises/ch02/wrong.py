"""Chapter 2's planted wrong answers."""

import math

import torch

from ..wrong import wrong
from .solutions import fool_every_head

# 2.1


def cut(m, rank):
    u, s, vh = torch.linalg.svd(m)
    return u[:, :rank] * s[:rank] @ vh[:rank], s


@wrong("2.1", "the smallest singular values kept", says="smallest singular values are kept")
def smallest(m, rank):
    u, s, vh = torch.linalg.svd(m)
    return u[:, -rank:] * s[-rank:] @ vh[-rank:], s[0], s[:-rank].norm()


@wrong("2.1", "V transposed once more", says="V enters transposed")
def v_transposed(m, rank):
    u, s, vh = torch.linalg.svd(m)
    return u[:, :rank] * s[:rank] @ vh[:, :rank].T, s[rank], s[rank:].norm()


@wrong("2.1", "the last one kept in place of the first one lost", says="sigma_r, the last one kept")
def last_kept(m, rank):
    closest, s = cut(m, rank)
    return closest, s[rank - 1], s[rank:].norm()


@wrong("2.1", "no root", says="the root is missing")
def no_root(m, rank):
    closest, s = cut(m, rank)
    return closest, s[rank], s[rank:].square().sum()


@wrong("2.1", "the corner of the matrix", says="upper left corner")
def upper_left(m, rank):
    closest = torch.zeros_like(m)
    closest[:rank, :rank] = m[:rank, :rank]
    return closest, torch.linalg.matrix_norm(m - closest, 2), (m - closest).norm()


@wrong("2.1", "norms of the approximation", says="not of what it misses")
def norms_of_closest(m, rank):
    closest, s = cut(m, rank)
    return closest, s[0], closest.norm()


# 2.2


def nearest(queries, keys):
    return torch.cdist(queries, keys).argmin(-1)


@wrong("2.2", "errors counted", says="that go wrong")
def errors(w_q, w_k, queries, keys):
    return float(((queries @ w_q @ w_k.T @ keys.T).argmax(-1) != nearest(queries, keys)).double().mean())


@wrong("2.2", "maximum over the queries", says="runs over the queries")
def over_queries(w_q, w_k, queries, keys):
    chosen = (queries @ w_q @ w_k.T @ keys.T).argmax(0)
    return float((chosen == torch.cdist(queries, keys).argmin(0)).double().mean())


@wrong("2.2", "one maximum for all queries", says="argmax() without a dim")
def no_dim(w_q, w_k, queries, keys):
    chosen = (queries @ w_q @ w_k.T @ keys.T).argmax()
    return float((chosen == nearest(queries, keys)).double().mean())


@wrong("2.2", "one maximum and one minimum for all queries", says="without a dim")
def neither_dim(w_q, w_k, queries, keys):
    chosen = (queries @ w_q @ w_k.T @ keys.T).argmax()
    return float((chosen == torch.cdist(queries, keys).argmin()).double())


@wrong("2.2", "queries and keys exchanged", says="W_Q and W_K are exchanged")
def exchanged(w_q, w_k, queries, keys):
    return float(((queries @ w_k @ w_q.T @ keys.T).argmax(-1) == nearest(queries, keys)).double().mean())


@wrong("2.2", "smallest score", says="the smallest score is taken")
def smallest_score(w_q, w_k, queries, keys):
    return float(((queries @ w_q @ w_k.T @ keys.T).argmin(-1) == nearest(queries, keys)).double().mean())


@wrong("2.2", "a number in place of a fraction", says="not their fraction")
def number(w_q, w_k, queries, keys):
    return float(((queries @ w_q @ w_k.T @ keys.T).argmax(-1) == nearest(queries, keys)).sum())


@wrong("2.2", "nearest among the projections", says="sought among the projections")
def projected(w_q, w_k, queries, keys):
    q, k = queries @ w_q, keys @ w_k
    return float(((q @ k.T).argmax(-1) == torch.cdist(q, k).argmin(-1)).double().mean())


@wrong("2.2", "farthest key", says="farthest key")
def farthest(w_q, w_k, queries, keys):
    chosen = (queries @ w_q @ w_k.T @ keys.T).argmax(-1)
    return float((chosen == torch.cdist(queries, keys).argmax(-1)).double().mean())


# 2.3


def shares(m):
    sigma = torch.linalg.svdvals(m.double())
    return sigma / sigma.sum()


@wrong("2.3", "logarithm of zero", says="0 * log 0")
def log_of_zero(m):
    p = shares(m)
    return float((-(p * p.log()).sum()).exp())


@wrong("2.3", "entropy without exponential", says="its exponential counts directions")
def no_exponential(m):
    return float(torch.special.entr(shares(m)).sum())


@wrong("2.3", "squared singular values", says="squared singular values")
def squared(m):
    p = torch.linalg.svdvals(m.double()).square()
    return float(torch.special.entr(p / p.sum()).sum().exp())


@wrong("2.3", "base 2 in the logarithm alone", says="base 2")
def base_two(m):
    return float((torch.special.entr(shares(m)).sum() / math.log(2)).exp())


@wrong("2.3", "shares not normalised", says="not divided by their sum")
def not_normalised(m):
    return float(torch.special.entr(torch.linalg.svdvals(m.double())).sum().exp())


@wrong("2.3", "the ordinary rank", says="not 0")
def ordinary(m):
    return int(torch.linalg.matrix_rank(m.double(), rtol=1e-5))


# 2.4


def right(width, heads, btt_rank):
    side = math.isqrt(width)
    return {"standard": (2 * width**2, width // heads), "dense": (heads * width**2, width),
            "btt": (2 * heads * btt_rank * width * side, width)}  # fmt: skip


@wrong("2.4", "heads that are as wide as the model", says="r = D / H")
def wide_heads(width, heads, btt_rank):
    return right(width, heads, btt_rank) | {"standard": (2 * heads * width**2, width // heads)}


@wrong("2.4", "one dense head", says="this is one head")
def one_dense(width, heads, btt_rank):
    return right(width, heads, btt_rank) | {"dense": (width**2, width)}


@wrong("2.4", "one BTT factor", says="two factors")
def one_factor(width, heads, btt_rank):
    return right(width, heads, btt_rank) | {"btt": (heads * btt_rank * width * math.isqrt(width), width)}


@wrong("2.4", "the rank of all heads together", says="one head's form is W_Q W_K^T")
def joint_rank(width, heads, btt_rank):
    return right(width, heads, btt_rank) | {"standard": (2 * width**2, width)}


@wrong("2.4", "BTT rank taken for rank", says="gives full rank already")
def btt_rank_is_rank(width, heads, btt_rank):
    return right(width, heads, btt_rank) | {"btt": (right(width, heads, btt_rank)["btt"][0], btt_rank)}


@wrong("2.4", "numbers without names", says="should be a dict")
def no_names(width, heads, btt_rank):
    return list(right(width, heads, btt_rank).values())


# 2.5


def near_key(w_k):
    return torch.linalg.svd(w_k.transpose(0, 1).flatten(1).T).Vh[-1]


@wrong("2.5", "a query that no head can see", says="cannot see: all its scores are 0")
def unseen_query(w_q, w_k):
    query = near_key(w_q)
    return query, query, -query


@wrong("2.5", "both keys unseen", says="both keys are ones that this head cannot see")
def both_unseen(w_q, w_k):
    key = near_key(w_k)
    query = key + 0.3 * w_q[0, :, 0] / w_q[0, :, 0].norm()
    return query / query.norm(), key, -key


@wrong("2.5", "near and far exchanged", says="near and far key are exchanged")
def near_and_far(w_q, w_k):
    query, near, far = fool_every_head(w_q, w_k)
    return query, far, near


@wrong("2.5", "not on the sphere", says="lie on the sphere")
def long(w_q, w_k):
    return tuple(2 * v for v in fool_every_head(w_q, w_k))


@wrong("2.5", "blind for the first head alone", says="this head sees the near key")
def first_head(w_q, w_k):
    return fool_every_head(w_q[:1], w_k[:1])


@wrong("2.5", "the key that the heads like on average", says="in every head at once")
def average(w_q, w_k):
    query, near, _ = fool_every_head(w_q, w_k)
    far = torch.einsum("hdr,her,d->e", w_q, w_k, query)
    return query, near, far / far.norm()


@wrong("2.5", "a far key that the heads dislike", says="the far key should score more than 0")
def disliked(w_q, w_k):
    query, near, far = fool_every_head(w_q, w_k)
    return query, near, -far
