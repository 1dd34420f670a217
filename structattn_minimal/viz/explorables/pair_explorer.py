import traitlets as t

from .face import Explorable, choice, whole


class PairExplorer(Explorable):
    """Chapter 8: which features the score of query i and key j may use, and what all scores cost.

    ranks: r_1 ... r_4, coarsest level first; other kinds take their sum, GSWA splits it as r_1 | the rest.  i, j: the
    pair, j <= i < tokens, counted from 0.  shift: blocks begin half a finest block earlier.
    Raises `traitlets.TraitError` for values out of range and for a pair that is not in the causal half of the map.
    """

    module = "pair_explorer"
    alt = (
        "Explorable: a map of all pairs of a query and an earlier key, darker where their score uses more features. "
        "Choose a pair to see the levels it shares, its effective rank and its cost. Neighbours across the middle of "
        "the sequence share level 1 alone."
    )
    tokens = t.Enum((16, 32, 64), 32).tag(sync=True)
    kind = choice("mlr", "standard", "swa", "gswa")
    ranks = t.List(t.Int(min=1, max=16), [8, 4, 2, 2], minlen=4, maxlen=4).tag(sync=True)
    window = whole(1, 63, 8)
    i = whole(0, 63, 16)
    j = whole(0, 63, 15)
    shift = t.Bool(False).tag(sync=True)

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        if not self.j <= self.i < self.tokens:
            pair = f"{self.i} and {self.j}"
            raise t.TraitError(f"i and j must be a pair with j <= i < tokens = {self.tokens}, got {pair}")
