import traitlets as t

from .face import Explorable, whole


class TilePath(Explorable):
    """Chapter 9: the causal square cut into rectangles, and a tile of queries that meets its keys phase by phase.

    tokens: T.  ranks: r_1 ... r_L, coarsest level first; level l has blocks of T / 2^(l-1) tokens.  tile: queries in a
    tile.  row: which tile, from 0.  step: which of its phases, from 0; the last one is shown for a step beyond it.
    Raises `traitlets.TraitError` for values out of range, and for a row beyond the last tile.
    """

    module = "tile_path"
    alt = (
        "Explorable: the causal square of queries and keys, cut into the rectangles whose pairs share the same levels. "
        "A tile of queries is a row across it. Step by step the tile meets its keys: first those that share level 1 "
        "alone, then nearer ones with more features, and last the masked square around the diagonal. A table counts "
        "the keys, the features and the multiplications of each phase."
    )
    tokens = t.Enum(tuple(2**n for n in range(8, 18)), 1024).tag(sync=True)
    ranks = t.List(t.Int(min=1, max=64), [32, 8, 6, 4, 4, 4, 4, 2], minlen=1, maxlen=8).tag(sync=True)
    tile = t.Enum((16, 32, 64, 128, 256), 128).tag(sync=True)
    row = whole(0, 8191, 7)
    step = whole(0, 8, 0)

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        if self.row >= self.tokens // self.tile:
            raise t.TraitError(f"row must be below tokens / tile = {self.tokens // self.tile}, got {self.row}")
