"""The live task of chapter 2: one attention layer learns to return the value of the nearest other key.

A prompt holds n points on a sphere, each with a value y_j ~ N(0, 1). The target of point i is the value of its nearest
other point. A layer answers sum_h b_h softmax_j(x_i^T M_h x_j / sqrt(d)) y_j, point i itself masked out. Layers differ
in the form of M_h alone. Many of them, scorers times seeds, are trained at once: their heads lie in one batch.

    python -m structattn_minimal.experiments.nearest --out book/results/nearest.json
"""

from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import cos, pi, sqrt
from time import perf_counter

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from ..matrices import BTT, MLR, LowRank, StructuredMatrix
from .low_rank import sphere
from .records import write_record

WIDTH, POINTS, PROMPTS = 16, 32, 8  # d, n, and the prompts of a training step
SWEPT_RATES = (0.03, 0.06, 0.12, 0.25, 0.5)


@dataclass(frozen=True)
class Scorer:
    """How a layer scores: with `heads` heads, each with a d x d matrix as `matrix()` makes it."""

    heads: int
    matrix: Callable[[], StructuredMatrix]

    @property
    def params(self) -> int:
        """Of all its M_h. The output weights b_h, one a head, are not counted."""
        return self.heads * self.matrix().num_params

    @property
    def rank(self) -> int:
        """The highest rank that the matrix of one head can have."""
        return self.matrix().max_rank


def standard(rank: int, heads: int) -> Scorer:
    """Heads as in standard attention: M_h = W_Q W_K^T."""
    return Scorer(heads, partial(LowRank, WIDTH, WIDTH, rank))


def multi_level(*ranks: int, heads: int) -> Scorer:
    return Scorer(heads, partial(MLR, WIDTH, WIDTH, ranks))


def btt(heads: int) -> Scorer:
    return Scorer(heads, partial(BTT, (4, 4), (4, 4)))


