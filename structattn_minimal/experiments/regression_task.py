"""What a comparison needs to know of in-context regression: models, prompts, and the error that counts."""

import torch
from torch import Tensor

from ..transformer import GPT, GPTConfig
from . import distributed
from .presets import SCORERS, RegressionComparison
from .regression import active_dimensions, counted_prompts, drawn, errors_on, interleave, ridge, squared_errors
from .training import Draw, Population

METRIC, METRIC_IN_WORDS = "last", "last-point error"
CURVES = ("loss", "last")
FRESH_SEED = 2**40  # of the prompts for evaluation: no run trains on them
RIDGE_PENALTY = 0.1

losses = squared_errors


def config(preset: RegressionComparison, method: str, width: int) -> GPTConfig:
    scorer = SCORERS[method]
    return GPTConfig(
        n_layers=preset.layers,
        n_heads=scorer.heads,
        d_model=width,
        context=preset.context,
        d_in=preset.d,
        d_out=1,
        attention=scorer.attention,
        attention_options=scorer.options(width) | {"qk_norm": preset.qk_norm},
    )


def model(config: GPTConfig, seed: int) -> GPT:
    return drawn(config, seed)


def identity(preset: RegressionComparison) -> dict:
    """What the setting says beside the fields of the preset."""
    return {"pairs": preset.pairs}


def describe(preset: RegressionComparison, method: str, width: int) -> dict:
    scorer = SCORERS[method]
    return {"label": scorer.label, "ranks": scorer.options(width).get("ranks")}


def draw(preset: RegressionComparison, steps: int, device: torch.device) -> Draw:
    rank, size = distributed.rank(), distributed.size()
    grown = [active_dimensions(step, steps, preset.d, preset.curriculum, preset.power) for step in range(steps)]
    active = torch.tensor(grown, device=device)

    def prompts(seeds, step):
        x, y = counted_prompts(
            seeds, step, preset.batch, pairs=preset.pairs, d=preset.d, active=active.index_select(0, step)
        )
        x, y = x[:, rank::size], y[:, rank::size]
        return interleave(x, y), y

    return prompts


def fresh_prompts(preset: RegressionComparison, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Batches of prompts that no model was trained on, the same for all of them and on every machine."""
    seeds, size = torch.tensor([FRESH_SEED], device=device), min(128, preset.fresh)
    steps = (torch.tensor([step], device=device) for step in range(-(-preset.fresh // size)))
    batches = (counted_prompts(seeds, step, size, pairs=preset.pairs, d=preset.d) for step in steps)
    return [(x[0], y[0]) for x, y in batches]


def measure(preset: RegressionComparison, population: Population) -> list[dict]:
    """Of each model the squared error on fresh prompts, at the last point and at each."""
    errors = errors_on(population, fresh_prompts(preset, population.theta.device)).cpu().tolist()
    return [{"last": row[-1], "by_position": row} for row in errors]


def answering_zero(preset: RegressionComparison, device: torch.device | str = "cpu") -> float:
    """What it costs at the last point, on the prompts that the models answer: 1 if there were more of them."""
    batches = fresh_prompts(preset, torch.device(device))
    return torch.stack([y[:, -1].square().mean() for _, y in batches]).mean().item()


def baselines(preset: RegressionComparison, device: torch.device | str = "cpu") -> dict[str, float]:
    """The error at the last point of least squares and of ridge regression, on the prompts that the models answer."""
    answers = {"least_squares": 0.0, "ridge": RIDGE_PENALTY}
    batches = fresh_prompts(preset, torch.device(device))
    errors = {
        name: torch.stack([(ridge(x, y, penalty) - y[:, -1]).square().mean() for x, y in batches]).mean().item()
        for name, penalty in answers.items()
    }
    return {name: float(f"{error:.3g}") for name, error in errors.items()} | {"ridge_penalty": RIDGE_PENALTY}


def keepsake(preset: RegressionComparison, first: GPT) -> dict:
    """Of a model of numbers there is nothing to show."""
    return {}
