"""What records of language models say: tables, power laws, seams, and verdicts, computed and not typed.

A record is that of a comparison (`comparison.collect`): lm_256, lm_384, ... A method may have been trained again for
another number of steps, in a record of its own such as lm_256_more: two models are compared at equal budgets only if
neither was cut short on its way, since a learning rate that has not come down yet flatters nobody.
"""

from collections.abc import Container, Iterable
from dataclasses import dataclass
from math import exp, isfinite, log

from .presets import READERS
from .records import read_record
from .text_task import METRIC
from .verdicts import Verdict, apart, existing, finished_runs

NAMES = ("256", "384", "512", "768")
MORE = tuple(f"{name}_more" for name in NAMES)  # standard attention, with as many steps as MLR attention's time buys
LONG = ("512_long",)
MLR = ("mlr_gain", "mlr_steep")  # the two lists of ranks that are tried at every width
TOLERANCE = 0.04  # budgets that differ by less are equal: so much longer a step of the same model took on another day
STEP_AIMS = {"T1024_B16": 1.15, "T8192_B2": 1.0}  # of a step's time, in those of standard attention
CURRENCIES = {
    "characters_a_model": "characters",
    "training_macs_a_model": "training MACs",
    "seconds_a_model": "GPU-seconds",
}


def recorded(names: Iterable[str] = NAMES + MORE) -> dict[str, dict]:
    """Those of the records lm_256, lm_384, ... that come with the book, by what follows "lm_"."""
    return existing(lambda name: read_record(f"lm_{name}"), names)


def missing(records: dict[str, dict], names: Iterable[str] = NAMES) -> list[str]:
    """The records that are not there, the runs that those which are there lack, and what went wrong in the others."""
    said = [f"lm_{name}: not recorded yet" for name in names if name not in records]
    for name, record in records.items():
        wrong = dict.fromkeys(record["missing"], "not made")
        wrong |= {one: trouble(run) for one, run in record["runs"].items() if trouble(run)}
        said += [f"lm_{name}, {one}: {what}" for one, what in wrong.items()]
    return said


def trouble(run: dict) -> str:
    """What went wrong in a run, in words; mostly none."""
    if "by_seed" not in run:
        return "failed"
    if not run["by_seed"]:
        return "every rate diverged"
    if not whole(run):
        return "every seed diverged"
    lost = len(run["by_seed"]) - len(whole(run))
    return f"{lost} of {len(run['by_seed'])} seeds diverged" if lost else ""


def runs_of(records: dict[str, dict], method: str) -> list[dict]:
    """The finished runs of a method in all records, cheap ones first, each with the GPUs that its record names."""
    found = [
        run | {"gpus": gpus(record)}
        for record in records.values()
        for run in finished_runs(record, method, METRIC).values()
    ]
    return sorted(found, key=lambda run: (run["width"], run["characters_a_model"]))


def gpus(record: dict) -> tuple[str, ...]:
    """The kinds of GPU, or of processor, that a record was made on; of several nobody says which run had which."""
    machines = record["hardware"].split("; ")
    return tuple(dict.fromkeys(machine.rsplit(", ", 1)[-1] for machine in machines))


def at_width(records: dict[str, dict], method: str, width: int) -> list[dict]:
    return [run for run in runs_of(records, method) if run["width"] == width]


def methods_of(records: dict[str, dict]) -> list[str]:
    """Those with a finished run, in the order of `READERS`."""
    return [method for method in READERS if runs_of(records, method)]


def widths_of(records: dict[str, dict]) -> list[int]:
    return sorted({run["width"] for method in READERS for run in runs_of(records, method)})


def spread(run: dict) -> str:
    """Mean loss and, in brackets, its range over seeds."""
    if len(whole(run)) == 1:
        return f"{run[METRIC]:#.4g} (one seed)"
    return f"{run[METRIC]:#.4g} ({run['lowest']:#.4g} to {run['highest']:#.4g})"


def shared_rates(records: dict[str, dict]) -> set[float]:
    """The rates that were tried in all of the records."""
    return set.intersection(*(set(record["setting"]["rates"]) for record in records.values())) if records else set()


