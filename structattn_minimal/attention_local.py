"""Attention whose structure is in the score matrix: what a pair costs depends on how far apart its tokens are."""

from collections.abc import Sequence
from itertools import pairwise
from math import inf
from typing import NoReturn

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from .attention import KeyGroup, StandardAttention, check_pairs, head_ranks, repeat_columns
from .checks import positive_int, require
from .mlr import add_levels, check_backend, check_level_scales, mlr_attention, scales_of_levels
from .partition import check_block_sizes, halving_block_sizes, same_block
from .window import band, windowed_attention, windowed_pairs


class SlidingWindowAttention(StandardAttention):
    """Standard scores for the `window` latest keys and the token itself, none beyond (Child et al. 2019)."""

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        window: int,
        causal: bool = True,
        qk_norm: bool = True,
        rotary: bool = False,
    ):
        window = positive_int("window", window)  # refused before any weight is drawn
        super().__init__(d_model, n_heads, causal=causal, qk_norm=qk_norm, rotary=rotary)
        self.window = window

    def key_groups(self, seq_len: int):
        return (KeyGroup(self.n_heads, self.head_dim, min(seq_len, self.window + 1), self.scale),)

    def visible(self, q_pos, k_pos):
        return band(q_pos, k_pos, self.window, self.causal)

    def attend(self, q, k, v):
        return windowed_attention(q, k, v, self.window, causal=self.causal, scale=self.scale)

    def score_macs(self, seq_len: int) -> int:
        return windowed_pairs(seq_len, self.window, self.causal) * self.d_model

    def value_macs(self, seq_len: int) -> int:
        return self.score_macs(seq_len)


