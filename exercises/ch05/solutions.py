"""Chapter 5's solutions, and for each another right answer."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def apply_btt(
    x: Float[Tensor, "batch d_in"], right: Float[Tensor, "c d b s"], left: Float[Tensor, "b c s a"]
) -> Float[Tensor, "batch d_out"]:
    """y = M x for each row of x, by the two cores alone."""
    grid = x.unflatten(-1, right.shape[:2])  # (batch, c, d)
    z = torch.einsum("ncd,cdbs->nbcs", grid, right)
    return torch.einsum("nbcs,bcsa->nab", z, left).flatten(-2)


def apply_btt_another(x, right, left):
    c, d, b, s = right.shape
    a = left.shape[-1]
    z = x.reshape(-1, c, 1, d) @ right.reshape(c, d, b * s)  # (batch, c, 1, b s)
    z = z.reshape(-1, c, b, s).transpose(1, 2).reshape(-1, b, 1, c * s)
    y = z @ left.reshape(b, c * s, a)  # (batch, b, 1, a)
    return y.reshape(-1, b, a).transpose(1, 2).reshape(-1, a * b)


def shuffle_order(b: int, c: int, s: int) -> list[int]:
    """For each place after the shuffle, the place before it of the number that stands there."""
    before = torch.arange(c * b * s).reshape(c, b, s)
    return before.transpose(0, 1).flatten().tolist()


def shuffle_order_another(b, c, s):
    return [(gamma * b + beta) * s + sigma for beta in range(b) for gamma in range(c) for sigma in range(s)]


def cheapest_grid(width: int) -> tuple[int, int, int]:
    """b and c, the smaller first, and the parameters, of the cheapest grid of rank s = 1 that allows full rank."""
    b = max(i for i in range(1, math.isqrt(width) + 1) if width % i == 0)
    c = width // b
    return b, c, width * (b + c)


def cheapest_grid_another(width):
    divisors = [i for i in range(1, width + 1) if width % i == 0]
    enough = [(width * (b + c), b, c) for b in divisors for c in divisors if b <= c and b * c >= width]
    parameters, b, c = min(enough)
    return b, c, parameters


def btt_rank(m: Float[Tensor, "rows columns"], out_factors: tuple[int, int], in_factors: tuple[int, int]) -> int:
    """The smallest s for which m is a BTT of rank s on this grid."""
    (a, b), (c, d) = out_factors, in_factors
    blocks = m.reshape(a, b, c, d).permute(1, 2, 0, 3)  # (b, c, a, d)
    return int(torch.linalg.matrix_rank(blocks).max())


def btt_rank_another(m, out_factors, in_factors):
    (_, b), (c, d) = out_factors, in_factors
    blocks = [m[beta::b, gamma * d : (gamma + 1) * d] for beta in range(b) for gamma in range(c)]
    return max(int((torch.linalg.svdvals(block) > 1e-8 * m.norm()).sum()) for block in blocks)


def nearest_btt(
    m: Float[Tensor, "rows columns"], out_factors: tuple[int, int], in_factors: tuple[int, int], rank: int
) -> Float[Tensor, "rows columns"]:
    """The BTT of that rank, as a dense matrix, with the least Frobenius distance to m."""
    (a, b), (c, d) = out_factors, in_factors
    blocks = m.reshape(a, b, c, d).permute(1, 2, 0, 3)  # (b, c, a, d)
    u, sigma, vh = torch.linalg.svd(blocks, full_matrices=False)
    sigma[..., rank:] = 0
    blocks = u * sigma[..., None, :] @ vh
    return blocks.permute(2, 0, 1, 3).reshape(a * b, c * d)


def nearest_btt_another(m, out_factors, in_factors, rank):
    (_, b), (c, d) = out_factors, in_factors
    nearest = torch.zeros_like(m)
    for beta in range(b):
        for gamma in range(c):
            block = m[beta::b, gamma * d : (gamma + 1) * d]
            directions = torch.linalg.svd(block).Vh[:rank]
            nearest[beta::b, gamma * d : (gamma + 1) * d] = block @ directions.T @ directions
    return nearest


def scoring_bill(width: int, heads: int, seq_len: int, rank: int) -> dict[str, tuple[int, int, int]]:
    """For "standard" and "btt": query-key parameters of the layer, MACs of all scores, numbers in the key cache."""
    side = math.isqrt(width)
    standard = (2 * width**2, seq_len**2 * width, seq_len * width)
    btt = (heads * 2 * rank * width * side, seq_len**2 * width * heads, seq_len * width)
    return {"standard": standard, "btt": btt}


def scoring_bill_another(width, heads, seq_len, rank):
    def bill(parameters, features, keys):  # of a head, of a dot product, of a token
        return heads * parameters, heads * seq_len**2 * features, seq_len * keys

    r, side = width // heads, math.isqrt(width)
    one_block = side * side * rank
    return {"standard": bill(2 * width * r, r, heads * r), "btt": bill(2 * side * one_block, width, width)}