def only(records: dict[str, dict], methods: Iterable[str]) -> dict[str, dict]:
    """The records without the runs of other methods."""
    return {
        name: record | {"runs": {key: run for key, run in record["runs"].items() if run["method"] in methods}}
        for name, record in records.items()
    }


def moved_by(record: dict, rates: Container[float]) -> tuple[dict[str, float], dict[str, float]]:
    """What the choice among `rates` is worth and what that of a method is, in the short trainings of the sweep.

    By method, of a record with one width: how far the losses of its rates lie apart, and the best of them. Methods of
    which fewer than two rates were finished are left out; a rate that diverged counts for nothing.
    """
    spans, best = {}, {}
    for run in record["runs"].values():
        swept = [model for model in run.get("swept", []) if model["rate"] in rates]
        losses = [model[METRIC] for model in swept if model[METRIC] is not None]
        if len(losses) > 1:
            spans[run["method"]], best[run["method"]] = max(losses) - min(losses), min(losses)
    return spans, best


# Verdicts


def verdicts(records: dict[str, dict]) -> list[Verdict]:
    """MLR attention against standard attention at each width, for each list of ranks, in each currency."""
    return [
        below_standard(records, method, width, currency)
        for currency in CURRENCIES
        for method in MLR
        for width in widths_of(records)
    ]


def below_standard(records: dict[str, dict], method: str, width: int, currency: str) -> Verdict:
    """Whether `method` has the lower loss than standard attention at an equal budget; see `below`."""
    return below(records, method, "standard", width, currency)


def relative_positions(records: dict[str, dict], width: int, currency: str = "characters_a_model") -> list[Verdict]:
    """What rotary positions do for standard attention, and what MLR attention has left to add to them."""
    pairs = ("standard_rotary", "standard"), ("mlr_steep", "standard_rotary"), ("mlr_steep_rotary", "standard_rotary")
    return [below(records, method, rival, width, currency) for method, rival in pairs]


def below(records: dict[str, dict], method: str, rival: str, width: int, currency: str) -> Verdict:
    """Whether `method` has the lower loss at an equal budget, by more than the spread over seeds.

    A run of the rival that is no dearer and not beaten settles that it has not; else, one that is no cheaper and beaten
    settles that it has. Where neither was run, the verdict says for how many steps the rival should be.
    """
    other = "standard attention" if rival == "standard" else f"“{READERS[rival].label}”"
    claim = f"{READERS[method].label}, below {other} at D = {width} and equal {CURRENCIES[currency]}"
    own, theirs = at_width(records, method, width), at_width(records, rival, width)
    if not own or not theirs:
        return Verdict(claim, None, "Not both have a finished run")
    pairs = [(mine, its) for mine in own for its in theirs]
    if not (fair := [pair for pair in pairs if not incomparable(*pair, currency)]):
        return Verdict(claim, None, f"{evidence(*pairs[0], currency)}. {incomparable(*pairs[0], currency)}")
    lost = [(mine, its) for mine, its in fair if no_dearer(its, mine, currency) and not beats(mine, its)]
    won = [(mine, its) for mine, its in fair if no_dearer(mine, its, currency) and beats(mine, its)]
    if lost or won:
        return Verdict(claim, not lost, evidence(*(lost or won)[0], currency))
    mine, its = fair[0]
    steps = f"To tell, {other} has to be trained for {fair_steps(mine, its, currency):,} steps"
    return Verdict(claim, None, f"{evidence(mine, its, currency)}. {steps}")


