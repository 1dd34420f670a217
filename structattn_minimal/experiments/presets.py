"""The named comparisons of in-context regression: what `--preset` may be besides the runs of chapter 3."""

from dataclasses import asdict, dataclass, replace


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
class Comparison:
    """Every method at every width, with the same care for each: `rates` are tried on `sweep_seed`, all for the whole
    training; the best one trains `seeds`, which the choice has not seen. A single rate needs no trial.

    Args:
        d: dimension of the inputs. There are 2d pairs in a prompt, so 4d tokens.
        widths: of the models, D.
        batch: prompts a step.
        curriculum: the share of the steps until all d dimensions are in use.
        rates: at width 64; muP carries them to the others (`mup.rate_factors`).
        seeds: of the models that are reported. None: the sweep itself is what is wanted.
        qk_norm: off, since a LayerNorm over the few features of a narrow head, or of one level of MLR, leaves little of
            them: nothing at all of one feature, and of two their order.
        precision: of matrix products on a GPU, "float32", "tf32" or "bf16"; a CPU takes float32.
        fresh: prompts on which the models are evaluated.
    """

    d: int
    widths: tuple[int, ...]
    steps: int
    batch: int
    methods: tuple[str, ...] = tuple(SCORERS)
    layers: int = 6
    curriculum: float = 0.4
    warmup: float = 0.05
    rates: tuple[float, ...] = (1.5e-3, 3e-3, 6e-3)
    sweep_seed: int = 100
    seeds: tuple[int, ...] = (0, 1, 2)
    qk_norm: bool = False
    precision: str = "bf16"
    fresh: int = 4096

    base_width = 64

    @property
    def pairs(self) -> int:
        return 2 * self.d

    @property
    def setting(self) -> dict:
        """What two runs must share to be of one comparison: all but its extent."""
        extent = ("widths", "methods")
        return {name: value for name, value in asdict(self).items() if name not in extent} | {"pairs": self.pairs}


ICL_16 = Comparison(d=16, widths=(32, 64, 128, 256), steps=6000, batch=128)
MICRO = Comparison(
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
    "icl-32": replace(ICL_16, d=32, widths=(32, 64, 128, 256, 512), steps=8000, batch=64),
    "icl-64": replace(ICL_16, d=64, widths=(64, 128, 256, 512), steps=8000, batch=64),
    # does the best rate stay where it is from width to width?
    "icl-rates": replace(
        ICL_16, widths=(32, 64, 128), steps=3000, rates=(3.75e-4, 7.5e-4, 1.5e-3, 3e-3, 6e-3, 1.2e-2, 2.4e-2), seeds=()
    ),
    # a comparison to watch on a processor
    "icl-live": Comparison(
        d=3, widths=(16,), steps=1500, batch=64, methods=("standard", "btt"), layers=3, rates=(3e-3,), seeds=(0,)
    ),
    # seconds: one of everything, for tests and for a first look at a GPU
    "icl-micro": MICRO,
    "icl-smoke": replace(ICL_16, widths=(64,), steps=200, fresh=512),
}
