"""Chapter 11's tests. Each function tries one random case, against the package's own functions where it has them."""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

import structattn_minimal as sa
from structattn_minimal.experiments.mup import rate_factors
from structattn_minimal.experiments.regression import active_dimensions, ridge, scaled

from ..case import Case, Mistake
from ..ch03.tests import layout, pair_of, solvable
from ..registry import exercise
from .records import comparison_record

DOUBT = 1e-10  # the chance that one test of randomness refuses numbers which are what they should be


def same_table(case: Case, got, want: dict[str, float | None], near: dict[str, dict], what: str) -> None:
    """A dictionary with a number, or None, for every name."""
    if not isinstance(got, dict):
        raise Mistake(f"the answer should be a dictionary from name to {what}, and is {type(got).__name__}")

    def alike(value, number) -> bool:
        if value is None or number is None:
            return value is number
        return abs(case.number(value, what) - number) <= 1e-6 * abs(number)

    def equal(table: dict) -> bool:
        return table.keys() == got.keys() and all(alike(got[name], number) for name, number in table.items())

    if equal(want):
        return
    likely = next((hint for hint, table in near.items() if equal(table)), None)
    if missing := [name for name in want if name not in got]:
        raise Mistake(f"the answer lacks {missing[0]!r}", likely)
    if unknown := [name for name in got if name not in want]:
        raise Mistake(f"the answer holds {unknown[0]!r}, which was not asked for", likely)
    name = next(name for name, number in want.items() if not alike(got[name], number))
    raise Mistake(f"the {what} of {name} is {told(got[name])}, and should be {told(want[name])}", likely)


def told(number) -> str:
    return "None" if number is None else f"{float(number):.6g}"


# 11.1: the sampler


@exercise("11.1", "training_batch", cases=4)
def training_batch(answer, case: Case) -> None:
    d, prompts = case.integer(3, 6), case.integer(3900, 4300)
    pairs = 2 * d + case.integer(0, d)
    seed, step = case.integer(2, 800), case.integer(1000, 800_000)

    def batch(seed: int, step: int, prompts: int) -> tuple[Tensor, Tensor]:
        tokens, y = pair_of(answer(seed, step, prompts, pairs, d), "the tokens and the targets y")
        tokens = case.tensor(tokens, (prompts, 2 * pairs, d), "tokens")
        return tokens, case.tensor(y, (prompts, pairs), "targets y")

    tokens, y = batch(seed, step, prompts)
    layout(tokens, y)
    drawn_as_said(tokens[:, 0::2], y, d)
    if not torch.equal(batch(seed, step, prompts)[0], tokens):
        raise Mistake(
            "two calls with the same seed and step gave different prompts",
            "the numbers come from a generator that outlives the call: a run that was killed could not go on as it was",
        )
    all_different(lambda seed, step: batch(seed, step, 3), seed, step)


def drawn_as_said(x: Tensor, y: Tensor, d: int) -> None:
    """x ~ N(0, I / d), w ~ N(0, I) for each prompt, independent of each other, and y = w . x."""
    if x.std(dim=0).mean() < 1e-3 * x.std():
        raise Mistake("all prompts have the same x", "draw fresh inputs for every prompt: shape (prompts, pairs, d)")
    if x.std(dim=1).mean() < 1e-3 * x.std():
        raise Mistake("all pairs of a prompt have the same x", "draw fresh inputs for every pair")
    if x.min() >= 0:
        raise Mistake("no coordinate of x is negative", "torch.rand in place of torch.randn")
    bell(
        x * d**0.5,
        f"each coordinate of x, times sqrt(d) = {d**0.5:.4g},",
        {
            "x has variance 1 a coordinate: divide by sqrt(d)": d**0.5,
            "x is divided by d; its variance should be 1/d, so divide by sqrt(d)": d**-0.5,
        },
    )
    w = torch.linalg.lstsq(x, y[..., None]).solution  # (prompts, d, 1)
    if ((x @ w).squeeze(-1) - y).square().mean() > 1e-6 * y.square().mean():
        likely = "noise is added to y, or w changes inside a prompt: one w holds for all pairs of a prompt"
        raise Mistake("the pairs of a prompt should obey one linear rule, y_i = w . x_i", likely)
    w = w.squeeze(-1)
    if w.std(dim=0).mean() < 1e-3 * w.abs().mean():
        raise Mistake("all prompts have the same w", "draw a fresh w for every prompt: shape (prompts, d, 1)")
    if w.std(dim=1).mean() < 1e-3 * w.abs().mean():
        raise Mistake("all coordinates of w are the same", "w has d coordinates: shape (prompts, d, 1)")
    bell(w, "each coordinate of w", {"w is divided by sqrt(d) too: then y has variance 1/d": d**-0.5})
    for i, y_i in enumerate((y * d**0.5 / w.norm(dim=1, keepdim=True)).T, 1):
        likely = "w is not independent of x: do two generators begin from one seed?"
        bell(y_i, f"y_{i}, divided by its standard deviation |w| / sqrt(d) for that w,", {likely: None})