def for_less(records: dict[str, dict], method: str, width: int, currency: str) -> Verdict:
    """Whether `method`, no wider than `width`, has the lower loss for at most the price of standard attention.

    A question that equal widths leave open: a narrower model may be better and cheaper at once, and then no longer
    training of the standard one is needed to tell. Seeds that overlap tell nothing of a model that spent less.
    """
    claim = f"{READERS[method].label}, D up to {width}: below standard attention of D = {width}"
    claim += f" for no more {CURRENCIES[currency]}"
    own = [run for run in runs_of(records, method) if run["width"] <= width]
    pairs = [(mine, its) for its in at_width(records, "standard", width) for mine in own]
    fair = [
        (mine, its) for mine, its in pairs if not incomparable(mine, its, currency) and no_dearer(mine, its, currency)
    ]
    if not fair:
        return Verdict(claim, None, "Nothing that costs no more has been run")
    mine, its = min(fair, key=lambda pair: pair[0][METRIC])
    decided = True if beats(mine, its) else False if mine[METRIC] >= its[METRIC] else None
    return Verdict(claim, decided, f"D = {mine['width']}: {evidence(mine, its, currency)}")


def no_dearer(a: dict, b: dict, currency: str) -> bool:
    """Whether `a` cost at most what `b` did, or hardly more."""
    return a[currency] <= b[currency] * (1 + TOLERANCE)


def beats(a: dict, b: dict) -> bool:
    """Whether every seed of `a` is better than every seed of `b`; one that diverged is not."""
    return apart(a, b) and not trouble(a)


def incomparable(a: dict, b: dict, currency: str) -> str:
    """Why two runs decide nothing; empty if they may."""
    if min(len(run["by_seed"]) for run in (a, b)) < 2:
        return "One seed does not say how much chance there is"
    if currency == "seconds_a_model" and (a["gpus"] != b["gpus"] or len(a["gpus"]) > 1):
        return f"Their seconds are of different machines: {', '.join(dict.fromkeys(a['gpus'] + b['gpus']))}"
    return ""


def evidence(mine: dict, its: dict, currency: str) -> str:
    """Losses, what they cost, and which way the seeds lie."""
    word = CURRENCIES[currency]
    said = f"{spread(mine)} for {amount(mine[currency])} {word}; "
    said += f"{READERS[its['method']].label} {spread(its)} for {amount(its[currency])}; "
    said += "all seeds lower" if apart(mine, its) else "all seeds higher" if apart(its, mine) else "seeds overlap"
    said += f"; but {trouble(mine)}" if trouble(mine) else ""
    return said + (f"; of {READERS[its['method']].label} {trouble(its)}" if trouble(its) else "")


def amount(cost: float) -> str:
    """As people write it: 131 million, 3.1e+15, 60."""
    return f"{cost:.3g}" if cost >= 1e12 else f"{cost / 1e6:,.0f} million" if cost >= 1e6 else f"{cost:,.0f}"


def fair_steps(run: dict, other: dict, currency: str) -> int:
    """For how many steps `other` can be trained for what `run` cost."""
    steps = other["characters_a_model"] // other["characters_a_step"]
    return round(steps * run[currency] / other[currency])


# Power laws


@dataclass(frozen=True)
class PowerLaw:
    """loss = scale * cost^-exponent, and a 95 % interval of the exponent: (low, high), None with two points only."""

    scale: float
    exponent: float
    interval: tuple[float, float] | None

    def __call__(self, cost: float) -> float:
        return self.scale * cost**-self.exponent

    def __str__(self) -> str:
        if self.interval is None:
            return f"{self.exponent:.4f} (two points: no interval)"
        return f"{self.exponent:.4f} ({self.interval[0]:.4f} to {self.interval[1]:.4f})"


def power_law(costs: list[float], losses: list[float]) -> PowerLaw | None:
    """A straight line in logarithms, by least squares; None for fewer than two different costs.

    The interval reaches as many standard errors to each side as Student's distribution with n - 2 degrees of freedom
    asks for. It knows of scatter about a straight line, and of nothing else that may be wrong.
    Raises `ValueError` if a cost or a loss is not positive and finite.
    """
    if bad := [number for number in (*costs, *losses) if not (isfinite(number) and number > 0)]:
        raise ValueError(f"costs and losses must be positive and finite, got {bad[0]}")
    if len(set(costs)) < 2:
        return None
    x, y, n = [log(cost) for cost in costs], [log(loss) for loss in losses], len(costs)
    middle_x, middle_y = sum(x) / n, sum(y) / n
    square = sum((one - middle_x) ** 2 for one in x)
    slope = sum((a - middle_x) * (b - middle_y) for a, b in zip(x, y, strict=True)) / square
    rest = sum((b - middle_y - slope * (a - middle_x)) ** 2 for a, b in zip(x, y, strict=True))
    interval = None
    if n > 2:
        from scipy.stats import t

        reach = float(t.ppf(0.975, n - 2)) * (rest / (n - 2) / square) ** 0.5
        interval = -slope - reach, -slope + reach
    return PowerLaw(exp(middle_y - slope * middle_x), -slope, interval)


