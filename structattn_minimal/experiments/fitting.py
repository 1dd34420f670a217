"""Chapter 4's live task: how near can each family of structured matrices come to a given matrix?

All families are fitted alike, by gradients from random starts. For four of the six the best possible fit is also known
in closed form: they are low rank once the entries of the target are put in another order.

    python -m structattn_minimal.experiments.fitting
"""

from collections.abc import Callable, Iterable
from functools import partial
from math import isqrt, log2

import torch
from jaxtyping import Float
from torch import Tensor

from ..checks import require
from ..matrices import BTT, MLR, Butterfly, Kronecker, LowRank, Monarch, StructuredMatrix

NAMES = ("low rank", "Kronecker", "Monarch", "butterfly", "BTT", "MLR")


def relative_error(matrix: StructuredMatrix, target: Float[Tensor, "d_out d_in"]) -> Float[Tensor, ""]:
    """||M - T||_F^2 / ||T||_F^2: the share of the target that is missed."""
    return (matrix.to_dense() - target).square().sum() / target.square().sum()


def fit(
    matrix: StructuredMatrix, target: Float[Tensor, "d_out d_in"], *, steps: int = 250, rate: float = 0.05
) -> float:
    """Move the factors of `matrix` towards `target`; returns the relative squared error that is left.

    First Adam, its rate falling to zero along a cosine: it passes the saddles at which a quasi-Newton method rests.
    Then L-BFGS for as many steps at most: it finishes what Adam leaves when the problem is ill-conditioned. Random
    factors make outputs of unit variance, so a target with a squared norm near d_out is met at about its own size.
    """
    shape = (matrix.d_out, matrix.d_in)
    require(tuple(target.shape) == shape, f"target must have the shape of the matrix, {shape}, got {target.shape}")
    adam = torch.optim.Adam(matrix.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    finish = torch.optim.LBFGS(
        matrix.parameters(), max_iter=steps, history_size=20, line_search_fn="strong_wolfe",
        tolerance_grad=1e-9, tolerance_change=1e-12,
    )  # fmt: skip

    def loss() -> Tensor:
        matrix.zero_grad()
        error = relative_error(matrix, target)
        error.backward()
        return error

    with torch.enable_grad():
        for _ in range(steps):
            adam.step(loss)
            schedule.step()
        finish.step(loss)
        return relative_error(matrix, target).item()


def fits(
    make: Callable[[], StructuredMatrix], target: Float[Tensor, "d_out d_in"], seeds: Iterable[int], **options
) -> list[float]:
    """The errors from several random starts, one a seed, smallest first. Leaves the global generator as it was."""
    errors = []
    for seed in seeds:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            errors.append(fit(make().to(target.dtype), target, **options))
    return sorted(errors)


def rearranged(matrix: StructuredMatrix, target: Float[Tensor, "d_out d_in"]) -> tuple[Float[Tensor, "n p q"], int]:
    """(slices, rank): `matrix` can be the target exactly when every slice has at most that rank.

    The slices hold each entry of the target once. Kronecker: one slice, a row for each block of the target (Van Loan &
    Pitsianis 1993). BTT: a slice for each of b c strided blocks; low rank: the target itself. Raises `ValueError` for
    families that are no low rank in disguise.
    """
    if isinstance(matrix, LowRank):
        return target[None], matrix.rank
    if isinstance(matrix, Kronecker):
        (a, c), (b, d) = matrix.left.shape, matrix.right.shape
        return target.reshape(a, b, c, d).permute(0, 2, 1, 3).reshape(1, a * c, b * d), 1
    if isinstance(matrix, BTT):  # and with it Monarch
        grid = target.reshape(matrix.a, matrix.b, matrix.c, matrix.d)
        return grid.permute(1, 2, 0, 3).flatten(0, 1), matrix.rank  # (b c, a, d)
    raise ValueError(f"matrix must be LowRank, Kronecker, Monarch or BTT, got {type(matrix).__name__}")


def best_error(matrix: StructuredMatrix, target: Float[Tensor, "d_out d_in"]) -> float:
    """The smallest relative error that any member of the same shape has: Eckart & Young (1936), slice by slice."""
    slices, rank = rearranged(matrix, target)
    squares = torch.linalg.svdvals(slices).square()
    return (squares[:, rank:].sum() / squares.sum()).item()


def members(d: int) -> dict[str, Callable[[], StructuredMatrix]]:
    """How to make one member of each family, d x d, with about 2 d^1.5 parameters; d is a power of 4.

    Butterfly has no dial, and at d = 64 three quarters of the others' parameters. Kronecker takes the nearest size.
    """
    side = isqrt(d)
    require(side * side == d and side >= 4 and side & (side - 1) == 0, f"d must be 16, 64, 256, ..., got {d}")
    sizes = [2**k for k in range(1, int(log2(d)))]
    n = min(sizes, key=lambda n: abs(log2((n**2 + (d // n) ** 2) / (2 * d * side)) + 1e-9 * (n < side)))
    n = max(n, d // n)
    levels = int(log2(side)) + 1
    ranks = tuple(side // levels + (level < side % levels) for level in range(levels))
    wide = (2 * side, side // 2)
    return {
        "low rank": partial(LowRank, d, d, side),
        "Kronecker": partial(Kronecker, (n, d // n), (n, d // n)),
        "Monarch": partial(Monarch, d, side),
        "butterfly": partial(Butterfly, d),
        "BTT": partial(BTT, wide, wide[::-1], rank=2),
        "MLR": partial(MLR, d, d, ranks),
    }


def targets(d: int, seed: int = 0) -> dict[str, Float[Tensor, "d d"]]:
    """Four d x d matrices of squared Frobenius norm d, in float64; d a multiple of 8.

    smooth: a Gaussian kernel between points on a line.  permutation: a random one.  dense: independent normal entries.
    local: independent normal entries inside 8 diagonal blocks, and weaker by half at each doubling of the block.
    """
    generator = torch.Generator().manual_seed(seed)
    place = torch.linspace(0, 1, d, dtype=torch.float64)

    def noise() -> Tensor:
        return torch.randn(d, d, dtype=torch.float64, generator=generator)

    order = torch.randperm(d, generator=generator)
    block = torch.arange(d) * 8 // d
    apart = sum((block[:, None] >> k != block >> k).double() for k in range(3))  # 0 in the same block, 3 far away
    found = {
        "smooth": torch.exp(-0.5 * ((place[:, None] - place) / 0.1) ** 2),
        "permutation": torch.eye(d, dtype=torch.float64)[order],
        "dense": noise(),
        "local": noise() * 0.5**apart,
    }
    return {name: d**0.5 * matrix / matrix.norm() for name, matrix in found.items()}


def main(d: int = 64, seeds: int = 3) -> None:
    print(f"{'':10s} {'parameters':>10s}" + "".join(f"{name:>22s}" for name in targets(d)))
    for name, make in members(d).items():
        line = f"{name:10s} {make().num_params:10d}"
        for target in targets(d).values():
            errors = fits(make, target, range(seeds))
            line += f"     {errors[0]:.2e}-{errors[-1]:.2e}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
