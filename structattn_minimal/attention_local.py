"""Attention whose structure is in the score matrix: what a pair costs depends on how far apart its tokens are."""

from collections.abc import Sequence
from typing import NoReturn

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from .attention import StandardAttention, head_ranks
from .checks import positive_int, require
from .costs import Cost
from .mlr import check_backend, check_level_scales, mlr_attention, mlr_scores
from .partition import halving_block_sizes
from .window import band, windowed_attention, windowed_pairs


class SlidingWindowAttention(StandardAttention):
    """Standard scores for the `window` latest keys and the token itself, none beyond (Child et al. 2019)."""

    def __init__(self, d_model: int, n_heads: int, *, window: int, causal: bool = True, qk_norm: bool = True):
        window = positive_int("window", window)  # refused before any weight is drawn
        super().__init__(d_model, n_heads, causal=causal, qk_norm=qk_norm)
        self.window = window

    def visible(self, seq_len: int, device=None):
        return band(seq_len, self.window, self.causal, device)

    def attend(self, q, k, v):
        return windowed_attention(q, k, v, self.window, causal=self.causal, scale=self.scale)

    def score_macs(self, seq_len: int) -> int:
        return windowed_pairs(seq_len, self.window, self.causal) * self.d_model

    def value_macs(self, seq_len: int) -> int:
        return self.score_macs(seq_len)

    def cached_elements(self, seq_len: int) -> int:
        return 2 * min(seq_len, self.window + 1) * self.d_model


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
    ):
        ranks, window = head_ranks(ranks, d_model, n_heads, 2), positive_int("window", window)
        super().__init__(d_model, n_heads, causal=causal, qk_norm=qk_norm)
        self.ranks, self.window = ranks, window

    def scores(self, x: Float[Tensor, "batch seq d_model"]) -> Float[Tensor, "batch maps seq seq"]:
        self._check(x)
        q, k = self.queries_keys(x)
        windows = (x.shape[1], self.window)  # the global part sees the whole sequence
        maps = [
            (q_part @ k_part.mT * rank**-0.5).masked_fill(
                ~band(x.shape[1], window, self.causal, x.device), float("-inf")
            )
            for q_part, k_part, rank, window in zip(self._parts(q), self._parts(k), self.ranks, windows, strict=True)
        ]
        return torch.cat(maps, dim=1)

    def attend(self, q, k, v):
        (q_global, q_near), (k_global, k_near), (g, l) = self._parts(q), self._parts(k), self.ranks
        everywhere = scaled_dot_product_attention(q_global, k_global, v, is_causal=self.causal, scale=g**-0.5)
        return everywhere + windowed_attention(q_near, k_near, v, self.window, causal=self.causal, scale=l**-0.5)

    def _parts(self, features):
        return features.split(self.ranks, dim=-1)

    def to_dense(self, head: int) -> NoReturn:
        raise ValueError("GlobalSlidingWindowAttention scores a pair with two forms; there is no single matrix M")

    def score_macs(self, seq_len: int) -> int:
        g, l = self.ranks
        near = windowed_pairs(seq_len, self.window, self.causal)
        return self.n_heads * (seq_len**2 * g + near * l)

    def value_macs(self, seq_len: int) -> int:
        return (seq_len**2 + windowed_pairs(seq_len, self.window, self.causal)) * self.d_model

    def cached_elements(self, seq_len: int) -> int:
        g, l = self.ranks
        return self.n_heads * (seq_len * g + min(seq_len, self.window + 1) * l) + seq_len * self.d_model


class MLRAttention(StandardAttention):
    """MLR attention: the structure is in S, not in M; nearby tokens share more levels, and so more features.

    QK-norm acts on all r features of a head before they are split into `ranks`. Blocks are those of the trained
    `context`, halved from level to level; shorter sequences fill them in part. Equation (1) of `mlr.py`; Kuang et al.
    2025.

    Args:
        ranks: features a level, coarsest first; they sum to the head dimension.
        context: the longest sequence, a multiple of 2^(levels-1).
        normalize_levels, level_scales, backend: as in `mlr_attention`.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        ranks: Sequence[int],
        context: int,
        causal: bool = True,
        qk_norm: bool = True,
        normalize_levels: bool = False,
        level_scales: Sequence[float] | None = None,
        backend: str = "auto",
    ):
        ranks = head_ranks(ranks, d_model, n_heads)
        block_sizes = halving_block_sizes(context, len(ranks), "context")
        check_level_scales(level_scales, len(ranks))
        check_backend(backend)
        super().__init__(d_model, n_heads, causal=causal, qk_norm=qk_norm)
        self.ranks, self.context, self.block_sizes = ranks, context, block_sizes
        self.options = {
            "ranks": self.ranks,
            "block_sizes": self.block_sizes,
            "normalize_levels": normalize_levels,
            "causal": causal,
            "level_scales": level_scales,
        }
        self.backend = backend

    def scores(self, x: Float[Tensor, "batch seq d_model"]) -> Float[Tensor, "batch maps seq seq"]:
        self._check(x)
        return mlr_scores(*self.queries_keys(x), **self.options)

    def attend(self, q, k, v):
        return mlr_attention(q, k, v, **self.options, backend=self.backend)

    def to_dense(self, head: int) -> NoReturn:
        raise ValueError("MLRAttention scores a pair by its distance too; there is no single matrix M")

    def _check(self, x):
        super()._check(x)
        self._check_length("the length of x", x.shape[1])

    def _check_length(self, name: str, seq_len: int):
        require(seq_len <= self.context, f"{name} must be at most context = {self.context}, got {seq_len}")

    def score_macs(self, seq_len: int) -> int:
        full_and_ragged = ((seq_len // size, size, seq_len % size) for size in self.block_sizes)
        pairs = (full * size**2 + ragged**2 for full, size, ragged in full_and_ragged)
        return self.n_heads * sum(r * n for r, n in zip(self.ranks, pairs, strict=True))

    def cached_elements(self, seq_len: int) -> int:
        keys = sum(r * min(seq_len, size) for r, size in zip(self.ranks, self.block_sizes, strict=True))
        return self.n_heads * keys + seq_len * self.d_model

    def cost(self, seq_len: int) -> Cost:
        self._check_length("seq_len", seq_len)
        return super().cost(seq_len)
