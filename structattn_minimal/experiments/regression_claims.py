"""What a record of in-context regression says of the claims of Kuang et al. 2025: verdicts, computed and not typed.

A record is that of a comparison (`comparison.collect`) of standard attention, with 8 heads and with 1, and of the
structured scorers, BTT and MLR. The error is the one at the last point. Where it counts as low, two bounds are tried:
`LOW`, and what ridge regression leaves on the same prompts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import combinations
from math import inf
from statistics import median

from ..transformer import GPT
from . import text
from .comparison import over_seeds
from .presets import SCORERS
from .records import read_record
from .regression import active_dimensions
from .verdicts import Verdict, apart, existing, finished_runs

DIMENSIONS = (16, 32, 64)
LOW = 0.1  # of 1, the error of answering zero
STRUCTURED = ("btt", "mlr")
NOTHING = 0.02  # a model whose error is this close to that of answering zero, as a share of it, has learned nothing
CURRENCIES = {"training_macs_a_model": "training MACs", "seconds_a_model": "seconds of training"}


def recorded(names: Iterable = DIMENSIONS) -> dict:
    """Those of the records icl_16, icl_32, ... that come with the book, by what follows "icl_"."""
    return existing(lambda name: read_record(f"icl_{name}"), names)


def trained(d: int = 16) -> dict[str, GPT]:
    """The models whose weights come with the book, by method: of the first seed, all of one width."""
    return existing(lambda method: text.trained(f"icl_{d}_{method}"), SCORERS)


def runs_of(record: dict, method: str) -> dict[int, dict]:
    """The finished runs of a method by width, narrow ones first."""
    return finished_runs(record, method, "last")


def low_from(record: dict, method: str, low: float) -> int | None:
    """The least width of which the mean error is at most `low`; None if there is none."""
    return next((width for width, run in runs_of(record, method).items() if run["last"] <= low), None)


def verdicts(record: dict) -> list[Verdict]:
    """Of the four claims, in the order in which the chapter states them; of the last, one for each currency."""
    bounds = (LOW, f"an error of {LOW}"), (record["baselines"]["ridge"], "the error of ridge regression")
    return [
        *(bottleneck(record, *bound) for bound in bounds),
        one_head(record),
        *(narrower(record, *bound) for bound in bounds),
        *(cheaper(record, key) for key in CURRENCIES),
    ]


def bottleneck(record: dict, low: float, named: str = "a low error") -> Verdict:
    """Eight low-rank heads fail unless r is close to d: the error is high at each r < d, and low from r >= d on."""
    claim, d = f"Eight standard heads need rank d for {named}", record["setting"]["d"]
    runs = runs_of(record, "standard")
    below = [run for run in runs.values() if run["head_dimension"] < d]
    above = [run for run in runs.values() if run["head_dimension"] >= d]
    said = ", ".join(f"rank {run['head_dimension']}: {spread(run)}" for run in runs.values())
    if not below or not above:
        return Verdict(claim, None, f"{said}; there are not widths on both sides of r = d")
    holds = all(run["last"] > low for run in below) and all(run["last"] <= low for run in above)
    return Verdict(claim, holds, said)


def one_head(record: dict) -> Verdict:
    """One head of full rank is better than eight of rank below d, at the same width, with the same parameters."""
    claim, d = "Below r = d, one head of full rank beats eight", record["setting"]["d"]
    eight, one = runs_of(record, "standard"), runs_of(record, "standard_1")
    widths = [width for width in eight.keys() & one.keys() if eight[width]["head_dimension"] < d]
    if not widths:
        return Verdict(claim, None, "no such width was run")
    return tally(claim, [(one[width], eight[width]) for width in sorted(widths)])


def narrower(record: dict, low: float, named: str = "a low error") -> Verdict:
    """BTT and MLR have a low error at a smaller width than either kind of standard attention."""
    claim = f"BTT and MLR need less width than standard attention for {named}"
    found = {method: low_from(record, method, low) for method in ("standard", "standard_1", *STRUCTURED)}
    said = "reached from width: " + "; ".join(f"{SCORERS[m].label}: {width or 'none'}" for m, width in found.items())
    structured = [found[method] for method in STRUCTURED]
    if all(width is None for width in found.values()):
        return Verdict(claim, None, said)
    rivals = [found[name] or inf for name in ("standard", "standard_1")]
    return Verdict(claim, all(width is not None and width < min(rivals) for width in structured), said)


def cheaper(record: dict, currency: str) -> Verdict:
    """At each budget, the best structured model that it buys has a lower error than the best standard one."""
    claim = f"Structure wins at every budget of {CURRENCIES[currency]}"
    offers = bought(record, currency)
    if not offers:
        return Verdict(claim, None, "no budget buys both")
    verdict = tally(claim, [pair for _, *pair in offers])
    said = [verdict.evidence]
    if not verdict.holds:
        said.append(onwards(wins_from(offers)))
    if currency == "seconds_a_model" and len(clocks(record)) > 1:
        said.append(f"not all of these seconds compare: {', '.join(clocks(record))}")
    return replace(verdict, evidence="; ".join(said))


def clocks(record: dict) -> list[str]:
    """With which code and on what the seconds were taken, each pair once: those of more than one do not compare."""
    return list(dict.fromkeys(clock(record, run) for run in record["runs"].values() if "seconds_a_model" in run))


def clock(record: dict, run: dict) -> str:
    """That of one run. An old record may know several commits, and not which of them it was."""
    said = {"commit": record["commit"], "hardware": record["hardware"]} | run | run.get("timed", {})
    commits = " or ".join(commit[:7] for commit in said["commit"].split("; "))
    return f"{commits} on {said['hardware'].rsplit(', ', 1)[-1]}"


def onwards(budget: float | None) -> str:
    return "not at the largest budget" if budget is None else f"at every budget from {budget:.2g} on"


def bought(record: dict, currency: str) -> list[tuple[float, dict, dict]]:
    """By budget, small ones first: the best structured model that it buys, and the best standard one.

    Budgets are the costs of all models; one that buys a single kind of scorer compares nothing.
    """
    structured, standard = (
        [run for method in methods for run in runs_of(record, method).values()]
        for methods in (STRUCTURED, ("standard", "standard_1"))
    )
    offers = []
    for budget in sorted({run[currency] for run in structured + standard}):
        kinds = [[run for run in runs if run[currency] <= budget] for runs in (structured, standard)]
        if all(kinds):
            offers.append((budget, *(min(runs, key=lambda run: run["last"]) for runs in kinds)))
    return offers


def wins_from(offers: list[tuple[float, dict, dict]]) -> float | None:
    """Of what is `bought`, the least budget from which on structure wins at each larger one too; None if it does not at
    the largest."""
    since = None
    for budget, structured, standard in reversed(offers):
        if structured["last"] >= standard["last"]:
            break
        since = budget
    return since


def leads(record: dict) -> list[dict]:
    """By width: the rank r of eight standard heads, and how many times the error of each rival theirs is."""
    found = []
    for width, run in runs_of(record, "standard").items():
        rivals = {method: runs_of(record, method).get(width) for method in ("standard_1", *STRUCTURED)}
        times = {method: None if rival is None else run["last"] / rival["last"] for method, rival in rivals.items()}
        found.append({"width": width, "rank": run["head_dimension"], **times})
    return found


def tally(claim: str, pairs: list[Sequence[dict]]) -> Verdict:
    """Whether the first of each pair has the lower mean error, and in how many every seed agrees."""
    won = sum(a["last"] < b["last"] for a, b in pairs)
    clear = sum(apart(a, b) for a, b in pairs)
    said = f"lower mean error in {won} of {len(pairs)} comparisons, in {clear} of them beyond the spread of the seeds"
    return Verdict(claim, won == len(pairs), said)


def spread(run: dict) -> str:
    """Mean error and, in brackets, its range over seeds."""
    return f"{run['last']:.2g} ({run['lowest']:.2g} to {run['highest']:.2g})"


def best_rates(record: dict, method: str) -> dict[int, float | None]:
    """By width, the rate of the lowest error in a sweep; None where every rate diverged. A run that failed has none."""
    runs = (run for run in record["runs"].values() if run["method"] == method and "best_rate" in run)
    return {run["width"]: run["best_rate"] for run in runs}


def carried_over(record: dict, method: str) -> dict[tuple[int, int], float]:
    """What it costs to tune at one width and train at a wider one, for each two: the wider one's error at the best rate
    of the narrower, over that at its own. Infinite where it diverges; without widths of which every rate diverged.
    """
    best = {width: rate for width, rate in best_rates(record, method).items() if rate is not None}
    costs = {}
    for narrow, wide in combinations(sorted(best), 2):
        errors = {model["rate"]: model["last"] for model in record["runs"][f"{method}_D{wide}"]["swept"]}
        carried = errors[best[narrow]]
        costs[narrow, wide] = inf if carried is None else carried / errors[best[wide]]
    return costs


def below_from(curve: dict, bound: float = 0.5) -> int | None:
    """The step of a curve from which the error at the last point stays below `bound`; None if it does not end there."""
    found = None
    for step, error in zip(curve["steps"], curve["last"], strict=True):
        below = error is not None and error < bound  # none where it diverged
        found = (found or step) if below else None
    return found


def turning_points(model: dict, grown: float) -> tuple[tuple[float, int], tuple[float, int]]:
    """Of a model's error while training, each with its step: the lowest up to step `grown`, when all dimensions are in
    use, and the highest from half of that on.
    """
    points = list(zip(model["curve"]["last"], model["curve"]["steps"], strict=True))
    return min(point for point in points if point[1] <= grown), max(point for point in points if point[1] >= grown / 2)


def in_use(setting: dict, step: int) -> int:
    """How many dimensions the curriculum of a record's setting has in use at a step."""
    share, power = setting["curriculum"], setting.get("power", 1.0)  # the oldest records have no power
    return active_dimensions(step, setting["steps"], setting["d"], share, power)


