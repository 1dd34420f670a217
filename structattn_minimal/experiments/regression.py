"""In-context regression: a linear map is shown in a prompt as pairs x_i, y_i, and a transformer has to predict y.

Garg et al. 2022 posed the task; Kuang et al. 2025 use it to compare scoring functions. The curriculum
draws easier prompts at first: inputs in the leading dimensions only.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from time import process_time

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from ..transformer import GPT, GPTConfig
from . import counter
from .mup import rate_factors
from .threads import one_thread
from .training import Population, Training, warmup_cosine


def interleave(
    x: Float[Tensor, "*batch pairs d"], y: Float[Tensor, "*batch pairs"]
) -> Float[Tensor, "*batch 2*pairs d"]:
    """The tokens x_1, (y_1, 0, ..., 0), x_2, (y_2, 0, ..., 0), ..."""
    y = pad(y[..., None], (0, x.shape[-1] - 1))
    return torch.stack([x, y], dim=-2).flatten(-3, -2)


def sample_prompts(
    *batch: int, pairs: int, d: int, generator: torch.Generator, active: int | None = None
) -> tuple[Float[Tensor, "*batch pairs d"], Float[Tensor, "*batch pairs"]]:
    """Inputs x ~ N(0, I/d) and targets y = w . x, with one w ~ N(0, I) a prompt: E[y^2] = 1.

    active: only the first `active` dimensions of x are not zero; these are larger by sqrt(d / active), so that y keeps
    its variance.
    """
    x = torch.randn(*batch, pairs, d, generator=generator, device=generator.device)
    w = torch.randn(*batch, d, 1, generator=generator, device=generator.device)
    return scaled(x, w, d if active is None else active)


def scaled(
    x: Float[Tensor, "*batch pairs d"], w: Float[Tensor, "*batch d 1"], active: int | Int[Tensor, "1"]
) -> tuple[Float[Tensor, "*batch pairs d"], Float[Tensor, "*batch pairs"]]:
    """Prompts from standard normal numbers. `active` may be a tensor, which a GPU can read without the host."""
    unused = torch.arange(x.shape[-1], device=x.device) >= active
    x = (x * active**-0.5).masked_fill(unused, 0)
    return x, (x @ w).squeeze(-1)


def counted_prompts(
    seeds: Int[Tensor, " seeds"],
    step: Int[Tensor, "1"],
    batch: int,
    *,
    pairs: int,
    d: int,
    active: int | Int[Tensor, "1"] | None = None,
) -> tuple[Float[Tensor, "seeds batch pairs d"], Float[Tensor, "seeds batch pairs"]]:
    """The prompts of each seed at a step, as `sample_prompts` makes them, from a counter in place of a generator."""
    numbers = counter.normal(seeds, step, batch, pairs + 1, d)
    return scaled(numbers[:, :, :-1], numbers[:, :, -1, :, None], d if active is None else active)


def active_dimensions(step: int, steps: int, d: int, share: float = 0.3, power: float = 1.0) -> int:
    """The curriculum: 1 dimension at first, one more at a time, all d from the first `share` of the steps on.

    power: over 1, few dimensions stay for longer and the last ones follow faster.
    """
    return min(d, 1 + int((step / (share * steps)) ** power * d))


def predictions(outputs: Float[Tensor, "*batch tokens 1"]) -> Float[Tensor, "*batch pairs"]:
    """What the model says at each x_i, having seen x_1, y_1, ..., x_i: its prediction of y_i."""
    return outputs[..., 0::2, 0]


def least_squares(
    x: Float[Tensor, "*batch pairs d"], y: Float[Tensor, "*batch pairs"]
) -> Float[Tensor, "*batch pairs"]:
    """The prediction of each y_i by the shortest w that fits all earlier pairs best, from 0 at the first."""
    answers = [torch.zeros_like(y[..., 0])]
    for n in range(1, x.shape[-2]):
        w = torch.linalg.pinv(x[..., :n, :]) @ y[..., :n, None]
        answers.append((x[..., n, None, :] @ w).flatten(-2).squeeze(-1))
    return torch.stack(answers, dim=-1)


def ridge(
    x: Float[Tensor, "batch pairs d"], y: Float[Tensor, "batch pairs"], penalty: float
) -> Float[Tensor, " batch"]:
    """The prediction of the last y by the w that minimises squared error + penalty |w|^2 on all pairs before it, in
    float64. Without a penalty it is least squares, for which there must be at least d earlier pairs."""
    earlier, target = x[:, :-1].double(), y[:, :-1, None].double()
    gram = earlier.mT @ earlier + penalty * torch.eye(x.shape[-1], dtype=torch.float64, device=x.device)
    w = torch.linalg.solve(gram, earlier.mT @ target)
    return (x[:, -1, None].double() @ w).flatten().to(x.dtype)


def least_squares_error(n: int, d: int) -> float:
    """Expected squared error of least squares after n pairs without noise: what is left of w, 1 - n/d."""
    return max(0.0, 1 - n / d)


def gradient_step_error(n: int, d: int) -> float:
    """Expected squared error of one gradient step from 0, of the best size, on n pairs: (d + 1) / (n + d + 1)."""
    return (d + 1) / (n + d + 1)


@dataclass(frozen=True)
class Method:
    """A way to score: `attention` is a key of `ATTENTION_KINDS`; rate: the peak learning rate, chosen by a sweep."""

    label: str
    attention: str
    heads: int
    rate: float


@dataclass(frozen=True)
class Preset:
    """A comparison of methods in one setting. rates: where given, each is tried for every method and seed."""

    d: int
    width: int
    layers: int
    steps: int
    batch: int
    seeds: tuple[int, ...]
    methods: dict[str, Method]
    rates: tuple[float, ...] = ()

    @property
    def pairs(self) -> int:
        return 2 * self.d


CHAPTER = Preset(
    d=4,
    width=16,
    layers=3,
    steps=2000,
    batch=64,
    seeds=tuple(range(6)),
    methods={
        "standard_r2": Method("standard, 8 heads of rank 2", "standard", 8, 8e-3),
        "standard_r4": Method("standard, 4 heads of rank 4", "standard", 4, 1.6e-2),
        "btt": Method("BTT, 4 heads of rank 16", "btt", 4, 1.6e-2),
    },
)
PRESETS = {
    "icl-chapter": CHAPTER,
    "icl-chapter-sweep": replace(CHAPTER, seeds=(100, 101), rates=(8e-3, 1.6e-2, 2.4e-2)),
    "icl-tiny": replace(CHAPTER, layers=1, steps=20, batch=16, seeds=(0, 1)),
}


def build_model(preset: Preset, method: Method, seed: int) -> GPT:
    """A GPT from vectors to numbers, without QK-norm, which would take one of two dimensions from a head of rank 2.

    At this width embeddings start at the size of the features they are added to, and each position at the sum of a
    vector for its pair and one for its kind, x or y: who belongs together need not be found out.
    """
    return drawn(
        GPTConfig(
            n_layers=preset.layers,
            n_heads=method.heads,
            d_model=preset.width,
            context=2 * preset.pairs,
            d_in=preset.d,
            d_out=1,
            attention=method.attention,
            attention_options={"qk_norm": False},
        ),
        seed,
    )


def drawn(config: GPTConfig, seed: int) -> GPT:
    """A GPT for prompts, with embeddings and positions of unit variance: see `build_model`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GPT(config)
        pair, kind = torch.randn(config.context // 2, 1, config.d_model), torch.randn(2, config.d_model)
        with torch.no_grad():
            model.embed.weight.normal_()
            model.position.copy_((pair + kind).flatten(0, 1) / 2**0.5)
    return model


def build(preset: Preset, *, device: torch.device | str = "cpu") -> dict[str, Population]:
    """For each method a population: its rates (slowest axis) times the seeds."""
    populations = {}
    for name, method in preset.methods.items():
        rates = preset.rates or (method.rate,)
        models = [build_model(preset, method, seed) for _ in rates for seed in preset.seeds]
        model_rates = [rate for rate in rates for _ in preset.seeds]
        factors = rate_factors(models[0], base_width=preset.width)
        populations[name] = Population(models, model_rates, factors, device=device)
    return populations


def squared_errors(
    outputs: Float[Tensor, "models batch tokens 1"], y: Float[Tensor, "models batch pairs"]
) -> Float[Tensor, "2 models"]:
    """Of each model: the mean over all positions, which is the loss, and the error at the last point."""
    errors = (predictions(outputs) - y).square()
    return torch.stack([errors.mean(dim=(1, 2)), errors[..., -1].mean(dim=1)])


@one_thread()
def train(populations: dict[str, Population], preset: Preset, report=None) -> dict[str, Float[Tensor, "steps models"]]:
    """Train all methods on the same prompts, fresh at each step. Returns the loss of each model at each step.

    report(step, losses): called after each step with the mean loss of each method.
    Raises `FloatingPointError` if a loss is not finite.
    """
    models = max(map(len, populations.values()))
    rates = [warmup_cosine(step, preset.steps) for step in range(preset.steps)]

    def training(population: Population) -> Training:
        generator = torch.Generator(population.theta.device).manual_seed(min(preset.seeds))

        def draw(seeds, step):
            active = active_dimensions(int(step), preset.steps, preset.d)
            x, y = sample_prompts(
                models, preset.batch, pairs=preset.pairs, d=preset.d, generator=generator, active=active
            )
            return interleave(x, y), y

        return Training(population, [0] * models, draw, squared_errors, rates, n_curves=2)

    trainings = {name: training(population) for name, population in populations.items()}
    for step in range(preset.steps):
        for each in trainings.values():
            each.advance(1)
        if report:
            report(step + 1, {name: float(each.curves[step, 0].mean()) for name, each in trainings.items()})
    for name, each in trainings.items():
        if lost := [step for step in each.diverged() if step is not None]:
            raise FloatingPointError(f"the loss of {name} is not finite at step {min(lost)}")
    return {name: each.curves[:, 0] for name, each in trainings.items()}


@torch.no_grad()
def evaluate(
    population: Population, preset: Preset, *, prompts: int = 4096, seed: int = 2**20
) -> Float[Tensor, "models pairs"]:
    """Squared error at each position on fresh prompts, the same for every model; the last is the one that counts."""
    generator = torch.Generator(population.theta.device).manual_seed(seed)
    drawn = (sample_prompts(256, pairs=preset.pairs, d=preset.d, generator=generator) for _ in range(0, prompts, 256))
    return errors_on(population, drawn)


@torch.no_grad()
def errors_on(population: Population, batches: Iterable[tuple[Tensor, Tensor]]) -> Float[Tensor, "models pairs"]:
    """Mean squared error of each model at each position over batches of prompts, the same for all models."""
    errors = [
        (predictions(population(interleave(x, y).expand(len(population), -1, -1, -1))) - y).square().mean(dim=1)
        for x, y in batches
    ]
    return torch.stack(errors).mean(0)


def run(preset: Preset, *, device: torch.device | str = "cpu", report=None) -> dict:
    """Train and evaluate; what a record holds."""
    start = process_time()
    populations = build(preset, device=device)
    curves = train(populations, preset, report)
    results = {
        "setting": {k: getattr(preset, k) for k in ("d", "pairs", "width", "layers", "steps", "batch")},
        "training_cpu_seconds": round(process_time() - start, 1),
        "methods": {},
    }
    thin = max(1, preset.steps // 100)
    for name, method in preset.methods.items():
        rates, seeds = preset.rates or (method.rate,), len(preset.seeds)
        errors = evaluate(populations[name], preset).view(len(rates), seeds, -1).cpu()
        curve = curves[name].view(preset.steps, len(rates), seeds).mean(2).cpu()
        by_rate = {f"{rate:g}": summary(error) for rate, error in zip(rates, errors, strict=True)}
        best = min(by_rate, key=lambda rate: by_rate[rate]["last"])
        attention = populations[name].template.blocks[0].attention
        results["methods"][name] = {
            "label": method.label,
            "heads": method.heads,
            "query_key_params": attention.query_key_params(),
            "params": populations[name].theta.shape[1],
            "macs_per_prompt_attention": preset.layers * attention.cost(2 * preset.pairs).macs,
            "best_rate": float(best),
            "rates": by_rate,
        } | (by_rate[best] if not preset.rates else {})
        if not preset.rates:
            results["methods"][name]["curve"] = {
                "steps": list(range(thin, preset.steps + 1, thin)),
                "loss": [round(v, 4) for v in curve[: preset.steps // thin * thin, 0].view(-1, thin).mean(1).tolist()],
            }
            del results["methods"][name]["rates"]
    return results


def summary(errors: Float[Tensor, "seeds pairs"]) -> dict:
    """Last-point errors of all seeds, their mean, lowest and highest, and the mean error by position."""
    last = errors[:, -1]
    return {
        "last": round(last.mean().item(), 4),
        "lowest": round(last.min().item(), 4),
        "highest": round(last.max().item(), 4),
        "by_seed": [round(e, 4) for e in last.tolist()],
        "by_position": [round(e, 4) for e in errors.mean(0).tolist()],
    }


@torch.no_grad()
def attention_maps(
    model: GPT, tokens: Float[Tensor, "batch tokens d"]
) -> list[Float[Tensor, "batch heads tokens tokens"]]:
    """The softmax weights of each layer: what each token (row) attends to."""
    x, maps = model.embed(tokens) + model.position[: tokens.shape[1]], []
    for block in model.blocks:
        maps.append(block.attention.scores(block.attention_norm(x)).softmax(dim=-1))
        x = block(x)
    return maps
