"""Chapter 11's solutions, and for each another right answer."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from structattn_minimal.experiments.regression import counted_prompts, interleave


def training_batch(
    seed: int, step: int, prompts: int, pairs: int, d: int
) -> tuple[Float[Tensor, "prompts 2*pairs d"], Float[Tensor, "prompts pairs"]]:
    """Tokens and targets on which the model of that seed trains at that step: the same at every call."""
    generator = torch.Generator().manual_seed(1_000_000 * seed + step)  # at most 32 bits, one number for each pair
    x = torch.randn(prompts, pairs, d, generator=generator) / d**0.5
    w = torch.randn(prompts, d, 1, generator=generator)
    y = x @ w  # (prompts, pairs, 1)
    tokens = torch.stack([x, torch.nn.functional.pad(y, (0, d - 1))], dim=2)  # (prompts, pairs, 2, d)
    return tokens.flatten(1, 2), y.squeeze(-1)


def training_batch_another(seed, step, prompts, pairs, d):
    x, y = counted_prompts(torch.tensor([seed]), torch.tensor([step]), prompts, pairs=pairs, d=d)
    return interleave(x, y)[0], y[0]


def best_answers(
    x: Float[Tensor, "prompts pairs d"], y: Float[Tensor, "prompts pairs"], noise: float
) -> Float[Tensor, "prompts pairs"]:
    """The mean of w . x_i given the pairs before i, if w ~ N(0, I) and targets bear noise of that deviation."""
    answers = torch.zeros_like(y)
    penalty = noise**2 * torch.eye(x.shape[-1], dtype=x.dtype)
    for i in range(1, x.shape[1]):
        earlier, targets = x[:, :i], y[:, :i, None]
        w = torch.linalg.solve(earlier.mT @ earlier + penalty, earlier.mT @ targets)  # (prompts, d, 1)
        answers[:, i] = (x[:, i, None] @ w).flatten()
    return answers


def best_answers_another(x, y, noise):
    answers = torch.zeros_like(y)
    for b in range(len(x)):
        w = torch.zeros(x.shape[-1], dtype=x.dtype)
        covariance = torch.eye(x.shape[-1], dtype=x.dtype)  # of w, given the pairs so far: a Kalman filter
        for i in range(x.shape[1]):
            answers[b, i] = x[b, i] @ w
            along = covariance @ x[b, i]
            gain = along / (x[b, i] @ along + noise**2)
            w = w + gain * (y[b, i] - x[b, i] @ w)
            covariance = covariance - torch.outer(gain, along)
    return answers


def curriculum(
    x: Float[Tensor, "prompts pairs d"],
    w: Float[Tensor, "prompts d"],
    step: Int[Tensor, " prompts"],
    steps: int,
    share: float,
) -> tuple[Float[Tensor, "prompts pairs d"], Float[Tensor, "prompts pairs"]]:
    """Inputs and targets of prompts that are each at a step of its own, from standard normal x and w."""
    d = x.shape[-1]
    active = (1 + (step * d / (share * steps)).long()).clamp(max=d)[:, None, None]  # (prompts, 1, 1)
    x = torch.where(torch.arange(d) < active, x / active.to(x.dtype).sqrt(), 0)
    return x, torch.einsum("bnd,bd->bn", x, w)


def curriculum_another(x, w, step, steps, share):
    d, easier = x.shape[-1], torch.zeros_like(x)
    for b, now in enumerate(step.tolist()):
        active = 1 if now == 0 else min(d, 1 + int(now / (share * steps) * d))
        easier[b, :, :active] = x[b, :, :active] * active**-0.5
    return easier, (easier * w[:, None]).sum(-1)


def adam_rates(shapes: dict[str, tuple[int, ...]], rate: float, base_width: int) -> dict[str, float]:
    """Adam's rate of each parameter: the base rate, times base_width / fan_in for hidden weights."""
    rates = {}
    for name, shape in shapes.items():
        if name in ("embed.weight", "position") or len(shape) == 1:  # embeddings and norms
            fan_in = base_width
        elif name.endswith("right"):  # (H, c, d, b, s): sums over d
            fan_in = shape[2]
        elif name.endswith("left"):  # (H, b, c, s, a): sums over c and s
            fan_in = shape[2] * shape[3]
        else:  # (outputs, inputs)
            fan_in = shape[1]
        rates[name] = rate * base_width / fan_in
    return rates


def adam_rates_another(shapes, rate, base_width):
    def added_up(name, shape):
        """The sizes of the axes over which a product with this weight sums."""
        axes = {"right": [2], "left": [2, 3]}.get(name.split(".")[-1], [-1])
        return torch.tensor([shape[axis] for axis in axes]).prod().item()

    kept = {name for name, shape in shapes.items() if len(shape) == 1} | {"embed.weight", "position"}
    return {n: rate if n in kept else rate / (added_up(n, shape) / base_width) for n, shape in shapes.items()}


def relative_budgets(record: dict, threshold: float, reference: str) -> dict[str, float | None]:
    """For each method, the fewest training MACs with which it reaches the threshold, over those of the reference."""
    fewest = {}
    for method in record["setting"]["methods"]:
        budgets = []
        for run in record["runs"].values():
            if run["method"] != method or run["status"] != "finished":
                continue
            errors = [model["last"] for model in run["by_seed"]]
            if not errors or None in errors:  # the mean of those that did not diverge would flatter
                continue
            if sum(errors) / len(errors) < threshold:
                budgets.append(run["training_macs_a_model"])
        fewest[method] = min(budgets, default=None)
    return {method: macs and macs / fewest[reference] for method, macs in fewest.items()}


def relative_budgets_another(record, threshold, reference):
    def error(run):
        errors = torch.tensor([float("nan") if m["last"] is None else m["last"] for m in run.get("by_seed", [])])
        return errors.double().mean()  # nan, and so not below, if one has diverged or there are none

    fewest = {}
    for run in sorted(record["runs"].values(), key=lambda run: -run["training_macs_a_model"]):
        if error(run) < threshold:
            fewest[run["method"]] = run["training_macs_a_model"]  # the last one stays, the smallest
    return {m: fewest[m] / fewest[reference] if m in fewest else None for m in record["setting"]["methods"]}
