"""Explorables: things to move. The arithmetic and the drawing live in an ES module, so that the same thing moves on a
page without a kernel, in JupyterLab and in Colab; here are their thin Python faces.

    BilinearForm(M=[[0, 1], [-1, 0]])
"""

from importlib import resources
from math import isfinite

import anywidget
import traitlets as t

MIME = "application/vnd.structattn.explorable+json"


def module_text(name: str) -> str:
    """The ES module of an explorable: the shared controls, then its own text."""
    folder = resources.files(__name__)
    return "\n".join(folder.joinpath(file).read_text(encoding="utf-8") for file in ("controls.js", f"{name}.js"))


def number(low: float, high: float, default: float) -> t.Float:
    return t.Float(default, min=low, max=high).tag(sync=True)


def whole(low: int, high: int, default: int) -> t.Int:
    return t.Int(default, min=low, max=high).tag(sync=True)


def choice(*options: str) -> t.Enum:
    return t.Enum(options, options[0]).tag(sync=True)


class Explorable(anywidget.AnyWidget):
    """An anywidget whose mime bundle also carries what a page without a kernel needs: module, state, alt text."""

    module = ""  # the file, without .js
    alt = ""

    def __init_subclass__(cls, **kwargs):
        if "module" in cls.__dict__:  # not in the subclass that ipywidgets makes of each widget
            cls._esm = module_text(cls.module)
            cls.fields = [name for name, value in cls.__dict__.items() if isinstance(value, t.TraitType)]
        super().__init_subclass__(**kwargs)

    @property
    def state(self) -> dict:
        """What the module starts from: the explorable's own traits, as plain values."""
        return {name: getattr(self, name) for name in self.fields}

    def _repr_mimebundle_(self, **kwargs):
        data, metadata = super()._repr_mimebundle_(**kwargs)
        page = {"module": self.module, "state": self.state, "alt": self.alt}
        return {**data, "text/plain": f"{type(self).__name__}: {self.alt}", MIME: page}, metadata


def pairs(least: int, most: int) -> t.List:
    """A list of `least` to `most` pairs of finite numbers."""
    return t.List(t.List(t.Float(), minlen=2, maxlen=2), minlen=least, maxlen=most).tag(sync=True)


def outer(q: list[float], k: list[float]) -> list[list[float]]:
    return [[a * b for b in k] for a in q]


class BilinearForm(Explorable):
    """Chapter 1: tokens in the plane, a 2 x 2 form M to change, the scores of one query and their softmax.

    M: [[M11, M12], [M21, M22]].  points: 2 to 8 tokens.  query: which of them asks.  scale: tau.
    factors: [] or [w_Q, w_K], which then make M = w_Q w_K^T.  Raises `traitlets.TraitError` for values that do not fit.
    """

    module = "bilinear_form"
    alt = (
        "Explorable: six tokens in the plane, one of them the query, and a two by two matrix M. Changing M or moving "
        "the tokens changes every key's score and the softmax of the scores."
    )
    M = pairs(2, 2)
    points = pairs(2, 8)
    query = whole(0, 7, 0)
    scale = number(0, 4, 1)
    factors = pairs(0, 2)

    @t.default("M")
    def _default_form(self):
        return [[1.0, 0.0], [0.0, 1.0]]

    @t.default("points")
    def _default_points(self):
        return [[0.9, 0.5], [1.5, 1.2], [-0.4, 1.4], [-1.5, 0.3], [-0.7, -1.1], [1.3, -0.9]]

    @t.validate("M", "points", "factors")
    def _finite(self, proposal):
        if not all(isfinite(entry) for row in proposal.value for entry in row):
            raise t.TraitError(f"{proposal.trait.name} must hold finite numbers, got {proposal.value}")
        if proposal.trait.name == "factors" and len(proposal.value) == 1:
            raise t.TraitError("factors must be [] or [w_Q, w_K], got one vector")
        return proposal.value

    @t.observe("M", "factors")
    def _agree(self, change):
        """New factors make a new M; a new M that they do not make ends their part."""
        if not self.factors or outer(*self.factors) == self.M:
            return
        if change.name == "factors":
            self.M = outer(*self.factors)
        else:
            self.factors = []

    def __init__(self, **kwargs):
        if kwargs.get("factors") and "M" in kwargs and kwargs["M"] != outer(*kwargs["factors"]):
            raise t.TraitError("M must be w_Q w_K^T, or left out, where factors = [w_Q, w_K] are given")
        super().__init__(**kwargs)
        if self.query >= len(self.points):
            raise t.TraitError(f"query must be one of the {len(self.points)} points (from 0), got {self.query}")


class RankSphere(Explorable):
    """Chapter 2: n points on the sphere in R^d, nearest neighbours sought by a score q^T P_r k of rank r.

    projection: "random", onto r random directions, or "best", onto those of largest spread.  view: "sphere" (d up to
    3) or "scores".  Raises `traitlets.TraitError` for values out of range and for r above d.
    """

    module = "rank_sphere"
    alt = (
        "Explorable: points on a sphere in d dimensions. Each looks for its nearest neighbour with a score of rank r; "
        "green marks those that find it, orange those that do not. The share that finds it reaches one at r = d."
    )
    d = whole(2, 16, 3)
    r = whole(1, 16, 2)
    n = whole(8, 64, 24)
    seed = whole(0, 2**31 - 1, 1)
    projection = choice("random", "best")
    view = choice("sphere", "scores")

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        if self.r > self.d:
            raise t.TraitError(f"r must be at most d = {self.d}, got {self.r}")


class PromptReader(Explorable):
    """Chapter 3: a prompt x_1, y_1, x_2, y_2, ... read token by token, with least squares guessing the next y.

    d: the dimension of x and w; the prompt has 2 d pairs.  position: how many tokens are read, up to 4 d.
    noise: the standard deviation of what is added to each y.  Raises `traitlets.TraitError` for values out of range.
    """

    module = "prompt_reader"
    alt = (
        "Explorable: a prompt of pairs x, y that is read token by token. Beside it the true "
        "weights, the least-squares estimate from the pairs so far, and the error of its next answer, which is zero "
        "from d pairs on."
    )
    d = whole(2, 6, 4)
    seed = whole(0, 2**31 - 1, 18)
    position = whole(0, 24, 5)
    noise = number(0, 1, 0)

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        if self.position > 4 * self.d:
            raise t.TraitError(f"position must be at most 4 d = {4 * self.d}, got {self.position}")