def bell(sample: Tensor, what: str, hints: dict[str, float | None]) -> None:
    """Independent numbers of which each should be N(0, 1); hints by the standard deviation that they have instead.

    The distance of an empirical distribution from the true one exceeds e with probability 2 exp(-2 n e^2) at most
    (Dvoretzky, Kiefer & Wolfowitz 1956; the constant: Massart 1990), whatever the distribution is.
    """
    ordered = sample.flatten().sort().values
    n = len(ordered)
    expected, counts = torch.special.ndtr(ordered), torch.arange(n + 1, dtype=torch.float64) / n
    distance = max(float((counts[1:] - expected).max()), float((expected - counts[:-1]).max()))
    if distance <= math.sqrt(math.log(2 / DOUBT) / (2 * n)):
        return
    mean, deviation = float(ordered.mean()), float(ordered.std())
    if abs(mean) < 0.06:
        hints = hints | {"mean and variance are right, and the numbers are not normal: draw them with torch.randn": 1.0}
    likely = (hint for hint, value in hints.items() if value is None or abs(deviation / value - 1) < 0.06)
    raise Mistake(
        f"{what} should be N(0, 1), and has mean {mean:.3g}, variance {deviation**2:.3g} and a distribution that is up "
        f"to {distance:.3g} away",
        next(likely, None),
    )


def all_different(batch: Callable, seed: int, step: int) -> None:
    """No two pairs of seed and step share a prompt or a task."""
    pairs = [(seed, step), (seed, step + 1), (seed, step + 2), (seed + 1, step), (seed + 1, step - 1)]
    pairs += [(seed + 2, step - 2), (1, 23), (12, 3), (23, 1), (3, 12), (0, 0), (0, 1), (1, 0), (0, 2), (2, 0)]
    for power in (10, 100, 1000, 10_000, 100_000):  # seed * power + step, and seed + power * step
        pairs += [(seed, step + power), (seed + power, step)][: 2 if seed + power < 1000 else 1]
    found = [batch(*pair) for pair in pairs]
    tokens = torch.stack([tokens for tokens, _ in found]).flatten(1, 2)  # (calls, prompts * tokens, d)
    x = tokens.unflatten(1, (3, -1))[:, :, 0::2]  # (calls, prompts, pairs, d)
    y = torch.stack([y for _, y in found])[..., None]
    w = torch.linalg.lstsq(x, y).solution.squeeze(-1)
    which = [pair for pair in pairs for _ in range(3)]  # of each prompt
    for one, another in twins(x.flatten(0, 1).flatten(1), 1e-7):
        raise Mistake(same_at(which[one], which[another], "prompts"), why_shared(which[one], which[another]))
    for one, another in twins(w.flatten(0, 1), 1e-4):
        raise Mistake(
            same_at(which[one], which[another], "weights w"), "every prompt of every batch is a task of its own"
        )


