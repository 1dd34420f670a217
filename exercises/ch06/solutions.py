"""Chapter 6's solutions, and for each another right answer."""

import itertools

import torch
from jaxtyping import Float
from torch import Tensor


def entry(m: int, n: int, left: list[Tensor], right: list[Tensor]) -> Float[Tensor, ""]:
    """M[m, n] from the factors, for the levels that row m and column n share."""
    total = torch.zeros((), dtype=left[0].dtype)
    for u, v in zip(left, right, strict=True):
        (block, row), (other, column) = divmod(m, u.shape[1]), divmod(n, v.shape[1])
        if block == other:
            total = total + u[block, row] @ v[block, column]
    return total


def entry_another(m, n, left, right):
    return sum(torch.block_diag(*(u @ v.mT)) for u, v in zip(left, right, strict=True))[m, n]


def multiply(x: Float[Tensor, "batch width"], left: list[Tensor], right: list[Tensor]) -> Float[Tensor, "batch width"]:
    """M x for each row x of the batch, by the factors alone."""
    y = torch.zeros_like(x)
    for u, v in zip(left, right, strict=True):
        chunks = x.unflatten(-1, v.shape[:2])  # (batch, p, D / p)
        inner = torch.einsum("bpi,pir->bpr", chunks, v)
        y = y + torch.einsum("bpr,por->bpo", inner, u).flatten(-2)
    return y


def multiply_another(x, left, right):
    y = torch.zeros_like(x)
    for u, v in zip(left, right, strict=True):
        size = u.shape[1]
        for k in range(len(u)):
            chunk = slice(k * size, (k + 1) * size)
            y[:, chunk] += x[:, chunk] @ v[k] @ u[k].T
    return y


def as_low_rank(
    left: list[Tensor], right: list[Tensor]
) -> tuple[Float[Tensor, "width total"], Float[Tensor, "width total"]]:
    """U and V with U V^T = M, and as many columns as all blocks of all levels have together."""
    u = torch.cat([torch.block_diag(*level) for level in left], dim=1)
    v = torch.cat([torch.block_diag(*level) for level in right], dim=1)
    return u, v


def as_low_rank_another(left, right):
    width = left[0].shape[1]
    columns = {"u": [], "v": []}
    for u, v in reversed(list(zip(left, right, strict=True))):  # finest first: any order will do for both alike
        size = u.shape[1]
        for k, r in itertools.product(range(len(u)), range(u.shape[2])):
            for name, factor in (("u", u), ("v", v)):
                column = torch.zeros(width, dtype=u.dtype)
                column[k * size : (k + 1) * size] = factor[k, :, r]
                columns[name].append(column)
    return torch.stack(columns["u"], 1), torch.stack(columns["v"], 1)


def best_ranks(worth: list[list[float]], budget: int) -> list[int]:
    """Ranks with sum at most `budget` and the greatest total worth."""
    best = {0: (0.0, [])}  # by what is spent on the levels so far: worth, and the ranks
    for level in worth:
        step = {}
        for spent, (value, ranks) in best.items():
            for rank in range(budget - spent + 1):
                found = (value + level[rank], [*ranks, rank])
                step[spent + rank] = max(found, step.get(spent + rank, found))
        best = step
    return max(best.values())[1]


def best_ranks_another(worth, budget):
    every = itertools.product(range(budget + 1), repeat=len(worth))
    fitting = (ranks for ranks in every if sum(ranks) <= budget)
    return max(fitting, key=lambda ranks: sum(level[rank] for level, rank in zip(worth, ranks, strict=True)))


def one_sweep(target: Float[Tensor, "width width"], ranks: list[int]) -> Float[Tensor, "width width"]:
    """What an MLR matrix of these ranks is after one sweep from zero, coarse to fine."""
    fitted = torch.zeros_like(target)
    for level, rank in enumerate(ranks):
        size = len(target) // 2**level
        rest = target - fitted
        for k in range(2**level):
            block = slice(k * size, (k + 1) * size)
            u, sigma, vh = torch.linalg.svd(rest[block, block])
            fitted[block, block] += u[:, :rank] * sigma[:rank] @ vh[:rank]
    return fitted


def one_sweep_another(target, ranks):
    rest = target.clone()
    for level, rank in enumerate(ranks):
        p = 2**level
        blocks = rest.unflatten(0, (p, -1)).unflatten(2, (p, -1)).diagonal(dim1=0, dim2=2).movedim(-1, 0)
        directions = torch.linalg.eigh(blocks.mT @ blocks).eigenvectors[..., -min(rank, blocks.shape[-1]) :]
        rest = rest - torch.block_diag(*(blocks @ directions @ directions.mT))
    return target - rest
