from functools import cache

import traitlets as t
from jaxtyping import Int
from torch import Tensor

from ...experiments import corpora, inspection, text
from ...transformer import GPT
from .face import Explorable

TOKENS = 128  # of the prompt whose maps are drawn
EDGES = (0, 1, 2, 4, 16, 64, 256)  # of the bins of distances
DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def spelled(row: Tensor) -> str:
    """Weights from 0 to 1 as digits: the place of a digit is 63 times the square root of its weight, rounded."""
    return "".join(DIGITS[place] for place in (63 * row.sqrt()).round().int().tolist())


def look_into(models: dict[str, GPT], tokens: Int[Tensor, "batch seq"]) -> dict:
    """What HeadBrowser shows of text models: maps of the first `TOKENS` tokens, and measures over all of `tokens`.

    Distances are those of the queries in the second half of a window. Plain numbers and words.
    """
    prompt = tokens[:1, :TOKENS]
    return {
        "prompt": corpora.decode(prompt[0]),
        "edges": list(EDGES),
        "models": {
            name: [layer_of(*one) for one in layers_of(model, prompt, tokens)] for name, model in models.items()
        },
    }


def layers_of(model: GPT, prompt, tokens):
    attentions = [block.attention for block in model.blocks]
    return zip(attentions, text.layer_inputs(model, prompt), text.layer_inputs(model, tokens), strict=True)


def layer_of(attention, short, long) -> list[dict]:
    drawn = inspection.attention_map(attention, short)[0]  # (heads, seq, seq)
    weights = inspection.attention_map(attention, long)
    first = weights.shape[-1] // 2
    measured = {
        "distance": inspection.mean_distance(weights, first),
        "mass": inspection.distance_mass(weights, EDGES, first),
        "energy": inspection.level_energy(attention, long),
        "use": inspection.level_use(attention, long),
    }
    return [
        {"map": "".join(spelled(row[: i + 1]) for i, row in enumerate(map_))}
        | {name: rounded(values[head]) for name, values in measured.items()}
        for head, map_ in enumerate(drawn)
    ]


def rounded(values: Tensor):
    return (values.double() * 1000).round().div(1000).tolist()


@cache
def small_models() -> dict:
    """The small models that come with the book, looked into on 16 windows of the text they were not trained on."""
    models = inspection.text_models("lm_tiny")
    context = min(model.config.context for model in models.values())
    tokens = corpora.load("python-docs").held_out[: 16 * context].long().view(16, context)
    return look_into(models, tokens)


class HeadBrowser(Explorable):
    """Chapter 14: the heads of trained text models, one at a time: what each query of a prompt looks at, how far, and
    with which levels.

    model: a name in `inside`.  layer, head: from 1.  query: a place in the prompt, from 0.
    inside: what there is to see, as `look_into` makes it; the small models that come with the book if not given.
    Raises `traitlets.TraitError` for values out of range.
    """

    module = "head_browser"
    alt = (
        "Explorable: choose a trained model, a layer and a head. A map shows its attention on a fixed prompt; the "
        "prompt is shaded by what one chosen character looks at. Bars show how much attention goes to which distance, "
        "and for each level its share of the energy of the scores and the attention that moves without it."
    )
    model = t.Unicode("standard").tag(sync=True)
    layer = t.Int(1, min=1).tag(sync=True)
    head = t.Int(1, min=1).tag(sync=True)
    query = t.Int(TOKENS // 2, min=0).tag(sync=True)
    inside = t.Dict().tag(sync=True)

    @t.default("inside")
    def _inside(self):
        return small_models()

    @t.validate("model", "layer", "head", "query")
    def _fits(self, proposal):
        name, value = proposal["trait"].name, proposal["value"]
        models = self.inside["models"]
        layers = models.get(value if name == "model" else self.model)
        fits = {
            "model": lambda: value in models,
            "layer": lambda: value <= len(layers),
            "head": lambda: value <= len(layers[0]),
            "query": lambda: value < len(self.inside["prompt"]),
        }[name]()
        if not fits:
            raise t.TraitError(f"{name} must be one of those in `inside`, got {value!r}")
        return value