def twins(rows: Tensor, tolerance: float):
    """The first two rows that are equal, if any are."""
    equal = (rows[:, None] - rows).abs().amax(-1) <= tolerance
    yield from equal.triu(1).nonzero().tolist()[:1]


def same_at(one: tuple[int, int], another: tuple[int, int], what: str) -> str:
    (seed, step), (seed_too, step_too) = one, another
    return f"seed {seed} at step {step} and seed {seed_too} at step {step_too} have {what} in common"


def why_shared(one: tuple[int, int], another: tuple[int, int]) -> str:
    if one == another:
        return "the prompts of a batch should all be different"
    if one[0] == another[0]:
        return "the step makes no difference: the model would see the same prompts again and again"
    if one[1] == another[1]:
        return "the seed makes no difference; is it lost? A CPU's generator heeds the lowest 32 bits of its seed alone"
    return "seed and step are made into one number, as by adding them, that other pairs of them share"


# 11.2: the best possible answer


@exercise("11.2", "best_answers")
def best_answers(answer, case: Case) -> None:
    d, prompts = case.integer(2, 4), case.integer(3, 6)  # more than one: a prompt may tell two penalties apart badly
    pairs = d + case.integer(2, 4)
    noise = telling_noise(case, d)
    x = torch.stack([solvable(case, pairs, d) for _ in range(prompts)])
    w = case.normal(prompts, d, 1)
    y = (x @ w).squeeze(-1) + noise * case.normal(prompts, pairs)
    variance = noise**2

    def fitted(used, penalty=lambda n: variance) -> Tensor:
        """The last answer of the package's `ridge`, to prompts that consist of the pairs in use and pair i."""
        columns = []
        for i in range(pairs):
            rows = [*used(i), i]
            columns.append(ridge(x[:, rows].double(), y[:, rows].double(), penalty(max(len(rows) - 1, 1))))
        return torch.stack(columns, dim=-1)

    def shortest(i: int) -> Tensor:
        """Least squares, by the pseudoinverse."""
        w = torch.linalg.pinv(x[:, :i].double()) @ y[:, :i, None].double()
        return (x[:, i, None].double() @ w).flatten()

    def before(i):
        return range(i)

    late = torch.stack([ridge(x[:, : i + 1].double(), y[:, : i + 1].double(), variance) for i in range(pairs)], -1)
    zero = torch.zeros(prompts, dtype=torch.float64)
    near = {
        "the penalty is the standard deviation of the noise; it should be the variance, noise^2": fitted(
            before, lambda n: noise
        ),
        "the penalty is missing: least squares fits the noise too": torch.stack(
            [zero, *(shortest(i) for i in range(1, pairs))], -1
        ),
        "the penalty grows with the number of pairs: it belongs to the sum of the squared errors, not to their mean": (
            fitted(before, lambda n: n * variance)
        ),
        "the penalty shrinks with the number of pairs: it belongs to the sum of the squared errors, as it is": fitted(
            before, lambda n: variance / n
        ),
        "the penalty is noise^2 d, as if the weights had variance 1/d; the inputs do, the weights have variance 1": (
            fitted(before, lambda n: variance * d)
        ),
        "the penalty is noise^2 / d; nothing is to be divided by d, though the inputs are small": fitted(
            before, lambda n: variance / d
        ),
        "the penalty is 1, whatever the noise is": fitted(before, lambda n: 1.0),
        "the penalty is 1 / noise^2: the more noise, the less should the pairs be trusted": fitted(
            before, lambda n: 1 / variance
        ),
        "the pair i itself is used to answer for y_i: use the pairs before it only": fitted(lambda i: range(i + 1)),
        "all pairs of the prompt are used, later ones too": fitted(lambda i: range(pairs)),
        "all other pairs are used, later ones too": fitted(lambda i: [j for j in range(pairs) if j != i]),
        "the last pair before i is left out": fitted(lambda i: range(max(i - 1, 0))),
        "the answer is 0 until there are d pairs; with a penalty it can be given from the first": torch.cat(
            [torch.zeros(prompts, d), late[:, d:]], dim=-1
        ),
        "this is the answer for x_(i-1); answer for x_i": torch.stack([zero, *late[:, :-1].unbind(-1)], -1),
    }
    case.same(answer(x, y, noise), late, near, loose=5)


