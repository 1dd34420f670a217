"""Decoding: keys and values of earlier tokens, each held for as long as a later query may need it and no longer.

Everything lies in rings. A ring of S slots holds the latest S tokens, token t in slot t mod S. Standard attention needs
rings as long as the sequence; a window of w needs w + 1 slots. MLR attention needs the keys of level l for its current
block alone: a slot for each of its S_l tokens, token t in slot t mod S_l, of which (t mod S_l) + 1 are valid. When a
block starts, its tokens overwrite the block before it, and what is left of that is masked since it lies in another.

A chunk of new tokens meets the rings as they were and itself, and is stored afterwards. One new token a row is stored
first, for what it overwrites it cannot see, and then meets the rings alone: the step that a decoder takes most. All
shapes are fixed, positions are tensors, and buffers are written in place, so that a CUDA graph can hold that step. On a
GPU two kernels take it for standard and MLR attention (`decode_kernel`).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from . import decode_kernel
from .attention import Attention, dot_products, repeat_columns
from .checks import positive_int, require

FUTURE = 2**62  # the position of a slot that holds nothing: a causal mask hides it


class Ring:
    """The latest `slots` tokens of each row, token t in slot t mod slots. `buffer`: (B, heads, slots, features)."""

    def __init__(self, buffer: Float[Tensor, "batch heads slots features"]):
        self.buffer, self.slots = buffer, buffer.shape[2]

    def positions(self, lengths: Int[Tensor, " batch"]) -> Int[Tensor, "batch slots"]:
        """Which token each slot holds when `lengths` tokens have come: the latest that falls into it, if any."""
        latest = lengths[:, None] - 1
        position = latest - (latest - torch.arange(self.slots, device=lengths.device)) % self.slots
        return torch.where(position < 0, FUTURE, position)

    def store(
        self,
        new: Float[Tensor, "batch heads seq features"],
        before: Int[Tensor, " batch"],
        after: Int[Tensor, " batch"],
    ) -> None:
        """Write tokens `before` to `after` of each row, the first of `new`, as far as they outlive the call.

        A row with fewer new tokens than others gets its own old content where they get a new token.
        """
        kept = min(new.shape[2], self.slots)
        position = after[:, None] - kept + torch.arange(kept, device=new.device)  # (B, kept), in different slots
        row, slot = torch.arange(new.shape[0], device=new.device)[:, None], position % self.slots
        fresh = new[row, :, (position - before[:, None]).clamp(min=0)]  # (B, kept, heads, features)
        is_fresh = (position >= before[:, None])[:, :, None, None]
        self.buffer[row, :, slot] = torch.where(is_fresh, fresh.to(self.buffer.dtype), self.buffer[row, :, slot])

    def put(self, new: Float[Tensor, "batch heads one features"], slot: Int[Tensor, " batch"]) -> None:
        """`store` for one new token in every row, where its slot is known."""
        self.buffer.scatter_(2, slot[:, None, None, None].expand_as(new), new.to(self.buffer.dtype))


def add_softmaxes(maps: list[Tensor]) -> Tensor:
    """Attention weights: the softmax of each map, added up."""
    first, *others = [scores.softmax(-1) for scores in maps]
    return sum(others, first)


class AttentionCache:
    """The keys and values of one attention layer, for a batch of rows that grow independently.

    Args:
        attention: a causal attention layer of this package; buffers take the dtype and device of its weights.
        batch_size: rows B.
        capacity: the most tokens that a row will hold.

    Attributes:
        lengths: (B,) tokens held by each row so far.
        elements: keys and values that the buffers hold, B times `attention_cost(attention, capacity).cached_elements`.
        fused: whether `decode_kernel` takes the steps of one token a row. At first it does where it can, which is on a
            GPU; set it False for torch's operations.

    Raises:
        ValueError: for anything else, for attention that is not causal, and for a capacity beyond the context of MLR
            attention.

    Source: the block structure of MLR attention (Kuang et al. 2025); rings as in sliding-window decoders.
    """

    def __init__(self, attention: Attention, batch_size: int, capacity: int):
        kind = type(attention).__name__
        require(isinstance(attention, Attention), f"attention must be an attention layer of this package, got {kind}")
        require(attention.causal, f"attention must be causal to decode, got {kind} with causal=False")
        positive_int("batch_size", batch_size)
        attention._check_length("capacity", positive_int("capacity", capacity))
        self.attention, self.capacity = attention, capacity
        groups, like = attention.key_groups(capacity), attention.value.weight

        def ring(heads, slots, features):  # zeros: a masked slot still meets a weight of 0
            return Ring(like.new_zeros(batch_size, heads, slots, features, requires_grad=False))

        self.keys = [ring(group.heads, group.slots, group.features) for group in groups]
        self.values = ring(attention.n_heads, max(group.slots for group in groups), attention.head_dim)
        self.lengths = torch.zeros(batch_size, dtype=torch.long, device=like.device)
        self._slots = torch.tensor([ring.slots for ring in [*self.keys, self.values]], device=like.device)
        self.fused = decode_kernel.obstacle(self) is None
        self._lengths = [0] * batch_size  # as `lengths`, on the host, so that a check waits for no GPU

    @property
    def elements(self) -> int:
        return sum(ring.buffer.numel() for ring in [*self.keys, self.values])

    @torch.no_grad()
    def extend(
        self, x: Float[Tensor, "batch seq d_model"], counts: Sequence[int] | None = None
    ) -> Float[Tensor, "batch seq d_model"]:
        """The rows of `attention(everything so far)` that belong to the new tokens x. Without gradients.

        Args:
            x: the next tokens of each row, from its left end.
            counts: how many of them each row really has, 0 to seq; the rest is padding, whose results mean nothing.
                Default: all.

        An empty cache runs the layer's own forward pass; otherwise n new tokens make n (slots + n) scores a head, so
        a long prompt in chunks costs less memory, and one token makes a score a slot. In a CUDA graph only the capture
        checks the capacity.

        Raises:
            ValueError: if a row would outgrow `capacity`, or an argument does not fit.
        """
        after = self._check(x, counts)
        q, k, v = self.attention.queries_keys_values(x, self.lengths)
        if x.shape[1] == 1 and counts is None:
            heads = decode_kernel.step(self, q, k, v) if self.fused else self._step(q, k, v)
        else:
            attend = self._attend if any(self._lengths) else self.attention.attend
            heads = attend(q, k, v)  # (B, H, n, r)
            self._store(k, v, x.shape[1] if counts is None else torch.tensor(list(counts), device=x.device))
        self._lengths = after
        return self.attention.merge_heads(heads)

    def _step(self, q, k, v):
        """Store one token a row, then let it look at all that the rings hold."""
        slots = (self.lengths[:, None] % self._slots).unbind(1)  # a launch for all rings
        for (ring, new), slot in zip(self._each_ring(k, v), slots, strict=True):
            ring.put(new, slot)
        self.lengths += 1  # in place, where a CUDA graph finds it
        products = [
            dot_products(q, ring.buffer) for ring, q in zip(self.keys, self.attention.split_queries(q), strict=True)
        ]
        maps = self.attention.newest_maps(products, self.lengths)
        weights = add_softmaxes(maps)  # (B, H, 1, slots)
        return weights @ self.values.buffer

    def _attend(self, q, k, v):
        """Like `Attention.attend`, against what the rings hold and the new tokens."""
        slots = self.values.slots
        q_pos = self.lengths[:, None] + torch.arange(q.shape[2], device=q.device)  # (B, n)
        k_pos = torch.cat([self.values.positions(self.lengths), q_pos], dim=1)  # (B, slots + n)
        products = [
            torch.cat([repeat_columns(dot_products(q, ring.buffer), slots), dot_products(q, k)], dim=-1)
            for ring, q, k in zip(self.keys, self.attention.split_queries(q), self.attention.split_keys(k), strict=True)
        ]  # a value's ring never turns while a shorter one of its keys does, so slots repeat along it
        maps = self.attention.maps(products, q_pos[:, None], k_pos[:, None])
        weights = add_softmaxes(maps)  # (B, H, n, slots + n)
        return weights[..., :slots] @ self.values.buffer + weights[..., slots:] @ v

    def _store(self, k, v, counts):
        after = self.lengths + counts
        for ring, new in self._each_ring(k, v):
            ring.store(new, self.lengths, after)
        self.lengths.copy_(after)

    def _each_ring(self, k, v):
        """Every ring, and what new tokens put into it."""
        return zip([*self.keys, self.values], [*self.attention.split_keys(k), v], strict=True)

    def _check(self, x, counts):
        """The lengths of the rows after x, if all fits."""
        self.attention._check(x)
        batch, seq = len(self._lengths), x.shape[1]
        require(x.shape[0] == batch, f"x must have batch_size = {batch} rows, got {x.shape[0]}")
        if counts is not None:
            is_list = isinstance(counts, Sequence) and len(counts) == batch
            fits = is_list and all(isinstance(count, int) and 0 <= count <= seq for count in counts)
            require(fits, f"counts must be {batch} integers from 0 to {seq}, one a row, got {counts!r}")
        after = [length + count for length, count in zip(self._lengths, counts or [seq] * batch, strict=True)]
        advice = "start a new cache with the latest tokens, or with a larger capacity"
        total = max(after)
        require(total <= self.capacity, f"x must keep within capacity = {self.capacity}, got {total} tokens: {advice}")
        return after
