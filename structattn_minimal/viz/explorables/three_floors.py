import traitlets as t

from .face import Explorable, choice


class ThreeFloors(Explorable):
    """Chapter 9: how long tensor cores, exponentials and memory take at least, for dense and for MLR attention.

    tokens: T.  ranks: r_1 ... r_L; values are as wide as their sum.  passes: forward alone, or with the backward pass.
    chip: whose peak rates.  counted: the MACs of the pairs alone, or those of tiles of 128 queries with prefixes
    rounded up to steps of 16 features, or to powers of two.  Raises `traitlets.TraitError` for values out of range.
    """

    module = "three_floors"
    alt = (
        "Explorable: three bars for dense attention and three for MLR attention, the least time on the tensor cores, "
        "for exponentials and for memory. MLR shortens the first bar only. Choose length, ranks, passes and chip to "
        "see which bar is the longest, and how much a kernel could gain that overlaps all three, or none."
    )
    tokens = t.Enum(tuple(2**n for n in range(8, 18)), 1024).tag(sync=True)
    ranks = t.List(t.Int(min=1, max=64), [32, 8, 6, 4, 4, 4, 4, 2], minlen=1, maxlen=8).tag(sync=True)
    passes = choice("forward", "both")
    chip = choice("H100", "A100")
    counted = choice("pairs", "sixteens", "powers")