def telling_noise(case: Case, d: int) -> float:
    """A standard deviation at which no two penalties that one might think of are nearly the same."""
    while True:
        noise = case.integer(40, 250) / 100
        penalties = sorted([noise, noise**2, noise**2 * d, noise**2 / d, 1.0, noise**-2])
        if all(larger > 1.25 * smaller for smaller, larger in pairwise(penalties)):
            return noise


# 11.3: the curriculum


@exercise("11.3", "curriculum")
def curriculum(answer, case: Case) -> None:
    d, pairs = case.different(2, 3, 8)
    steps, share = case.integer(200, 900), case.integer(30, 70) / 100
    step = [0, some_step(case, d, steps, share, 1, d - 2), some_step(case, d, steps, share, 0, d - 1)]
    step += [case.integer(math.ceil(share * steps) + 1, steps - 2), steps - 1]
    step = [step[k] for k in case.different(5, 0, 4)]
    x, w = case.normal(5, pairs, d), case.normal(5, d)
    wide_x, wide_w = x.double(), w.double()
    right = [active_dimensions(now, steps, d, share) for now in step]

    def inputs(active: list[int], scale=lambda a: a**-0.5) -> Tensor:
        kept = torch.arange(d) < torch.tensor(active)[:, None]
        return torch.stack([wide_x[b] * kept[b] * (scale(a) if a else 0.0) for b, a in enumerate(active)])

    def targets(x: Tensor) -> Tensor:
        return (x * wide_w[:, None]).sum(-1)

    rows = [scaled(wide_x[b], wide_w[b, :, None], a) for b, a in enumerate(right)]
    want, want_y = (torch.stack(tensors) for tensors in zip(*rows, strict=True))
    grown = [1 + int(now / (share * steps) * d) for now in step]
    from_zero = [min(d, a - 1) for a in grown]
    no_numbers = inputs(from_zero)
    no_numbers[torch.tensor(from_zero) == 0] = torch.nan

    def masked(keep: Callable[[int], Tensor]) -> Tensor:
        """With the right scale and another mask, given the number of dimensions in use."""
        return torch.stack([x * keep(a) * a**-0.5 for x, a in zip(wide_x, right, strict=True)])

    got, got_y = pair_of(answer(x, w, torch.tensor(step), steps, share), "the inputs and the targets")
    near = {
        "at the first step one dimension is in use, not none: 1 + ...": inputs(from_zero),
        "at the first step one dimension is in use, not none: 1 + ..., else 0 divides": no_numbers,
        "there are no more than d dimensions: from `share` of the steps on, all d are in use": inputs(grown),
        "all d dimensions should be in use from `share` of the steps on, not only at the end": inputs(
            [min(d, 1 + int(now / steps * d)) for now in step]
        ),
        "the count is rounded to the nearest whole number; a dimension comes when its time has come": inputs(
            [min(d, 1 + round(now / (share * steps) * d)) for now in step]
        ),
        "the inputs in use are divided by sqrt(d), not by sqrt(a): y loses variance when a < d": inputs(
            right, lambda a: d**-0.5
        ),
        "the inputs are divided by a; the root of it keeps the variance of y": inputs(right, lambda a: 1 / a),
        "the inputs are not divided at all: a of them have variance 1 each, and y has a": inputs(right, lambda a: 1.0),
        "x is standard normal here, not yet N(0, I / d): divide by sqrt(a)": inputs(right, lambda a: (d / a) ** 0.5),
        "each prompt has its own step; this gives all of them that of the first": inputs([right[0]] * 5),
        "each prompt has its own step; this gives all of them that of the last": inputs([right[-1]] * 5),
        "each prompt has its own step; this gives all of them the largest": inputs([max(right)] * 5),
        "all dimensions are in use; set those from a on to 0": masked(lambda a: torch.ones(d)),
        "all dimensions are in use at every step: there is no curriculum": inputs([d] * 5),
        "one dimension too many is in use": inputs([min(d, a + 1) for a in right]),
        "one dimension too many is left in place, though the scale is right": masked(lambda a: torch.arange(d) <= a),
        "the mask lies on the pairs; it belongs on the coordinates": masked(lambda a: torch.arange(pairs)[:, None] < a),
        "the last dimensions are kept; keep the first": masked(lambda a: torch.arange(d) >= d - a),
    }
    loose = 100 if case.dtype == torch.float64 else 1  # the root of a tensor of whole numbers is in float32
    case.same(got, want, near, what="inputs", loose=loose)
    roots = torch.tensor(right, dtype=torch.float64).sqrt()[:, None]
    case.same(
        got_y,
        want_y,
        {
            "y comes from the full inputs: it depends on coordinates that the prompt does not show": targets(wide_x),
            "y comes from the full inputs, divided by sqrt(d): it depends on what the prompt does not show": targets(
                wide_x / d**0.5
            ),
            "y comes from the full inputs, divided by sqrt(a): it depends on what the prompt does not show": (
                targets(wide_x) / roots
            ),
            "y comes from the inputs before they were scaled: w . x is not y any more": want_y * roots,
            "y is scaled twice": want_y / roots,
        },
        what="targets",
        loose=loose,
    )


