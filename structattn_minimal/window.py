"""Sliding-window attention: each query sees its `window` latest keys and itself, with no T x T mask."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention


def band(
    q_pos: Int[Tensor, "*batch queries"], k_pos: Int[Tensor, "*batch keys"], window: float, causal: bool
) -> Bool[Tensor, "*batch queries keys"]:
    """Whether the query at i sees the key at j: at most `window` (`inf` for no bound) apart, and j <= i if causal."""
    distance = q_pos[..., :, None] - k_pos[..., None, :]
    return (distance <= window) & (distance >= (0 if causal else -window))


def windowed_attention(
    q: Float[Tensor, "*batch seq d"],
    k: Float[Tensor, "*batch seq d"],
    v: Float[Tensor, "*batch seq d_v"],
    window: int,
    *,
    causal: bool,
    scale: float,
) -> Float[Tensor, "*batch seq d_v"]:
    """Softmax attention under `band`: in `chunks` where they save products, in `blocks` where compiled for a GPU."""
    seq_len = q.shape[-2]
    if window >= seq_len:
        return scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)
    if torch.compiler.is_compiling() and q.is_cuda and q.ndim == 4 and min(q.shape[-1], v.shape[-1]) >= 16:
        return blocks(q, k, v, window, causal=causal, scale=scale)
    if chunked_pairs(seq_len, window, causal) < seq_len**2:
        return chunks(q, k, v, window, causal=causal, scale=scale)
    position = torch.arange(seq_len, device=q.device)
    return scaled_dot_product_attention(q, k, v, attn_mask=band(position, position, window, causal), scale=scale)


def blocks(q, k, v, window: int, *, causal: bool, scale: float):
    """By FlexAttention, whose kernel skips hidden blocks of scores. Not compiled, it would write all scores out."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention  # takes a second to import

    seq_len, ahead = q.shape[-2], 0 if causal else -window
    mask = create_block_mask(
        lambda batch, head, i, j: (i - j <= window) & (i - j >= ahead), None, None, seq_len, seq_len, device=q.device
    )
    q, k = q.to(v.dtype), k.to(v.dtype)  # under autocast a norm returns float32
    return flex_attention(q, k, v, block_mask=mask, scale=scale)


def chunks(q, k, v, window: int, *, causal: bool, scale: float):
    """Queries in chunks of `window`, each against its own chunk and its neighbours."""
    seq_len = q.shape[-2]
    after = 0 if causal else window
    n_chunks = -(-seq_len // window)
    padding = n_chunks * window - seq_len
    q_chunks = pad(q, (0, 0, 0, padding)).unflatten(-2, (n_chunks, window))
    k_chunks, v_chunks = (
        pad(t, (0, 0, window, padding + after)).unfold(-2, 2 * window + after, window).mT for t in (k, v)
    )  # (..., chunks, window + window + after, d)

    start = torch.arange(n_chunks, device=q.device)[:, None] * window
    q_pos = (start + torch.arange(window, device=q.device))[:, :, None]
    k_pos = (start - window + torch.arange(2 * window + after, device=q.device))[:, None, :]
    distance = q_pos - k_pos
    visible = (distance <= window) & (distance >= -after) & (k_pos >= 0) & (k_pos < seq_len)
    visible |= distance == 0  # rows of padding see themselves: a row that saw nothing would be NaN
    out = scaled_dot_product_attention(q_chunks, k_chunks, v_chunks, attn_mask=visible, scale=scale)
    return out.flatten(-3, -2)[..., :seq_len, :]


def chunked_pairs(seq_len: int, window: int, causal: bool) -> int:
    """Query-key pairs that `chunks` multiplies, those that its mask then hides included."""
    return -(-seq_len // window) * window * window * (2 if causal else 3)


def windowed_pairs(seq_len: int, window: int, causal: bool) -> int:
    """Query-key pairs that `windowed_attention` multiplies: never more than all."""
    return min(chunked_pairs(seq_len, window, causal), seq_len**2)
