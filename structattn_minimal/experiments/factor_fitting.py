"""Chapter 6: a given matrix as multi-level low rank. Block coordinate descent sets the factors, an exchange the ranks.

Everything is measured in the Frobenius norm. After Parshakova, Hastie, Darve and Boyd 2023, who also choose the
partition of rows and columns; here it is the contiguous one of `MLR`, halves of halves.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..checks import divides, positive_int, positive_ints, require, shape_of
from ..matrices import MLR

Factors = list[tuple[Tensor, Tensor]]  # U (p, rows / p, r) and V (p, columns / p, r) of each level, coarsest first


def diagonal_blocks(matrix: Float[Tensor, "rows columns"], p: int) -> Float[Tensor, "p block_rows block_columns"]:
    """The `p` blocks along the diagonal: what level l, with p = 2^(l-1), can see of a matrix."""
    rows, columns = (divides("p", p, name, size) for name, size in zip(("rows", "columns"), matrix.shape, strict=True))
    return torch.stack([matrix[k * rows : (k + 1) * rows, k * columns : (k + 1) * columns] for k in range(p)])


def sibling_blocks(matrix: Float[Tensor, "rows columns"], level: int) -> Float[Tensor, "blocks rows_ columns_"]:
    """The 2^level blocks of pairs that share the levels 1 ... `level` and no finer one, two in each diagonal block."""
    p = 2 ** positive_int("level", level)
    rows, columns = (divides("2^level", p, name, n) for name, n in zip(("rows", "columns"), matrix.shape, strict=True))
    grid = matrix.reshape(p, rows, p, columns)
    return torch.stack([grid[k, :, k ^ 1] for k in range(p)])  # k ^ 1 is the sibling of block k


def best_factors(
    blocks: Float[Tensor, "p m n"], rank: int
) -> tuple[Float[Tensor, "p m rank"], Float[Tensor, "p n rank"]]:
    """Each block's nearest matrix of that rank as U V^T, by its SVD. A rank beyond the block's is filled with zeros."""
    u, sigma, vh = torch.linalg.svd(blocks, full_matrices=False)
    root = sigma[:, None, :rank].sqrt()
    short = max(0, rank - sigma.shape[-1])
    left, right = u[..., :rank] * root, vh.mT[..., :rank] * root
    return torch.nn.functional.pad(left, (0, short)), torch.nn.functional.pad(right, (0, short))


def level_to_dense(left: Float[Tensor, "p m r"], right: Float[Tensor, "p n r"]) -> Float[Tensor, "rows columns"]:
    """blockdiag_k(U_k V_k^T)."""
    return torch.block_diag(*(left @ right.mT))


def fit_factors(
    target: Float[Tensor, "rows columns"],
    ranks: Sequence[int],
    *,
    sweeps: int = 10,
    report: Callable[[int, float], None] | None = None,
) -> Factors:
    """Factors of sum_l blockdiag_k(U_lk V_lk^T) near `target`, by block coordinate descent from zero.

    A sweep goes through the levels, coarse to fine. Each level is set to the best it can do while the others stand: the
    truncated SVD of every diagonal block of what they leave. A rank may be 0. `report(level, error)` hears, after each
    such step, the Frobenius norm of what is missing; it never grows.
    """
    check(target, ranks)
    positive_int("sweeps", sweeps)
    blocks = [2**level for level in range(len(ranks))]
    factors = [best_factors(torch.zeros_like(diagonal_blocks(target, p)), 0) for p in blocks]
    rest = target  # less all levels
    for _ in range(sweeps):
        for level, (p, rank) in enumerate(zip(blocks, ranks, strict=True)):
            if rank:
                others = rest + level_to_dense(*factors[level])  # target less the other levels
                factors[level] = best_factors(diagonal_blocks(others, p), rank)
                rest = others - level_to_dense(*factors[level])
            if report:
                report(level + 1, rest.norm().item())
    return factors


def fit_levels(
    target: Float[Tensor, "rows columns"],
    ranks: Sequence[int],
    *,
    sweeps: int = 10,
    report: Callable[[int, float], None] | None = None,
) -> MLR:
    """`target` as an `MLR` matrix of these ranks, coarsest first: the factors of `fit_factors`, each rank at least 1.

    Raises `ValueError` for ranks that are not positive integers, and for a target that is not a matrix of
    floating-point numbers whose sides 2^(levels-1) divides.
    """
    positive_ints("ranks", ranks)
    factors = fit_factors(target, ranks, sweeps=sweeps, report=report)
    fitted = MLR(*target.shape, tuple(ranks), dtype=target.dtype, device=target.device)
    with torch.no_grad():
        for level, (left, right) in enumerate(factors):
            fitted.left[level].copy_(left)
            fitted.right[level].copy_(right)
    return fitted


def error_of(target: Float[Tensor, "rows columns"], factors: Factors) -> float:
    """The Frobenius norm of what the factors miss, relative to the target's."""
    return ((target - sum(level_to_dense(*level) for level in factors)).norm() / target.norm()).item()


