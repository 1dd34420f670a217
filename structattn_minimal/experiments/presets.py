"""The named comparisons, of in-context regression and of text: what `--preset` may be besides the runs of chapters."""

from dataclasses import dataclass, replace
from itertools import cycle, islice, permutations
from typing import ClassVar


@dataclass(frozen=True)
class Scorer:
    """A way to score. attention: a key of `ATTENTION_KINDS`. ranks: the rank list for each head dimension, if any."""

    label: str
    attention: str
    heads: int
    ranks: dict[int, tuple[int, ...]] | None = None

    def options(self, width: int) -> dict:
        """Keyword arguments of the attention at this width."""
        return {} if self.ranks is None else {"ranks": self.ranks[width // self.heads]}


# A list of four equal ranks r_1 = ... = r_4 gives a matrix of rank 15 r_1, nearly twice that of halving ones, such as
# 4|2|2; 8|8|8|8 and 16|16|12|8|8|4 are lists of the paper.
EVEN = {4: (1,) * 4, 8: (2,) * 4, 16: (4,) * 4, 32: (8,) * 4, 64: (16, 16, 12, 8, 8, 4)}

SCORERS = {
    "standard": Scorer("standard, 8 heads", "standard", 8),
    "standard_1": Scorer("standard, 1 head", "standard", 1),
    "btt": Scorer("BTT, 8 heads", "btt", 8),
    "mlr": Scorer("MLR, 8 heads", "bilinear_mlr", 8, EVEN),
}


@dataclass(frozen=True)
class Reader:
    """A way for a language model to score characters.

    Args:
        kinds: keys of `ATTENTION_KINDS`, for the layers in turn, over and over.
        window: of the kinds that have one, as a share of the context.
        ranks: for each head dimension, of the kinds that have any.
        parts: of MLR attention: into how many blocks each level cuts the context; None to halve from level to level.
        normalize_levels: of MLR attention: divide a score by the number of levels that the pair shares.
        gain: of MLR attention: level l is scaled by gain / r_l.
        rotary: queries and keys are turned by their position.
    """

    label: str
    kinds: tuple[str, ...]
    window: float = 0.5
    ranks: dict[int, tuple[int, ...]] | None = None
    parts: tuple[int, ...] | None = None
    normalize_levels: bool = True
    gain: float = 1.0
    rotary: bool = False

    def attention(self, layers: int, head_dimension: int, context: int) -> dict:
        """The two fields of a `GPTConfig` that say what attends in each layer."""
        turned = {"rotary": True} if self.rotary else {}
        options = {kind: self.options(kind, head_dimension, context) | turned for kind in self.kinds}
        if len(self.kinds) == 1:
            return {"attention": self.kinds[0], "attention_options": options[self.kinds[0]]}
        kinds = tuple(islice(cycle(self.kinds), layers))
        return {"attention": kinds, "attention_options": tuple(options[kind] for kind in kinds)}

    def options(self, kind: str, head_dimension: int, context: int) -> dict:
        match kind:
            case "swa":
                return {"window": int(self.window * context)}
            case "gswa":
                return {"ranks": self.ranks[head_dimension], "window": int(self.window * context)}
            case "mlr":
                ranks = self.ranks[head_dimension]
                scales = tuple(self.gain / rank for rank in ranks)
                blocks = {"block_sizes": tuple(max(1, context // n) for n in self.parts)} if self.parts else {}
                return {"ranks": ranks, "normalize_levels": self.normalize_levels, "level_scales": scales} | blocks
        return {}


# At head dimension 64 the authors' list, whose eight levels go down to blocks of T / 128 characters; four levels that
# go as far, in steps and widths that suit a GPU's tiles; and three that do not. At 16 and 8, lists of the same kinds.
AUTHORS = {64: (32, 8, 6, 4, 4, 4, 4, 2), 16: (8, 4, 2, 2), 8: (4, 2, 2)}
STEEP = {64: (32, 16, 8, 8), 16: (8, 4, 2, 2), 8: (2, 2, 2, 2)}
COARSE = {64: (32, 16, 16), 16: (8, 4, 4), 8: (4, 2, 2)}
STEPS = (1, 8, 32, 128)

READERS = {
    "standard": Reader("standard", ("standard",)),
    "swa": Reader("SWA, window T/2", ("swa",)),
    "gswa": Reader("GSWA, window T/2", ("gswa",), ranks={64: (32, 32), 16: (8, 8), 8: (4, 4)}),
    "sequential": Reader("sequential GSWA, window T/8", ("standard", "swa", "swa"), window=0.125),
    "mlr": Reader("MLR, the authors' ranks", ("mlr",), ranks=AUTHORS),
    "mlr_gain": Reader("MLR, the authors' ranks, gain 8", ("mlr",), ranks=AUTHORS, gain=8.0),
    "mlr_steep": Reader("MLR, four steep levels, gain 8", ("mlr",), ranks=STEEP, parts=STEPS, gain=8.0),
    "mlr_steep_sum": Reader(
        "MLR, four steep levels, gain 8, undivided",
        ("mlr",),
        ranks=STEEP,
        parts=STEPS,
        gain=8.0,
        normalize_levels=False,
    ),
    "mlr_coarse": Reader("MLR, three coarse levels, gain 8", ("mlr",), ranks=COARSE, gain=8.0),
    "standard_rotary": Reader("standard, rotary", ("standard",), rotary=True),
    "mlr_steep_rotary": Reader(
        "MLR, four steep levels, gain 8, rotary", ("mlr",), ranks=STEEP, parts=STEPS, gain=8.0, rotary=True
    ),
}
COMPARED = tuple(READERS)  # all but the rank lists below
WIDER = ("standard", "swa", "gswa", "sequential", "mlr_gain", "mlr_steep")  # those that are tried at every width
ROTARY = ("standard_rotary", "mlr_steep_rotary")  # with positions that are relative from the start

# Where are 64 features best spent? Lists for four levels of fixed blocks, spread over all that there are: nearly all
# features to one level, or in equal parts to two, to three, to all (a simplex-centroid design, Scheffe 1963), more to
# one than to the others, and a few that lean.
SPREAD = ((52, 4, 4, 4), (28, 28, 4, 4), (20, 20, 20, 4), (16, 16, 16, 16), (40, 8, 8, 8))
LEANING = ((32, 16, 8, 8), (8, 8, 16, 32), (24, 24, 8, 8), (16, 32, 8, 8), (8, 32, 16, 8))
RANK_LISTS = (*(ranks for one in SPREAD for ranks in sorted(set(permutations(one)), reverse=True)), *LEANING)
LISTS = {
    f"ranks_{'_'.join(map(str, ranks))}": Reader(
        f"MLR, {'|'.join(map(str, ranks))}", ("mlr",), ranks={64: ranks}, parts=STEPS, gain=8.0
    )
    for ranks in RANK_LISTS
}
READERS |= LISTS


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Every method at every width, with the same care for each: `rates` are tried on `sweep_seed`; the best one trains
    `seeds`, which the choice has not seen. A single rate needs no trial.

    Args:
        widths: of the models, D.
        steps: of a training.
        batch: sequences a step.
        warmup: the share of the steps until the rate is at its peak.
        rates: at width `base_width`; muP carries them to the others (`mup.rate_factors`).
        mup: off, to see what becomes of that: one rate for all parameters at all widths.
        seeds: of the models that are reported. None: the sweep itself is what is wanted.
        precision: of matrix products on a GPU, "float32", "tf32" or "bf16"; a CPU takes float32.

    at_once: how many models are trained as one population; None for all.
    """

    widths: tuple[int, ...]
    steps: int
    batch: int
    methods: tuple[str, ...]
    layers: int = 6
    warmup: float = 0.05
    rates: tuple[float, ...]
    mup: bool = True
    sweep_seed: int = 100
    seeds: tuple[int, ...] = (0, 1, 2)
    precision: str = "bf16"

    base_width: ClassVar[int]
    at_once: ClassVar[int | None] = None

    def of_stage(self, stage: str) -> "Comparison":
        """What holds in the "sweep" and for the "seeds"."""
        return self


@dataclass(frozen=True, kw_only=True)
class RegressionComparison(Comparison):
    """Of in-context regression. All rates are tried for the whole training: the drop of the loss comes late.

    Args:
        d: dimension of the inputs. There are 2d pairs in a prompt, so 4d tokens.
        curriculum: the share of the steps until all d dimensions are in use.
        power: of the curriculum; over 1, it begins slowly (`regression.active_dimensions`).
        qk_norm: off, since a LayerNorm over the few features of a narrow head, or of one level of MLR, leaves little of
            them: nothing at all of one feature, and of two their order.
        fresh: prompts on which the models are evaluated.
    """

    d: int
    methods: tuple[str, ...] = tuple(SCORERS)
    curriculum: float = 0.2
    power: float = 1.0
    rates: tuple[float, ...] = (2e-3, 4e-3, 8e-3, 1.6e-2)
    seeds: tuple[int, ...] = (0, 1, 2, 3)  # as many as rates: one compiled step serves both stages
    qk_norm: bool = False
    fresh: int = 4096

    base_width = 64

    @property
    def pairs(self) -> int:
        return 2 * self.d

    @property
    def context(self) -> int:
        return 2 * self.pairs


@dataclass(frozen=True, kw_only=True)
class TextComparison(Comparison):
    """Of language models. One model at a time: each fills a GPU by itself.

    Args:
        corpus: a name or a path, as `corpora.load` takes it.
        context: characters that a model reads, T.
        head_dimension: r; a model of width D has D / r heads.
        sweep_steps: how long each rate is tried.
        windows: of held-out text on which the models are evaluated, at most; in the sweep, `sweep_windows`.
    """

    corpus: str = "classic-books"
    context: int = 1024
    head_dimension: int = 64
    methods: tuple[str, ...] = COMPARED
    rates: tuple[float, ...] = (5e-4, 1e-3, 2e-3, 4e-3)
    sweep_steps: int
    windows: int = 2048
    sweep_windows: int = 512

    base_width = 256
    at_once = 1

    @property
    def on_a_gpu(self) -> bool:
        """Whether it would take a processor days."""
        return max(self.widths) >= 256

    def of_stage(self, stage: str) -> "TextComparison":
        return replace(self, steps=self.sweep_steps, windows=self.sweep_windows) if stage == "sweep" else self


ICL_16 = RegressionComparison(d=16, widths=(32, 64, 128, 256, 512), steps=6000, batch=128)
SLOW = replace(ICL_16, steps=8000, curriculum=0.4, power=2.0)  # what is not begun on few dimensions is never learned
RATES = replace(
    SLOW, widths=(64, 128, 256), steps=4000, rates=(3.75e-4, 7.5e-4, 1.5e-3, 3e-3, 6e-3, 1.2e-2, 2.4e-2), seeds=()
)
MICRO = RegressionComparison(
    d=2,
    widths=(8, 16),
    steps=20,
    batch=8,
    methods=("standard_1", "btt"),
    layers=2,
    rates=(3e-3, 1e-2),
    seeds=(0, 1),
    fresh=64,
)

COMPARISONS = {
    # the figure: rank r = D / 8 of a standard head reaches d at D = 128, 256, 512
    "icl-16": ICL_16,
    "icl-32": replace(SLOW, d=32),
    # without the highest rate, which at d = 32 was best at width 32 alone, and with as many seeds as rates again
    "icl-64": replace(SLOW, d=64, rates=(2e-3, 4e-3, 8e-3), seeds=(0, 1, 2)),
    # does the lead at half the rank last? four times as long
    "icl-16-long": replace(ICL_16, widths=(64,), steps=24_000, methods=("standard", "btt", "mlr")),
    # does the best rate stay where it is from width to width? and without muP?
    "icl-rates": RATES,
    "icl-rates-plain": replace(RATES, mup=False),
    # a comparison to watch on a processor
    "icl-live": RegressionComparison(
        d=3, widths=(16,), steps=1500, batch=64, methods=("standard", "btt"), layers=3, rates=(3e-3,), seeds=(0,)
    ),
    # seconds: one of everything, for tests and for a first look at a GPU
    "icl-micro": MICRO,
    "icl-smoke": replace(ICL_16, widths=(64,), steps=200, fresh=512),
}

# Few sequences a step: what is near has to be found out first, and that takes steps, not characters.
LM_256 = TextComparison(widths=(256,), steps=4000, sweep_steps=1500, batch=16)
LM_WIDER = replace(LM_256, methods=WIDER, rates=(1e-3, 2e-3, 4e-3))  # where the rates of width 256 were best
SMALL = replace(LM_256, corpus="python-docs", context=128, windows=256)

TEXT_COMPARISONS = {
    # one width each, as they differ so much in what they cost; the variants of MLR at the narrowest
    "lm-256": LM_256,
    "lm-384": replace(LM_WIDER, widths=(384,)),
    "lm-512": replace(LM_WIDER, widths=(512,), methods=(*WIDER, *ROTARY)),
    "lm-768": replace(LM_WIDER, widths=(768,), seeds=(0, 1)),
    # as many characters a step, in windows four times as long
    "lm-512-long": replace(
        LM_WIDER,
        widths=(512,),
        context=4096,
        batch=4,
        windows=512,
        methods=("standard", "mlr_gain", "mlr_steep", *ROTARY),
    ),
    # what a rank list is worth in a short training, at the rate that was best for the steep one
    "lm-ranks": replace(LM_256, methods=tuple(LISTS), steps=1500, rates=(2e-3,), seeds=(0, 1), windows=1024),
    # two models to watch on a processor, in two minutes; not to judge by, since their one rate was not swept
    "lm-live": replace(
        SMALL,
        widths=(64,),
        head_dimension=16,
        layers=2,
        context=64,
        methods=("standard", "mlr_steep"),
        steps=1500,
        rates=(6e-3,),
        seeds=(0,),
    ),
    # seconds: one of everything, for tests and for a first look at a GPU
    "lm-smoke": replace(
        SMALL,
        widths=(16,),
        head_dimension=8,
        layers=3,
        context=32,
        batch=8,
        steps=30,
        sweep_steps=10,
        rates=(8e-4, 4e-3),
        seeds=(0, 1),
        windows=64,
    ),
}
