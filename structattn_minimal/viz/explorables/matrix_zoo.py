import traitlets as t

from .face import Explorable, choice, whole

SETTINGS = {  # of each family's dial, at width 16 and at width 64
    "Monarch": (3, 5),
    "low rank": (5, 7),
    "Kronecker": (2, 3),
    "butterfly": (1, 1),
    "BTT": (3, 4),
    "MLR": (3, 4),
}


class MatrixZoo(Explorable):
    """Chapter 4: random members of six families of d x d matrices, d = 16 or 64, with their parameters, costs and rank.

    dial: the position of the family's size dial, 0 the smallest; the ranks of low rank are 1, 2, 4, ..., for example.
    Raises `traitlets.TraitError` for values out of range, and for a dial that the family does not have at this width.
    """

    module = "matrix_zoo"
    alt = (
        "Explorable: structured matrices of six families. For the chosen family and size it shows the pattern of a "
        "random member, its singular values, parameters, cost and rank, and all members as points that open."
    )
    family = choice(*SETTINGS)
    dial = whole(0, 6, 2)
    d = t.Enum((64, 16), 64).tag(sync=True)
    seed = whole(0, 2**31 - 1, 1)

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        settings = SETTINGS[self.family][self.d == 64]
        if self.dial >= settings:
            raise t.TraitError(f"dial of {self.family} must be at most {settings - 1} at d = {self.d}, got {self.dial}")