def scaling(records: dict[str, dict], method: str, currency: str) -> PowerLaw | None:
    """Mean loss against cost over the widths, a run a width; None if it would mix lengths of training, or machines."""
    runs = shortest(records, method).values()
    mixed = {run["characters_a_model"] for run in runs}, {run["gpus"] for run in runs}
    if len(mixed[0]) > 1 or (currency == "seconds_a_model" and len(mixed[1]) > 1):
        return None
    return power_law([run[currency] for run in runs], [run[METRIC] for run in runs])


def shortest(records: dict[str, dict], method: str) -> dict[int, dict]:
    """By width, the run of a method with the shortest training."""
    return {width: found[0] for width in widths_of(records) if (found := at_width(records, method, width))}


def lead(records: dict[str, dict], method: str) -> Verdict:
    """Whether the loss of `method`, as a share of standard attention's, falls with the width, by a 95 % interval.

    What bends all curves alike, such as a length of training that is too short for the wide ones, cancels in the share.
    """
    claim = f"{READERS[method].label}: the wider the models, the lower its loss as a share of standard attention's"
    own, standard = shortest(records, method), shortest(records, "standard")
    alike = [
        w for w in own.keys() & standard.keys() if own[w]["characters_a_model"] == standard[w]["characters_a_model"]
    ]
    share = {width: own[width][METRIC] / standard[width][METRIC] for width in sorted(alike)}
    said = ", ".join(f"D = {width}: {one - 1:+.2%}" for width, one in share.items())
    if len(share) < 3:
        return Verdict(claim, None, f"{said}; that takes three widths" if said else "Not both have a finished run")
    low, high = power_law(list(share), list(share.values())).interval
    said = f"{said}; it goes as D to the power of {-high:+.4f} to {-low:+.4f}"
    return Verdict(claim, True if low > 0 else False if high < 0 else None, said)


def read_until(run: dict, loss: float) -> list[int | None]:
    """Of each seed, the characters read when the training loss first is below `loss`; None if it never is."""
    curves = [model["curve"] for model in whole(run)]
    steps = [
        next((at for at, value in zip(curve["steps"], curve["loss"], strict=True) if value < loss), None)
        for curve in curves
    ]
    return [step and step * run["characters_a_step"] for step in steps]


# Where the loss is


def by_position(run: dict) -> tuple[list[str], list[float]]:
    """Names of the stretches of the context, and the loss in each, a mean over seeds."""
    return over_seeds([model["by_position"] for model in whole(run)])


def by_seam(run: dict, block: int) -> tuple[list[str], list[float]]:
    """Names of the stretches of a block, and the loss in each, a mean over seeds. `KeyError` for other blocks."""
    return over_seeds([seams(model)[block] for model in whole(run)])


def blocks_of(run: dict) -> list[int]:
    return list(seams(whole(run)[0]))


def own_blocks(run: dict) -> list[int]:
    """Of the blocks at whose seams losses were measured, those of the levels of an MLR model."""
    measured, options = blocks_of(run), run["options"][0]
    if "block_sizes" in options:
        return [block for block in measured if block in options["block_sizes"]]
    return measured[: len(options["ranks"]) - 1]  # halves come first; level 1 has no seam


def seams(model: dict) -> dict[int, dict]:
    return {one["block"]: one for one in model["by_seam"]}


def whole(run: dict) -> list[dict]:
    """The seeds that did not diverge."""
    return [model for model in run["by_seed"] if model[METRIC] is not None]


