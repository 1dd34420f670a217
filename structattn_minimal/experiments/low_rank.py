"""What a score of low rank cannot see: the exact statements of chapter 2, executable.

A score x^T M x' whose M has rank r < d is blind to d - r directions. Three consequences: some near key loses to a far
one (`blind_spot`), a share of the similarity's variance is gone (`lost_share`), and nearest neighbours go wrong at a
rate that depends on little but r / d (`right_share`; for two keys `right_of_two` is exact).
"""

from math import pi

import torch
from jaxtyping import Float
from torch import Tensor

from ..checks import require


def sphere(*shape: int, generator: torch.Generator | None = None, dtype=None) -> Float[Tensor, "..."]:
    """Independent points, uniform on the unit sphere of the last dimension."""
    points = torch.randn(*shape, generator=generator, dtype=dtype)
    return points / points.norm(dim=-1, keepdim=True)


def blind_spot(
    w_q: Float[Tensor, "d rank"], w_k: Float[Tensor, "d rank"], tilt: float = 0.1
) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"], Float[Tensor, " d"]]:
    """A unit query, the unit key next to it, and a unit key far away that the score q^T W_Q W_K^T k puts first.

    The near key lies in the null space of M = W_Q W_K^T, so its score is 0 for every query. The far key lies in the row
    space, at a right angle to the near one, along the gradient of the score: its score is |M^T q| > 0. Needs rank < d
    and M != 0. A smaller `tilt` moves the query closer to the near key (chapter 2, theorem "Blind spots").
    """
    d, rank = w_q.shape
    require(w_k.shape == w_q.shape, f"w_k must have the shape of w_q, {tuple(w_q.shape)}, got {tuple(w_k.shape)}")
    require(rank < d, f"rank must be less than d = {d}, or nothing is invisible; got {rank}")
    m = w_q @ w_k.T
    left, _, right = torch.linalg.svd(m)
    near = right[-1]  # M near = 0
    ahead = left[:, 0] if left[:, 0] @ near >= 0 else -left[:, 0]
    query = near + tilt * ahead
    query = query / query.norm()
    far = m.T @ query
    require(bool(far.norm() > 0), "w_q @ w_k.T must not be zero: then every key scores alike")
    return query, near, far / far.norm()


def lost_share(target: Float[Tensor, "d d"], rank: int) -> float:
    """The least share of a score's mean square that any M of this rank leaves unexplained, for isotropic tokens.

    sum_{i > r} sigma_i^2 / sum_i sigma_i^2 over the singular values of `target` (Eckart & Young 1936). For the
    identity, 1 - r / d.
    """
    squares = torch.linalg.svdvals(target).square()
    return (squares[rank:].sum() / squares.sum()).item()


def right_share(d: int, rank: int, n_keys: int, *, trials: int = 4096, seed: int = 0) -> float:
    """How often the score q^T P_r k, with the projection on r coordinates, finds the nearest of `n_keys` keys.

    Query and keys are uniform on the sphere, so that any orthogonal projection of that rank does as well. A Monte Carlo
    share, with a standard error of at most 0.5 / sqrt(trials).
    """
    generator = torch.Generator().manual_seed(seed)
    query, keys = sphere(trials, d, 1, generator=generator), sphere(trials, n_keys, d, generator=generator)
    query = query / query.norm(dim=1, keepdim=True)
    seen = keys[..., :rank] @ query[:, :rank]
    return (seen.argmax(1) == (keys @ query).argmax(1)).float().mean().item()


def gaussian_share(fraction: float, n_keys: int, *, trials: int = 100_000, seed: int = 0) -> float:
    """`right_share` as d grows at r / d = `fraction`: a key's seen score and its true one become jointly normal with
    correlation sqrt(fraction), independently for each key. Monte Carlo."""
    generator = torch.Generator().manual_seed(seed)
    seen, unseen = torch.randn(2, trials, n_keys, generator=generator)
    true = fraction**0.5 * seen + (1 - fraction) ** 0.5 * unseen
    return (seen.argmax(1) == true.argmax(1)).float().mean().item()


def right_of_two(d: int, rank: int) -> float:
    """`right_share` for two keys, exactly: 1/2 + E[theta] / pi, where sin^2(theta) ~ Beta(r / 2, (d - r) / 2) is the
    share of the query's squared length that the projection keeps. 3/4 at r = d / 2 (chapter 2)."""
    theta = (torch.arange(20_000, dtype=torch.float64) + 0.5) * (pi / 2 / 20_000)
    density = theta.sin() ** (rank - 1) * theta.cos() ** (d - rank - 1)
    return (0.5 + (density @ theta) / density.sum() / pi).item()
