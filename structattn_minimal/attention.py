"""What all attention layers share, and the standard one. They differ in one thing: how a pair of tokens is scored.

Every layer computes softmax(S) V per head, then an output projection. `scores(x)` are the logits S themselves. Where
the score is a bilinear form of the two tokens, `to_dense(head)` is its matrix M, and without QK-norm
S_ij = scale x_i^T M x_j.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from .checks import divides, dtype_and_shape_of, positive_int, positive_ints, require
from .costs import Cost
from .rotary import rotate
from .window import band


def linear(d_in: int, d_out: int) -> nn.Linear:
    """A projection without bias, its weights from N(0, 1 / d_in)."""
    layer = nn.Linear(d_in, d_out, bias=False)
    nn.init.normal_(layer.weight, std=d_in**-0.5)
    return layer


def norm(width: int, enabled: bool) -> nn.Module:
    """QK-norm (Henry et al. 2020): LayerNorm with a learned gain over the features that a dot product sums."""
    return nn.LayerNorm(width, bias=False) if enabled else nn.Identity()


def head_dimension(d_model: int, n_heads: int) -> int:
    """`d_model // n_heads`, if both are positive integers and the second divides the first."""
    return divides("n_heads", n_heads, "d_model", positive_int("d_model", d_model))


def head_ranks(ranks: Sequence[int], d_model: int, n_heads: int, length: int | None = None) -> tuple[int, ...]:
    """`ranks` as a tuple, if they are positive and split the features of a head."""
    head_dim, ranks = head_dimension(d_model, n_heads), positive_ints("ranks", ranks, length)
    total = sum(ranks)
    require(total == head_dim, f"ranks must sum to the head dimension {head_dim}, got {ranks}, which sum to {total}")
    return ranks


def check_pairs(name: str, ranks: Sequence[int]) -> None:
    """Refuse what `rotate` cannot turn: features come in pairs."""
    odd = [rank for rank in ranks if rank % 2]
    require(not odd, f"{name} must be even to be rotary, got {', '.join(map(str, odd))}")


@dataclass(frozen=True)
class KeyGroup:
    """Features that one dot product sums, times `scale`, and that a decoder holds for the `slots` latest tokens.

    `heads`: of the keys, either all H or one that every head shares.
    """

    heads: int
    features: int
    slots: int
    scale: float | Float[Tensor, ""]


def dot_products(
    q: Float[Tensor, "batch heads queries width"], k: Float[Tensor, "batch key_heads keys width"]
) -> Float[Tensor, "batch heads queries keys"]:
    """Each query with each key of its head. Heads that share a key are rows of one product, so no key is repeated."""
    rows = q.unflatten(1, (k.shape[1], -1)).transpose(2, 3)  # (B, key heads, queries, heads a key, width)
    products = (rows.flatten(2, 3) @ k.mT).unflatten(2, rows.shape[2:4])
    return products.transpose(2, 3).flatten(1, 2)


def repeat_columns(x: Float[Tensor, "*rows slots"], columns: int) -> Float[Tensor, "*rows columns"]:
    """The slots of a ring laid out again and again: column c has what slot c mod slots has."""
    slots = x.shape[-1]
    return x if columns == slots else x.repeat(*[1] * (x.ndim - 1), -(-columns // slots))[..., :columns]


class Attention(nn.Module):
    """What all kinds share. x: (B, T, D) -> (B, T, D). A kind supplies queries and keys, and may change how they meet.

    `forward` looks at all tokens at once; `AttentionCache` takes the same steps for new tokens after others: project,
    `dot_products` a key group, `maps` or `newest_maps`, softmax, values, output.

    Args:
        d_model: the width D.
        n_heads: the number of heads H, which divides D; the head dimension is r = D / H.
        causal: a token attends to itself and earlier ones only.
        qk_norm: normalise queries and keys.
    """

    scale: float  # of the dot products

    def __init__(self, d_model: int, n_heads: int, *, causal: bool = True, qk_norm: bool = True):
        super().__init__()
        self.d_model, self.n_heads, self.head_dim = d_model, n_heads, head_dimension(d_model, n_heads)
        self.causal, self.qk_norm = causal, qk_norm
        self.value, self.out = linear(d_model, d_model), linear(d_model, d_model)

    def forward(self, x: Float[Tensor, "batch seq d_model"]) -> Float[Tensor, "batch seq d_model"]:
        self._check(x)
        return self.merge_heads(self.attend(*self.queries_keys_values(x)))

    def scores(self, x: Float[Tensor, "batch seq d_model"]) -> Float[Tensor, "batch maps seq seq"]:
        """The logits before the softmax, -inf where masked; one map a head (two in `GlobalSlidingWindowAttention`)."""
        self._check(x)
        q, k = self.placed_queries_keys(x)
        products = [dot_products(*parts) for parts in zip(self.split_queries(q), self.split_keys(k), strict=True)]
        position = torch.arange(x.shape[1], device=x.device)
        return torch.cat(self.maps(products, position, position), dim=1)

    def queries_keys_values(
        self, x: Float[Tensor, "batch seq d_model"], start: Int[Tensor, " batch"] | int = 0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`placed_queries_keys`, and values (B, H, T, r)."""
        return *self.placed_queries_keys(x, start), self.split_heads(self.value(x))

    def placed_queries_keys(
        self, x: Float[Tensor, "batch seq d_model"], start: Int[Tensor, " batch"] | int = 0
    ) -> tuple[Float[Tensor, "batch heads seq width"], Float[Tensor, "batch key_heads seq width"]]:
        """What the dot products take: `queries_keys`, turned by position if `rotary`; the first token is at `start`."""
        return self.queries_keys(x)

    def queries_keys(
        self, x: Float[Tensor, "batch seq d_model"]
    ) -> tuple[Float[Tensor, "batch heads seq width"], Float[Tensor, "batch key_heads seq width"]]:
        """Queries and keys, as wide as the features that a dot product sums; one key a token where heads share it."""
        raise NotImplementedError

    def attend(
        self,
        q: Float[Tensor, "batch heads seq width"],
        k: Float[Tensor, "batch key_heads seq width"],
        v: Float[Tensor, "batch heads seq head_dim"],
    ) -> Float[Tensor, "batch heads seq head_dim"]:
        """softmax(S) V for each head."""
        q, k = q.to(v.dtype), k.to(v.dtype)  # under autocast a norm returns float32
        return scaled_dot_product_attention(q, k, v, is_causal=self.causal, scale=self.scale)

    def key_groups(self, seq_len: int) -> tuple[KeyGroup, ...]:
        """The groups that the features of queries and keys fall into, in order, for sequences of up to `seq_len`."""
        raise NotImplementedError

    def split_queries(self, q: Float[Tensor, "batch heads seq width"]) -> list[Tensor]:
        """The queries of each key group, scaled."""
        groups = self.key_groups(1)
        return [group.scale * part for group, part in zip(groups, _split(q, groups), strict=True)]

    def split_keys(self, k: Float[Tensor, "batch key_heads seq width"]) -> list[Tensor]:
        """The keys of each key group."""
        return list(_split(k, self.key_groups(1)))

    def maps(
        self, products: list[Tensor], q_pos: Int[Tensor, "*batch queries"], k_pos: Int[Tensor, "*batch keys"]
    ) -> list[Tensor]:
        """Logits from the dot products of each key group, -inf where masked: one map a head for each softmax."""
        return [products[0].masked_fill(~self.visible(q_pos, k_pos), -inf)]

    def newest_maps(self, products: list[Tensor], lengths: Int[Tensor, " batch"]) -> list[Tensor]:
        """`maps` of the newest token of each row against rings that hold it too, `lengths` tokens having come.

        products: (B, H, 1, slots) a key group, by slot of its ring. The maps go by slot of the longest ring. A ring of
        one group has dropped what its newest token does not see, so that all that was written counts. May overwrite
        `products`.
        """
        slot = torch.arange(products[0].shape[-1], device=lengths.device)
        return [products[0].masked_fill_((slot >= lengths[:, None])[:, None, None], -inf)]

    def visible(
        self, q_pos: Int[Tensor, "*batch queries"], k_pos: Int[Tensor, "*batch keys"]
    ) -> Bool[Tensor, "*batch queries keys"]:
        """Whether each query sees each key."""
        return band(q_pos, k_pos, inf, self.causal)

    def split_heads(self, x: Float[Tensor, "batch seq d_model"]) -> Float[Tensor, "batch heads seq head_dim"]:
        return x.unflatten(-1, (self.n_heads, self.head_dim)).transpose(1, 2)

    def merge_heads(self, heads: Float[Tensor, "batch heads seq head_dim"]) -> Float[Tensor, "batch seq d_model"]:
        """The output projection of all heads side by side."""
        return self.out(heads.transpose(1, 2).flatten(2))

    def cost(self, seq_len: int) -> Cost:
        """Closed forms; see `attention_cost`."""
        self._check_length("seq_len", seq_len)
        D, T = self.d_model, seq_len
        value_and_out = 2 * D**2
        return Cost(
            params=value_and_out + self.query_key_params() + self.norm_params(),
            projection_macs=T * (value_and_out + self.query_key_params()),  # each weight once a token
            score_macs=self.score_macs(T),
            value_macs=self.value_macs(T),
            cached_elements=self.cached_elements(T),
        )

    def query_key_params(self) -> int:
        raise NotImplementedError

    def norm_params(self) -> int:
        raise NotImplementedError

    def score_macs(self, seq_len: int) -> int:
        raise NotImplementedError

    def value_macs(self, seq_len: int) -> int:
        return seq_len**2 * self.d_model

    def cached_elements(self, seq_len: int) -> int:
        groups = self.key_groups(seq_len)
        keys = sum(group.heads * group.features * group.slots for group in groups)
        return keys + self.d_model * max(group.slots for group in groups)  # a value as long as any key of its token

    def _check(self, x):
        is_floating = isinstance(x, Tensor) and x.is_floating_point()
        fits = is_floating and x.ndim == 3 and x.shape[-1] == self.d_model and x.shape[1] > 0
        wanted = f"floating-point numbers of shape (batch, seq, d_model = {self.d_model})"
        require(fits, f"x must be {wanted}, got {dtype_and_shape_of(x)}")
        self._check_length("the length of x", x.shape[1])

    def _check_length(self, name: str, seq_len: int):
        """Refuse a sequence that is too long, for the kinds that know a longest."""

    def _check_head(self, head: int):
        fits = isinstance(head, int) and 0 <= head < self.n_heads
        require(fits, f"head must be an integer in [0, {self.n_heads}), got {head!r}")