EQUAL_BUDGET = {  # 2 d^2 = 512 parameters each
    **{f"standard_r{r}": standard(r, heads=WIDTH // r) for r in (1, 2, 4, 8, 16)},
    "mlr_2_1_1": multi_level(2, 1, 1, heads=4),
    "mlr_1_1_1_1": multi_level(1, 1, 1, 1, heads=4),
    "mlr_4_2_2": multi_level(4, 2, 2, heads=2),
    "btt": btt(heads=4),
}
SINGLE_HEADS = {  # 2 d r parameters, and 2 d^1.5 = 128
    **{f"single_r{r}": standard(r, heads=1) for r in (1, 2, 4, 8, 12, 14, 15)},
    "single_btt": btt(heads=1),
}
FOUR_BUDGETS = {f"many_r{r}": standard(r, heads=4 * WIDTH // r) for r in (1, 2, 4, 8)}  # 2,048 parameters each

LEARNING_RATES = {  # the best of the recorded sweep
    "standard_r1": 0.03,
    "standard_r2": 0.03,
    "standard_r4": 0.12,
    "standard_r8": 0.06,
    "standard_r16": 0.12,
    "mlr_2_1_1": 0.06,
    "mlr_1_1_1_1": 0.25,
    "mlr_4_2_2": 0.25,
    "btt": 0.25,
    "single_r1": 0.25,
    "single_r2": 0.06,
    "single_r4": 0.12,
    "single_r8": 0.03,
    "single_r12": 0.06,
    "single_r14": 0.03,
    "single_r15": 0.03,
    "single_btt": 0.5,
}


def hide_self(scores: Float[Tensor, "*batch n n"]) -> Float[Tensor, "*batch n n"]:
    """No point attends to itself."""
    return scores.masked_fill(torch.eye(scores.shape[-1], dtype=torch.bool), float("-inf"))


def nearest_other(
    x: Float[Tensor, "*batch n d"], relation: Float[Tensor, "... d d"] | None = None
) -> Int[Tensor, "*batch n"]:
    """For each point the index of the nearest other; with a `relation` R, of the other with the largest x^T R x'."""
    return hide_self((x if relation is None else x @ relation) @ x.mT).argmax(-1)


def expected_error(weights: Float[Tensor, "*batch n n"], nearest: Int[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
    """The mean of (sum_j w_j y_j - y_nearest)^2 over the values y ~ N(0, I): |w - e_nearest|^2. Answering 0 costs 1."""
    return weights.square().sum(-1) - 2 * weights.gather(-1, nearest[..., None]).squeeze(-1) + 1


class Prompts:
    """An endless stream of prompts for each seed. Points have length sqrt(d), so that a coordinate has unit variance.

    `fresh` streams, for evaluation, come from other generators than those that train. `relations`: see `nearest_other`,
    one R a seed.
    """

    def __init__(
        self, seeds: Sequence[int], *, fresh: bool = False, relations: Float[Tensor, "seeds d d"] | None = None
    ):
        self.generators = [torch.Generator().manual_seed(1_000_000 + 2 * seed + fresh) for seed in seeds]
        self.relations = None if relations is None else relations[:, None]

    def draw(self, batch: int) -> tuple[Float[Tensor, "seeds batch n d"], Int[Tensor, "seeds batch n"]]:
        """Points, and the index of each point's target."""
        x = torch.stack([sphere(batch, POINTS, WIDTH, generator=g) for g in self.generators]) * sqrt(WIDTH)
        return x, nearest_other(x, self.relations)


class Population:
    """A layer for each scorer and each seed, side by side; model s * len(seeds) + k is scorer s with seed k.

    A seed fixes a layer's initial weights and its prompts: layers of one seed see the same ones.
    """

    def __init__(self, scorers: Sequence[Scorer], seeds: Sequence[int]):
        self.scorers, self.seeds = list(scorers), list(seeds)
        self.stacks = [self._stack(scorer) for scorer in self.scorers]
        self.outputs = [torch.full((s.heads * len(self.seeds),), 1 / s.heads).requires_grad_() for s in self.scorers]
        self.model = torch.arange(len(self)).repeat_interleave(
            torch.tensor([scorer.heads for scorer in self.scorers for _ in self.seeds])
        )  # of each head

    def _stack(self, scorer: Scorer) -> tuple[StructuredMatrix, dict[str, Tensor]]:
        """One module to call, and the parameters of the heads of all seeds, stacked seed by seed."""
        heads = []
        with torch.random.fork_rng(devices=[]):
            for seed in self.seeds:
                torch.manual_seed(seed)
                heads += [scorer.matrix() for _ in range(scorer.heads)]
        return heads[0], stack_module_state(heads)[0]

    def __len__(self) -> int:
        return len(self.scorers) * len(self.seeds)

    def of_models(self, per_seed: Tensor, models: Int[Tensor, " k"] | None = None) -> Tensor:
        """From one entry for each seed, one for each of `models`, all of them by default."""
        return per_seed[(torch.arange(len(self)) if models is None else models) % len(self.seeds)]

    def weights(self, x: Float[Tensor, "seeds batch n d"]) -> Float[Tensor, "models batch n n"]:
        """sum_h b_h softmax(x_i^T M_h x_j / sqrt(d)) of each layer, on the prompts of its seed."""
        x = self.of_models(x, self.model)  # (heads, batch, n, d)
        own = x.split([len(output) for output in self.outputs])
        keys = [
            vmap(partial(functional_call, module))(params, points)  # M_h x_j
            for (module, params), points in zip(self.stacks, own, strict=True)
        ]
        heads = hide_self(x @ torch.cat(keys).mT / sqrt(x.shape[-1])).softmax(-1)
        heads = heads * torch.cat(self.outputs)[:, None, None, None]
        return heads.new_zeros(len(self), *heads.shape[1:]).index_add(0, self.model, heads)

    def errors(
        self, x: Float[Tensor, "seeds batch n d"], nearest: Int[Tensor, "seeds batch n"]
    ) -> Float[Tensor, " models"]:
        """The mean expected error of each layer."""
        return expected_error(self.weights(x), self.of_models(nearest)).mean((1, 2))


def train(
    population: Population,
    learning_rates: Sequence[float],
    *,
    steps: int = 400,
    relations: Float[Tensor, "seeds d d"] | None = None,
    report: Callable[[int, Float[Tensor, "scorers seeds"]], None] | None = None,
) -> None:
    """Adam, with fresh prompts at every step. The learning rate of each scorer rises for 20 steps and falls along a
    cosine to zero. `report(steps, errors)` hears, after so many steps, the errors on the last one's prompts."""
    stacks = zip(population.stacks, population.outputs, learning_rates, strict=True)
    groups = [{"params": [*params.values(), output], "lr": lr} for (_, params), output, lr in stacks]
    optimiser = torch.optim.Adam(groups, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1, (step + 1) / 20) * (1 + cos(pi * step / steps)) / 2
    )
    prompts = Prompts(population.seeds, relations=relations)
    for step in range(steps):
        errors = population.errors(*prompts.draw(PROMPTS))
        optimiser.zero_grad()
        errors.sum().backward()  # layers share no parameter, so each gets the gradient of its own error
        optimiser.step()
        schedule.step()
        if report:
            report(step + 1, errors.detach().unflatten(0, (-1, len(population.seeds))))


@torch.no_grad()
def evaluate(
    population: Population, *, batches: int = 32, relations: Float[Tensor, "seeds d d"] | None = None
) -> tuple[Float[Tensor, "scorers seeds"], Float[Tensor, "scorers seeds"]]:
    """On fresh prompts: the mean expected error, and the share of points whose largest weight is on the nearest one."""
    prompts = Prompts(population.seeds, fresh=True, relations=relations)
    errors, hits = torch.zeros(2, len(population))
    for _ in range(batches):
        x, nearest = prompts.draw(PROMPTS)
        weights, nearest = population.weights(x), population.of_models(nearest)
        errors += expected_error(weights, nearest).mean((1, 2)) / batches
        hits += (weights.argmax(-1) == nearest).float().mean((1, 2)) / batches
    return errors.unflatten(0, (-1, len(population.seeds))), hits.unflatten(0, (-1, len(population.seeds)))


@torch.no_grad()
def ceiling(rank: int, *, batch: int = 128, seed: int = 0) -> float:
    """The error of one head with M = c P_r, a projection on r coordinates, at the best sharpness and output weight."""
    x, nearest = Prompts([seed], fresh=True).draw(batch)
    scores = x[..., :rank] @ x[..., :rank].mT / sqrt(WIDTH)

    def best_error(c: float) -> float:
        weights = hide_self(c * scores).softmax(-1)
        hit = weights.gather(-1, nearest[..., None]).mean().item()
        return 1 - hit**2 / weights.square().sum(-1).mean().item()  # at the output weight hit / mean |w|^2

    return min(best_error(2 ** (k / 2)) for k in range(-2, 21))  # 1/2 to 1024


def rotations(seeds: Sequence[int]) -> Float[Tensor, "seeds d d"]:
    """A random rotation (or reflection) for each seed: the relation of the control experiment."""
    gaussians = [torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(10_000 + seed)) for seed in seeds]
    return torch.linalg.qr(torch.stack(gaussians))[0]


def rounded(number: Float[Tensor, ""]) -> float:
    return round(number.item(), 3)


def sweep(scorers: dict[str, Scorer], seeds: Sequence[int], steps: int, rotated: bool) -> dict[str, dict[str, float]]:
    """The mean error of each scorer at each of SWEPT_RATES."""
    relations, table = rotations(seeds) if rotated else None, {name: {} for name in scorers}
    for rate in SWEPT_RATES:
        population = Population(list(scorers.values()), seeds)
        train(population, [rate] * len(scorers), steps=steps, relations=relations)
        errors, _ = evaluate(population, relations=relations)
        for name, error in zip(scorers, errors.mean(1).tolist(), strict=True):
            table[name][str(rate)] = round(error, 4)
        print(f"  learning rate {rate} done", flush=True)
    return table


def compare(
    scorers: dict[str, Scorer], rates: dict[str, float], seeds: Sequence[int], steps: int, rotated: bool
) -> dict[str, dict]:
    """Train and evaluate; for each scorer its size, its learning rate, and error and hits over the seeds."""
    relations = rotations(seeds) if rotated else None
    population = Population(list(scorers.values()), seeds)
    train(population, [rates[name] for name in scorers], steps=steps, relations=relations)
    rows = zip(scorers.items(), *evaluate(population, relations=relations), strict=True)
    return {
        name: {
            **{"heads": scorer.heads, "params": scorer.params, "rank": scorer.rank, "learning_rate": rates[name]},
            **{"error": rounded(error.mean()), "sd": rounded(error.std()), "hits": rounded(hits.mean())},
            "errors": [rounded(one) for one in error],
        }
        for (name, scorer), error, hits in rows
    }


def main() -> None:
    parser = ArgumentParser(description="Chapter 2's comparison: learning rates swept, then fresh seeds.")
    parser.add_argument("--out", required=True, help="the record to write, book/results/nearest.json")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=400)
    args = parser.parse_args()
    start, seeds, sweep_seeds = perf_counter(), range(args.seeds), (100, 101)
    jobs = {  # name: scorers, whether the relation is a rotation, seeds
        "main": (EQUAL_BUDGET | SINGLE_HEADS, False, seeds),
        "many": (FOUR_BUDGETS, False, seeds[: args.seeds // 2]),
        "rotated": (EQUAL_BUDGET | {"single_btt": SINGLE_HEADS["single_btt"]}, True, seeds),
    }
    results = {"width": WIDTH, "points": POINTS, "steps": args.steps, "prompts_a_step": PROMPTS, "sweeps": {}}
    for job, (scorers, rotated, job_seeds) in jobs.items():
        print(
            f"{job}: {len(scorers)} scorers, sweep then {len(job_seeds)} seeds, {perf_counter() - start:.0f} s",
            flush=True,
        )
        table = results["sweeps"][job] = sweep(scorers, sweep_seeds, args.steps, rotated)
        rates = {name: float(min(row, key=row.get)) for name, row in table.items()}
        results[job] = compare(scorers, rates, job_seeds, args.steps, rotated)
    results["ceiling"] = {f"r{r}": round(ceiling(r, batch=1024), 3) for r in (1, 2, 4, 8, 12, 14, 15, 16)}
    write_record(args.out, results, command=f"python -m {__spec__.name} --out {args.out}", seeds=[*sweep_seeds, *seeds])


if __name__ == "__main__":
    main()
