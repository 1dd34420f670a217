import traitlets as t

from .face import Explorable, choice, whole


class BTTSteps(Explorable):
    """Chapter 5: sixteen numbers on their way through a block tensor train, step by step.

    grid: (a, b) = (c, d) as "4x4", "2x8" or "8x2", or "narrow" for a = d = 8, b = c = 2.  rank: s, 1 to 4.
    step: 0 (the input) to 5 (the output).  watch: an entry of what this step makes; what it is made from is lit.
    rows: the rows of M as they are, or sorted by block.  Raises `traitlets.TraitError` for values out of range.
    """

    module = "btt_steps"
    alt = (
        "Explorable: sixteen numbers as coloured cells pass through a block tensor train in five steps: reshape, "
        "multiply by the blocks of R, shuffle, multiply by the blocks of L, shuffle back. The entry that you watch "
        "lights the numbers that it is made from. Beside the cells stand the matrix of the step and all of M."
    )
    grid = choice("4x4", "2x8", "8x2", "narrow")
    rank = whole(1, 4, 1)
    step = whole(0, 5, 3)
    watch = whole(0, 63, 6)
    rows = choice("natural", "blocks")
    seed = whole(0, 2**31 - 1, 1)

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        sizes = [16, 16, *[self.inner] * 2, 16, 16]
        if self.watch >= sizes[self.step]:
            raise t.TraitError(f"watch must be less than {sizes[self.step]} at step {self.step}, got {self.watch}")

    @property
    def inner(self) -> int:
        """b c s: the numbers between the two multiplications."""
        return (4 if self.grid == "narrow" else 16) * self.rank
