from collections.abc import Iterable
from functools import cache

import traitlets as t
from jaxtyping import Float, Num
from torch import Tensor

from ...attention import Attention
from ...experiments import corpora, inspection, text
from ...transformer import GPT
from .face import Explorable

TOKENS = 128  # of the prompt whose maps are drawn
EDGES = (0, 1, 2, 4, 16, 64)  # of the bins of distances; the last ends where the sequence does
DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
LABELS = {"standard": "standard", "mlr": "MLR attention"}  # of the text models


def spelled(row: Float[Tensor, " keys"]) -> str:
    """Weights from 0 to 1 as digits: the place of a digit is 63 times the square root of its weight, rounded."""
    return "".join(DIGITS[place] for place in (63 * row.sqrt()).round().int().tolist())


def look_into(
    models: dict[str, GPT],
    inputs: Num[Tensor, "batch seq *width"],
    names: Iterable[str],
    labels: dict[str, str] = LABELS,
) -> dict:
    """What HeadBrowser shows of causal models, as plain numbers and words.

    Args:
        models: by name; all read the same.
        inputs: what they read. Distances are those of the queries in the second half of each sequence.
        names: of the first tokens of the first sequence, which are those whose maps are drawn.
        labels: what to call the models, in words.
    """
    names, seq = list(names), inputs.shape[1]
    edges = (*(edge for edge in EDGES if edge < seq), seq)
    return {
        "tokens": names,
        "edges": list(edges),
        "labels": [[name, labels.get(name, name)] for name in models],
        "models": {name: layers_of(model, inputs, len(names), edges) for name, model in models.items()},
    }


def layers_of(model: GPT, inputs: Tensor, drawn: int, edges: tuple[int, ...]) -> list[list[dict]]:
    attentions = [block.attention for block in model.blocks]
    short, long = text.layer_inputs(model, inputs[:1, :drawn]), text.layer_inputs(model, inputs)
    return [heads_of(*one, edges) for one in zip(attentions, short, long, strict=True)]


def heads_of(attention: Attention, short: Tensor, long: Tensor, edges: tuple[int, ...]) -> list[dict]:
    drawn = inspection.attention_map(attention, short)[0]  # (heads, seq, seq)
    weights = inspection.attention_map(attention, long)
    first = weights.shape[-1] // 2
    sigma = inspection.spectrum(attention)
    measured = {
        "distance": inspection.mean_distance(weights, first),
        "mass": inspection.distance_mass(weights, edges, first),
        "energy": inspection.level_energy(attention, long),
        "use": inspection.level_use(attention, long),
        "rank": inspection.score_rank(attention, long[:4]),
        "form_rank": inspection.effective_rank(inspection.forms(attention)),
    }
    return [
        {"map": "".join(spelled(row[: i + 1]) for i, row in enumerate(map_)), "spectrum": shape(sigma[head])}
        | {name: rounded(values[head]) for name, values in measured.items()}
        for head, map_ in enumerate(drawn)
    ]


def shape(sigma: Float[Tensor, " d_model"]) -> list[float]:
    """Singular values by the largest of them, without those that are 0 at three digits."""
    values = rounded(sigma / sigma[0])
    return values[: sum(value > 0 for value in values)]


def rounded(values: Tensor):
    return (values.double() * 1000).round().div(1000).tolist()


@cache
def small_models() -> dict:
    """The text models that come with the book, looked into on 16 windows of the text they were not trained on."""
    models = inspection.text_models()
    context = min(model.config.context for model in models.values())
    tokens = inspection.held_out()[: 16 * context].view(16, context)
    return look_into(models, tokens, corpora.decode(tokens[0, :TOKENS]))


class HeadBrowser(Explorable):
    """Chapter 14: the heads of trained models, one at a time: what each query of a prompt looks at, how far, with which
    levels, and the spectrum of its form.

    model: a name in `inside`, the first by default.  layer, head: from 1.  query: a place in the prompt, from 0.
    inside: what there is to see, as `look_into` makes it; the text models that come with the book if not given.
    Raises `traitlets.TraitError` for values out of range.
    """

    module = "head_browser"
    alt = (
        "Explorable: choose a trained model, a layer and a head. A map shows its attention on a fixed prompt; the "
        "prompt is shaded by what one chosen token looks at. Bars show how much attention goes to which distance, the "
        "singular values of the head's form, and for each level its share of the energy of the scores and the "
        "attention that moves without it."
    )
    model = t.Unicode().tag(sync=True)
    layer = t.Int(1, min=1).tag(sync=True)
    head = t.Int(1, min=1).tag(sync=True)
    query = t.Int(min=0).tag(sync=True)
    inside = t.Dict().tag(sync=True)

    @t.default("inside")
    def _inside(self):
        return small_models()

    @t.default("model")
    def _first(self):
        return next(iter(self.inside["models"]))

    @t.default("query")
    def _middle(self):
        return len(self.inside["tokens"]) // 2

    @t.validate("model", "layer", "head", "query")
    def _fits(self, proposal):
        name, value = proposal["trait"].name, proposal["value"]
        models = self.inside["models"]
        layers = models.get(value if name == "model" else self.model)
        fits = {
            "model": lambda: value in models,
            "layer": lambda: value <= len(layers),
            "head": lambda: value <= len(layers[0]),
            "query": lambda: value < len(self.inside["tokens"]),
        }[name]()
        if not fits:
            raise t.TraitError(f"{name} must be one of those in `inside`, got {value!r}")
        return value
