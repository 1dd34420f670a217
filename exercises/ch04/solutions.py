"""Chapter 4's solutions, and for each another right answer."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def kronecker_apply(
    a: Float[Tensor, "n n"], b: Float[Tensor, "m m"], x: Float[Tensor, "batch width"]
) -> Float[Tensor, "batch width"]:
    """(A kron B) x for each row of x, with width = n m, by two small products."""
    grid = x.unflatten(-1, (len(a), len(b)))  # (batch, n, m)
    return (a @ grid @ b.mT).flatten(-2)


def kronecker_apply_another(a, b, x):
    grid = x.reshape(len(x), len(a), len(b))
    rows = torch.einsum("ij,njl->nil", a, grid)
    return torch.einsum("kl,nil->nik", b, rows).reshape(len(x), -1)


def monarch_apply(
    left: Float[Tensor, "m n n"], right: Float[Tensor, "n m m"], x: Float[Tensor, "batch width"]
) -> Float[Tensor, "batch width"]:
    """P^T blockdiag(left) P blockdiag(right) x for each row of x, with width = n m."""
    rows = x.unflatten(-1, (len(right), len(left)))  # (batch, n, m)
    mixed = torch.einsum("nij,bnj->bni", right, rows)
    columns = torch.einsum("mij,bmj->bmi", left, mixed.mT)  # P: the grid by columns
    return columns.mT.flatten(-2)  # P^T: by rows again


def monarch_apply_another(left, right, x):
    m, n = len(left), len(right)
    grid = torch.stack([x[:, row * m : (row + 1) * m] @ right[row].T for row in range(n)], dim=1)
    out = torch.empty_like(grid)
    for column in range(m):
        out[:, :, column] = grid[:, :, column] @ left[column].T
    return out.reshape(x.shape)


def highest_ranks(width: int, budget: int, levels: int) -> dict[str, int]:
    """For "low rank", "Monarch", "butterfly", "MLR": the highest rank of a form with at most `budget` parameters, 0 if
    the family has no member that small.
    """
    side, total = math.isqrt(width), budget // (2 * width)
    finest = total - (levels - 1)  # rank 1 at every other level
    return {
        "low rank": min(width, total),
        "Monarch": width if 2 * width * side <= budget else 0,
        "butterfly": width if 2 * width * int(math.log2(width)) <= budget else 0,
        "MLR": min(width, 2 ** (levels - 1) - 1 + 2 ** (levels - 1) * finest) if finest >= 1 else 0,
    }


def highest_ranks_another(width, budget, levels):
    monarch = min(width * (n + width // n) for n in range(1, width + 1) if width % n == 0)
    pairs, stages = width // 2, width.bit_length() - 1
    ranks = [1] * levels
    while 2 * width * (sum(ranks) + 1) <= budget:
        ranks[-1] += 1
    fits = 2 * width * sum(ranks) <= budget
    return {
        "low rank": min(budget // 2 // width, width),
        "Monarch": width * (monarch <= budget),
        "butterfly": width * (4 * pairs * stages <= budget),
        "MLR": min(width, sum(r << level for level, r in enumerate(ranks))) if fits else 0,
    }


def hadamard_transform(x: Float[Tensor, "batch width"]) -> Float[Tensor, "batch width"]:
    """H x for each row of x, in log2(width) stages of sums and differences."""
    h = 1
    while h < x.shape[-1]:
        pairs = x.unflatten(-1, (-1, 2, h))  # entries h apart
        first, second = pairs[..., 0, :], pairs[..., 1, :]
        x = torch.stack([first + second, first - second], dim=-2).flatten(-3)
        h *= 2
    return x


def hadamard_transform_another(x):
    if x.shape[-1] == 1:
        return x
    first, second = (hadamard_transform_another(half) for half in x.chunk(2, dim=-1))
    return torch.cat([first + second, first - second], dim=-1)


def nearest_kronecker(m: Float[Tensor, "width width"], n: int) -> Float[Tensor, "width width"]:
    """The Kronecker product of an n x n matrix and a (width / n) x (width / n) one that is nearest to m."""
    b = len(m) // n
    blocks = m.reshape(n, b, n, b).transpose(1, 2).reshape(n * n, b * b)  # a row for each block
    u, sigma, vh = torch.linalg.svd(blocks, full_matrices=False)
    best = sigma[0] * torch.outer(u[:, 0], vh[0])
    return best.reshape(n, n, b, b).transpose(1, 2).reshape(len(m), len(m))  # every block back to its place


def nearest_kronecker_another(m, n):
    b = len(m) // n
    rows = torch.stack([m[i : i + b, j : j + b].flatten() for i in range(0, n * b, b) for j in range(0, n * b, b)])
    direction = torch.linalg.eigh(rows.double().T @ rows.double()).eigenvectors[:, -1].to(m.dtype)
    return torch.kron((rows @ direction).reshape(n, n), direction.contiguous().reshape(b, b))
