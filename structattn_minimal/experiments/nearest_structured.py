"""Which matrices are block tensor trains, and the nearest one: chapter 5's theorem, executable.

With ab rows and cd columns, the block (beta, gamma) of M holds the rows beta, b + beta, 2 b + beta, ... and the columns
gamma d, ..., gamma d + d - 1. M is a BTT of rank s exactly when each of these b c blocks, a x d, has rank at most s.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..checks import positive_int, positive_ints, require, shape_of
from ..matrices import BTT


def btt_blocks(
    m: Float[Tensor, "rows columns"], out_factors: tuple[int, int], in_factors: tuple[int, int]
) -> Float[Tensor, "b c a d"]:
    """The b c blocks of M: every b-th row, d neighbouring columns. Raises `ValueError` if the factors do not fit."""
    a, b = positive_ints("out_factors", out_factors, 2)
    c, d = positive_ints("in_factors", in_factors, 2)
    shape = (a * b, c * d)
    require(m.shape == shape, f"m must have shape {shape} (out_factors, in_factors), got {shape_of(m)}")
    return m.reshape(a, b, c, d).permute(1, 2, 0, 3)


def block_ranks(
    m: Float[Tensor, "rows columns"], out_factors: tuple[int, int], in_factors: tuple[int, int]
) -> Int[Tensor, "b c"]:
    """The numerical rank of each block; M is a BTT of rank s exactly when the largest is at most s.

    A singular value counts if it is not rounding error of the largest entry of the whole matrix.
    """
    blocks = btt_blocks(m, out_factors, in_factors)
    return torch.linalg.matrix_rank(blocks, atol=1e3 * torch.finfo(m.dtype).eps * m.abs().max().item(), rtol=0.0)


def nearest_btt(
    target: Float[Tensor, "rows columns"], out_factors: tuple[int, int], in_factors: tuple[int, int], rank: int
) -> BTT:
    """The BTT of that rank with the least Frobenius distance to `target`: a truncated SVD of each block.

    Each singular value is shared between the two cores by its root. Beyond rank min(a, d) there is nothing left to add.
    """
    u, sigma, vh = torch.linalg.svd(btt_blocks(target, out_factors, in_factors), full_matrices=False)
    nearest = BTT(out_factors, in_factors, rank, dtype=target.dtype, device=target.device)
    kept, root = min(rank, sigma.shape[-1]), sigma.sqrt()
    with torch.no_grad():
        nearest.left.zero_()
        nearest.right.zero_()
        nearest.left[:, :, :kept] = (u * root[..., None, :])[..., :kept].mT  # (b, c, s, a)
        nearest.right[..., :kept] = (root[..., None] * vh)[..., :kept, :].permute(1, 3, 0, 2)  # (c, d, b, s)
    return nearest


def btt_error(
    target: Float[Tensor, "rows columns"], out_factors: tuple[int, int], in_factors: tuple[int, int], rank: int
) -> float:
    """The Frobenius distance from `target` to its nearest BTT: the singular values that the blocks lose."""
    positive_int("rank", rank)
    sigma = torch.linalg.svdvals(btt_blocks(target, out_factors, in_factors))
    return sigma[..., rank:].square().sum().sqrt().item()
