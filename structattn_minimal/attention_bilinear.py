"""Attention whose structure is in M: bilinear scores x_i^T M x_j, with a structured matrix of high rank a head."""

from collections.abc import Sequence
from math import isqrt, prod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .attention import Attention, KeyGroup, dot_products, head_ranks, norm
from .checks import divides, positive_int
from .matrices import btt_multiply, clip_rms, gaussian


def is_sooner_written_out(x: Float[Tensor, "batch seq d_model"]) -> bool:
    """Whether structured matrices had better be written out, zeros and all, for one plain product with x.

    On a GPU memory is what costs: the factors of a matrix leave as much between them as comes out of it, while a plain
    product has multiplications to spare, as long as its matrix is small. It must have been worth writing, too: for a
    single token, as in decoding, it is not.
    """
    *tokens, width = x.shape
    return x.is_cuda and width <= min(1024, prod(tokens))


def most_balanced_divisor(d: int) -> int:
    """The largest divisor up to sqrt(d): of all b = c up to there, that of the highest rank at s = 1."""
    return max(i for i in range(1, isqrt(d) + 1) if d % i == 0)


def block_diagonal(blocks: Float[Tensor, "heads p i r"]) -> Float[Tensor, "heads p_i p_r"]:
    """For each head a matrix with p blocks on its diagonal, and zeros elsewhere."""
    which = torch.eye(blocks.shape[1], dtype=blocks.dtype, device=blocks.device)  # (row, column)
    return torch.einsum("hpir,pq->hpiqr", blocks, which).flatten(3).flatten(1, 2)


class BilinearBTTAttention(Attention):
    """S_ij = x_i^T M x_j / sqrt(D) with M^T a BTT matrix for each head.

    With b the largest divisor of D up to sqrt(D), M has 2 s b D parameters and rank min(D, s b^2) at most: 2 D^1.5 and
    full rank at s = 1 where D is a square.

    The structured map sits on the query side and the key is x itself, one for all heads, so that a token costs D cached
    elements of keys. Each score is a dot product over D features, H times as many as in standard attention: what BTT
    saves is parameters and projections. QK-norm acts on the mapped query only. Source: Kuang et al. 2025.

    Args:
        btt_rank: the rank s of the tensor train.
        clip: clip the RMS of each factor (`clip_rms`).
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        btt_rank: int = 1,
        causal: bool = True,
        qk_norm: bool = True,
        clip: bool = True,
    ):
        btt_rank = positive_int("btt_rank", btt_rank)  # refused before any weight is drawn
        super().__init__(d_model, n_heads, causal=causal, qk_norm=qk_norm)
        self.scale, self.btt_rank, self.clip = d_model**-0.5, btt_rank, clip
        b = c = most_balanced_divisor(d_model)
        a = d = d_model // c
        self.right = gaussian(n_heads, c, d, b, btt_rank, fan_in=d)
        self.left = gaussian(n_heads, b, c, btt_rank, a, fan_in=c * btt_rank)
        self.q_norm = norm(d_model, qk_norm)

    def factors(self) -> tuple[Float[Tensor, "heads c d b s"], Float[Tensor, "heads b c s a"]]:
        """Both cores of every head's BTT, as `matrices.BTT` holds them, clipped if asked."""
        if not self.clip:
            return self.right, self.left
        (_, c, d, b, s), a = self.right.shape, self.left.shape[-1]
        return clip_rms(self.right, d, b * s), clip_rms(self.left, c * s, a)

    def queries_keys(self, x):
        if is_sooner_written_out(x):
            q = torch.einsum("btd,hde->bthe", x, self.forms())
        else:
            q = btt_multiply(x, *self.factors())  # (B, T, H, D)
        q = self.q_norm(q).transpose(1, 2)
        return q, x[:, None]

    def attend(self, q, k, v):
        if q.shape[2] > self.d_model:
            return super().attend(q, k.expand_as(q), v)
        # The scores are no larger than the queries. As all heads share their keys, one product makes them all.
        position = torch.arange(q.shape[2], device=q.device)
        products = self.scale * dot_products(q.to(v.dtype), k.to(v.dtype))
        (scores,) = self.maps([products], position, position)
        return scores.softmax(-1) @ v

    def key_groups(self, seq_len: int):
        return (KeyGroup(1, self.d_model, seq_len, self.scale),)

    def to_dense(self, head: int) -> Float[Tensor, "d_model d_model"]:
        """M of one head, the transpose of its BTT matrix."""
        self._check_head(head)
        return self.forms()[head]

    def forms(self) -> Float[Tensor, "heads d_model d_model"]:
        """M of every head."""
        right, left = self.factors()
        return torch.einsum("hbcsa,hcdbs->hcdab", left, right).flatten(3).flatten(1, 2)

    def query_key_params(self) -> int:
        (heads, c, d, b, s), a = self.right.shape, self.left.shape[-1]
        return heads * s * b * c * (a + d)

    def norm_params(self) -> int:
        return self.d_model * self.qk_norm

    def score_macs(self, seq_len: int) -> int:
        return seq_len**2 * self.d_model * self.n_heads


