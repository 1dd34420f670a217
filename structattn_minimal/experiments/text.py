"""Text: a GPT reads characters and predicts the next one, with standard or with MLR attention.

The corpora are those of `corpora`, their alphabet that of `alphabet`.
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import process_time

import torch
from jaxtyping import Float, Int, Integer, Num
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..costs import attention_cost
from ..transformer import GPT, GPTConfig
from .alphabet import VOCAB_SIZE
from .batches import batches, windows
from .corpora import load
from .mup import rate_factors
from .records import recorded
from .threads import one_thread
from .training import Population, Training, warmup_cosine


@dataclass(frozen=True)
class Method:
    """A kind of attention with its options, and the peak learning rate."""

    label: str
    attention: str
    options: dict
    rate: float


@dataclass(frozen=True)
class Preset:
    """A comparison of methods on one corpus."""

    corpus: str
    width: int
    heads: int
    layers: int
    context: int
    steps: int
    batch: int
    seeds: tuple[int, ...]
    methods: dict[str, Method]


RANKS = (8, 4, 2, 2)
LM_TINY = Preset(
    corpus="python-docs",
    width=64,
    heads=4,
    layers=3,
    context=256,
    steps=2000,
    batch=8,
    seeds=(0,),
    methods={
        "standard": Method("standard, rank 16", "standard", {}, 1e-2),
        "mlr": Method(
            "MLR attention, 8|4|2|2",
            "mlr",
            {"ranks": RANKS, "normalize_levels": True, "level_scales": tuple(8 / r for r in RANKS)},
            1e-2,
        ),
    },
)
PRESETS = {"lm-tiny": LM_TINY}


def model_config(preset: Preset, method: Method) -> GPTConfig:
    return GPTConfig(
        n_layers=preset.layers,
        n_heads=preset.heads,
        d_model=preset.width,
        context=preset.context,
        vocab_size=VOCAB_SIZE,
        attention=method.attention,
        attention_options=method.options,
    )


def build_model(preset: Preset, method: Method, seed: int) -> GPT:
    return initial(model_config(preset, method), seed)


def initial(config: GPTConfig, seed: int) -> GPT:
    """A GPT whose weights depend on `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPT(config)


@one_thread()
def train(
    model: GPT, preset: Preset, rate: float, *, report: Callable[[int, float], None] | None = None
) -> tuple[GPT, list[float]]:
    """A trained copy of `model`, and the loss (nats a character) at each step; report(step, loss) after each.

    Raises `FloatingPointError` if a loss is not finite.
    """
    tokens = load(preset.corpus).train
    generator = torch.Generator().manual_seed(preset.seeds[0])
    stream = batches(tokens, batch=preset.batch, context=preset.context, generator=generator)
    population = Population([model], [rate], rate_factors(model, base_width=preset.width))

    def draw(seeds, step):
        inputs, targets = next(stream)
        return inputs[None], targets[None]

    def loss(outputs, targets):
        return cross_entropy(outputs.flatten(0, 2), targets.flatten())[None, None]

    rates = [warmup_cosine(step, preset.steps, warmup=0.1) for step in range(preset.steps)]
    training = Training(population, preset.seeds[:1], draw, loss, rates)
    for step in range(preset.steps):
        training.advance(1)
        if not math.isfinite(latest := training.curves[step, 0, 0].item()):
            raise FloatingPointError(f"the loss is not finite at step {step}")
        if report:
            report(step + 1, latest)
    losses = training.curves[:, 0, 0].tolist()
    return population.model(0), losses


@torch.no_grad()
def evaluate(model: GPT, tokens: Integer[Tensor, " tokens"], *, most: int = 256) -> float:
    """Mean loss, nats a character, over consecutive windows of `context` characters, at most `most` of them."""
    context = model.config.context
    inputs, targets = windows(tokens[: most * context + 1], context=context)
    losses = [
        cross_entropy(model(window.long()).flatten(0, 1), target.long().flatten(), reduction="sum")
        for window, target in zip(inputs.split(16), targets.split(16), strict=True)
    ]
    return float(sum(losses)) / targets.numel()


def unigram_loss(train_tokens: Integer[Tensor, " train"], tokens: Integer[Tensor, " tokens"]) -> float:
    """The loss of knowing only how frequent each character is in the training text: what context has to beat."""
    counts = torch.bincount(train_tokens, minlength=VOCAB_SIZE) + 1
    seen = torch.bincount(tokens, minlength=VOCAB_SIZE)
    return float(-(seen / seen.sum()) @ (counts / counts.sum()).log())


@torch.no_grad()
def layer_inputs(model: GPT, tokens: Num[Tensor, "batch seq *d_in"]) -> list[Float[Tensor, "batch seq d_model"]]:
    """What the attention of each layer reads on `tokens`, characters or vectors."""
    inputs = []
    hooks = [b.attention.register_forward_pre_hook(lambda _, args: inputs.append(args[0])) for b in model.blocks]
    try:
        model(tokens)
    finally:
        for hook in hooks:
            hook.remove()
    return inputs


@torch.no_grad()
def score_maps(model: GPT, tokens: Int[Tensor, "batch seq"]) -> list[Float[Tensor, "batch heads seq seq"]]:
    """The logits S of each layer on `tokens`, -inf where masked."""
    return [block.attention.scores(x) for block, x in zip(model.blocks, layer_inputs(model, tokens), strict=True)]


def run(preset: Preset, *, device: torch.device | str = "cpu", report=None, out: str | Path | None = None) -> dict:
    """Train each method on the same batches; what a record holds.

    out: the record's path; the weights of each method are saved beside it, as `{stem}_{method}.safetensors`.
    Raises `ValueError` for any device but the CPU.
    """
    if torch.device(device).type != "cpu":
        raise ValueError(f"device must be cpu: models this small train there, got {device!r}")
    corpus = load(preset.corpus)
    results = {
        "setting": {k: getattr(preset, k) for k in ("corpus", "width", "heads", "layers", "context", "steps", "batch")}
        | {
            "corpus": corpus.name,
            "characters": len(corpus.train) + len(corpus.held_out),
            "training_characters": len(corpus.train),
            "held_out_characters": len(corpus.held_out),
        },
        "corpus": corpus.provenance,
        "unigram_loss": round(unigram_loss(corpus.train, corpus.held_out), 4),
        "methods": {},
    }
    thin = max(1, preset.steps // 50)
    for name, method in preset.methods.items():
        start = process_time()
        model = build_model(preset, method, preset.seeds[0])
        each = (lambda step, loss, name=name: report(step, {name: loss})) if report else None
        model, losses = train(model, preset, method.rate, report=each)
        seconds = process_time() - start
        loss = evaluate(model, corpus.held_out)
        cost = attention_cost(model.blocks[0].attention, preset.context)
        thinned = torch.tensor(losses)[: preset.steps // thin * thin].view(-1, thin).mean(1)
        results["methods"][name] = {
            "label": method.label,
            "attention": method.attention,
            "options": method.options,
            "rate": method.rate,
            "params": sum(p.numel() for p in model.parameters()),
            "score_macs_a_layer": cost.score_macs,
            "cached_keys_a_layer": cost.cached_elements - preset.context * preset.width,
            "held_out_loss": round(loss, 4),
            "held_out_bits": round(loss / math.log(2), 4),
            "training_cpu_seconds": round(seconds, 1),
            "curve": {
                "steps": list(range(thin, preset.steps + 1, thin)),
                "loss": [round(value, 4) for value in thinned.tolist()],
            },
        }
        if out is not None:
            save_model(model, weights_path(out, name))
    return results


# Checkpoints: safetensors, which hold numbers and words alone and run nothing when they are read.


def weights_path(record: str | Path, method: str) -> Path:
    """Where the weights of a method lie: beside the record of their run."""
    record = Path(record)
    return record.with_name(f"{record.stem}_{method}.safetensors")


def save_model(model: GPT, path: str | Path) -> None:
    """Write the weights and the shape of `model` to one file."""
    from safetensors.torch import save_file

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    weights = {name: weight.detach().contiguous() for name, weight in model.state_dict().items()}
    save_file(weights, path, metadata={"config": json.dumps(asdict(model.config))})


def trained(name: str) -> GPT:
    """A model whose weights come with the book, such as "lm_tiny_mlr"; errors as in `load_model`."""
    return load_model(recorded(f"{name}.safetensors"))


def load_model(path: str | Path) -> GPT:
    """The model that `save_model` wrote.

    Raises, always naming the file: `FileNotFoundError` if it is not there; `ValueError` if it is broken, holds no
    model of this book, or holds weights that do not fit the model that it describes.
    """
    words, weights = read_file(path)
    try:
        model = GPT(GPTConfig(**tuples(json.loads(words["config"]))))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not say which model it holds: {error!r}") from None
    wanted = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    found = {name: tuple(weight.shape) for name, weight in weights.items()}
    if wrong := sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)):
        raise ValueError(
            f"{path} does not fit its model: {wrong[0]} has shape {found.get(wrong[0])}, and should have "
            f"{wanted.get(wrong[0])}"
        )
    model.load_state_dict(weights)
    return model.eval()


def read_file(path: str | Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Words and tensors of a safetensors file. Raises `FileNotFoundError`, or `ValueError` if it is broken."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}: they are written by `python -m structattn_minimal.experiments`")
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is broken, or no safetensors file: {error}") from None


def tuples(value: object) -> object:
    """What JSON gave, with its lists as the tuples that they were."""
    if isinstance(value, dict):
        return {name: tuples(item) for name, item in value.items()}
    return tuple(map(tuples, value)) if isinstance(value, list) else value
