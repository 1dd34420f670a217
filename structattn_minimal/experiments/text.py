"""Text: a GPT reads characters and predicts the next one, with standard or with MLR attention.

The corpus is at hand wherever Python is: the docstrings of its own standard library. It differs a little from version
to version of Python, so a record names the version. Characters are the newline and the 95 printable ones of ASCII
(Kuang et al. 2025 use the same 96); others are dropped.
"""

import ast
import json
import math
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from time import process_time

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..costs import attention_cost
from ..transformer import GPT, GPTConfig
from .mup import rate_factors
from .records import recorded
from .training import Population, warmup_cosine

ALPHABET = "\n" + "".join(chr(code) for code in range(32, 127))
VOCAB_SIZE = len(ALPHABET)  # 96
CODES = {character: code for code, character in enumerate(ALPHABET)}


def encode(text: str) -> Int[Tensor, " characters"]:
    """The numbers 0 ... 95 of the characters of `text` that the alphabet has; the others are dropped."""
    return torch.tensor([CODES[c] for c in text if c in CODES], dtype=torch.long)


def decode(tokens: Int[Tensor, " characters"]) -> str:
    """The text that `tokens` stand for."""
    return "".join(ALPHABET[token] for token in tokens.tolist())


def python_docs() -> str:
    """The docstrings of the standard library: modules in alphabetical order, and in each the order of its source."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    sources = sorted(path for path in folder.glob("*.py")) + sorted(folder.glob("[a-z]*/__init__.py"))
    skipped = {"site-packages", "test", "tests", "idlelib", "lib2to3", "ensurepip", "turtledemo"}
    docs = []
    for source in sources:
        if source.parent.name in skipped:
            continue
        tree = ast.parse(source.read_bytes())
        kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        found = [node for node in ast.walk(tree) if isinstance(node, kinds)]
        found.sort(key=lambda node: getattr(node, "lineno", 0))  # a module has no line
        docs += [doc for node in found if (doc := ast.get_docstring(node)) and len(doc) > 40]
    return "\n\n".join(docs)


CORPORA = {"python-docs": python_docs}


@cache
def load_corpus(name: str) -> Int[Tensor, " characters"]:
    """The characters of a corpus, encoded. Raises `ValueError` for an unknown name."""
    if name not in CORPORA:
        raise ValueError(f"corpus must be one of {tuple(CORPORA)}, got {name!r}")
    return encode(CORPORA[name]())


def split(tokens: Int[Tensor, " characters"]) -> tuple[Int[Tensor, " train"], Int[Tensor, " held_out"]]:
    """The text to train on, and every tenth stretch of 10,000 characters, which is held out."""
    stretches = tokens.split(10_000)
    held_out = stretches[9::10] or stretches[-1:]
    train = [stretch for i, stretch in enumerate(stretches) if i % 10 != 9] if len(stretches) > 9 else stretches[:-1]
    return torch.cat(list(train) or [tokens]), torch.cat(list(held_out))


def batches(
    tokens: Int[Tensor, " characters"], *, batch: int, context: int, generator: torch.Generator
) -> Iterator[tuple[Int[Tensor, "batch context"], Int[Tensor, "batch context"]]]:
    """Without end: random stretches of the text, and the same stretches one character later.

    Raises `ValueError` at the first batch if the text is too short for one.
    """
    if len(tokens) <= context:
        raise ValueError(f"tokens must be more than context = {context}, got {len(tokens)}")
    steps = torch.arange(context)
    while True:
        start = torch.randint(len(tokens) - context, (batch, 1), generator=generator)
        yield tokens[start + steps], tokens[start + steps + 1]


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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPT(model_config(preset, method))


def train(
    model: GPT, preset: Preset, rate: float, *, report: Callable[[int, float], None] | None = None
) -> tuple[GPT, list[float]]:
    """A trained copy of `model`, and the loss (nats a character) at each step; report(step, loss) after each.

    Raises `FloatingPointError` if a loss is not finite.
    """
    torch.set_num_threads(1)  # operations this small lose by being split over cores
    tokens, _ = split(load_corpus(preset.corpus))
    generator = torch.Generator().manual_seed(preset.seeds[0])
    stream = batches(tokens, batch=preset.batch, context=preset.context, generator=generator)
    population = Population([model], [rate], rate_factors(model, base_width=preset.width))
    losses = []
    for step in range(preset.steps):
        inputs, targets = next(stream)
        loss = cross_entropy(population(inputs[None])[0].flatten(0, 1), targets.flatten())
        population.step(loss[None], warmup_cosine(step, preset.steps, warmup=0.1))
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise FloatingPointError(f"the loss is not finite at step {step}")
        if report:
            report(step + 1, losses[-1])
    return population.model(0), losses


@torch.no_grad()
def evaluate(model: GPT, tokens: Int[Tensor, " characters"], *, most: int = 256) -> float:
    """Mean loss, nats a character, over consecutive windows of `context` characters, at most `most` of them."""
    context = model.config.context
    windows = tokens[: (len(tokens) - 1) // context * context].view(-1, context)[:most]
    targets = tokens[1 : 1 + windows.numel()].view(-1, context)
    losses = [
        cross_entropy(model(window).flatten(0, 1), target.flatten())
        for window, target in zip(windows.split(16), targets.split(16), strict=True)
    ]
    sizes = [len(window) for window in windows.split(16)]
    return sum(float(loss) * size for loss, size in zip(losses, sizes, strict=True)) / sum(sizes)


def unigram_loss(train_tokens: Int[Tensor, " train"], tokens: Int[Tensor, " characters"]) -> float:
    """The loss of knowing only how frequent each character is in the training text: what context has to beat."""
    counts = torch.bincount(train_tokens, minlength=VOCAB_SIZE) + 1
    return float(-(counts / counts.sum()).log()[tokens].mean())


@torch.no_grad()
def layer_inputs(model: GPT, tokens: Int[Tensor, "batch seq"]) -> list[Float[Tensor, "batch seq d_model"]]:
    """What the attention of each layer reads on `tokens`."""
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
    tokens = load_corpus(preset.corpus)
    train_tokens, held_out = split(tokens)
    results = {
        "setting": {k: getattr(preset, k) for k in ("corpus", "width", "heads", "layers", "context", "steps", "batch")}
        | {"characters": len(tokens), "training_characters": len(train_tokens), "held_out_characters": len(held_out)},
        "unigram_loss": round(unigram_loss(train_tokens, held_out), 4),
        "methods": {},
    }
    thin = max(1, preset.steps // 50)
    for name, method in preset.methods.items():
        start = process_time()
        model = build_model(preset, method, preset.seeds[0])
        each = (lambda step, loss, name=name: report(step, {name: loss})) if report else None
        model, losses = train(model, preset, method.rate, report=each)
        seconds = process_time() - start
        loss = evaluate(model, held_out)
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
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}: they are written by `python -m structattn_minimal.experiments`")
    try:
        with safe_open(path, framework="pt") as file:
            words = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is broken, or no safetensors file: {error}") from None
    try:
        config = json.loads(words["config"])
        options = config["attention_options"].items()
        config["attention_options"] = {k: tuple(v) if isinstance(v, list) else v for k, v in options}
        model = GPT(GPTConfig(**config))
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
