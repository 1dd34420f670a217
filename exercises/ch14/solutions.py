"""Chapter 14's solutions, and for each another right answer."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor


def directions(scores: Float[Tensor, "queries keys"]) -> Float[Tensor, ""]:
    """Effective rank of scores as a softmax over the keys sees them."""
    seen = scores - scores.mean(1, keepdim=True)
    sigma = torch.linalg.svdvals(seen)
    share = sigma / sigma.sum()
    return torch.special.entr(share).sum().exp()


def directions_another(scores):
    keys = scores.shape[1]
    seen = scores @ (torch.eye(keys, dtype=scores.dtype) - 1 / keys)
    sigma = [s for s in torch.linalg.svdvals(seen).tolist() if s > 0]
    product = torch.ones((), dtype=torch.float64)
    for s in sigma:
        product = product * (s / sum(sigma)) ** (-s / sum(sigma))
    return product


def mass_by_distance(weights: Float[Tensor, "seq seq"], edges: list[int], first: int) -> Float[Tensor, " bins"]:
    """The share of the attention at edges[n] <= i - j < edges[n + 1], mean over the queries from `first` on."""
    position = torch.arange(len(weights))
    away = (position[:, None] - position)[first:]
    late = weights[first:]
    bins = [late[(away >= low) & (away < high)].sum() for low, high in pairwise(edges)]
    return torch.stack(bins) / len(late)


def mass_by_distance_another(weights, edges, first):
    shares = [0.0] * (len(edges) - 1)
    rows = range(first, len(weights))
    for i in rows:
        for n in range(len(shares)):
            start, stop = max(0, i - edges[n + 1] + 1), max(0, i - edges[n] + 1)
            shares[n] = shares[n] + weights[i, start:stop].sum() / len(rows)
    return torch.stack(shares)


def likeness(embed: Float[Tensor, "D d"], form: Float[Tensor, "D D"], copy: Float[Tensor, "D D"]) -> Float[Tensor, ""]:
    """The cosine of the angle between the identity and the form that compares a question with a copied input."""
    circuit = embed.T @ form @ copy @ embed  # (d, d)
    return circuit.trace() / (circuit.norm() * circuit.shape[0] ** 0.5)


def likeness_another(embed, form, copy):
    question, key = embed, form @ copy @ embed
    circuit = torch.einsum("Da,Db->ab", question, key)
    identity = torch.eye(circuit.shape[0], dtype=circuit.dtype)
    return torch.nn.functional.cosine_similarity(circuit.flatten(), identity.flatten(), dim=0)


def moved(scores: Float[Tensor, "seq seq"], part: Float[Tensor, "seq seq"]) -> Float[Tensor, ""]:
    """The share of the causal attention that goes elsewhere without `part` of the scores, mean over queries."""
    future = torch.ones_like(scores).triu(1).bool()
    before, after = (some.masked_fill(future, -torch.inf).softmax(1) for some in (scores, scores - part))
    return (before - after).abs().sum(1).mean() / 2


def moved_another(scores, part):
    """What the losing keys lose, query by query."""
    lost = [
        (scores[i, : i + 1].softmax(0) - (scores - part)[i, : i + 1].softmax(0)).clamp(min=0).sum()
        for i in range(len(scores))
    ]
    return torch.stack(lost).mean()
