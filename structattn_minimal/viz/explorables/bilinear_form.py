from math import isfinite

import traitlets as t

from .face import Explorable, number, pairs, whole


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