def some_step(case: Case, d: int, steps: int, share: float, low: int, high: int) -> int:
    """A step with `low` to `high` dimensions beyond the first, where rounding cannot decide how many."""
    while True:
        step = case.integer(1, int(share * steps) - 1)
        grown = step / (share * steps) * d
        if low <= int(grown) <= high and 0.05 < grown % 1 < 0.95:
            return step


# 11.4: rates by muP


@exercise("11.4", "adam_rates")
def adam_rates(answer, case: Case) -> None:
    width, rank = case.choice((12, 3), (20, 2), (24, 2), (40, 3), (48, 2), (56, 2), (60, 3), (96, 2))
    heads, d = case.choice(2, 4), case.integer(2, 7)
    base_width, rate = case.choice(10, 18, 36, 64, 128), case.integer(11, 97) * 1e-4
    config = sa.GPTConfig(
        n_layers=case.integer(1, 2),
        n_heads=heads,
        d_model=width,
        context=4 * d,
        d_in=d,
        d_out=1,
        attention="btt",
        attention_options={"btt_rank": rank, "qk_norm": bool(case.integer(0, 1))},
        expansion=3,
    )
    with torch.device("meta"):
        model = sa.GPT(config)
    shapes = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    factors = rate_factors(model, base_width)
    want = {name: rate * factor for name, factor in factors.items()}

    def but(change: Callable[[str, tuple[int, ...]], float | None]) -> dict[str, float]:
        """The right rates, except where `change` gives another fan_in."""
        changed = {name: change(name, shape) for name, shape in shapes.items()}
        return {name: want[name] if fan is None else rate * base_width / fan for name, fan in changed.items()}

    def factor(right, left) -> dict[str, float]:
        return but(lambda name, s: right(*s) if name.endswith("right") else left(*s) if name.endswith("left") else None)

    hidden = {name for name, number in factors.items() if name not in kept(shapes)}
    near = {
        "the factors of a BTT are given the fan_in of a dense matrix, D; each sums over fewer numbers": factor(
            lambda h, c, d, b, s: width, lambda h, b, c, s, a: width
        ),
        "the left factor sums over c and s: its fan_in is c s": factor(
            lambda h, c, d, b, s: d, lambda h, b, c, s, a: c
        ),
        "the left factor sums over c and s; b only numbers its blocks": factor(
            lambda h, c, d, b, s: d, lambda h, b, c, s, a: b * c * s
        ),
        "the right factor sums over d; c only numbers its blocks": factor(
            lambda h, c, d, b, s: c * d, lambda h, b, c, s, a: c * s
        ),
        "these are the fan_outs of the factors, how many numbers they give; the fan_in is how many they sum": factor(
            lambda h, c, d, b, s: b * s, lambda h, b, c, s, a: a
        ),
        "the factors of a BTT are given the last axis as fan_in; it is their output": factor(
            lambda h, c, d, b, s: s, lambda h, b, c, s, a: a
        ),
        "the factors of a BTT are given axis 1 as fan_in; it numbers their blocks": factor(
            lambda h, c, d, b, s: c, lambda h, b, c, s, a: b
        ),
        "a dense weight is stored as (outputs, inputs): its fan_in is shape[1]": but(
            lambda name, s: s[0] if name in hidden and len(s) == 2 else None
        ),
        "embedding and positions keep the base rate at every width": but(
            lambda name, s: s[1] if name in ("embed.weight", "position") else None
        ),
        "the embedding keeps the base rate at every width": but(lambda n, s: s[1] if n == "embed.weight" else None),
        "the positions keep the base rate at every width": but(lambda n, s: s[1] if n == "position" else None),
        "norms keep the base rate at every width": but(lambda n, s: s[0] if len(s) == 1 else None),
        "what scales with width is every hidden weight, the dense ones too": {
            name: number if name.endswith(("right", "left")) or name in kept(shapes) else rate
            for name, number in want.items()
        },
        "these are the factors base_width / fan_in; multiply them by the base rate": factors,
        "the rates grow with fan_in; they should fall": {name: rate / f for name, f in factors.items()},
        "Adam's rates fall as 1 / fan_in; the root belongs to the initial weights": {
            name: rate * f**0.5 for name, f in factors.items()
        },
        "all parameters have the base rate": dict.fromkeys(want, rate),
        "this is rate / fan_in; the rule is relative to the base width": {
            name: number if name in kept(shapes) else number / base_width for name, number in want.items()
        },
    }
    same_table(case, answer(shapes, rate, base_width), want, near, "rate")


