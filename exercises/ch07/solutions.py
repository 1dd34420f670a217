"""Chapter 7's solutions, and for each another right answer."""

import torch
from jaxtyping import Float
from torch import Tensor


def kronecker_as_level(
    a: Float[Tensor, "a c"], b: Float[Tensor, "b d"]
) -> tuple[Float[Tensor, "1 c d b 1"], Float[Tensor, "1 b c 1 a"]]:
    """The factors right and left of the level (1, c, b, 1) that is the Kronecker product of a and b."""
    c, outputs = a.shape[1], b.shape[0]
    right = b.T.expand(c, -1, -1)[None, ..., None]
    left = a.T.expand(outputs, -1, -1)[None, :, :, None]
    return right, left


def kronecker_as_level_another(a, b):
    right = torch.stack([b.T] * a.shape[1]).reshape(1, a.shape[1], b.shape[1], b.shape[0], 1)
    left = torch.stack([a.T] * b.shape[0]).reshape(1, b.shape[0], a.shape[1], 1, a.shape[0])
    return right, left


def settings(family: str, sizes: dict) -> list[tuple[int, int, int, int]]:
    """The levels (blocks, inputs, outputs, rank) of a family of these sizes."""
    if family == "low rank":
        return [(1, 1, 1, sizes["rank"])]
    if family == "mlr":
        return [(2**level, 1, 1, rank) for level, rank in enumerate(sizes["ranks"])]
    if family == "monarch":
        return [(1, sizes["blocks"], sizes["d"] // sizes["blocks"], 1)]
    (_, b), (c, _) = sizes["out_factors"], sizes["in_factors"]
    return [(1, c, b, sizes.get("rank", 1))]


def settings_another(family, sizes):
    if family in ("btt", "kronecker"):
        rank = sizes["rank"] if family == "btt" else 1
        return [[1, sizes["in_factors"][0], sizes["out_factors"][1], rank]]
    if family == "monarch":
        n = sizes["blocks"]
        return [[1, n, sizes["d"] // n, 1]]
    ranks = sizes["ranks"] if family == "mlr" else [sizes["rank"]]
    return [[1 << level, 1, 1, rank] for level, rank in enumerate(ranks)]


def level_dense(right: Float[Tensor, "p c d b s"], left: Float[Tensor, "p b c s a"]) -> Float[Tensor, "p*a*b p*c*d"]:
    """The matrix of one level of MLBTC."""
    blocks = torch.einsum("kbgsa,kgdbs->kabgd", left, right)
    return torch.block_diag(*blocks.flatten(3, 4).flatten(1, 2))


def level_dense_another(right, left):
    p, c, d, b, s = right.shape
    a = left.shape[-1]
    into = torch.block_diag(*right.reshape(p * c, d, b * s).mT)
    out = torch.block_diag(*left.reshape(p * b, c * s, a).mT)
    dealt = torch.arange(p * c * b * s).reshape(p, c, b, s).permute(0, 2, 1, 3).flatten()
    order = torch.arange(p * b * a).reshape(p, b, a).permute(0, 2, 1).flatten()
    return (out @ into[dealt])[order]


def is_level(m: Float[Tensor, "rows columns"], p: int, c: int, b: int, s: int) -> bool:
    """Whether m is a level (p, c, b, s), up to a relative error of 1e-4."""
    small = 1e-4 * float(m.norm())
    grid = m.unflatten(0, (p, -1, b)).unflatten(-1, (p, c, -1))  # (p, a, b, p, c, d)
    for k in range(p):
        if any(float(grid[k, :, :, j].norm()) > small for j in range(p) if j != k):
            return False
        sigma = torch.linalg.svdvals(grid[k, :, :, k].permute(1, 2, 0, 3))  # (b, c, min(a, d))
        if (sigma[..., s:] > small).any():
            return False
    return True


def is_level_another(m, p, c, b, s):
    rows, columns = m.shape[0] // p, m.shape[1] // p
    m = m.double() / m.double().norm()
    for k in range(p):
        block = m[k * rows : (k + 1) * rows, k * columns : (k + 1) * columns]
        rest = m[k * rows : (k + 1) * rows].norm() ** 2 - block.norm() ** 2
        if rest > 1e-8:
            return False
        for beta in range(b):
            for chunk in block[beta::b].chunk(c, dim=1):
                if int(torch.linalg.matrix_rank(chunk, atol=1e-4)) > s:
                    return False
    return True


def shuffle(p: int, c: int, b: int, s: int) -> list[int]:
    """P_R as indices: number i after the shuffle is number index[i] before it."""
    return torch.arange(p * c * b * s).reshape(p, c, b, s).transpose(1, 2).flatten().tolist()


def shuffle_another(p, c, b, s):
    return torch.tensor([
        ((k * c + gamma) * b + beta) * s + sigma
        for k in range(p) for beta in range(b) for gamma in range(c) for sigma in range(s)
    ])  # fmt: skip
