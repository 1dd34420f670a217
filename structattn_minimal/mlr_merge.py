"""MLR attention from pieces of ordinary attention, merged by their log-sum-exp: the same numbers with nothing wasted.

Under a causal mask the pairs that share level l and no finer one are rectangles: the queries of each block's right
half with the keys of its left half, all of them, through the first r_1 + ... + r_l features. What remains is causal
attention inside the finest blocks. A query that meets several pieces has the softmax of their union, since

    out = sum_p exp(lse_p - lse) out_p,      lse = log sum_p exp(lse_p).                                             (1)

The gradient needs no merge: a piece that is given the merged out and lse has the probabilities of the whole row, so
the pieces' gradients just add up, as in ring attention (Liu et al. 2023). On a GPU a piece is one call of cuDNN;
elsewhere it is written out.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Piece(NamedTuple):
    """In every block of `size` tokens: its right half's queries with its left half's keys, or, causal, all with all."""

    size: int
    prefix: int
    level: int
    causal: bool


def pieces(seq_len: int, ranks: Sequence[int], block_sizes: Sequence[int]) -> list[Piece]:
    """The rectangles of each level, halving blocks until those of the next, then the causal blocks of the finest."""
    prefix = list(accumulate(ranks))
    sizes = [seq_len, *block_sizes[1:]]
    found = []
    for level, (size, finer) in enumerate(pairwise(sizes), 1):
        while size > finer:
            found.append(Piece(size, prefix[level - 1], level, causal=False))
            size //= 2
    return [*found, Piece(sizes[-1], prefix[-1], len(ranks), causal=True)]


def obstacle(q: Tensor, v: Tensor, ranks: Sequence[int], block_sizes: Sequence[int], causal: bool) -> str | None:
    """Why pieces cannot make up the whole, in words; None if they can."""
    if not causal:
        return "is causal only, got causal=False"
    sizes = [q.shape[-2], *block_sizes[1:]]
    if not all(a % b == 0 and (a // b) & (a // b - 1) == 0 for a, b in pairwise(sizes)):  # powers of two
        return f"needs blocks that come from halving the sequence length {sizes[0]}, got {tuple(block_sizes)}"
    widths = [*accumulate(ranks), v.shape[-1]]
    if q.is_cuda and (q.dtype not in (torch.bfloat16, torch.float16) or any(width % 8 for width in widths)):
        return f"needs bfloat16 or float16 and widths in steps of 8 on a GPU, got {q.dtype} and {widths}"
    return None


def _blocks(t: Tensor, piece: Piece, half: int) -> Tensor:
    """A view (batch, heads, blocks, rows, n): of each block all, or its left half (0), or its right (1)."""
    blocks = t.unflatten(2, (-1, piece.size))
    return blocks if piece.causal else blocks.unflatten(3, (2, -1))[:, :, :, half]


def _cut(t: Tensor, piece: Piece, half: int) -> Tensor:
    """The same with blocks as further heads: (batch, heads * blocks, rows, n)."""
    return _blocks(t, piece, half).flatten(1, 2)


def _queries_keys_values(q, k, v, piece: Piece) -> tuple[Tensor, Tensor, Tensor]:
    q, k = q[..., : piece.prefix], k[..., : piece.prefix]
    return _cut(q, piece, 1), _cut(k, piece, 0), _cut(v, piece, 0)


def _scale(piece: Piece, normalize_levels: bool) -> float:
    return 1 / piece.level if normalize_levels else 1.0


def forward(
    q: Float[Tensor, "batch heads seq d"],
    k: Float[Tensor, "batch heads seq d"],
    v: Float[Tensor, "batch heads seq d_v"],
    found: Sequence[Piece],
    normalize_levels: bool,
) -> tuple[Float[Tensor, "batch heads seq d_v"], Float[Tensor, "batch heads seq"]]:
    """(out, lse) of equation (1); the levels' scales are in q already."""
    *rectangles, local = found
    out, lse = _attend(*_queries_keys_values(q, k, v, local), local.causal, _scale(local, normalize_levels))
    out, lse = out.reshape(v.shape), lse.reshape(v.shape[:-1])  # every query meets this piece
    for piece in rectangles:
        part, part_lse = _attend(*_queries_keys_values(q, k, v, piece), False, _scale(piece, normalize_levels))
        rows, rows_lse = _blocks(out, piece, 1), _blocks(lse[..., None], piece, 1)
        part, part_lse = part.view_as(rows), part_lse.view_as(rows_lse)
        both = torch.logaddexp(rows_lse, part_lse)
        rows.copy_((rows_lse - both).exp() * rows + (part_lse - both).exp() * part)
        rows_lse.copy_(both)
    return out, lse


