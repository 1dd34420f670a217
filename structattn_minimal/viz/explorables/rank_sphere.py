import traitlets as t

from .face import Explorable, choice, whole


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
