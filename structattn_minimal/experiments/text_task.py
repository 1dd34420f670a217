"""What a comparison needs to know of language models: stretches of a corpus, and the loss on held-out text."""

from functools import cache, lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..transformer import GPTConfig
from . import distributed
from .alphabet import VOCAB_SIZE
from .batches import counted_sample, windows
from .corpora import Corpus, load
from .presets import READERS, TextComparison
from .text import initial, unigram_loss
from .training import Draw, Population

METRIC, METRIC_IN_WORDS = "held_out_loss", "held-out loss (nats a character)"
CURVES = ("loss",)

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
    """Of each model the loss on windows of held-out text, always the same: its mean, and by place in the window.

    The places are those from one power of two (left out) to the next: 1, 2, 3-4, 5-8, ...
    """
    held_out = corpus_on(preset.corpus, str(population.theta.device)).held_out
    pairs = windows(held_out, context=preset.context, most=preset.windows)
    total = torch.zeros(len(population), preset.context, dtype=torch.float64, device=held_out.device)
    for inputs, targets in zip(*(side.long().split(16) for side in pairs), strict=True):
        inputs, targets = (side.expand(len(population), -1, -1) for side in (inputs, targets))
        total += each_loss(population(inputs), targets).sum(dim=1)
    by_place = (total / len(pairs[0])).cpu()  # (models, context)
    ends = [2**i for i in range((preset.context - 1).bit_length())] + [preset.context]
    starts = [0, *ends[:-1]]
    return [
        {
            "held_out_loss": row.mean().item(),
            "by_position": {
                "up_to": ends,
                "loss": [row[start:end].mean().item() for start, end in zip(starts, ends, strict=True)],
            },
        }
        for row in by_place
    ]


def baselines(preset: TextComparison) -> dict:
    """What knowing the frequency of each character gives, and what the text is."""
    text = corpus(preset.corpus)
    return {
        "unigram_loss": float(f"{unigram_loss(text.train, text.held_out):.4g}"),
        "training_characters": len(text.train),
        "held_out_characters": len(text.held_out),
        "corpus": text.provenance,
    }
