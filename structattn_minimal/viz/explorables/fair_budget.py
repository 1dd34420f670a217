import traitlets as t

from .face import Explorable, choice, whole

RANKS = ("32|8|6|4|4|4|4|2", "32|16|8|8", "32|16|16", "16|16|16|16")


class FairBudget(Explorable):
    """Chapter 12: which pairs a method scores, what a character costs, and how many characters a budget buys.

    Six layers, contexts of 1024 characters, heads of 64 features.  window: of SWA, GSWA and the windowed layers of the
    sequential method.  ranks: of MLR attention; blocks are halved from level to level, but for the steep list 32|16|8|8
    (`presets.STEPS`).  query: whose row of the score matrix is drawn.  budget: training MACs, as a power of ten.
    counted: MACs that are "run", as everywhere in the book, or of the causal "pairs" alone.
    Raises `traitlets.TraitError` for values out of range.
    """

    module = "fair_budget"
    alt = (
        "Explorable: choose how a language model scores characters, the width, the window or the ranks, and a budget. "
        "A drawing shows with how many features one query is compared with each earlier character. A table shows for "
        "five methods what a character costs, in parts, and how many characters the budget buys."
    )
    method = choice("mlr", "standard", "swa", "gswa", "sequential")
    width = t.Enum((256, 384, 512, 768), 256).tag(sync=True)
    window = t.Enum((128, 256, 512), 128).tag(sync=True)
    ranks = choice(*RANKS)
    query = whole(0, 1023, 700)
    budget = t.Enum((15, 16, 17), 16).tag(sync=True)
    counted = choice("run", "pairs")
