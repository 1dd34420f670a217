import traitlets as t

from .face import Explorable, choice, whole


class CacheRings(Explorable):
    """Chapter 10: tokens arrive, and each level keeps the keys of its current block in a ring; values stay.

    ranks: r_1 ... r_4, coarsest level first; other kinds take their sum.  tokens: of the context that is drawn, of
    which `arrived` have come; follow: a token to look for.  context, numbers: those of the table, which counts bytes;
    the window grows with the context.
    Raises `traitlets.TraitError` for values out of range, and for more tokens than the drawn context has.
    """

    module = "cache_rings"
    alt = (
        "Explorable: what a decoder holds for one head, as strips whose area is memory. Tokens arrive one by one; the "
        "keys of each level fill a ring that is overwritten when its next block starts, the values stay. A table "
        "counts the bytes of keys and values apart, against standard and sliding-window attention."
    )
    tokens = t.Enum((16, 32, 64), 32).tag(sync=True)
    kind = choice("mlr", "standard", "swa")
    ranks = t.List(t.Int(min=1, max=16), [8, 4, 2, 2], minlen=4, maxlen=4).tag(sync=True)
    window = whole(1, 63, 8)
    arrived = whole(0, 64, 20)
    follow = whole(0, 63, 17)
    context = t.Enum((1024, 16384, 131072), 1024).tag(sync=True)
    numbers = choice("bfloat16", "float32")

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        if self.arrived > self.tokens or self.follow >= self.tokens or self.window >= self.tokens:
            found = f"{self.arrived}, {self.follow} and {self.window}"
            raise t.TraitError(f"arrived, follow and window must lie within tokens = {self.tokens}, got {found}")
