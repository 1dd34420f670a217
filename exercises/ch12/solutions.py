"""Chapter 12's solutions, and for each another right answer."""

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import combinations, product

import torch
from jaxtyping import Float
from torch import Tensor


def matching_window(ranks: list[int], seq_len: int) -> int:
    """The widest window whose scores take no more MACs than those of causal MLR attention."""
    budget = 0
    for level, rank in enumerate(ranks):
        block = seq_len // 2**level
        budget += rank * 2**level * block * (block + 1) // 2  # pairs j <= i within a block, in all blocks
    spent, window = sum(ranks) * seq_len, 0  # each token with itself
    while (more := sum(ranks) * (seq_len - window - 1)) <= budget - spent and window < seq_len - 1:
        spent, window = spent + more, window + 1  # as many pairs are one token further apart
    return window


def matching_window_another(ranks, seq_len):
    r, blocks = sum(ranks), [seq_len >> level for level in range(len(ranks))]
    budget = sum(rank * (seq_len * (block + 1) // 2) for rank, block in zip(ranks, blocks, strict=True))
    left = seq_len * (seq_len + 1) // 2 - budget // r  # pairs that the window may not have: m (m + 1) / 2 at least
    m = (math.isqrt(8 * max(left, 0) + 1) - 1) // 2
    while m * (m + 1) // 2 < left:
        m += 1
    return seq_len - 1 - m


def fair_steps(methods: dict[str, dict], reference: str, steps: int, currency: str) -> dict[str, int]:
    """The whole steps that each method may take for what `steps` of the reference cost, in "macs" or "seconds"."""

    def of_a_step(method: dict) -> float:
        if currency == "seconds":
            return method["seconds_a_step"]
        return method["macs_a_token"]["all"] * method["tokens_a_step"]

    def beforehand(method: dict) -> float:
        return method["setup_seconds"] if currency == "seconds" else 0

    budget = beforehand(methods[reference]) + steps * of_a_step(methods[reference])
    return {name: max(0, int((budget - beforehand(method)) // of_a_step(method))) for name, method in methods.items()}


def fair_steps_another(methods, reference, steps, currency):
    def cost(method, steps):
        if currency == "macs":
            return Fraction(method["macs_a_token"]["all"]) * method["tokens_a_step"] * steps
        return Fraction(method["setup_seconds"]) + Fraction(method["seconds_a_step"]) * steps

    budget, fair = cost(methods[reference], steps), {}
    for name, method in methods.items():
        none, one = cost(method, 0), cost(method, 1)
        fair[name] = max(0, math.floor((budget - none) / (one - none)))
    return fair


def loss_after_seam(losses: Float[Tensor, "texts seq"], block: int) -> Float[Tensor, " block"]:
    """The mean loss of the tokens that lie 0, 1, 2, ... tokens into a block, the first block left out."""
    place = torch.arange(losses.shape[1])
    later = place >= block
    sums, counts = (
        losses.new_zeros(block).index_add(0, place[later] % block, values)
        for values in (losses[:, later].sum(0), torch.full_like(losses[0, later], len(losses)))
    )
    return sums / counts


def loss_after_seam_another(losses, block):
    return torch.stack([losses[:, start::block].mean() for start in range(block, 2 * block)])


def bits_and_perplexity(nats: Float[Tensor, " texts"], tokens: list[int], characters: list[int]) -> tuple[float, float]:
    """Bits a character and perplexity a token of several texts, of which each has a mean loss a token."""
    total = sum(loss * n for loss, n in zip(nats.tolist(), tokens, strict=True))
    return total / math.log(2) / sum(characters), math.exp(total / sum(tokens))


def bits_and_perplexity_another(nats, tokens, characters):
    weights = torch.tensor(tokens, dtype=torch.float64)
    loss = nats.double() @ (weights / weights.sum())
    return loss / 0.6931471805599453 * weights.sum() / sum(characters), 2 ** (loss / math.log(2))


def power_law(macs: Float[Tensor, " runs"], loss: Float[Tensor, " runs"], t: float) -> tuple[float, float, float]:
    """The exponent b of loss = a macs^-b, fitted in log space, and the ends of its interval of t standard errors."""
    x, y = macs.double().log(), loss.double().log()
    x, y = x - x.mean(), y - y.mean()
    slope = (x @ y) / (x @ x)
    residuals = y - slope * x
    error = (residuals @ residuals / (len(x) - 2) / (x @ x)).sqrt()  # two numbers were fitted
    b = float(-slope)
    return b, b - t * float(error), b + t * float(error)


def power_law_another(macs, loss, t):
    design = torch.stack([torch.ones(len(macs), dtype=torch.float64), macs.double().log10()], dim=1)
    y = loss.double().log10()
    inverse = torch.linalg.inv(design.T @ design)
    a, slope = inverse @ design.T @ y
    variance = (y - a - slope * design[:, 1]).square().sum() / (len(y) - 2) * inverse[1, 1]
    return -slope, -slope - t * variance.sqrt(), -slope + t * variance.sqrt()


def choose_ranks(predict: Callable[[list[int]], float], budget: float) -> list[int] | None:
    """The four ranks of least expected loss among those whose scores cost at most `budget`, a share of standard
    attention's.
    """

    def cost(ranks: list[int]) -> float:
        return sum(rank / parts for rank, parts in zip(ranks, (1, 8, 32, 128), strict=True)) / 64

    lists = [[*first, 64 - sum(first)] for first in product(range(4, 64, 4), repeat=3) if sum(first) < 64]
    within = [ranks for ranks in lists if cost(ranks) <= budget]
    return min(within, key=lambda ranks: (predict(ranks), cost(ranks)), default=None)


def choose_ranks_another(predict, budget):
    blocks, best, lowest = torch.tensor([128, 16, 4, 1]), None, math.inf  # of 128 tokens
    cuts = torch.tensor(list(combinations(range(1, 16), 3)))
    tiles = torch.diff(cuts, dim=1, prepend=torch.zeros(len(cuts), 1, dtype=int), append=torch.full((len(cuts), 1), 16))
    for n in (tiles @ blocks).argsort().tolist():  # cheap ones first
        ranks = tuple(4 * rank for rank in tiles[n].tolist())
        if tiles[n] @ blocks <= budget * 128 * 16 and predict(ranks) < lowest:
            best, lowest = ranks, predict(ranks)
    return best