class GlobalSlidingWindowAttention(StandardAttention):
    """Two softmaxes a head, added: `ranks` = (g, l) features score globally and in a window. Their rows sum to 2.

    Each part has scale 1 / sqrt(its rank). `scores` gives 2 H maps: the global one of every head, then the windowed.
    Source: the baseline "GSWA" of Kuang et al. 2025.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        ranks: Sequence[int],
        window: int,
        causal: bool = True,
        qk_norm: bool = True,
        rotary: bool = False,
    ):
        ranks, window = head_ranks(ranks, d_model, n_heads, 2), positive_int("window", window)
        if rotary:
            check_pairs("ranks", ranks)
        super().__init__(d_model, n_heads, causal=causal, qk_norm=qk_norm, rotary=rotary)
        self.ranks, self.window = ranks, window

    def key_groups(self, seq_len: int):
        g, l = self.ranks
        near = min(seq_len, self.window + 1)
        return KeyGroup(self.n_heads, g, seq_len, g**-0.5), KeyGroup(self.n_heads, l, near, l**-0.5)

    def maps(self, products, q_pos, k_pos):
        windows = (inf, self.window)  # the global part sees the whole sequence
        return [
            part.masked_fill(~band(q_pos, k_pos, window, self.causal), -inf)
            for part, window in zip(products, windows, strict=True)
        ]

    def newest_maps(self, products, lengths):
        everywhere, near = products
        position = torch.arange(everywhere.shape[-1], device=lengths.device)  # of a slot: the long ring never turns
        products = [everywhere, repeat_columns(near, len(position))]
        q_pos = (lengths - 1)[:, None, None]
        return self.maps(products, q_pos, position.expand(*q_pos.shape[:2], -1))

    def attend(self, q, k, v):
        (q_global, q_near), (k_global, k_near) = self.split_queries(q), self.split_keys(k)
        everywhere = scaled_dot_product_attention(q_global, k_global, v, is_causal=self.causal, scale=1.0)
        return everywhere + windowed_attention(q_near, k_near, v, self.window, causal=self.causal, scale=1.0)

    def to_dense(self, head: int, distance: int = 0) -> NoReturn:
        raise ValueError("GlobalSlidingWindowAttention scores a pair with two forms; there is no single matrix M")

    def score_macs(self, seq_len: int) -> int:
        g, l = self.ranks
        near = windowed_pairs(seq_len, self.window, self.causal)
        return self.n_heads * (seq_len**2 * g + near * l)

    def value_macs(self, seq_len: int) -> int:
        return (seq_len**2 + windowed_pairs(seq_len, self.window, self.causal)) * self.d_model


def add_to_part(
    block: Float[Tensor, "batch heads one slots"],
    part: Float[Tensor, "batch heads one size"],
    at: Float[Tensor, "batch one one parts one"],
) -> Float[Tensor, "batch heads one slots"]:
    """`block` plus `part`, added to that of its parts at which `at` is 1 and not 0.

    Where the capacity cuts a block short, `block` is shorter than its parts.
    """
    slots, size, parts = block.shape[-1], part.shape[-1], at.shape[-2]
    whole = block if slots == parts * size else pad(block, (0, parts * size - slots))
    return torch.addcmul(whole.unflatten(-1, (parts, size)), at, part[..., None, :]).flatten(-2)[..., :slots]


class MLRAttention(StandardAttention):
    """MLR attention: the structure is in S, not in M; nearby tokens share more levels, and so more features.

    QK-norm acts on all r features of a head before they are split into `ranks`. Blocks are those of the trained
    `context`; shorter sequences fill them in part. There is no block beyond the context, so a longer sequence is
    refused. Equation (1) of `mlr.py`; Kuang et al. 2025.

    Args:
        ranks: features a level, coarsest first; they sum to the head dimension.
        context: the longest sequence.
        block_sizes: tokens in a block of each level, the first all of the context, each dividing the one before.
            Default: halved from level to level, for which the context is a multiple of 2^(levels-1).
        normalize_levels, level_scales, backend: as in `mlr_attention`.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        ranks: Sequence[int],
        context: int,
        block_sizes: Sequence[int] | None = None,
        causal: bool = True,
        qk_norm: bool = True,
        rotary: bool = False,
        normalize_levels: bool = False,
        level_scales: Sequence[float] | Float[Tensor, " levels"] | None = None,
        backend: str = "auto",
    ):
        ranks = head_ranks(ranks, d_model, n_heads)
        if rotary:
            check_pairs("ranks", ranks)
        if block_sizes is None:
            block_sizes = halving_block_sizes(context, len(ranks), "context")
        else:
            block_sizes = check_block_sizes(block_sizes, positive_int("context", context), len(ranks))
            require(block_sizes[0] == context, f"block_sizes[0] must be context = {context}, got {block_sizes[0]}")
        check_level_scales(level_scales, len(ranks))
        check_backend(backend)
        super().__init__(d_model, n_heads, causal=causal, qk_norm=qk_norm, rotary=rotary)
        self.ranks, self.context, self.block_sizes = ranks, context, block_sizes
        self.normalize_levels, self.level_scales, self.backend = normalize_levels, level_scales, backend

    def key_groups(self, seq_len: int):
        scales = scales_of_levels(self.ranks, self.level_scales)
        levels = zip(self.ranks, self.block_sizes, scales, strict=True)
        return tuple(KeyGroup(self.n_heads, r, min(seq_len, size), scale) for r, size, scale in levels)

    def maps(self, products, q_pos, k_pos):
        sizes = self.block_sizes[1:]  # level 1 is shared by all
        finer = ((same_block(q_pos, k_pos, size), part) for size, part in zip(sizes, products[1:], strict=True))
        scores = add_levels(products[0], 1, finer, self.normalize_levels)
        return super().maps([scores], q_pos, k_pos)

    def newest_maps(self, products, lengths):
        """From the finest level up, the scores of a block join those of the block around it."""
        scores = products[-1]
        shared = torch.ones_like(scores[:, :1]) if self.normalize_levels else 1  # levels, with each token
        for coarser, at in zip(reversed(products[:-1]), reversed(self._parts(lengths, scores)), strict=True):
            scores = add_to_part(coarser, scores, at)
            if self.normalize_levels:
                shared = add_to_part(torch.ones_like(coarser[:, :1]), shared, at)
        return super().newest_maps([scores / shared if self.normalize_levels else scores], lengths)

    def _parts(self, lengths: Int[Tensor, " batch"], like: Tensor) -> list[Float[Tensor, "batch one one parts one"]]:
        """For each level but the last, which of the finer blocks in a block holds the newest token: 1 there, else 0."""
        counts = [coarse // fine for coarse, fine in pairwise(self.block_sizes)]
        if not counts:
            return []
        which = [(lengths - 1) // size % count for size, count in zip(self.block_sizes[1:], counts, strict=True)]
        part = torch.arange(max(counts), device=lengths.device)
        at = (torch.stack(which, dim=1)[..., None] == part).to(like.dtype)[:, :, None, None, :, None]
        return [one[..., :count, :] for one, count in zip(at.unbind(1), counts, strict=True)]

    def attend(self, q, k, v):
        return mlr_attention(
            q,
            k,
            v,
            self.ranks,
            block_sizes=self.block_sizes,
            normalize_levels=self.normalize_levels,
            causal=self.causal,
            level_scales=self.level_scales,
            backend=self.backend,
        )

    def to_dense(self, head: int, distance: int = 0) -> NoReturn:
        raise ValueError("MLRAttention scores a pair by its distance too; there is no single matrix M")

    def _check_length(self, name: str, seq_len: int):
        if seq_len > self.context:
            advice = "keep only the latest tokens, or train with a longer context"
            raise ValueError(f"{name} must be at most context = {self.context}, got {seq_len}: {advice}")

    def norm_params(self) -> int:
        """Those of the levels' scales too, where they are learnt."""
        learnt = len(self.ranks) if isinstance(self.level_scales, nn.Parameter) else 0
        return super().norm_params() + learnt

    def score_macs(self, seq_len: int) -> int:
        full_and_ragged = ((seq_len // size, size, seq_len % size) for size in self.block_sizes)
        pairs = (full * size**2 + ragged**2 for full, size, ragged in full_and_ragged)
        return self.n_heads * sum(r * n for r, n in zip(self.ranks, pairs, strict=True))
