"""What a trained attention layer does, as numbers: rank of its scores, levels and distances that it uses, its forms.

Every function takes one layer and the `x` that it reads (`text.layer_inputs`), or the attention maps that it makes.
"""

from copy import deepcopy
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..attention import Attention, dot_products
from ..attention_local import GlobalSlidingWindowAttention, MLRAttention
from ..checks import require
from ..mlr import scales_of_levels
from ..partition import same_block
from ..transformer import GPT
from . import corpora, text
from .presets import READERS
from .records import read_record
from .verdicts import existing

TEXT = "lm_tiny"  # the record of the text models that chapter 14 opens


def text_models(record: str = TEXT) -> dict[str, GPT]:
    """The models of a record of text whose weights come with the book, by method."""
    return existing(lambda method: text.trained(f"{record}_{method}"), READERS)


def held_out(record: str = TEXT) -> Int[Tensor, " tokens"]:
    """What the models of a record of text were not trained on. Raises what `read_record` and `corpora.load` do."""
    return corpora.load(read_record(record)["setting"]["corpus"]).held_out.long()


def products_by_level(
    attention: Attention, x: Float[Tensor, "batch seq d_model"]
) -> Float[Tensor, "levels batch heads seq seq"]:
    """The scaled products of queries and keys, of each level by itself, for all pairs alike."""
    two = isinstance(attention, GlobalSlidingWindowAttention)
    require(not two, "attention must have one softmax a head, got GlobalSlidingWindowAttention")
    q, k = attention.placed_queries_keys(x)
    split = zip(attention.split_queries(q), attention.split_keys(k), strict=True)
    return torch.stack([dot_products(*pair) for pair in split])


@torch.no_grad()
def level_parts(
    attention: Attention, x: Float[Tensor, "batch seq d_model"]
) -> Float[Tensor, "levels batch heads seq seq"]:
    """What each level adds to the scores, before any mask: scaled, 0 where a pair does not share the level.

    With `normalize_levels`, each part is divided by the levels that its pair shares. The sum over levels is S, where S
    is not masked. An attention without levels has one. Raises `ValueError` for one with two softmaxes a head.
    """
    parts = products_by_level(attention, x)
    if not isinstance(attention, MLRAttention):
        return parts
    position = torch.arange(x.shape[1], device=x.device)
    shared = torch.stack([same_block(position, position, size) for size in attention.block_sizes]).to(x.dtype)
    parts = parts * shared[:, None, None]
    return parts / shared.sum(0) if attention.normalize_levels else parts


def effective_rank(matrices: Float[Tensor, "*batch rows columns"]) -> Float[Tensor, "*batch"]:
    """How many directions a matrix uses: exp of the entropy of the shares of its singular values.

    k equal singular values give k; a matrix of zeros has none, and gives 0. Roy & Vetterli 2007.
    """
    sigma = torch.linalg.svdvals(matrices)
    total = sigma.sum(-1, keepdim=True)
    share = sigma / total.where(total > 0, 1)
    return torch.special.entr(share).sum(-1).exp() * (total[..., 0] > 0)


def score_rank(attention: Attention, x: Float[Tensor, "batch seq d_model"]) -> Float[Tensor, " heads"]:
    """Effective rank of each head's scores on `x`, all pairs, mean over the batch.

    The mean of each row is taken off first: a softmax does not see it.
    """
    scores = level_parts(attention, x).sum(0)
    return effective_rank(scores - scores.mean(-1, keepdim=True)).mean(0)


def centred(parts: Float[Tensor, "*batch seq seq"], causal: bool = True) -> Float[Tensor, "*batch seq seq"]:
    """Each row less its mean over the keys that its query sees; 0 for the others."""
    seen = torch.ones(parts.shape[-2:], dtype=torch.bool, device=parts.device)
    seen = seen.tril() if causal else seen
    means = (parts * seen).sum(-1, keepdim=True) / seen.sum(-1, keepdim=True)
    return (parts - means) * seen


def level_energy(attention: Attention, x: Float[Tensor, "batch seq d_model"]) -> Float[Tensor, "heads levels"]:
    """The share of each level in the squares of what the levels add to the scores, centred in each row.

    Rows sum to 1, or are 0 where a head has no scores at all. Products of different levels are left out, so these are
    shares of sizes and not of a variance.
    """
    squares = centred(level_parts(attention, x), attention.causal).square().sum((1, 3, 4))  # (levels, heads)
    total = squares.sum(0)
    return (squares / total.where(total > 0, 1)).T


def level_use(attention: Attention, x: Float[Tensor, "batch seq d_model"]) -> Float[Tensor, "heads levels"]:
    """How much of its attention a head moves elsewhere if a level is taken out, from 0 to 1.

    The mean over queries of half the sum of |softmax(S) - softmax(S without the level)|.
    """
    parts = level_parts(attention, x)
    total = parts.sum(0)
    before = softmax_seen(total, attention.causal)
    moved = [(softmax_seen(total - part, attention.causal) - before).abs().sum(-1).mean((0, 2)) / 2 for part in parts]
    return torch.stack(moved, dim=1)


def softmax_seen(scores: Float[Tensor, "*batch seq seq"], causal: bool) -> Float[Tensor, "*batch seq seq"]:
    """Attention weights from scores of all pairs."""
    if causal:
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(future, float("-inf"))
    return scores.softmax(-1)


