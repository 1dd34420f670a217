"""What loss would another rank list have had? A surrogate, fitted to a record of some lists.

The features of a head are a mixture: r of them are divided among the levels, so that only the shares x_l = r_l / r
count, which sum to 1. The loss is modelled by a polynomial in them without intercept (Scheffé 1958, 1963), or in the
logarithms of their ratios (Aitchison & Bacon-Shone 1984), by least squares on the mean losses over seeds. Which of
these is taken, the leave-one-out error says (Allen 1974).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement

import torch
from jaxtyping import Float
from torch import Tensor

from ..checks import positive_ints, require
from .presets import STEPS
from .text_task import METRIC

Terms = Callable[[Tensor], Tensor]  # shares (lists, levels) -> design (lists, terms)


def score_cost(ranks: Sequence[int], parts: Sequence[int] = STEPS) -> float:
    """MACs of MLR attention's scores as a share of standard attention's: sum_l r_l B_l / (r T), B_l = T / parts_l."""
    return sum(rank / n for rank, n in zip(ranks, parts, strict=True)) / sum(ranks)


def lists(r: int = 64, levels: int = 4, step: int = 4) -> list[tuple[int, ...]]:
    """All rank lists that sum to r, each rank a multiple of `step` and none 0."""
    ends = combinations(range(step, r, step), levels - 1)  # where each level but the last ends
    return [tuple(b - a for a, b in zip((0, *cut), (*cut, r), strict=True)) for cut in ends]


def words(ranks: Sequence[int]) -> str:
    return "|".join(map(str, ranks))


# Models


def scheffe(degree: int) -> Terms:
    """The terms x_i; of degree 2 also x_i x_j, i < j; of degree 3 also x_i x_j x_k, i < j < k: the special cubic."""

    def terms(shares: Float[Tensor, "lists levels"]) -> Float[Tensor, "lists terms"]:
        return products(shares, degree, combinations)

    return terms


def log_contrast(degree: int) -> Terms:
    """1, z_i; of degree 2 also all z_i z_j, with z_i = log(x_i / x_L) for i < L."""

    def terms(shares: Float[Tensor, "lists levels"]) -> Float[Tensor, "lists terms"]:
        z = (shares[:, :-1] / shares[:, -1:]).log()
        return torch.cat([torch.ones_like(z[:, :1]), products(z, degree, combinations_with_replacement)], dim=1)

    return terms


def products(x: Float[Tensor, "lists factors"], degree: int, choose: Callable) -> Float[Tensor, "lists terms"]:
    chosen = [which for n in range(1, degree + 1) for which in choose(range(x.shape[1]), n)]
    return torch.stack([x[:, which].prod(dim=1) for which in chosen], dim=1)


MODELS = {
    "linear": scheffe(1),
    "quadratic": scheffe(2),
    "special cubic": scheffe(3),
    "linear in logarithms": log_contrast(1),
    "quadratic in logarithms": log_contrast(2),
}


def coefficients(design: Float[Tensor, "lists terms"], losses: Float[Tensor, " lists"]) -> Float[Tensor, " terms"]:
    return torch.linalg.lstsq(design, losses[:, None]).solution[:, 0]


def left_out(design: Float[Tensor, "lists terms"], losses: Float[Tensor, " lists"]) -> Float[Tensor, " lists"]:
    """By how much each list is missed by the fit to all others: e_i / (1 - h_i), with the residuals e of one fit to all
    and the diagonal h of the matrix that projects on the design (Allen 1974).
    """
    q, _ = torch.linalg.qr(design)
    return (losses - q @ (q.T @ losses)) / (1 - q.square().sum(dim=1))


def leave_one_out(shares: Float[Tensor, "lists levels"], losses: Float[Tensor, " lists"]) -> dict[str, float]:
    """The root mean square of `left_out`, for each model that the lists determine. `ValueError` if there is none."""
    designs = {name: terms(shares) for name, terms in MODELS.items()}
    errors = {name: root_mean_square(left_out(d, losses)) for name, d in designs.items() if determined(d)}
    require(len(errors) > 0, f"losses must be of more or other lists to determine any model, got {len(losses)}")
    return errors


def determined(design: Float[Tensor, "lists terms"]) -> bool:
    """Whether a fit is unique whichever list is left out."""
    others = ~torch.eye(len(design), dtype=torch.bool)
    return all(torch.linalg.matrix_rank(design[rows]) == design.shape[1] for rows in others)


def best_model(errors: dict[str, float]) -> str:
    """The model of the least leave-one-out error."""
    return min(errors, key=errors.get)


def error_with_choice(shares: Float[Tensor, "lists levels"], losses: Float[Tensor, " lists"]) -> float:
    """The leave-one-out error of choice and fit together: the model, too, is chosen without the list left out."""
    missed = []
    for i in range(len(losses)):
        others = torch.arange(len(losses)) != i
        terms = MODELS[best_model(leave_one_out(shares[others], losses[others]))]
        found = coefficients(terms(shares[others]), losses[others])
        missed.append(losses[i] - terms(shares[i : i + 1])[0] @ found)
    return root_mean_square(torch.stack(missed))


def root_mean_square(x: Float[Tensor, " n"]) -> float:
    return x.square().mean().sqrt().item()


# From a record


@dataclass(frozen=True)
class Surrogate:
    """surrogate(ranks): the loss that it expects of a rank list.

    Attributes:
        model: the one of `MODELS` that was chosen.
        weights: its coefficients, in float64.
        least: the fewest features that any recorded list gives to each level; they sum to r with the rest.
        r: features of a head.
        errors: leave-one-out errors of all models, root mean squares, in nats.
        error: the same of choice and fit together (`error_with_choice`): how far an expected loss may be trusted.
        noise: the standard error of a recorded loss, a mean over seeds: no surrogate can be expected to miss by less.
    """

    model: str
    weights: Float[Tensor, " terms"]
    least: tuple[int, ...]
    r: int
    errors: dict[str, float]
    error: float
    noise: float

    def __call__(self, ranks: Sequence[int]) -> float:
        """Raises `ValueError` for what lies outside of what was recorded: there it would be a guess."""
        ranks = positive_ints("ranks", ranks)
        require(len(ranks) == len(self.least), f"ranks must have {len(self.least)} levels, as recorded, got {ranks}")
        require(sum(ranks) == self.r, f"ranks must sum to {self.r}, as recorded, got {sum(ranks)}: {ranks}")
        inside = all(rank >= least for rank, least in zip(ranks, self.least, strict=True))
        require(inside, f"ranks must be at least {self.least}, as recorded, got {ranks}")
        return (MODELS[self.model](shares_of([ranks]))[0] @ self.weights).item()


def shares_of(rank_lists: Iterable[Sequence[int]]) -> Float[Tensor, "lists levels"]:
    ranks = torch.tensor(list(rank_lists), dtype=torch.float64)
    return ranks / ranks.sum(dim=1, keepdim=True)


def whole_runs(record: dict) -> dict[tuple[int, ...], dict]:
    """By rank list, the runs of a record of `lm-ranks`, without those that failed or of which a seed diverged."""
    runs = [run for run in record["runs"].values() if run["status"] == "finished" and not run["diverged"]]
    return {tuple(run["options"][0]["ranks"]): run for run in runs}


def recorded(record: dict) -> dict[tuple[int, ...], list[float]]:
    """By rank list, the losses of its seeds."""
    return {ranks: [seed[METRIC] for seed in run["by_seed"]] for ranks, run in whole_runs(record).items()}


def fit(losses: dict[tuple[int, ...], list[float]]) -> Surrogate:
    """The surrogate to the losses by rank list, of as many seeds each.

    Raises `ValueError` if lists differ in levels or in their sum, if they have fewer than two seeds or not equally
    many, and if they are too few for any model.
    """
    require(len({(len(ranks), sum(ranks)) for ranks in losses}) == 1, "losses must be of lists of one length and sum")
    seeds = {len(of_seeds) for of_seeds in losses.values()}
    require(len(seeds) == 1 and min(seeds) > 1, f"losses must have 2 seeds or more, equally many a list, got {seeds}")
    by_seed = torch.tensor(list(losses.values()), dtype=torch.float64)  # (lists, seeds)
    shares, means = shares_of(losses), by_seed.mean(dim=1)
    errors = leave_one_out(shares, means)
    model = best_model(errors)
    return Surrogate(
        model=model,
        weights=coefficients(MODELS[model](shares), means),
        least=tuple(min(column) for column in zip(*losses, strict=True)),
        r=sum(next(iter(losses))),
        errors=errors,
        error=error_with_choice(shares, means),
        noise=(by_seed.var(dim=1).mean() / by_seed.shape[1]).sqrt().item(),
    )


def frontier(predict: Callable[[Sequence[int]], float], lists: Iterable[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Of the lists, those that are expected to be better than all that cost no more; cheap ones first."""
    found, lowest = [], float("inf")
    for _, loss, ranks in sorted((score_cost(ranks), predict(ranks), ranks) for ranks in lists):
        if loss < lowest:
            found, lowest = [*found, ranks], loss
    return found