def low_rank_error(target: Float[Tensor, "rows columns"], rank: int) -> float:
    """What the best matrix of that rank misses, relative to the target (Eckart and Young)."""
    sigma = torch.linalg.svdvals(target)
    return (sigma[rank:].norm() / sigma.norm()).item()


def gains_and_losses(
    target: Float[Tensor, "rows columns"], ranks: Sequence[int], factors: Factors
) -> list[tuple[float, float]]:
    """For each level, how much squared error one rank more would take away, and how much one rank less would add back.

    With the other levels held: sigma_(r+1)^2 and sigma_r^2, summed over the level's blocks of what the others leave.
    """
    rest = target - sum(level_to_dense(*level) for level in factors)
    changes = []
    for level, rank in enumerate(ranks):
        others = rest + level_to_dense(*factors[level])
        energy = torch.linalg.svdvals(diagonal_blocks(others, 2**level)).square().sum(0).tolist()
        energy = [float("inf"), *energy, *[0.0] * (rank + 1)]  # a level of rank 0 has none to give
        changes.append((energy[rank + 1], energy[rank]))
    return changes


def allocate(
    target: Float[Tensor, "rows columns"], budget: int, n_levels: int, *, least: int = 1, sweeps: int = 10
) -> tuple[int, ...]:
    """Ranks with sum `budget` for `target`, each at least `least`, by exchange; storage is budget * (rows + columns).

    It starts from an even spread, the remainder on the coarse levels. All exchanges of one rank between two levels are
    ordered by their promise, the gain of the taker less the loss of the giver with the factors as they are. The factors
    are then fitted anew for one after the other, and the first exchange that lowers the error is kept. It ends where no
    exchange of one rank helps: a local optimum, not always the best allocation.
    """
    positive_int("budget", budget)
    least_sum = least * positive_int("n_levels", n_levels)
    require(isinstance(least, int) and least >= 0, f"least must be an integer of at least 0, got {least!r}")
    require(budget >= least_sum, f"budget must be at least least * n_levels = {least_sum}, got {budget}")
    share, extra = divmod(budget, n_levels)
    ranks = tuple(share + (level < extra) for level in range(n_levels))
    factors = fit_factors(target, ranks, sweeps=sweeps)
    error = error_of(target, factors)
    while better := _exchange(target, ranks, factors, error, least, sweeps):
        ranks, factors, error = better
    return ranks


def _exchange(target, ranks, factors, error, least, sweeps):
    changes = gains_and_losses(target, ranks, factors)
    levels = range(len(ranks))
    pairs = [(giver, taker) for giver in levels for taker in levels if giver != taker and ranks[giver] > least]
    for giver, taker in sorted(pairs, key=lambda pair: changes[pair[0]][1] - changes[pair[1]][0]):
        tried = tuple(rank + (level == taker) - (level == giver) for level, rank in enumerate(ranks))
        found = fit_factors(target, tried, sweeps=sweeps)
        if error_of(target, found) < error * (1 - 1e-9) - 1e-12:
            return tried, found, error_of(target, found)
    return None


