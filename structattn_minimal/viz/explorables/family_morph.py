import traitlets as t

from .face import Explorable, choice, whole

WIDTH, MOST = 16, 64  # D, and how many numbers may stand between the factors of a level


class FamilyMorph(Explorable):
    """Chapter 7: an MLBTC of 16 x 16, up to three levels, dialled from one family into another.

    levels: one to three [blocks, inputs, outputs, rank], as in `structattn_minimal.Level`.  level: which of them the
    dials turn, from 0.  fill: "free", "equal" (the same blocks everywhere, as in a Kronecker product) or "identity"
    (R only hands over, as in a butterfly factor).  seed: of the numbers.  Raises `traitlets.TraitError` for levels
    that do not divide 16, or that put more than 64 numbers between their factors.
    """

    module = "family_morph"
    alt = (
        "Explorable: the four matrices of one level of MLBTC and their product, 16 by 16. Four dials set blocks, input "
        "chunks, output chunks and rank; buttons move them to low rank, MLR, Kronecker, Monarch, BTT or a butterfly "
        "factor, and words name the families that hold the result."
    )
    levels = t.List(t.List(t.Int(min=1, max=WIDTH), minlen=4, maxlen=4), minlen=1, maxlen=3).tag(sync=True)
    level = whole(0, 2, 0)
    fill = choice("free", "equal", "identity")
    seed = whole(0, 2**31 - 1, 1)

    @t.default("levels")
    def _default_levels(self):
        return [[1, 4, 4, 1]]

    @t.validate("levels")
    def _legal(self, proposal):
        for p, c, b, s in proposal.value:
            if WIDTH % (p * c) or WIDTH % (p * b):
                raise t.TraitError(f"levels: blocks * inputs and blocks * outputs must divide 16, got {[p, c, b, s]}")
            if p * c * b * s > MOST:
                raise t.TraitError(f"levels must have blocks * inputs * outputs * rank <= 64, got {[p, c, b, s]}")
        return proposal.value

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        if self.level >= len(self.levels):
            raise t.TraitError(f"level must be one of the {len(self.levels)} levels (from 0), got {self.level}")
