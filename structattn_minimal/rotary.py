"""Rotary positions: queries and keys are turned by their position, so that a product knows how far apart they are."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

BASE = 10_000  # of the speeds: the first pair turns by 1 a token, the last of r/2 by BASE^(2/r - 1)


def rotate(
    x: Float[Tensor, "*batch seq features"], position: Int[Tensor, "*#batch seq"]
) -> Float[Tensor, "*batch seq features"]:
    """Features i and i + r/2, of an even number r, turned together by the angle position * BASE^(-2i / r).

    <rotate(q, m), rotate(k, n)> depends on m - n alone, and for m = n it is <q, k>.
    Two features have the speed 1 alone. Source: Su et al. 2021, equation (34), where pairs are neighbours.
    """
    exact = x.double() if x.dtype == torch.float64 else x.float()  # an angle of a thousand in bfloat16 says nothing
    half = x.shape[-1] // 2
    speed = BASE ** -(torch.arange(half, dtype=exact.dtype, device=x.device) / half)
    angle = position[..., None] * speed  # (..., seq, half)
    (a, b), cos, sin = exact.chunk(2, dim=-1), angle.cos(), angle.sin()
    turned = torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)
    return turned.to(x.dtype)
