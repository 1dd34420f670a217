"""Chapter 12's tests. Each function tries one random case against a specification that is not the solution's way."""

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import product

import torch
from torch import Tensor

from structattn_minimal.partition import halving_block_sizes, same_block
from structattn_minimal.window import band

from ..case import Case, Mistake, name_of
from ..ch08.tests import same_numbers
from ..ch11.tests import same_table
from ..registry import exercise


def several(answer, count: int, names: str) -> tuple:
    if not isinstance(answer, tuple | list) or len(answer) != count:
        raise Mistake(f"the answer should be {count} numbers: {names}", "separate them by commas, after `return`")
    return tuple(answer)


# 12.1: a window for the same MACs


@exercise("12.1", "matching_window")
def matching_window(answer, case: Case) -> None:
    while True:
        lists = [case.different(n, 1, 12) for n in (2, 3, 4, 3)]
        lengths = [2 ** len(ranks) * case.integer(4, 12) for ranks in lists]
        want, near = windows(lists, lengths)
        rows = {tuple(row) for row in (want, *near.values())}
        if len(rows) == 1 + len(near):  # whole numbers agree by luck now and then; here no two mistakes do
            break
    got = [answer(ranks, seq_len) for ranks, seq_len in zip(lists, lengths, strict=True)]
    same_numbers(case, got, want, near, "window")


