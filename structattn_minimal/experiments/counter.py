"""Random numbers that are a function of (seed, step), so that a run has no generator to save and to restore.

A run that was interrupted draws what it would have drawn; processes that share a batch draw the same one; a CUDA graph
can replay the draw, since the step is a tensor. The bits are those of SplitMix64 (Steele, Lea and Flood 2014), which
hashes the numbers of a counter; a key for each seed and step says where the counter starts.
"""

from math import pi, prod

import torch
from jaxtyping import Float, Int
from torch import Tensor


def signed(word: int) -> int:
    """A 64-bit word as the int64 with the same bits."""
    return word - 2**64 if word >= 2**63 else word


GOLDEN = signed(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: multiples of it are spread evenly
FIRST, SECOND = signed(0xBF58476D1CE4E5B9), signed(0x94D049BB133111EB)


def shifted(words: Int[Tensor, "..."], places: int) -> Int[Tensor, "..."]:
    """Shifted right, with zeros coming in on the left."""
    return (words >> places) & (2 ** (64 - places) - 1)


def mix(words: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """A bijection of 64-bit words in which each bit of the input moves about half of the bits of the output."""
    words = (words ^ shifted(words, 30)) * FIRST
    words = (words ^ shifted(words, 27)) * SECOND
    return words ^ shifted(words, 31)


def words(seeds: Int[Tensor, " seeds"], step: Int[Tensor, "1"], count: int) -> Int[Tensor, "seeds count"]:
    """`count` words of 64 random bits for each seed."""
    key = mix(mix(seeds * GOLDEN) + step)  # (seeds,)
    return mix(key[:, None] + torch.arange(1, count + 1, device=seeds.device) * GOLDEN)


def normal(seeds: Int[Tensor, " seeds"], step: Int[Tensor, "1"], *shape: int) -> Float[Tensor, "seeds ..."]:
    """Independent N(0, 1) in float32, of this shape for each seed; two from each word (Box and Muller 1958)."""
    count = prod(shape)
    bits = words(seeds, step, -(-count // 2))
    high, low = (((half & 0xFFFFFF) + 0.5) * 2.0**-24 for half in (shifted(bits, 40), bits))  # in (0, 1], 24 bits each
    radius, angle = (-2 * high.log()).sqrt(), 2 * pi * low
    return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)[:, :count].unflatten(1, shape)