def _split(features, groups):
    return features.split([group.features for group in groups], dim=-1)


class StandardAttention(Attention):
    """S_ij = <W_Q x_i, W_K x_j> / sqrt(r): one low-rank matrix M = W_Q^T W_K, of rank r = D / H at most, a head.

    With `rotary`, queries and keys are turned by their position first (Su et al. 2021), the features of each dot
    product by themselves, so that M depends on the distance i - j too. They must be even in number.

    Source: Vaswani et al. 2017; as a bilinear form, Kuang et al. 2025.
    """

    def __init__(self, d_model: int, n_heads: int, *, causal: bool = True, qk_norm: bool = True, rotary: bool = False):
        if rotary:  # refused before any weight is drawn
            check_pairs("the head dimension", (head_dimension(d_model, n_heads),))
        super().__init__(d_model, n_heads, causal=causal, qk_norm=qk_norm)
        self.scale, self.rotary = self.head_dim**-0.5, rotary
        self.query, self.key = linear(d_model, d_model), linear(d_model, d_model)
        self.q_norm, self.k_norm = norm(self.head_dim, qk_norm), norm(self.head_dim, qk_norm)

    def queries_keys(self, x):
        return self.q_norm(self.split_heads(self.query(x))), self.k_norm(self.split_heads(self.key(x)))

    def placed_queries_keys(self, x, start=0):
        q, k = self.queries_keys(x)
        if not self.rotary:
            return q, k
        first = start[:, None, None] if isinstance(start, Tensor) else start
        position = first + torch.arange(x.shape[1], device=x.device)  # (B, 1, T) or (T,)
        return self._turned(q, position), self._turned(k, position)

    def _turned(self, features, position):
        parts = _split(features, self.key_groups(1))
        return torch.cat([rotate(part, position) for part in parts], dim=-1)

    def key_groups(self, seq_len: int):
        return (KeyGroup(self.n_heads, self.head_dim, seq_len, self.scale),)

    def to_dense(self, head: int, distance: int = 0) -> Float[Tensor, "d_model d_model"]:
        """M of one head, and if it is `rotary` for a query that comes so many tokens after the key."""
        self._check_head(head)
        rows = slice(head * self.head_dim, (head + 1) * self.head_dim)
        query, key = self.query.weight[rows].T, self.key.weight[rows]  # (D, r), (r, D)
        if self.rotary:
            query = self._turned(query, torch.full((self.d_model,), distance, device=query.device))
        return query @ key

    def query_key_params(self) -> int:
        return 2 * self.d_model**2

    def norm_params(self) -> int:
        return 2 * self.head_dim * self.qk_norm

    def score_macs(self, seq_len: int) -> int:
        return seq_len**2 * self.d_model
