"""Chapter 12's planted wrong answers."""

import math

import torch

from ..wrong import wrong
from .solutions import bits_and_perplexity, fair_steps, loss_after_seam, matching_window, power_law

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