def kept(shapes: dict[str, tuple[int, ...]]) -> set[str]:
    """Parameters whose rate is the same at every width."""
    return {"embed.weight", "position"} | {name for name, shape in shapes.items() if len(shape) == 1}


# 11.5: what the figure says


@exercise("11.5", "relative_budgets")
def relative_budgets(answer, case: Case) -> None:
    threshold = case.integer(10, 300) / 1000
    record, reference = comparison_record(case, threshold)
    methods, runs = record["setting"]["methods"], record["runs"].values()

    def mean(models: list[dict]) -> float:
        errors = [model["last"] for model in models]
        return math.inf if not errors or None in errors else sum(errors) / len(errors)

    def lowest(models: list[dict], pick=min) -> float:
        return pick([model["last"] for model in models if model["last"] is not None], default=math.inf)

    def median(models: list[dict]) -> float:
        errors = sorted(math.inf if model["last"] is None else model["last"] for model in models)
        return errors[len(errors) // 2] if errors else math.inf

    def survivors(run: dict) -> float:
        return math.inf if run["last"] is None else run["last"]

    def attention(run: dict) -> int:
        return sum(run["macs_a_token"][part] for part in ("attention_projections", "scores", "values"))

    def table(error=lambda run: mean(run["by_seed"]), cost=lambda run: run["training_macs_a_model"], pick=min) -> dict:
        fewest = {}
        for method in methods:
            finished = [run for run in runs if run["method"] == method and run["status"] == "finished"]
            fewest[method] = pick([cost(run) for run in finished if error(run) < threshold], default=None)
        if fewest[reference] is None:
            return {}
        return {method: None if macs is None else macs / fewest[reference] for method, macs in fewest.items()}

    def mixed(run: dict) -> float:
        return mean(run["by_seed"] + run["swept"])

    def best_of_all() -> dict:
        """By the model of lowest error, however much it costs."""
        costs = {}
        for method in methods:
            good = [r for r in runs if r["method"] == method and "by_seed" in r and mean(r["by_seed"]) < threshold]
            best = min(good, key=lambda run: mean(run["by_seed"]), default=None)
            costs[method] = best and best["training_macs_a_model"]
        return {method: macs and macs / costs[reference] for method, macs in costs.items()}

    def by_prefix() -> dict:
        """With the runs of standard_1 among those of standard, whose names begin alike."""
        fewest = {}
        for method in methods:
            good = [
                r["training_macs_a_model"]
                for name, r in record["runs"].items()
                if name.startswith(method) and "by_seed" in r and mean(r["by_seed"]) < threshold
            ]
            fewest[method] = min(good, default=None)
        return {method: macs and macs / fewest[reference] for method, macs in fewest.items()}

    want = table()
    near = {
        "this goes by the best seed; take the mean over the seeds": table(lambda run: lowest(run["by_seed"])),
        "this goes by the median seed; take the mean over the seeds": table(lambda run: median(run["by_seed"])),
        "this asks every seed to be below the threshold; their mean is enough": table(
            lambda run: lowest(run["by_seed"], max) if mean(run["by_seed"]) < math.inf else math.inf
        ),
        "a model that diverged is left out of the mean: the mean of the others flatters, so the width does not count": (
            table(survivors)
        ),
        "a model that diverged counts as an error of 0": table(
            lambda run: mean([{"last": model["last"] or 0.0} for model in run["by_seed"]])
        ),
        "this goes by the models of the sweep, the best of which was chosen for its error; `by_seed` is reported": (
            table(lambda run: lowest(run["swept"]))
        ),
        "the models of the sweep are mixed with the reported seeds": table(mixed),
        "the models of the sweep are mixed with the reported seeds, and those that diverged are left out": table(
            lambda run: mean([model for model in run["by_seed"] + run["swept"] if model["last"] is not None])
        ),
        "this goes by the best model, the sweep's too": table(lambda run: lowest(run["by_seed"] + run["swept"])),
        "these are the MACs of attention alone; a budget pays for the whole model": table(cost=attention),
        "these are the MACs of the scores alone; a budget pays for the whole model": table(
            cost=lambda run: run["macs_a_token"]["scores"]
        ),
        "these are ratios of widths; equal widths cost different methods different budgets": table(
            cost=lambda run: run["width"]
        ),
        "these are ratios of parameters; the question is about training MACs": table(cost=lambda run: run["params"]),
        "these are ratios of seconds, which depend on the machine; the question is about training MACs": table(
            cost=lambda run: run.get("seconds_a_model", 0)
        ),
        "this is the most that was spent, not the least that was enough": table(pick=max),
        "this is the model of lowest error; a cheaper one is below the threshold too": best_of_all(),
        "the ratios are upside down: the method's budget over that of the reference": {
            method: ratio and 1 / ratio for method, ratio in want.items()
        },
        "these are budgets; divide them by that of the reference": budgets_of(record, threshold, mean),
        "a method that never gets below the threshold is left out; it belongs in the answer, as None": {
            method: ratio for method, ratio in want.items() if ratio is not None
        },
        "a name that begins with 'standard' may be one of standard_1: go by run['method']": by_prefix(),
        "this goes by the loss of the last training steps; the error on fresh prompts is `last`": table(
            lambda run: sum(m["curve"]["last"][-1] or math.inf for m in run["by_seed"]) / max(1, len(run["by_seed"]))
        ),
    }
    same_table(case, answer(record, threshold, reference), want, near, "relative budget")


def budgets_of(record: dict, threshold: float, mean: Callable) -> dict[str, int | None]:
    found: dict[str, list[int]] = {method: [] for method in record["setting"]["methods"]}
    for run in record["runs"].values():
        if run["status"] == "finished" and mean(run["by_seed"]) < threshold:
            found[run["method"]].append(run["training_macs_a_model"])
    return {method: min(budgets, default=None) for method, budgets in found.items()}