def semiseparable(
    u: Float[Tensor, "n k"], v: Float[Tensor, "n k"], diagonal: Float[Tensor, " n"]
) -> Float[Tensor, "n n"]:
    """The symmetric matrix with the entries u_i . v_j for i < j, and this diagonal."""
    upper = (u @ v.mT).triu(1)
    return upper + upper.mT + diagonal.diag()


def semiseparable_levels(u: Float[Tensor, "n k"], v: Float[Tensor, "n k"], diagonal: Float[Tensor, " n"]) -> MLR:
    """`semiseparable(u, v, diagonal)` as an MLR matrix of rank k on every level, down to blocks of one entry.

    A block's rank-k part is W W^T with W = u on its upper half and v on its lower. That makes its two off-diagonal
    quarters right; what it leaves in the diagonal quarters is semiseparable again, and the next level's business.
    """
    n, k = u.shape
    require(n & (n - 1) == 0, f"u must have a power of two rows, got {n}")
    require(v.shape == u.shape, f"v must have the shape of u, {tuple(u.shape)}, got {shape_of(v)}")
    require(diagonal.shape == (n,), f"diagonal must have {n} entries, got {shape_of(diagonal)}")
    levels = n.bit_length()
    exact = MLR(n, n, (k,) * levels, dtype=u.dtype, device=u.device)
    with torch.no_grad():
        for level in range(levels - 1):
            upper = (torch.arange(n, device=u.device) // (n >> (level + 1)) % 2 == 0)[:, None]
            w = torch.where(upper, u, v)
            exact.left[level].copy_(w.unflatten(0, (2**level, -1)))
            exact.right[level].copy_(exact.left[level])
            diagonal = diagonal - w.square().sum(-1)
            u, v = torch.where(upper, u, u - v), torch.where(upper, v - u, v)
        exact.left[-1].zero_()[:, 0, 0] = diagonal
        exact.right[-1].zero_()[:, 0, 0] = 1
    return exact


def kernels(n: int, **options) -> dict[str, Float[Tensor, "n n"]]:
    """Five symmetric matrices over n points on a line. `options`: dtype, device."""
    i = torch.arange(n, **options)
    distance = (i[:, None] - i).abs()
    i = i + 1
    scale = n / 8  # of the two kernels that have one
    matern = distance * (3**0.5 / scale)
    return {
        "exponential": (-distance / scale).exp(),
        "Matern 3/2": (1 + matern) * (-matern).exp(),
        "Gaussian": (-((distance / scale) ** 2) / 2).exp(),
        "1 / |i - j|": 1 / distance.clamp(min=1),
        "inverse Laplacian": torch.minimum(i[:, None], i) * (n + 1 - torch.maximum(i[:, None], i)) / (n + 1),
    }


def check(target: object, ranks: object) -> None:
    """Refuse what cannot be fitted, before any work."""
    is_matrix = isinstance(target, Tensor) and target.dim() == 2 and target.is_floating_point()
    require(is_matrix, f"target must be a matrix of floating-point numbers, got {shape_of(target)}")
    require(bool(target.isfinite().all()), "target must hold finite numbers, got nan or inf")
    is_list = isinstance(ranks, Sequence) and not isinstance(ranks, str) and len(ranks) > 0
    require(is_list and all(type(r) is int and r >= 0 for r in ranks), f"ranks must be integers >= 0, got {ranks!r}")
    for side, size in zip(("rows", "columns"), target.shape, strict=True):
        divides("2^(levels-1)", 2 ** (len(ranks) - 1), f"the target's {side}", size)
