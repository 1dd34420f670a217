"""What a comparison needs to know of language models: stretches of a corpus, and the loss on held-out text."""

from functools import cache, lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..transformer import GPT, GPTConfig
from . import distributed
from .alphabet import VOCAB_SIZE, decode
from .batches import counted_sample, windows
from .corpora import Corpus, load
from .generate import continuation
from .presets import READERS, TextComparison
from .text import initial, unigram_loss
from .training import Draw, Population

METRIC, METRIC_IN_WORDS = "held_out_loss", "held-out loss (nats a character)"
CURVES = ("loss",)
SAMPLE_TEMPERATURE = 0.8

model = initial


@cache
def corpus(name: str) -> Corpus:
    return load(name)


@lru_cache(maxsize=1)
def corpus_on(name: str, device: str) -> Corpus:
    """The corpus where the models are, a byte a character."""
    return corpus(name).to(device)


def config(preset: TextComparison, method: str, width: int) -> GPTConfig:
    return GPTConfig(
        n_layers=preset.layers,
        n_heads=width // preset.head_dimension,
        d_model=width,
        context=preset.context,
        vocab_size=VOCAB_SIZE,
        **READERS[method].attention(preset.layers, preset.head_dimension, preset.context),
    )


def identity(preset: TextComparison) -> dict:
    """What the text is, to the byte: a run must not go on with another one under the same name."""
    return {"corpus_sha256": corpus(preset.corpus).provenance["sha256"]}


def describe(preset: TextComparison, method: str, width: int) -> dict:
    of = config(preset, method, width)
    return {
        "label": READERS[method].label,
        "attention": [kind for kind, _ in of.layers],
        "options": [options for _, options in of.layers],
        "characters_a_step": preset.batch * preset.context,
        "characters_a_model": preset.batch * preset.context * preset.steps,
    }


def draw(preset: TextComparison, steps: int, device: torch.device) -> Draw:
    """Random stretches of the text, the same for every method: they depend on seed and step alone."""
    tokens, rank, size = corpus_on(preset.corpus, str(device)).train, distributed.rank(), distributed.size()

    def stretches(seeds, step):
        return counted_sample(tokens, seeds, step, batch=preset.batch, context=preset.context, share=(rank, size))

    return stretches


def losses(outputs: Float[Tensor, "models batch seq vocab"], targets: Tensor) -> Float[Tensor, "1 models"]:
    """Of each model the mean loss, nats a character."""
    return each_loss(outputs, targets).mean(dim=(1, 2))[None]


def each_loss(outputs: Float[Tensor, "models batch seq vocab"], targets: Tensor) -> Float[Tensor, "models batch seq"]:
    return cross_entropy(outputs.flatten(0, 2), targets.flatten(), reduction="none").view(targets.shape)


@torch.no_grad()
def measure(preset: TextComparison, population: Population) -> list[dict]:
    """Of each model the loss on windows of held-out text, always the same: its mean, by place in the window, and by
    place after a seam between blocks.
    """
    held_out = corpus_on(preset.corpus, str(population.theta.device)).held_out
    pairs = windows(held_out, context=preset.context, most=preset.windows)
    total = torch.zeros(len(population), preset.context, dtype=torch.float64, device=held_out.device)
    for inputs, targets in zip(*(side.long().split(16) for side in pairs), strict=True):
        inputs, targets = (side.expand(len(population), -1, -1) for side in (inputs, targets))
        total += each_loss(population(inputs), targets).sum(dim=1)
    by_place = (total / len(pairs[0])).cpu()  # (models, context)
    return [
        {"held_out_loss": row.mean().item(), "by_position": by_doubling(row), "by_seam": by_seam(row)}
        for row in by_place
    ]


def by_doubling(row: Float[Tensor, " places"]) -> dict[str, list]:
    """Means over the places from one power of two (left out) to the next: 1, 2, 3-4, 5-8, ..."""
    ends = [2**i for i in range((len(row) - 1).bit_length())] + [len(row)]
    return {"up_to": ends, "loss": [row[a:b].mean().item() for a, b in zip([0, *ends[:-1]], ends, strict=True)]}


def by_seam(row: Float[Tensor, " context"], least: int = 8) -> list[dict]:
    """For blocks of a half, a quarter, ... of the context, down to `least`: the loss by place in a block.

    Only places with a seam before them count, so the first block is left out. The places are those of MLR attention's
    blocks; a method without blocks has them too, to be compared with.
    """
    sizes = (len(row) >> level for level in range(1, len(row).bit_length()))
    blocks = [size for size in sizes if size >= least and len(row) % size == 0]
    return [{"block": size} | by_doubling(row[size:].unflatten(0, (-1, size)).mean(0)) for size in blocks]


def keepsake(preset: TextComparison, first: GPT) -> dict:
    """What the first model writes after the same stretch of held-out text as all others."""
    context = preset.context
    prompt = decode(corpus(preset.corpus).held_out[: context // 4])
    sample = {"prompt": prompt, "temperature": SAMPLE_TEMPERATURE, "seed": 0}
    return {"sample": sample | {"text": continuation(first.eval(), prompt, 400, temperature=SAMPLE_TEMPERATURE)}}


def baselines(preset: TextComparison) -> dict:
    """What knowing the frequency of each character gives, and what the text is."""
    text = corpus(preset.corpus)
    return {
        "unigram_loss": float(f"{unigram_loss(text.train, text.held_out):.4g}"),
        "training_characters": len(text.train),
        "held_out_characters": len(text.held_out),
        "corpus": text.provenance,
    }