def windows(lists: list[list[int]], lengths: list[int]) -> tuple[list[float], dict[str, list[float]]]:
    """The right windows, and by hint those of mistakes."""

    def over(find: Callable[[list[int], int], int]) -> list[float]:
        return [find(ranks, seq_len) for ranks, seq_len in zip(lists, lengths, strict=True)]

    def positions(seq_len: int) -> Tensor:
        return torch.arange(seq_len)

    def causal(seq_len: int) -> Tensor:
        return positions(seq_len)[:, None] >= positions(seq_len)

    def budget(ranks, seq_len, mask=causal, weigh=lambda rank, level: rank, halvings=0) -> int:
        """One pair at a time, as far as masks can count."""
        p, total = positions(seq_len), 0
        for level, rank in enumerate(ranks):
            block = max(1, halving_block_sizes(seq_len, len(ranks))[level] >> halvings)
            total += weigh(rank, level) * int((same_block(p, p, block) & mask(seq_len)).sum())
        return total

    def widest(pairs: Callable[[int, int], int], spend: Callable[[list[int], int], float], r=sum):
        """The last window, one after the other, for which the budget is enough."""

        def find(ranks, seq_len):
            paid = spend(ranks, seq_len)
            return max((w for w in range(seq_len) if r(ranks) * pairs(seq_len, w) <= paid), default=-1)

        return find

    in_bands = {
        n: [int(band(positions(n), positions(n), window, True).sum()) for window in range(n)] for n in set(lengths)
    }

    def in_band(seq_len, w):
        return in_bands[seq_len][w]

    def both_halves(seq_len):
        return torch.ones(seq_len, seq_len, dtype=torch.bool)

    right = widest(in_band, budget)
    want = over(right)
    near = {
        "the first w tokens have fewer than w keys before them": over(
            widest(lambda seq_len, w: seq_len * (w + 1), budget)
        ),
        "the first w tokens have fewer than w keys before them, and each token scores itself too": over(
            widest(lambda seq_len, w: seq_len * w, budget)
        ),
        "causal blocks hold B (B + 1) / 2 pairs; this counts both halves, B^2, against a causal window": over(
            widest(in_band, lambda ranks, n: budget(ranks, n, both_halves))
        ),
        "causal blocks hold B (B + 1) / 2 pairs, the tokens with themselves included": over(
            widest(in_band, lambda ranks, n: budget(ranks, n, lambda n: causal(n) & ~torch.eye(n, dtype=torch.bool)))
        ),
        "causal blocks hold B (B + 1) / 2 pairs, not half of B^2": over(
            widest(in_band, lambda ranks, n: budget(ranks, n, both_halves) / 2)
        ),
        "this is the share of the MACs that is left, times T; a causal sequence has more pairs near than far": over(
            lambda ranks, n: int(n * sum(r / 2**l for l, r in enumerate(ranks)) / sum(ranks))
        ),
        "level l has 2^(l-1) blocks, and each of them has pairs": over(
            widest(
                in_band,
                lambda ranks, n: sum(r * (n >> l) * ((n >> l) + 1) // 2 for l, r in enumerate(ranks)),
            )
        ),
        "the coarsest level has one block, the whole sequence": over(
            widest(in_band, lambda ranks, n: budget(ranks, n, halvings=1))
        ),
        "a window scores every pair with all r features": over(widest(in_band, budget, r=lambda ranks: ranks[0])),
        "the levels' ranks are not weighed: level l takes r_l MACs for a pair": over(
            widest(in_band, lambda ranks, n: budget(ranks, n, weigh=lambda r, l: 1), r=len)
        ),
        "the window's MACs are still within the budget one token further": [n - 1 for n in want],
        "this window is one too wide: w earlier keys, and the token itself besides": [n + 1 for n in want],
    }
    return want, near


# 12.2: a fair budget


@exercise("12.2", "fair_steps")
def fair_steps(answer, case: Case) -> None:
    currency = ("macs", "seconds")[case.turn(2)]
    names = ["standard", "swa", "mlr", "mlr_steep"]
    methods = {name: one_method(case) for name in names}
    reference, steps = case.choice(*names), case.integer(300, 900)
    methods[case.choice(*(name for name in names if name != reference))]["setup_seconds"] *= 1000  # never begins

    def by(of_a_step, beforehand=lambda m: 0, whole=math.floor, least=0, budget=None) -> dict[str, int]:
        own = methods[reference]
        paid = Fraction(beforehand(own)) + steps * Fraction(of_a_step(own)) if budget is None else budget
        counts = {n: (paid - Fraction(beforehand(m))) / Fraction(of_a_step(m)) for n, m in methods.items()}
        return {name: max(least, whole(count)) for name, count in counts.items()}

    def macs(m):
        return m["macs_a_token"]["all"] * m["tokens_a_step"]

    def seconds(m):
        return m["seconds_a_step"]

    def setup(m):
        return m["setup_seconds"]

    arguments = (macs,) if currency == "macs" else (seconds, setup)
    want = by(*arguments)
    near = {
        "the steps are rounded up, and the last one is not paid for": by(*arguments, whole=math.ceil),
        "the steps are rounded to the nearest; half of them are not paid for": by(*arguments, whole=round),
        "the ratio is upside down: who costs less a step may take more of them": {
            name: math.floor(steps * Fraction(arguments[0](m)) / Fraction(arguments[0](methods[reference])))
            for name, m in methods.items()
        },
        "a method that takes more tokens a step pays for more of them": by(lambda m: m["macs_a_token"]["all"]),
        "these are the MACs of the scores alone; a step pays for the whole model": by(
            lambda m: m["macs_a_token"]["scores"] * m["tokens_a_step"]
        ),
        "this budget is in the other currency": by(seconds, setup) if currency == "macs" else by(macs),
        "setting up takes seconds too, of every method and once": by(seconds),
        "the reference is set up as well: its budget is setup and steps": by(
            seconds, setup, budget=steps * Fraction(seconds(methods[reference]))
        ),
        "every method sets itself up, also those that are not the reference": by(
            seconds, budget=Fraction(setup(methods[reference])) + steps * Fraction(seconds(methods[reference]))
        ),
        "setting up costs seconds once, not at every step": by(lambda m: seconds(m) + setup(m)),
        "who cannot even be set up for the budget takes 0 steps, not a negative number": by(
            *arguments, least=-(10**12)
        ),
        "all methods take the same number of steps here; the question is what they may take for the same price": (
            dict.fromkeys(names, steps)
        ),
    }
    same_table(case, answer(methods, reference, steps, currency), want, near, "number of steps")


def one_method(case: Case) -> dict:
    """What a method costs. Seconds are multiples of 1/64, so that whoever divides exactly loses no step to rounding."""
    parts = {"attention_projections": case.integer(200, 900), "scores": case.integer(100, 2000)}
    parts |= {"values": case.integer(100, 900), "feed_forward": case.integer(500, 900), "ends": case.integer(20, 90)}
    return {
        "macs_a_token": parts | {"all": sum(parts.values())},
        "tokens_a_step": 64 * case.integer(16, 60),
        "seconds_a_step": case.integer(8, 60) / 64,
        "setup_seconds": case.integer(200, 2000) / 64,
    }


# 12.3: the loss after a seam


@exercise("12.3", "loss_after_seam")
def loss_after_seam(answer, case: Case) -> None:
    texts, block = case.different(2, 3, 8)
    blocks, rest = case.integer(3, 4), case.integer(1, block - 1)
    seq_len = block * blocks + rest  # the last block is cut short
    losses = case.normal(texts, seq_len).abs() + 0.5
    wide = losses.double()

    def by_offset(first=block, last=seq_len, shift=0) -> Tensor:
        sums, counts = [0.0] * block, [0] * block
        for b in range(texts):
            for i in range(first, last):
                sums[(i + shift) % block] += float(wide[b, i])
                counts[(i + shift) % block] += 1
        return torch.tensor(sums, dtype=torch.float64) / torch.tensor(counts)

    whole = wide[:, : block * blocks].unflatten(1, (blocks, block))
    padded = torch.nn.functional.pad(wide, (0, block - rest)).unflatten(1, (blocks + 1, block))
    near = {
        "the first block is in the mean too: its tokens have seen nothing before it, so that no seam is at work": (
            by_offset(first=0)
        ),
        "the last block is cut short, and its tokens count all the same": by_offset(last=block * blocks),
        "the last block is cut short: where it has no tokens there is nothing to count, not a loss of 0": (
            padded[:, 1:].mean((0, 1))
        ),
        "the first block should be left out, and the last one, cut short, should not": whole.mean((0, 1)),
        "the first token of a block is at offset 0": by_offset(shift=1),
        "this is one token late: the first token of a block is at offset 0": by_offset(shift=-1),
        "these are sums; divide by the number of tokens at each offset": by_offset()
        * torch.tensor([texts * len(range(block + o, seq_len, block)) for o in range(block)]),
        "this is the second block alone; take all blocks after the first": wide[:, block : 2 * block].mean(0),
        "the mean over the texts is missing": wide[:, block : block * blocks].unflatten(1, (blocks - 1, block)).mean(1),
        "this is the mean of each block; the question is about the places in a block": whole[:, 1:].mean((0, 2)),
        "this is the mean of each block; the question is about the places in a block, whatever the block": whole.mean(
            (0, 2)
        ),
    }
    case.same(answer(losses, block), by_offset(), near, what="mean loss", loose=5)


# 12.4: bits and perplexity


@exercise("12.4", "bits_and_perplexity")
def bits_and_perplexity(answer, case: Case) -> None:
    texts = case.integer(3, 5)
    tokens = case.different(texts, 20, 4000)
    characters = [n * case.integer(25, 60) // 10 for n in tokens]
    nats = case.normal(texts).abs() + 1
    losses = nats.double().tolist()
    ln2, total = math.log(2), math.fsum(loss * n for loss, n in zip(losses, tokens, strict=True))
    every = list(zip(losses, tokens, characters, strict=True))
    bits = total / ln2 / sum(characters)
    perplexity = math.exp(total / sum(tokens))
    got = several(answer(nats, tokens, characters), 2, "bits a character and perplexity")
    one_number(
        case,
        got[0],
        bits,
        {
            "these are nats: a bit is ln 2 nats": bits * ln2,
            "multiplied by ln 2; a bit is ln 2 = 0.69 nats, so there are more bits than nats": bits * ln2**2,
            "these are bits a token; divide by characters": bits * sum(characters) / sum(tokens),
            "these are nats a token; a bit is ln 2 nats, and there are more characters than tokens": total
            / sum(tokens),
            "the texts' means are averaged as if all were equally long": sum(l / ln2 * n / c for l, n, c in every)
            / texts,
            "the texts' losses are averaged as if all were equally long": sum(losses)
            / texts
            / ln2
            * sum(tokens)
            / sum(characters),
            "the losses a token are divided by all characters, not multiplied by the tokens first": sum(losses)
            / ln2
            / sum(characters),
            "each text's loss is weighed by its characters; it is a mean over tokens": sum(l * c for l, _, c in every)
            / ln2
            / sum(characters),
            "decimal digits in place of bits: log 10 in place of log 2": bits * ln2 / math.log(10),
        },
        "number of bits a character",
    )
    one_number(
        case,
        got[1],
        perplexity,
        {
            "the perplexities of the texts are averaged; average the losses, weighed by tokens, then take exp": sum(
                math.exp(l) for l in losses
            )
            / texts,
            "the perplexities of the texts are averaged, weighed by tokens; average the losses, then take exp": sum(
                math.exp(l) * n for l, n, _ in every
            )
            / sum(tokens),
            "the texts' losses are averaged as if all were equally long": math.exp(sum(losses) / texts),
            "each text's loss is weighed by its characters; it is a mean over tokens": math.exp(
                sum(l * c for l, _, c in every) / sum(characters)
            ),
            "this is 2 to the power of nats; the base has to go with the unit": 2 ** (total / sum(tokens)),
            "this is the perplexity of a character; the question is that of a token": 2**bits,
            "this is e to the power of bits; the base has to go with the unit": math.exp(total / sum(tokens) / ln2),
            "this is the loss, not yet exp of it": total / sum(tokens),
        },
        "perplexity",
    )


def one_number(case: Case, got, want: float, near: dict[str, float], what: str, rounding: float = 1e-5) -> None:
    """One number, up to the rounding of float32."""
    value = case.number(got, what)
    if math.isclose(value, want, rel_tol=rounding):
        return
    likely = min(near, key=lambda hint: abs(value - near[hint]))  # two of them may be closer than rounding
    known = math.isclose(value, near[likely], rel_tol=rounding)
    raise Mistake(f"the {what} is {value:.6g}, and should be {want:.6g}", likely if known else None)


# 12.5: a power law


@exercise("12.5", "power_law")
def power_law(answer, case: Case) -> None:
    runs, t = case.integer(4, 9), case.integer(211, 450) / 100
    exponent, spread = case.integer(40, 300) / 1000, case.integer(10, 50) / 1000
    x = torch.rand(runs, generator=case.generator, dtype=torch.float64) * 6 + 3
    macs = x.exp()
    noise = torch.randn(runs, generator=case.generator, dtype=torch.float64)
    loss = case.integer(20, 90) / 10 * (spread * noise - exponent * x).exp()

    def fit(x: Tensor, y: Tensor) -> tuple[float, float, float, float]:
        """Slope, sum of squared residuals, sum of squares of x and number of runs, by sums over all pairs of runs."""
        pairs = [(i, j) for i in range(runs) for j in range(i)]
        xx = sum(float(x[i] - x[j]) ** 2 for i, j in pairs) / runs
        xy = sum(float((x[i] - x[j]) * (y[i] - y[j])) for i, j in pairs) / runs
        yy = sum(float(y[i] - y[j]) ** 2 for i, j in pairs) / runs
        return xy / xx, yy - xy**2 / xx, xx, runs

    slope, ssr, xx, n = fit(macs.log(), loss.log())
    error = math.sqrt(ssr / (n - 2) / xx)
    low, high = -slope - t * error, -slope + t * error
    raw, mixed = fit(macs, loss)[0], fit(macs.log10(), loss.log())[0]
    got = several(answer(macs, loss, t), 3, "the exponent b, and the lower and the upper end of its interval")
    one_number(
        case,
        got[0],
        -slope,
        {
            "the sign: the loss falls, as macs to the power of -b": slope,
            "this is the slope of the loss itself; take logarithms of both": -raw,
            "this is the slope of the loss itself; take logarithms of both, and mind the sign": raw,
            "the logarithms have different bases": -mixed,
            "the logarithms have different bases, the other way around": -fit(macs.log(), loss.log10())[0],
            "only the loss is in logarithms: this is an exponential, not a power law": -fit(macs, loss.log())[0],
            "only the MACs are in logarithms": -fit(macs.log(), loss)[0],
            "the line goes through the origin, as if a were 1; fit the intercept too": -float(
                (macs.log() @ loss.log()) / macs.log().square().sum()
            ),
            "this goes through the first and the last run alone": -float(
                (loss.log()[-1] - loss.log()[0]) / (macs.log()[-1] - macs.log()[0])
            ),
            "loss and MACs are exchanged": -fit(loss.log(), macs.log())[0],
        },
        "exponent",
    )
    width = case.number(got[2], "upper end") - case.number(got[1], "lower end")
    if width < 0:
        raise Mistake("the lower end lies above the upper one", "the order: b, lower end, upper end")
    one_number(
        case,
        width / 2,
        t * error,
        {
            "two numbers were fitted: divide the sum of squares by n - 2, not by n": t * error * math.sqrt((n - 2) / n),
            "two numbers were fitted: divide the sum of squares by n - 2, not by n - 1": t
            * error
            * math.sqrt((n - 2) / (n - 1)),
            "this is t times the scatter about the line; the slope's error is that over the root of sum (x - mean)^2": (
                t * math.sqrt(ssr / (n - 2))
            ),
            "this is one standard error; t of them are asked": error,
            "the interval is t standard errors wide; it goes that far to each side": t * error / 2,
            "this is the standard error squared": t * error**2,
            "the scatter is divided by sum (x - mean)^2; by its root": t * math.sqrt(ssr / (n - 2)) / xx,
            "the scatter is divided by the standard deviation of x; its root of n is missing": t
            * math.sqrt(ssr / (n - 2) / (xx / n)),
            "the scatter is divided by the standard deviation of x; its root of n - 1 is missing": t
            * math.sqrt(ssr / (n - 2) / (xx / (n - 1))),
            "this is the error of a mean, the scatter over sqrt(n); a slope's depends on how far apart the runs are": (
                t * math.sqrt(ssr / (n - 2) / n)
            ),
            "t stands under the root": math.sqrt(t) * error,
        },
        "half width of the interval",
        rounding=1e-4,
    )
    one_number(case, got[1], low, {"the interval should lie around b, not around the slope": -high}, "lower end", 1e-4)


# 12.6: ranks for a budget

PARTS, FEATURES, TILE = (1, 8, 32, 128), 64, 4
Ranks = tuple[int, ...]
LISTS = [ranks for ranks in product(range(TILE, FEATURES, TILE), repeat=len(PARTS)) if sum(ranks) == FEATURES]
MOST = FEATURES - TILE * (len(PARTS) - 1)  # that one level can have
HAIR = 2**-12  # half of what two costs differ by at least
EDGE = f"a level may have as many as {MOST} features, if the others have {TILE} each"
EXACT = "a list that costs exactly the budget is within it"


def shares_of_pairs(blocks: list[int], seq_len: int = 128) -> list[float]:
    """Which share of all pairs lies in one block, for each level."""
    p = torch.arange(seq_len)
    return [float(same_block(p, p, block).double().mean()) for block in blocks]


def prices(shares: list[float]) -> dict[Ranks, float]:
    """What each list costs, if the levels score such shares of the pairs."""
    return {ranks: sum(rank * share for rank, share in zip(ranks, shares, strict=True)) / FEATURES for ranks in LISTS}


PRICES = prices(shares_of_pairs([128 // n for n in PARTS]))
HALVING = prices(shares_of_pairs(list(halving_block_sizes(128, len(PARTS)))))
CHEAPEST = min(LISTS, key=PRICES.get)


@exercise("12.6", "choose_ranks")
def choose_ranks(answer, case: Case) -> None:
    kind = ("a hair below", "exactly", "ties", "nothing", "an edge")[case.turn(5)]
    while True:
        expected = made_up_losses(case)
        budget = budget_for(case, kind, expected)
        if budget is not None and (kind == "nothing" or tells_apart(kind, expected, budget)):
            break
    want, near = best(expected, budget), likely_lists(expected, budget)

    def predict(ranks) -> float:
        return expected[whole_list(case, ranks, "list that predict is given")]

    got = answer(predict, budget)
    if got is None and want is None:
        return
    got = None if got is None else whole_list(case, got, "answer")
    likely = next((hint for hint, ranks in near.items() if ranks == got), None)
    if got is None:
        raise Mistake(f"the answer is None, and {told(want)} is within the budget: {bill(want, budget)}", likely)
    if PRICES[got] > budget:
        hint = "where no list is within the budget, return None" if want is None else likely
        raise Mistake(f"{told(got)} is over the budget: {bill(got, budget)}", hint)
    if expected[got] > expected[want]:
        if likely is None and not any(expected[ranks] < expected[got] for ranks in moves(got, budget)):
            likely = "no move of 4 features makes it better, and it is not the best: look at all lists, there are few"
        raise Mistake(
            f"{told(got)}, expected at {expected[got]:.4f}, misses a better list: {told(want)}, expected at "
            f"{expected[want]:.4f}, {bill(want, budget)}",
            likely,
        )
    if PRICES[got] > PRICES[want]:
        raise Mistake(
            f"{told(got)} is expected to be as good as {told(want)}, and costs more: {PRICES[got]:.4f}, not "
            f"{PRICES[want]:.4f}",
            likely or "of lists that are equally good, take the cheapest",
        )


def told(ranks: Ranks) -> str:
    return "|".join(map(str, ranks))


def bill(ranks: Ranks, budget: float) -> str:
    return f"it costs {PRICES[ranks]:.4f} of {budget:.4f}"


def whole_list(case: Case, ranks, what: str) -> Ranks:
    """`ranks` as a tuple, if it is one of the lists that may be chosen."""
    ranks = ranks.tolist() if isinstance(ranks, Tensor) else ranks
    if not isinstance(ranks, list | tuple) or len(ranks) != len(PARTS):
        raise Mistake(f"the {what} should be a list of four ranks, and is {name_of(ranks)}")
    values = [case.number(rank, "rank") for rank in ranks]
    said = f"the {what}, {'|'.join(f'{value:g}' for value in values)},"
    if sum(values) != FEATURES:
        raise Mistake(f"{said} sums to {sum(values):g}, and should sum to {FEATURES}")
    if any(value < TILE or value % TILE for value in values):
        raise Mistake(f"{said} should hold multiples of {TILE}, none of them 0: nothing else was recorded")
    return tuple(map(int, values))


def made_up_losses(case: Case) -> dict[Ranks, float]:
    """By list: rough, so that there are many valleys, and a little lower where features cost more."""
    rough = torch.randn(len(LISTS), generator=case.generator, dtype=torch.float64).tolist()
    return {ranks: round(1.3 - 0.15 * PRICES[ranks] + 0.02 * x, 4) for ranks, x in zip(LISTS, rough, strict=True)}


def best(expected: dict[Ranks, float], budget: float, allowed=lambda ranks: True, prices=PRICES) -> Ranks | None:
    """The best of the allowed lists within the budget; of equals the cheapest."""
    within = (ranks for ranks, price in prices.items() if price <= budget and allowed(ranks))
    return min(within, key=lambda ranks: (expected[ranks], prices[ranks]), default=None)


def budget_for(case: Case, kind: str, expected: dict[Ranks, float]) -> float | None:
    """A budget that asks for what the kind of case is about, or None. Ties are made, and an edge is made the best."""
    if kind == "nothing":
        return case.choice(PRICES[CHEAPEST] - HAIR, PRICES[CHEAPEST] / 2, 0.0)
    if kind == "an edge":
        edge = case.choice(*(ranks for ranks in LISTS if max(ranks) == MOST and ranks != CHEAPEST))
        expected[edge] = min(expected.values()) - 0.01
        return max(PRICES[edge], case.integer(300, 1000) / 1000)
    better = []  # what lists cost that are better than all cheaper ones
    for ranks in sorted(LISTS, key=lambda ranks: (expected[ranks], PRICES[ranks])):
        better += [PRICES[ranks]] if PRICES[ranks] < min(better, default=math.inf) else []
    dearer = [price for price in better[1:-1] if price > PRICES[16, 16, 16, 16]]  # of ranks that fall, the cheapest
    budget = case.choice(*dearer) - (0 if kind == "exactly" else HAIR) if dearer else None
    return None if kind == "ties" and budget and not make_ties(case, expected, budget) else budget


def make_ties(case: Case, expected: dict[Ranks, float], budget: float) -> bool:
    """Make two dearer lists as good as the best, one that is listed before it and one after; whether there are any."""
    want = best(expected, budget)
    dearer = [ranks for ranks in LISTS if PRICES[want] < PRICES[ranks] <= budget]
    before, after = [ranks for ranks in dearer if ranks < want], [ranks for ranks in dearer if ranks > want]
    if before and after:
        expected |= dict.fromkeys((case.choice(*before), case.choice(*after)), expected[want])
    return bool(before and after)


def likely_lists(expected: dict[Ranks, float], budget: float) -> dict[str, Ranks | None]:
    """By hint, what a mistake would choose."""

    def falls(ranks):
        return list(ranks) == sorted(ranks, reverse=True)

    return {
        "this is the best of all lists, whatever it costs": best(expected, 1.0),
        "this is the cheapest list; there are better ones that the budget pays for": CHEAPEST,
        "the blocks are not halved from level to level: they hold T, T/8, T/32 and T/128 tokens": (
            best(expected, budget, prices=HALVING)
        ),
        "ranks need not fall from level to level": best(expected, budget, falls),
        "ranks need not grow from level to level": best(expected, budget, lambda ranks: falls(ranks[::-1])),
        "ranks need not be powers of two": best(expected, budget, lambda ranks: {*ranks} <= {4, 8, 16, 32}),
        EDGE: best(expected, budget, lambda ranks: max(ranks) < MOST),
        EXACT: best(expected, budget - HAIR),
        "this is the highest loss; the lowest is asked": max(
            (ranks for ranks in LISTS if PRICES[ranks] <= budget), key=expected.get, default=None
        ),
        "cost and budget are shares of what standard attention pays: divide by its 64 features": None,
    }


def tells_apart(kind: str, expected: dict[Ranks, float], budget: float) -> bool:
    """Whether no two mistakes choose the same wrong list here, and no mistake that the case is about the right one."""
    want, near = best(expected, budget), likely_lists(expected, budget)
    wrong = [ranks for ranks in near.values() if ranks != want]
    wrong += [ranks for ranks in LISTS if expected[ranks] == expected[want] and ranks != want]
    if len({*wrong}) < len(wrong):
        return False
    right = {hint for hint, ranks in near.items() if ranks == want}
    return EDGE not in right if kind == "an edge" else right <= ({EDGE} if kind == "exactly" else {EDGE, EXACT})


def moves(ranks: Ranks, budget: float) -> list[Ranks]:
    """The lists within the budget that are one move of 4 features away."""

    def away(other: Ranks) -> int:
        return sum(abs(a - b) for a, b in zip(ranks, other, strict=True)) // 2

    return [other for other in LISTS if away(other) == TILE and PRICES[other] <= budget]