def models_of(record: dict) -> list[tuple[dict, dict]]:
    """Every model that was trained, in a sweep or for the seeds, each with its run."""
    return [
        (run, model)
        for run in record["runs"].values()
        for stage in ("swept", "by_seed")
        for model in run.get(stage, [])
    ]


def learned_nothing(model: dict, zero: float) -> bool:
    """Whether it ends where it began: at `zero`, the error of answering zero. One that diverged ends nowhere."""
    return model["last"] is not None and abs(model["last"] / zero - 1) <= NOTHING


def without_idle(record: dict, zero: float) -> dict:
    """The record as if its reported seeds that learned nothing were not there; a run of no other seed stays."""
    runs = {}
    for name, run in record["runs"].items():
        seeds = run.get("by_seed", [])
        kept = [model for model in seeds if not learned_nothing(model, zero)]
        others = over_seeds("last", kept)
        dropped = len(kept) < len(seeds) and others["last"] is not None
        runs[name] = run | {"by_seed": kept} | others if dropped else run
    return record | {"runs": runs}


def relative_curve(record: dict, model: dict, zero: float) -> dict[str, list]:
    """A model's error at the last point while training, divided by what answering zero costs on the same prompts.

    That is the median of the models of its seed that learned nothing, since all of one seed see the same prompts. So
    what is left of the noise is the model's own. Raises `ValueError` if each model of this seed learned something.
    """
    others = [other for _, other in models_of(record) if other["seed"] == model["seed"]]
    idle = [other["curve"]["last"] for other in others if learned_nothing(other, zero)]
    if not idle:
        raise ValueError(f"record must hold a model of seed {model['seed']} that learned nothing, got none")
    zeros = [median(errors) for errors in zip(*idle, strict=True)]
    curve = model["curve"]
    errors = [None if one is None else round(one / at, 4) for one, at in zip(curve["last"], zeros, strict=True)]
    return {"steps": curve["steps"], "last": errors}
