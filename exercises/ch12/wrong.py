"""Chapter 12's planted wrong answers."""

import math
from itertools import pairwise, permutations, product

import torch

from ..wrong import wrong
from .solutions import bits_and_perplexity, choose_ranks, fair_steps, loss_after_seam, matching_window, power_law

# 12.1


def window(ranks, seq_len, budget=None, pairs=lambda n, w: (w + 1) * n - w * (w + 1) // 2):
    budget = budget or sum(r * (seq_len * ((seq_len >> l) + 1) // 2) for l, r in enumerate(ranks))
    return max((w for w in range(seq_len) if sum(ranks) * pairs(seq_len, w) <= budget), default=-1)


@wrong("12.1", "the share of the MACs times T", says="more pairs near than far")
def share(ranks, seq_len):
    return int(seq_len * sum(r / 2**l for l, r in enumerate(ranks)) / sum(ranks))


@wrong("12.1", "the first tokens like the others", says="fewer than w keys before them")
def no_beginning(ranks, seq_len):
    return window(ranks, seq_len, pairs=lambda n, w: n * (w + 1))


@wrong("12.1", "the token itself among the w", says="one too wide")
def itself_counted(ranks, seq_len):
    return matching_window(ranks, seq_len) + 1


@wrong("12.1", "both halves of the blocks", says="counts both halves")
def both_halves(ranks, seq_len):
    return window(ranks, seq_len, sum(r * seq_len * (seq_len >> l) for l, r in enumerate(ranks)))


@wrong("12.1", "half of the blocks", says="not half of B^2")
def half(ranks, seq_len):
    return window(ranks, seq_len, sum(r * seq_len * (seq_len >> l) for l, r in enumerate(ranks)) / 2)


@wrong("12.1", "one block of each level", says="each of them has pairs")
def one_block(ranks, seq_len):
    return window(ranks, seq_len, sum(r * (n := seq_len >> l) * (n + 1) // 2 for l, r in enumerate(ranks)))


@wrong("12.1", "level 1 cut in halves", says="the coarsest level has one block")
def from_halves(ranks, seq_len):
    return window(ranks, seq_len, sum(r * seq_len * ((seq_len >> l + 1) + 1) // 2 for l, r in enumerate(ranks)))


# 12.2


def budgets(methods, reference, steps, of_a_step, beforehand=lambda m: 0, whole=math.floor, least=0):
    paid = beforehand(methods[reference]) + steps * of_a_step(methods[reference])
    return {name: max(least, whole((paid - beforehand(m)) / of_a_step(m))) for name, m in methods.items()}


def prices(currency):
    if currency == "seconds":
        return lambda m: m["seconds_a_step"], lambda m: m["setup_seconds"]
    return lambda m: m["macs_a_token"]["all"] * m["tokens_a_step"], lambda m: 0


@wrong("12.2", "rounded up", says="rounded up")
def rounded_up(methods, reference, steps, currency):
    return budgets(methods, reference, steps, *prices(currency), whole=math.ceil)


@wrong("12.2", "upside down", says="upside down")
def upside_down(methods, reference, steps, currency):
    price, _ = prices(currency)
    return {name: int(steps * price(m) // price(methods[reference])) for name, m in methods.items()}


@wrong("12.2", "tokens forgotten", says="pays for more of them")
def tokens_forgotten(methods, reference, steps, currency):
    if currency == "seconds":
        return fair_steps(methods, reference, steps, currency)
    return budgets(methods, reference, steps, lambda m: m["macs_a_token"]["all"])


@wrong("12.2", "the scores alone", says="the whole model")
def scores_alone(methods, reference, steps, currency):
    if currency == "seconds":
        return fair_steps(methods, reference, steps, currency)
    return budgets(methods, reference, steps, lambda m: m["macs_a_token"]["scores"] * m["tokens_a_step"])


@wrong("12.2", "setting up is free", says="takes seconds too")
def free_setup(methods, reference, steps, currency):
    return budgets(methods, reference, steps, prices(currency)[0])


@wrong("12.2", "setting up at every step", says="once, not at every step")
def setup_each_step(methods, reference, steps, currency):
    price, setup = prices(currency)
    return budgets(methods, reference, steps, lambda m: price(m) + setup(m))


@wrong("12.2", "negative steps", says="not a negative number")
def negative(methods, reference, steps, currency):
    return budgets(methods, reference, steps, *prices(currency), least=-(10**12))


@wrong("12.2", "equal steps", says="the same price")
def equal_steps(methods, reference, steps, currency):
    return dict.fromkeys(methods, steps)


# 12.3


def after_seam(losses, block, first, last):
    place = torch.arange(losses.shape[1])[first:last] % block
    return torch.stack([losses[:, first:last][:, place == offset].mean() for offset in range(block)])


@wrong("12.3", "the first block too", says="have seen nothing")
def first_block_too(losses, block):
    return after_seam(losses, block, 0, None)


@wrong("12.3", "without the last block", says="count all the same")
def without_the_last(losses, block):
    return after_seam(losses, block, block, losses.shape[1] // block * block)


@wrong("12.3", "zeros where the last block has ended", says="not a loss of 0")
def padded(losses, block):
    losses = torch.nn.functional.pad(losses, (0, -losses.shape[1] % block))
    return losses.unflatten(1, (-1, block))[:, 1:].mean((0, 1))


@wrong("12.3", "one place late", says="is at offset 0")
def one_late(losses, block):
    return loss_after_seam(losses, block).roll(1)


@wrong("12.3", "a mean for each block", says="the mean of each block")
def by_block(losses, block):
    return losses[:, : losses.shape[1] // block * block].unflatten(1, (-1, block)).mean((0, 2))


@wrong("12.3", "the second block alone", says="all blocks after the first")
def second_alone(losses, block):
    return losses[:, block : 2 * block].mean(0)


@wrong("12.3", "the sums", says="divide by the number of tokens")
def sums(losses, block):
    return torch.stack([losses[:, start::block].sum() for start in range(block, 2 * block)])


# 12.4


@wrong("12.4", "a mean of means", says="as if all were equally long")
def mean_of_means(nats, tokens, characters):
    loss = nats.double().mean()
    return loss / math.log(2) * sum(tokens) / sum(characters), loss.exp()


@wrong("12.4", "nats", says="these are nats: a bit")
def in_nats(nats, tokens, characters):
    bits, perplexity = bits_and_perplexity(nats, tokens, characters)
    return bits * math.log(2), perplexity


@wrong("12.4", "multiplied by ln 2", says="more bits than nats")
def multiplied(nats, tokens, characters):
    bits, perplexity = bits_and_perplexity(nats, tokens, characters)
    return bits * math.log(2) ** 2, perplexity


@wrong("12.4", "bits a token", says="divide by characters")
def a_token(nats, tokens, characters):
    return bits_and_perplexity(nats, tokens, tokens)


@wrong("12.4", "a mean of perplexities", says="the perplexities of the texts are averaged; average")
def mean_perplexity(nats, tokens, characters):
    return bits_and_perplexity(nats, tokens, characters)[0], nats.double().exp().mean()


@wrong("12.4", "perplexity of a character", says="the perplexity of a character")
def a_character(nats, tokens, characters):
    bits, _ = bits_and_perplexity(nats, tokens, characters)
    return bits, 2**bits


@wrong("12.4", "2 to the power of nats", says="the base has to go with the unit")
def wrong_base(nats, tokens, characters):
    bits, perplexity = bits_and_perplexity(nats, tokens, characters)
    return bits, 2 ** math.log(perplexity)


@wrong("12.4", "weighed by characters", says="it is a mean over tokens")
def by_characters(nats, tokens, characters):
    return bits_and_perplexity(nats, characters, characters)


# 12.5


def line(x, y):
    x, y = x - x.mean(), y - y.mean()
    slope = (x @ y) / (x @ x)
    return slope, (y - slope * x).square().sum(), x @ x, len(x)


def around(b, error, t):
    return b, b - t * error, b + t * error


@wrong("12.5", "the slope with its sign", says="the sign: the loss falls")
def slope_itself(macs, loss, t):
    b, low, high = power_law(macs, loss, t)
    return -b, -high, -low


@wrong("12.5", "no logarithms", says="take logarithms of both")
def no_logarithms(macs, loss, t):
    slope, ssr, xx, n = line(macs, loss)
    return around(-slope, (ssr / (n - 2) / xx).sqrt(), t)


@wrong("12.5", "the loss alone in logarithms", says="an exponential, not a power law")
def exponential(macs, loss, t):
    slope, ssr, xx, n = line(macs, loss.log())
    return around(-slope, (ssr / (n - 2) / xx).sqrt(), t)


@wrong("12.5", "two kinds of logarithm", says="different bases")
def two_bases(macs, loss, t):
    slope, ssr, xx, n = line(macs.log10(), loss.log())
    return around(-slope, (ssr / (n - 2) / xx).sqrt(), t)


@wrong("12.5", "through the origin", says="fit the intercept too")
def no_intercept(macs, loss, t):
    x, y = macs.log(), loss.log()
    slope = x @ y / (x @ x)
    return around(-slope, ((y - slope * x).square().sum() / (len(x) - 1) / (x @ x)).sqrt(), t)


@wrong("12.5", "divided by n", says="not by n")
def over_n(macs, loss, t):
    slope, ssr, xx, n = line(macs.log(), loss.log())
    return around(-slope, (ssr / n / xx).sqrt(), t)


@wrong("12.5", "the scatter about the line", says="scatter about the line")
def scatter(macs, loss, t):
    slope, ssr, _, n = line(macs.log(), loss.log())
    return around(-slope, (ssr / (n - 2)).sqrt(), t)


@wrong("12.5", "one standard error", says="one standard error")
def one_error(macs, loss, t):
    return power_law(macs, loss, 1.0)


@wrong("12.5", "half as wide", says="that far to each side")
def half_as_wide(macs, loss, t):
    return power_law(macs, loss, t / 2)


@wrong("12.5", "the error of a mean", says="how far apart the runs are")
def of_a_mean(macs, loss, t):
    slope, ssr, _, n = line(macs.log(), loss.log())
    return around(-slope, (ssr / (n - 2) / n).sqrt(), t)


# 12.6


PARTS = (1, 8, 32, 128)


def cost(ranks, parts=PARTS):
    return sum(rank / n for rank, n in zip(ranks, parts, strict=True)) / 64


def lists(ranks=range(4, 64, 4)):
    return [one for one in product(ranks, repeat=4) if sum(one) == 64]


def least(predict, within, cost=cost):
    return min(within, key=lambda ranks: (predict(ranks), cost(ranks)), default=None)


@wrong("12.6", "the budget ignored", says="whatever it costs")
def no_budget(predict, budget):
    return least(predict, lists()) if budget > cost((4, 4, 4, 52)) else None


@wrong("12.6", "no list is still an answer", says="return None")
def always_some(predict, budget):
    return choose_ranks(predict, max(budget, cost((4, 4, 4, 52))))


@wrong("12.6", "an error where no list is within", says="empty")
def empty(predict, budget):
    return min([ranks for ranks in lists() if cost(ranks) <= budget], key=lambda ranks: (predict(ranks), cost(ranks)))


@wrong("12.6", "the cheapest list", says="there are better ones")
def cheapest(predict, budget):
    return min([ranks for ranks in lists() if cost(ranks) <= budget], key=cost, default=None)


@wrong("12.6", "ranks that fall", says="need not fall")
def falling(predict, budget):
    return least(predict, [r for r in lists() if cost(r) <= budget and all(a >= b for a, b in pairwise(r))])


@wrong("12.6", "every set of ranks once", says="need not grow")
def sets_of_ranks(predict, budget):
    return least(predict, [r for r in lists() if cost(r) <= budget and all(a <= b for a, b in pairwise(r))])


@wrong("12.6", "powers of two", says="need not be powers")
def powers(predict, budget):
    return least(predict, [ranks for ranks in lists((4, 8, 16, 32)) if cost(ranks) <= budget])


@wrong("12.6", "blocks that halve", says="not halved from level to level")
def halving(predict, budget):
    def own(ranks):
        return cost(ranks, (1, 2, 4, 8))

    return least(predict, [ranks for ranks in lists() if own(ranks) <= budget], own)


@wrong("12.6", "the finest level first", says="is over the budget")
def finest_first(predict, budget):
    def own(ranks):
        return cost(ranks, PARTS[::-1])

    return least(predict, [ranks for ranks in lists() if own(ranks) <= budget], own)


@wrong("12.6", "not over 64", says="divide by its 64 features")
def undivided(predict, budget):
    return least(predict, [ranks for ranks in lists() if 64 * cost(ranks) <= budget])


@wrong("12.6", "strictly below the budget", says="exactly the budget")
def strictly_below(predict, budget):
    return least(predict, [ranks for ranks in lists() if cost(ranks) < budget])


@wrong("12.6", "the budget in per cent", says="is over the budget")
def in_per_cent(predict, budget):
    return least(predict, [ranks for ranks in lists() if round(100 * cost(ranks)) <= round(100 * budget)])


@wrong("12.6", "no level of 52", says="as many as 52")
def never_52(predict, budget):
    return least(predict, [ranks for ranks in lists(range(4, 52, 4)) if cost(ranks) <= budget])


@wrong("12.6", "a level without features", says="none of them 0")
def from_none(predict, budget):
    return least(predict, [ranks for ranks in lists(range(0, 65, 4)) if cost(ranks) <= budget])


@wrong("12.6", "the last rank forgotten in the sum", says="and should sum to 64")
def sums_to_less(predict, budget):
    found = [[*first, 60 - sum(first)] for first in product(range(4, 60, 4), repeat=3) if sum(first) < 60]
    return least(predict, [ranks for ranks in found if cost(ranks) <= budget])


@wrong("12.6", "the highest loss", says="the lowest is asked")
def highest(predict, budget):
    return max([ranks for ranks in lists() if cost(ranks) <= budget], key=predict, default=None)


@wrong("12.6", "move by move, as long as it gets better", says="expected")
def move_by_move(predict, budget):
    here = (4, 4, 4, 52) if budget >= cost((4, 4, 4, 52)) else None
    while here is not None:
        pairs = permutations(range(4), 2)
        moves = [[r + 4 * (l == to) - 4 * (l == of) for l, r in enumerate(here)] for of, to in pairs]
        there = least(predict, [ranks for ranks in moves if min(ranks) > 0 and cost(ranks) <= budget])
        if there is None or predict(there) >= predict(here):
            break
        here = there
    return here


@wrong("12.6", "level by level", says="expected")
def level_by_level(predict, budget):
    ranks = [4, 4, 4, 52]
    for level in range(3):
        tried = [[*ranks[:level], r, *[4] * (2 - level), ranks[-1] + 4 - r] for r in range(4, ranks[-1] + 1, 4)]
        ranks = least(predict, [one for one in tried if cost(one) <= budget])
        if ranks is None:
            return None
    return ranks


@wrong("12.6", "the first of equals", says="take the cheapest")
def first_of_equals(predict, budget):
    return min([ranks for ranks in lists() if cost(ranks) <= budget], key=predict, default=None)


@wrong("12.6", "the last of equals", says="take the cheapest")
def last_of_equals(predict, budget):
    return min([ranks for ranks in lists()[::-1] if cost(ranks) <= budget], key=predict, default=None)


@wrong("12.6", "the loss", says="should be a list of four ranks, and is a number")
def the_loss(predict, budget):
    ranks = choose_ranks(predict, budget)
    return None if ranks is None else predict(ranks)