@torch.no_grad()
def attention_map(attention: Attention, x: Float[Tensor, "batch seq d_model"]) -> Float[Tensor, "batch heads seq seq"]:
    """The weights with which each query takes values."""
    return attention.scores(x).softmax(-1)


def distances(seq: int, device: torch.device | str = "cpu") -> Tensor:
    """i - j of query i and key j."""
    position = torch.arange(seq, device=device)
    return position[:, None] - position


def mean_distance(weights: Float[Tensor, "batch heads seq seq"], first: int = 0) -> Float[Tensor, " heads"]:
    """How far back a head looks, in tokens: the mean of i - j under its weights, over the queries from `first` on."""
    away = distances(weights.shape[-1], weights.device).abs()
    return (weights * away).sum(-1)[..., first:].mean((0, 2))


def distance_mass(
    weights: Float[Tensor, "batch heads seq seq"], edges: tuple[int, ...], first: int = 0
) -> Float[Tensor, "heads bins"]:
    """The share of a head's attention at the distances edges[n] <= i - j < edges[n + 1], queries from `first` on.

    Queries that stand early have no far keys: a `first` beyond the last edge but one treats all bins alike.
    """
    away = distances(weights.shape[-1], weights.device)
    weights = weights[..., first:, :].mean(0)
    away = away[first:]
    bins = [(weights * ((away >= low) & (away < high))).sum((1, 2)) for low, high in pairwise(edges)]
    return torch.stack(bins, dim=1) / len(away)


def across_and_within(
    weights: Float[Tensor, "batch heads seq seq"], distance: int, block_size: int
) -> tuple[Float[Tensor, " heads"], Float[Tensor, " heads"]]:
    """Mean weight of the key `distance` before the query: where a seam of this block size parts them, and where not.

    Raises `ValueError` if no pair at that distance is parted, or all are.
    """
    seq = weights.shape[-1]
    require(0 < distance < seq, f"distance must be in [1, {seq}), got {distance}")
    query = torch.arange(distance, seq, device=weights.device)
    parted = query // block_size != (query - distance) // block_size
    mixed = bool(parted.any()) and not bool(parted.all())
    require(mixed, f"block_size must part some pairs at distance {distance} and not all, got {block_size}")
    at = weights.diagonal(-distance, -2, -1).mean(0)  # (heads, queries)
    return at[:, parted].mean(1), at[:, ~parted].mean(1)


@torch.no_grad()
def forms(attention: Attention) -> Float[Tensor, "heads d_model d_model"]:
    """M of every head: x_i^T M x_j is the score, where QK-norm does not divide it by the lengths of query and key.

    The scale is in it, and what else QK-norm does (`undivided`). Of MLR attention it is the form of pairs that share
    all levels, before the division by their number. Raises `ValueError` for an attention with two softmaxes a head.
    """
    attention = deepcopy(attention)
    for name, child in list(attention.named_modules()):
        if isinstance(child, nn.LayerNorm):
            attention.set_submodule(name, undivided(child))
    basis = torch.eye(attention.d_model).to(next(attention.parameters()))
    return products_by_level(attention, basis[None]).sum(0)[0]


@torch.no_grad()
def undivided(norm: nn.LayerNorm) -> nn.Linear:
    """What a LayerNorm without bias does to every token alike: it takes off the mean of the features, and has gains.

    The norm itself then divides, by the standard deviation of what it reads, which differs from token to token.
    """
    width = norm.weight.numel()
    linear = nn.Linear(width, width, bias=False).to(norm.weight)
    linear.weight.copy_(norm.weight[:, None] * (torch.eye(width).to(norm.weight) - 1 / width))
    return linear


def spectrum(attention: Attention) -> Float[Tensor, "heads d_model"]:
    """Singular values of the form of each head, largest first."""
    return torch.linalg.svdvals(forms(attention))


def identity_share(matrices: Float[Tensor, "*batch n n"]) -> Float[Tensor, "*batch"]:
    """trace(F) / (sqrt(n) ||F||), from -1 to 1: the cosine of the angle between F and the identity; 0 for F = 0.

    A matrix of rank r has at most sqrt(r / n), since its trace is at most its nuclear norm, and that sqrt(r) ||F||.
    """
    sizes = matrices.norm(dim=(-2, -1)) * matrices.shape[-1] ** 0.5
    return matrices.diagonal(0, -2, -1).sum(-1) / sizes.where(sizes > 0, 1)


def without_heads(model: GPT, layer: int, heads: list[int]) -> GPT:
    """A copy of a model in which these heads of a layer (both from 0) write nothing."""
    model = deepcopy(model)
    attention = model.blocks[layer].attention
    with torch.no_grad():
        attention.out.weight.unflatten(1, (attention.n_heads, -1))[:, heads] = 0
    return model


def without_level(model: GPT, level: int) -> GPT:
    """A copy of a model with MLR attention in which `level` (from 1) adds nothing to any score.

    Scores are still divided by as many levels as before. Raises `ValueError` if a layer has no such level.
    """
    model = deepcopy(model)
    for block in model.blocks:
        attention = block.attention
        levels = len(attention.ranks) if isinstance(attention, MLRAttention) else 0
        require(1 <= level <= levels, f"level must be one of the {levels} levels of every layer, got {level!r}")
        scales = list(scales_of_levels(attention.ranks, attention.level_scales))
        scales[level - 1] = 0.0
        attention.level_scales = tuple(scales)
    return model
