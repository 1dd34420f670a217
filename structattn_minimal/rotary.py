"""Rotary positions: queries and keys are turned by their position, so that a product knows how far apart they are."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

SLOWEST = 10_000  # the slowest pair turns nearly this much less than the first one, which turns by 1 a token


def rotate(
    x: Float[Tensor, "*batch seq features"], position: Int[Tensor, "*#batch seq"]
) -> Float[Tensor, "*batch seq features"]:
    """Features i and i + r/2, of an even number r, turned together by the angle position * SLOWEST^(-2i / r).

    <rotate(q, m), rotate(k, n)> depends on m - n alone, and for m = n it is <q, k>.
    Source: Su et al. 2021, equation (34).
    """
    exact = x.double() if x.dtype == torch.float64 else x.float()  # an angle of a thousand in bfloat16 says nothing
    half = x.shape[-1] // 2
    speed = SLOWEST ** -(torch.arange(half, dtype=exact.dtype, device=x.device) / half)
    angle = position[..., None] * speed  # (..., seq, half)
    a, b = exact.chunk(2, dim=-1)
    turned = torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], dim=-1)
    return turned.to(x.dtype)
