import traitlets as t

from .face import Explorable, choice

WIDTHS = (32, 64, 128, 256, 512)
NOT_YET, WIDER = 0, 1024


class WhatToBuy(Explorable):
    """Chapter 11: before the experiment, what each scorer pays for at each width: rank of a head, and MACs a token.

    d: of the inputs; prompts have 4d tokens.  width, heads: of the six layers.  kind: the scorer looked at.
    guess: for each scorer (standard, BTT, MLR) the width from which the reader expects a low error: one of `WIDTHS`,
    `WIDER` than all of them, or `NOT_YET` given.
    Raises `traitlets.TraitError` for values out of range.
    """

    module = "what_to_buy"
    alt = (
        "Explorable: choose the dimension d of the task, the width and the heads of a model, and a scorer. A drawing "
        "shows the rank of a head against the width, with a line at d; a table shows the parameters of queries and "
        "keys and the multiply-accumulates a token, split into projections, scores, values and feed-forward. A guess "
        "is noted of the width at which the error falls."
    )
    d = t.Enum((16, 32, 64), 16).tag(sync=True)
    width = t.Enum(WIDTHS, 64).tag(sync=True)
    heads = t.Enum((1, 2, 4, 8), 8).tag(sync=True)
    kind = choice("standard", "btt", "mlr")
    guess = t.List(t.Enum((NOT_YET, *WIDTHS, WIDER)), [NOT_YET] * 3, minlen=3, maxlen=3).tag(sync=True)
