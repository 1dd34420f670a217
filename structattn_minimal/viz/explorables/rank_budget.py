import traitlets as t

from .face import Explorable, choice, whole

LEVELS, MOST = 5, 12


class RankBudget(Explorable):
    """Chapter 6: a budget of ranks, divided among the five levels of a 32 x 32 MLR matrix that is fitted to a kernel.

    ranks: r_1 ... r_5, each 0 to 12.  budget: what they should sum to.  target: the kernel; "shuffled" is the
    exponential one with its points in random order.  view: what the picture shows.  seed: of the random member.
    Raises `traitlets.TraitError` for values out of range.
    """

    module = "rank_budget"
    alt = (
        "Explorable: five sliders divide a budget of ranks among the levels of a 32 by 32 multi-level low-rank matrix. "
        "A picture shows the matrix; beside it stand its rank, its parameters and multiply-accumulates, and how much "
        "of a chosen kernel it misses, against a low-rank matrix of the same storage."
    )
    ranks = t.List(t.Int()).tag(sync=True)
    budget = whole(4, MOST, 8)
    target = choice("exponential", "distance", "gaussian", "shuffled")
    view = choice("fit", "target", "missing", "features", "member")
    seed = whole(0, 2**31 - 1, 1)

    @t.default("ranks")
    def _default_ranks(self):
        return [8, 0, 0, 0, 0]

    @t.validate("ranks")
    def _fit_the_levels(self, proposal):
        if len(proposal.value) != LEVELS or not all(0 <= rank <= MOST for rank in proposal.value):
            raise t.TraitError(f"ranks must be {LEVELS} integers from 0 to {MOST}, got {proposal.value}")
        return proposal.value
