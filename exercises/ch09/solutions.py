"""Chapter 9's solutions, and for each another right answer."""

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor


def rectangles(block_sizes: list[int]) -> list[tuple[int, int, int, int, int]]:
    """(level, first query, last query + 1, first key, last key + 1) of each causal rectangle without a mask."""
    found = []
    for level, (size, finer) in enumerate(pairwise(block_sizes), 1):
        for block in range(0, block_sizes[0], size):
            for start in range(block + finer, block + size, finer):
                found.append((level, start, start + finer, block, start))
    return found


def rectangles_another(block_sizes):
    found = []
    for start in range(0, block_sizes[0], 1):
        for level in range(1, len(block_sizes)):
            size, finer = block_sizes[level - 1 : level + 1]
            block = start // size * size
            if start % finer == 0 and start > block:
                found.append((level, start, start + finer, block, start))
    return found[::-1]


def merge(
    o: Float[Tensor, "seq d"], lse: Float[Tensor, " seq"], o_new: Float[Tensor, "seq d"], lse_new: Float[Tensor, " seq"]
) -> tuple[Float[Tensor, "seq d"], Float[Tensor, " seq"]]:
    """Output and log-sum-exp over the keys of both pieces."""
    both = torch.logaddexp(lse, lse_new)
    old, new = (lse - both).exp(), (lse_new - both).exp()
    return old[:, None] * o + new[:, None] * o_new, both


def merge_another(o, lse, o_new, lse_new):
    weights = torch.stack([lse, lse_new]).softmax(0)
    return (weights[..., None] * torch.stack([o, o_new])).sum(0), torch.stack([lse, lse_new]).logsumexp(0)


def online_attention(
    q: Float[Tensor, "seq d"], keys: list[Float[Tensor, "tile d"]], values: list[Float[Tensor, "tile d_v"]]
) -> Float[Tensor, "seq d_v"]:
    """softmax(q k^T) v over all keys, one tile of keys at a time."""
    top = q.new_full((len(q), 1), -torch.inf)
    total = torch.zeros_like(top)
    out = q.new_zeros(len(q), values[0].shape[1])
    for k, v in zip(keys, values, strict=True):
        scores = q @ k.T
        new_top = torch.maximum(top, scores.amax(1, keepdim=True))
        p, shrink = (scores - new_top).exp(), (top - new_top).exp()
        total = shrink * total + p.sum(1, keepdim=True)
        out = shrink * out + p @ v
        top = new_top
    return out / total


def online_attention_another(q, keys, values):
    out, lse = q.new_zeros(len(q), values[0].shape[1]), q.new_full((len(q),), -torch.inf)
    for k, v in zip(keys, values, strict=True):
        scores = q @ k.T
        out, lse = merge(out, lse, scores.softmax(1) @ v, scores.logsumexp(1))
    return out


def piece_gradients(
    q: Float[Tensor, "seq d"],
    k: Float[Tensor, "keys d"],
    v: Float[Tensor, "keys d_v"],
    scale: float,
    out: Float[Tensor, "seq d_v"],
    lse: Float[Tensor, " seq"],
    d_out: Float[Tensor, "seq d_v"],
) -> tuple[Float[Tensor, "seq d"], Float[Tensor, "keys d"], Float[Tensor, "keys d_v"]]:
    """What these keys add to the gradients of q, k and v; out and lse belong to all keys."""
    weights = (scale * q @ k.T - lse[:, None]).exp()
    delta = (d_out * out).sum(1, keepdim=True)
    d_scores = weights * (d_out @ v.T - delta)
    return scale * d_scores @ k, scale * d_scores.T @ q, weights.T @ d_out


def piece_gradients_another(q, k, v, scale, out, lse, d_out):
    """By autograd: everything beyond this piece is one more key, whose value and score make the row whole."""
    q_piece, k_piece, v_piece = (t.detach().requires_grad_() for t in (q, k, v))
    with torch.enable_grad():
        weights = (scale * q_piece @ k_piece.T - lse[:, None]).exp()
        # d(sum_j a_ij v_j) with a_ij normalised by the whole row: a_ij depends on S_ij directly and through lse
        through_lse = weights.sum(1) * (d_out * out).sum(1)
        loss = (weights @ v_piece * d_out).sum() - through_lse.sum()
        return torch.autograd.grad(loss, (q_piece, k_piece, v_piece))


def most_gain(ranks: list[int], backward: bool) -> float:
    """MACs of dense attention over those of MLR, values of the width of the keys included."""
    left = sum(rank / 2**level for level, rank in enumerate(ranks)) / sum(ranks)
    return 7 / (4 * left + 3) if backward else 2 / (1 + left)


def most_gain_another(ranks, backward):
    d = sum(ranks)
    narrow = math.fsum(rank * 0.5**level for level, rank in enumerate(ranks))
    products = [narrow, d] + ([narrow, d, d, narrow, narrow] if backward else [])
    return d * len(products) / math.fsum(products)