def over_seeds(places: list[dict]) -> tuple[list[str], list[float]]:
    ends = places[0]["up_to"]
    names = [
        str(end) if end - start == 1 else f"{start + 1}-{end}" for start, end in zip([0, *ends], ends, strict=False)
    ]
    return names, [sum(column) / len(column) for column in zip(*(place["loss"] for place in places), strict=True)]


def seam_costs(run: dict, control: dict, block: int) -> list[float]:
    """By seed of `run`, what the first character after a seam costs it more than it costs `control`.

    Both are measured against the rest of their blocks, from the second half on, where a seam is far behind: a
    difference of differences, over the same windows of text. `control` enters as the mean of its seeds.
    """

    def excess(loss: list[float]) -> float:
        return loss[0] - loss[-1]

    expected = excess(by_seam(control, block)[1])
    return [excess(seams(model)[block]["loss"]) - expected for model in whole(run)]


def seam_verdict(records: dict[str, dict], method: str, width: int, block: int) -> Verdict:
    """Whether the first character of a block costs `method` more than it costs standard attention, for every seed."""
    own, standard = at_width(records, method, width), at_width(records, "standard", width)
    claim = f"Seams every {block} characters cost {READERS[method].label}, D = {width}, something"
    if not own or not standard:
        return Verdict(claim, None, "Not both have a finished run")
    costs, noise = seam_costs(own[0], standard[0], block), seam_costs(standard[0], standard[0], block)
    said = f"{sum(costs) / len(costs):+.3f} nats at the first place ({min(costs):+.3f} to {max(costs):+.3f});"
    if len(noise) == 1:
        return Verdict(claim, None, f"{said} one seed of standard attention does not say how much chance there is")
    said += f" by chance, in seeds of standard attention, {min(noise):+.3f} to {max(noise):+.3f}"
    return Verdict(claim, min(costs) > max(noise), said)


# One thing changed


PAIRS = (
    ("mlr", "mlr_gain", "gain 8 in place of 1, the authors' ranks"),
    ("mlr_steep_sum", "mlr_steep", "scores divided by the shared levels"),
    ("mlr_coarse", "mlr_gain", "eight levels in place of three, both halving"),
    ("mlr_coarse", "mlr_steep", "four steep levels in place of three that halve"),
    ("mlr_steep", "mlr_gain", "eight levels in place of four that reach as far"),
)


def ablations(records: dict[str, dict], width: int) -> list[Verdict]:
    """Pairs of MLR models that differ in one choice; whether the second is better, beyond the spread over seeds."""
    said = []
    for before, after, change in PAIRS:
        a, b = (at_width(records, method, width) for method in (before, after))
        if not a or not b:
            said.append(Verdict(f"It helps: {change}", None, "Not both have a finished run"))
            continue
        before, after = a[0], b[0]
        decided = True if beats(after, before) else False if beats(before, after) else None
        decided = None if incomparable(before, after, "characters_a_model") else decided
        said.append(Verdict(f"It helps: {change}", decided, f"{spread(before)} becomes {spread(after)}"))
    return said


# What a step takes


def step_verdicts(speed: dict) -> list[Verdict]:
    """Whether a training step of MLR attention keeps to `STEP_AIMS`, by a record of `bench step`.

    Decided by the medians, unless the aim lies within what the measurements of both leave open.
    """
    found = []
    for case, aim in STEP_AIMS.items():
        rows = speed["cases"].get(case, {})
        for method in MLR:
            claim = f"{READERS[method].label}, {case.replace('_B', ', batch ').replace('T', 'T = ')}: "
            claim += f"a step takes at most {aim:g} times as long as a standard one"
            if not {method, "standard"} <= rows.keys():
                found.append(Verdict(claim, None, "Not both have a finished run"))
                continue
            own, its = rows[method], rows["standard"]
            ratio, low, high = own["ms"] / its["ms"], own["lowest"] / its["highest"], own["highest"] / its["lowest"]
            decided = None if low <= aim < high else ratio <= aim
            found.append(Verdict(claim, decided, f"{ratio:.2f} times ({low:.2f} to {high:.2f})"))
    return found
