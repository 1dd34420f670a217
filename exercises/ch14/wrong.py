"""Chapter 14's planted wrong answers."""

from itertools import pairwise

import torch

from ..wrong import wrong
from .solutions import likeness, mass_by_distance

# 14.1


def entropy_of(seen, power=1):
    sigma = torch.linalg.svdvals(seen) ** power
    return torch.special.entr(sigma / sigma.sum()).sum()


@wrong("14.1", "the mean of a row left in", says="still there")
def uncentred(scores):
    return entropy_of(scores).exp()


@wrong("14.1", "the mean of columns", says="taken off each column")
def columns(scores):
    return entropy_of(scores - scores.mean(0)).exp()


@wrong("14.1", "one mean for all", says="each row has its own")
def one_mean(scores):
    return entropy_of(scores - scores.mean()).exp()


@wrong("14.1", "the weights", says="before the softmax")
def of_the_weights(scores):
    return entropy_of(scores.softmax(1)).exp()


@wrong("14.1", "squares of singular values", says="squares of the singular values")
def squares(scores):
    return entropy_of(scores - scores.mean(1, keepdim=True), 2).exp()


@wrong("14.1", "the entropy without its exponential", says="the entropy itself")
def entropy_alone(scores):
    return entropy_of(scores - scores.mean(1, keepdim=True))


@wrong("14.1", "the rank", says="it is the rank")
def rank(scores):
    return torch.linalg.matrix_rank(scores - scores.mean(1, keepdim=True), rtol=1e-4).to(scores.dtype)


# 14.2


def mass(weights, edges, first, inside=lambda away, low, high: (away >= low) & (away < high), sign=1):
    position = torch.arange(len(weights))
    away = sign * (position[:, None] - position)[first:]
    bins = [weights[first:][inside(away, low, high)].sum() for low, high in pairwise(edges)]
    return torch.stack(bins) / (len(weights) - first)


@wrong("14.2", "every query", says="have no far keys")
def every_query(weights, edges, first):
    return mass_by_distance(weights, edges, 0)


@wrong("14.2", "one query too late", says="itself counts")
def one_late(weights, edges, first):
    return mass_by_distance(weights, edges, first + 1)


@wrong("14.2", "divided by all queries", says="the number of all queries")
def divided_by_all(weights, edges, first):
    return mass_by_distance(weights, edges, first) * (len(weights) - first) / len(weights)


@wrong("14.2", "a sum", says="their mean")
def summed(weights, edges, first):
    return mass_by_distance(weights, edges, first) * (len(weights) - first)


@wrong("14.2", "edges in two bins", says="counted twice")
def closed(weights, edges, first):
    return mass(weights, edges, first, lambda away, low, high: (away >= low) & (away <= high))


@wrong("14.2", "the future", says="keys after the query")
def future(weights, edges, first):
    return mass(weights, edges, first, sign=-1)


# 14.3


def cosine(circuit):
    return circuit.trace() / circuit.norm() / len(circuit) ** 0.5


@wrong("14.3", "no copy", says="the copy is missing")
def no_copy(embed, form, copy):
    return cosine(embed.T @ form @ embed)


@wrong("14.3", "form and copy exchanged", says="are exchanged")
def exchanged(embed, form, copy):
    return cosine(embed.T @ copy @ form @ embed)


@wrong("14.3", "the form transposed", says="the form is transposed")
def transposed(embed, form, copy):
    return cosine(embed.T @ form.T @ copy @ embed)


@wrong("14.3", "no length of the identity", says="has the length of the identity")
def no_length(embed, form, copy):
    return likeness(embed, form, copy) * embed.shape[1] ** 0.5


@wrong("14.3", "d for its root", says="not d")
def root_missing(embed, form, copy):
    return likeness(embed, form, copy) / embed.shape[1] ** 0.5


@wrong("14.3", "the mean of the diagonal", says="the lengths of both")
def mean_of_the_diagonal(embed, form, copy):
    return (embed.T @ form @ copy @ embed).diagonal().mean()


@wrong("14.3", "the spectral norm", says="Frobenius norm")
def spectral(embed, form, copy):
    circuit = embed.T @ form @ copy @ embed
    return circuit.trace() / torch.linalg.matrix_norm(circuit, 2) / len(circuit) ** 0.5


@wrong("14.3", "no sign", says="the sign tells")
def unsigned(embed, form, copy):
    return likeness(embed, form, copy).abs()


# 14.4


def change(scores, other, causal=True):
    future = torch.ones_like(scores).triu(1).bool() if causal else torch.zeros_like(scores).bool()
    before, after = (some.masked_fill(future, -torch.inf).softmax(1) for some in (scores, other))
    return (before - after).abs().sum(1)


@wrong("14.4", "no half", says="counted twice")
def no_half(scores, part):
    return change(scores, scores - part).mean()


@wrong("14.4", "no mask", says="sees no later keys")
def no_mask(scores, part):
    return change(scores, scores - part, causal=False).mean() / 2


@wrong("14.4", "a sum over queries", says="their mean")
def sum_of_queries(scores, part):
    return change(scores, scores - part).sum() / 2


@wrong("14.4", "the part alone", says="keeps the part alone")
def part_alone(scores, part):
    return change(scores, part).mean() / 2


@wrong("14.4", "the part added", says="added once more")
def part_added(scores, part):
    return change(scores, scores + part).mean() / 2


@wrong("14.4", "the largest change", says="attention may go to several")
def one_key(scores, part):
    future = torch.ones_like(scores).triu(1).bool()
    before, after = (s.masked_fill(future, -torch.inf).softmax(1) for s in (scores, scores - part))
    return (before - after).abs().amax(1).mean()


@wrong("14.4", "a mean over pairs", says="mean over all pairs")
def mean_of_pairs(scores, part):
    return change(scores, scores - part).mean() / 2 / len(scores)