class BilinearMLRAttention(Attention):
    """S_ij = x_i^T M x_j with M = sum_l (p_l r_l)^-1/2 blockdiag_k(Q_lk K_lk^T): an MLR matrix for each head.

    Level l cuts the features of x into p_l = 2^(l-1) chunks of rank r_l each. QK-norm acts on the p_l r_l features of a
    level. As many parameters as standard attention, and rank up to sum_l p_l r_l. Source: Kuang et al. 2025.

    Args:
        ranks: r_1, ..., r_L, coarsest first; they sum to the head dimension.
        clip: clip the RMS of each factor (`clip_rms`).
    """

    scale = 1.0  # each level brings its own

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        ranks: Sequence[int],
        causal: bool = True,
        qk_norm: bool = True,
        clip: bool = True,
    ):
        ranks = head_ranks(ranks, d_model, n_heads)
        divides("2^(levels-1)", 2 ** (len(ranks) - 1), "d_model", d_model)
        super().__init__(d_model, n_heads, causal=causal, qk_norm=qk_norm)
        self.ranks, self.clip = ranks, clip
        self.chunks = [2**level for level in range(len(ranks))]
        self.widths = [p * r for p, r in zip(self.chunks, self.ranks, strict=True)]
        shapes = [(n_heads, p, d_model // p, r) for p, r in zip(self.chunks, self.ranks, strict=True)]
        self.query = nn.ParameterList(gaussian(*shape, fan_in=shape[2]) for shape in shapes)
        self.key = nn.ParameterList(gaussian(*shape, fan_in=shape[2]) for shape in shapes)
        self.q_norm = nn.ModuleList(norm(width, qk_norm) for width in self.widths)
        self.k_norm = nn.ModuleList(norm(width, qk_norm) for width in self.widths)

    def queries_keys(self, x):
        query, key = ([self._clipped(weight) for weight in weights] for weights in (self.query, self.key))
        if not self.qk_norm:  # scale the weights: in training they are far fewer than the features that come of them
            return self._features(x, self._scaled(query)), self._features(x, key)
        q, k = self._normalised(x, query, self.q_norm), self._normalised(x, key, self.k_norm)
        return torch.cat(self._scaled(q), dim=-1), torch.cat(k, dim=-1)

    def key_groups(self, seq_len: int):
        return (KeyGroup(self.n_heads, sum(self.widths), seq_len, self.scale),)

    def _features(self, x, weights):
        """Of all levels side by side, (B, H, T, p_1 r_1 + ... + p_L r_L)."""
        if is_sooner_written_out(x):
            every = torch.cat([block_diagonal(weight) for weight in weights], dim=-1)  # (H, D, p_1 r_1 + ...)
            return torch.einsum("btd,hdf->bhtf", x, every)
        chunks = [x.unflatten(-1, weight.shape[1:3]) for weight in weights]  # (B, T, p, D / p)
        pairs = zip(chunks, weights, strict=True)
        return torch.cat([torch.einsum("btpi,hpir->bhtpr", *pair).flatten(-2) for pair in pairs], dim=-1)

    def _normalised(self, x, weights, norms):
        """The features of each level by itself, normalised."""
        levels = self._features(x, weights).split(self.widths, dim=-1)
        return [normalise(level) for normalise, level in zip(norms, levels, strict=True)]

    def _scaled(self, levels):
        return [width**-0.5 * level for width, level in zip(self.widths, levels, strict=True)]

    def _clipped(self, weight):
        return clip_rms(weight, *weight.shape[-2:]) if self.clip else weight

    def to_dense(self, head: int) -> Float[Tensor, "d_model d_model"]:
        """M of one head, the level scales included."""
        self._check_head(head)
        pairs = zip(self.query, self.key, self.widths, strict=True)
        levels = (self._clipped(q)[head] @ self._clipped(k)[head].mT * width**-0.5 for q, k, width in pairs)
        return sum(torch.block_diag(*blocks) for blocks in levels)

    def query_key_params(self) -> int:
        return 2 * self.d_model**2

    def norm_params(self) -> int:
        return 2 * sum(self.widths) * self.qk_norm

    def score_macs(self, seq_len: int) -> int:
        return seq_len**2 * self.n_heads * sum(self.widths)