def backward(
    d_out: Float[Tensor, "batch heads seq d_v"],
    q: Float[Tensor, "batch heads seq d"],
    k: Float[Tensor, "batch heads seq d"],
    v: Float[Tensor, "batch heads seq d_v"],
    out: Float[Tensor, "batch heads seq d_v"],
    lse: Float[Tensor, "batch heads seq"],
    found: Sequence[Piece],
    normalize_levels: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k and v: those of the pieces, each from the merged out and lse, added up."""
    dq, dk, dv = (torch.zeros_like(t, memory_format=torch.contiguous_format) for t in (q, k, v))
    for piece in found:
        rows = (_cut(t, piece, 1) for t in (d_out, out, lse[..., None]))
        parts = _attend_backward(
            *rows, *_queries_keys_values(q, k, v, piece), piece.causal, _scale(piece, normalize_levels)
        )
        wholes = dq[..., : piece.prefix], dk[..., : piece.prefix], dv
        for whole, part, half in zip(wholes, parts, (1, 0, 0), strict=True):
            target = _blocks(whole, piece, half)
            target += part.view(target.shape)
    return dq, dk, dv


class Merge(torch.autograd.Function):
    """`forward` and `backward` as one operation: a piece's lse may carry no gradient, and autograd would not notice."""

    @staticmethod
    def forward(ctx, q, k, v, found, normalize_levels):
        out, lse = forward(q, k, v, found, normalize_levels)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.how = found, normalize_levels
        return out

    @staticmethod
    def backward(ctx, d_out):
        if torch.is_grad_enabled():  # create_graph=True
            raise RuntimeError('backend="merge" cannot be differentiated twice, use backend="dense"')
        return *backward(d_out, *ctx.saved_tensors, *ctx.how), None, None


# One piece: ordinary attention, with its log-sum-exp, and with its gradient for an out and lse that may be the whole's.


def _probabilities(q, k, lse, causal: bool, scale: float):
    scores = scale * q @ k.mT
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))  # exp would magnify what 16 bits lose of a lse
    if causal:
        scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), float("-inf"))
    lse = scores.logsumexp(-1, keepdim=True) if lse is None else lse
    return (scores - lse).exp(), lse


def _attend(q, k, v, causal: bool, scale: float):
    """(out, lse (..., rows))"""
    if q.is_cuda:
        return torch.ops.aten._scaled_dot_product_cudnn_attention(q, k, v, None, True, 0.0, causal, scale=scale)[:2]
    p, lse = _probabilities(q, k, None, causal, scale)
    return p.to(v.dtype) @ v, lse[..., 0]


def _attend_backward(d_out, out, lse, q, k, v, causal: bool, scale: float):
    """The gradients of q, k, v; lse (..., rows, 1)."""
    if q.is_cuda:
        seed = torch.zeros((), dtype=torch.long, device=q.device)  # of a dropout that does not happen
        lengths = q.shape[2], k.shape[2]
        return torch.ops.aten._scaled_dot_product_cudnn_attention_backward(
            d_out, q, k, v, out, lse.contiguous(), seed, seed, None, None, None, *lengths, 0.0, causal, scale=scale
        )
    p, _ = _probabilities(q, k, lse, causal, scale)
    ds = (scale * p * (d_out @ v.mT - (d_out * out).sum(-1, keepdim=True))).to(q.dtype)
    p = p.to(v.dtype)
    return ds @ k, ds.mT @ q, p.mT @ d_out
