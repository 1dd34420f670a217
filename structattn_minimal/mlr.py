"""MLR attention: scores whose rank, and so whose cost, falls with the distance between tokens (Kuang et al. 2025).

    S_ij = sum over the levels l whose block i and j share of  scale_l <q_i^l, k_j^l>,      scale_l = 1 / r_l        (1)

where the features of a head are split into r_1 | ... | r_L. Softmax over the causal row and the product with V follow
as in any attention. Four exact ways to compute it: "dense" writes (1) down with T x T masks; "blockwise" never looks at
a pair's level twice, holds no T x T tensor, and recomputes each tile of scores in the backward pass; "merge" puts it
together from calls of ordinary attention; "triton" is a kernel for GPUs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from . import mlr_kernel, mlr_merge
from .checks import positive_ints, require, shape_of
from .partition import Segment, Tile, check_block_sizes, halving_block_sizes, same_block, tiles

BACKENDS = ("auto", "dense", "blockwise", "merge", "triton")
TILE_SIZE = 128  # queries a tile of the block-wise form: memory grows with it, and small ones cost time


@dataclass(frozen=True)
class Hierarchy:
    """What equation (1) needs besides q and k: who shares a level, its features, and what is masked."""

    ranks: tuple[int, ...]
    block_sizes: tuple[int, ...]
    normalize_levels: bool
    causal: bool

    def features(self, level: int) -> slice:
        """The features of `level` (from 1)."""
        return slice(sum(self.ranks[: level - 1]), sum(self.ranks[:level]))


def mlr_attention(
    q: Float[Tensor, "*batch heads seq d"],
    k: Float[Tensor, "*batch heads seq d"],
    v: Float[Tensor, "*batch heads seq d_v"],
    ranks: Sequence[int],
    *,
    block_sizes: Sequence[int] | None = None,
    normalize_levels: bool = False,
    causal: bool = True,
    level_scales: Sequence[float] | Float[Tensor, " levels"] | None = None,
    backend: str = "auto",
) -> Float[Tensor, "*batch heads seq d_v"]:
    """Softmax attention with multi-level low-rank scores, the sibling of `scaled_dot_product_attention`.

    Args:
        q, k: queries and keys; their d features are split into `ranks`, coarsest level first.
        v: values, of any width d_v.
        ranks: r_1, ..., r_L, which sum to d.
        block_sizes: tokens in a block of each level, coarse to fine, each dividing the one before, the first at least
            T; the last block may be ragged. Default: T / 2^(l-1).
        normalize_levels: divide each score by the number of levels the pair shares.
        causal: mask the keys after the query.
        level_scales: the factor of each level's dot product. Default: 1 / r_l.
        backend: "dense" (the definition), "blockwise" (no T x T tensor), "merge" (pieces of ordinary attention;
            causal, blocks from halving T), "triton" (a GPU, or Triton's interpreter; causal, float32, bfloat16 or
            float16, d and d_v up to 128, 8 levels), or "auto" (the quickest of them here). "blockwise", which "auto"
            takes for more than 256 tokens on a CPU, and "merge" cannot be differentiated twice, nor mapped by
            torch.func.grad or vmap; for training torch.compile takes "blockwise" only without fullgraph.

    Returns:
        softmax(S) V with S of equation (1). With one level this is `scaled_dot_product_attention` at scale
        `level_scales[0]`.

    Raises:
        ValueError: if an argument does not fit, naming it.
        RuntimeError: later, if what "blockwise" or "merge" made is differentiated twice.

    Source: Kuang et al. 2025 ("MLR attention").
    """
    q, k, v = _floating_tensors(q=q, k=k, v=v)
    hierarchy = _hierarchy(q, k, v, ranks, block_sizes, normalize_levels, causal, level_scales, backend)
    if backend == "auto":
        backend = _quickest(q, v, hierarchy)
    if backend == "triton":
        scales = scales_of_levels(hierarchy.ranks, level_scales)
        if isinstance(scales, Tensor):  # whose gradient the kernel does not know
            q, scales = _scale_levels(q, hierarchy.ranks, scales), (1.0,) * len(hierarchy.ranks)
        return mlr_kernel.attention(q, k, v, scales, hierarchy.ranks, hierarchy.block_sizes, normalize_levels)
    q = _scale_levels(q, hierarchy.ranks, level_scales)
    if backend == "dense":
        return _definition(q, k, hierarchy).softmax(-1) @ v
    if backend == "merge":
        found = mlr_merge.pieces(q.shape[-2], hierarchy.ranks, hierarchy.block_sizes)
        four = (t[None].flatten(0, -4) for t in (q, k, v))  # (batch, heads, seq, features)
        return mlr_merge.Merge.apply(*four, found, normalize_levels).view(v.shape)
    if backend == "sdpa":
        return scaled_dot_product_attention(q, k, v, is_causal=causal, scale=1.0)
    return _Blockwise.apply(q, k, v, hierarchy)


def _quickest(q, v, hierarchy: Hierarchy) -> str:
    if len(hierarchy.ranks) == 1:
        return "sdpa"
    if q.shape[-2] <= 2 * TILE_SIZE:
        return "dense"
    # Without tensor cores, as in float32, torch's own products are ahead of the kernel's.
    fast = q.is_cuda and q.dtype != torch.float32
    takes = mlr_kernel.obstacle(q, v, len(hierarchy.ranks), hierarchy.causal) is None
    return "triton" if fast and takes else "blockwise"


def mlr_scores(
    q: Float[Tensor, "*batch heads seq d"],
    k: Float[Tensor, "*batch heads seq d"],
    ranks: Sequence[int],
    *,
    block_sizes: Sequence[int] | None = None,
    normalize_levels: bool = False,
    causal: bool = True,
    level_scales: Sequence[float] | Float[Tensor, " levels"] | None = None,
) -> Float[Tensor, "*batch heads seq seq"]:
    """The logits S of equation (1) themselves, -inf where masked. Arguments and errors as in `mlr_attention`."""
    q, k = _floating_tensors(q=q, k=k)
    hierarchy = _hierarchy(q, k, q, ranks, block_sizes, normalize_levels, causal, level_scales, "dense")
    return _definition(_scale_levels(q, hierarchy.ranks, level_scales), k, hierarchy)


def _floating_tensors(**tensors):
    """The tensors, checked; in the dtype of `torch.autocast` where that is on, as torch's own attention does."""
    for name, t in tensors.items():
        floating = isinstance(t, Tensor) and t.is_floating_point()
        require(floating, f"{name} must be a tensor of floating-point numbers, got {getattr(t, 'dtype', t)!r}")

    def as_under_autocast(t):
        kind = t.device.type  # "meta" has no autocast, and torch refuses to be asked
        on = kind != "meta" and torch.is_autocast_enabled(kind) and t.dtype != torch.float64
        return t.to(torch.get_autocast_dtype(kind)) if on else t

    return map(as_under_autocast, tensors.values())


def check_level_scales(level_scales, n_levels: int) -> None:
    """Refuse anything but None, `n_levels` numbers, or a tensor of them."""
    if isinstance(level_scales, Tensor):
        fit = level_scales.shape == (n_levels,)
    else:
        numbers = isinstance(level_scales, Sequence) and all(isinstance(scale, Real) for scale in level_scales)
        fit = level_scales is None or (numbers and len(level_scales) == n_levels)
    if not fit:  # no message before: torch.compile writes no number that it traces
        wanted, kind = f"a list, tuple or tensor of {n_levels} numbers, one a level", type(level_scales).__name__
        raise ValueError(f"level_scales must be {wanted}, got {kind} {shape_of(level_scales)}")


def check_backend(backend: object) -> None:
    """Refuse a name that is not in `BACKENDS`."""
    require(backend in BACKENDS, f"backend must be one of {BACKENDS}, got {backend!r}")


def _hierarchy(q, k, v, ranks, block_sizes, normalize_levels, causal, level_scales, backend) -> Hierarchy:
    require(q.ndim >= 3, f"q must have shape (..., heads, seq, d), got {tuple(q.shape)}")
    require(q.shape == k.shape, f"k must have the shape of q, {tuple(q.shape)}, got {tuple(k.shape)}")
    v_fits = v.shape[:-1] == q.shape[:-1]
    require(v_fits, f"v must have the shape of q but for d_v, {tuple(q.shape)}, got {tuple(v.shape)}")
    same_kind = q.dtype == k.dtype == v.dtype and q.device == k.device == v.device
    if not same_kind:
        kinds = ", ".join(f"{t.dtype} on {t.device}" for t in (q, k, v))
        raise ValueError(f"q, k and v must share dtype and device, got {kinds}")
    ranks, (seq_len, d) = positive_ints("ranks", ranks), q.shape[-2:]
    require(seq_len > 0, "q must hold at least one token, got a sequence of length 0")
    require(sum(ranks) == d, f"ranks must sum to the feature dimension d = {d}, got {ranks}, which sum to {sum(ranks)}")
    check_level_scales(level_scales, len(ranks))
    check_backend(backend)
    if block_sizes is None:
        block_sizes = halving_block_sizes(seq_len, len(ranks), "without block_sizes the sequence length")
    else:
        block_sizes = check_block_sizes(block_sizes, seq_len, len(ranks))
    obstacle = None
    if backend == "triton":
        obstacle = mlr_kernel.obstacle(q, v, len(ranks), causal)
    elif backend == "merge":
        obstacle = mlr_merge.obstacle(q, v, ranks, block_sizes, causal)
    require(obstacle is None, f'backend="{backend}" {obstacle}')
    return Hierarchy(ranks, block_sizes, normalize_levels, causal)


def scales_of_levels(ranks: Sequence[int], level_scales):
    """The factor of each level's dot product: 1 / r_l unless told."""
    return [1 / r for r in ranks] if level_scales is None else level_scales


def _scale_levels(q, ranks, level_scales):
    """Fold scale_l into the queries once: a dot product over the features of levels 1..l is then their scaled sum."""
    scales = zip(ranks, scales_of_levels(ranks, level_scales), strict=True)
    if isinstance(level_scales, Tensor):
        return q * torch.cat([scale.expand(rank) for rank, scale in scales]).to(q)
    return q * torch.cat([q.new_full((rank,), scale) for rank, scale in scales])  # made where q is: a graph can hold it


def _scores(
    q: Float[Tensor, "*batch queries d"],
    k: Float[Tensor, "*batch keys d"],
    q_pos: Int[Tensor, " queries"],
    k_pos: Int[Tensor, " keys"],
    hierarchy: Hierarchy,
    shared: int,
    deepest: int,
    masked: bool,
) -> Float[Tensor, "*batch queries keys"]:
    """Equation (1) for the queries and keys at these positions, all pairs of which share `shared` levels and none more
    than `deepest`; with keys after their query `masked`."""
    prefix = sum(hierarchy.ranks[:shared])
    scores = q[..., :prefix] @ k[..., :prefix].mT
    finer = (
        (same_block(q_pos, k_pos, hierarchy.block_sizes[level - 1]), q[..., features] @ k[..., features].mT)
        for level in range(shared + 1, deepest + 1)
        for features in [hierarchy.features(level)]
    )
    scores = add_levels(scores, shared, finer, hierarchy.normalize_levels)
    if masked:
        scores = scores.masked_fill(k_pos > q_pos[:, None], float("-inf"))
    return scores


def add_levels(
    scores: Float[Tensor, "*batch queries keys"],
    shared: int,
    finer: Iterable[tuple[Tensor, Tensor]],
    normalize_levels: bool,
) -> Float[Tensor, "*batch queries keys"]:
    """The sum of equation (1), from the `scores` of the `shared` levels that all pairs share on.

    `finer`: for each level beyond, whether a pair shares it, and its dot products, which count only there.
    """
    n_shared = torch.full((), shared, device=scores.device)
    for same, products in finer:
        scores = scores + torch.where(same, products, 0)
        n_shared = n_shared + same
    return scores / n_shared if normalize_levels else scores


def _definition(q, k, hierarchy: Hierarchy):
    """All pairs, every level a T x T mask."""
    position = torch.arange(q.shape[-2], device=q.device)  # a range would be compiled for each length
    deepest = len(hierarchy.ranks)
    return _scores(q, k, position, position, hierarchy, shared=0, deepest=deepest, masked=hierarchy.causal)


def _tile_attention(q, k, v, tile: Tile, hierarchy: Hierarchy):
    """The rows of one tile: q (..., tile, d) against the keys that its segments cover, k (..., keys, d)."""
    q_pos = torch.arange(tile.start, tile.stop, device=q.device)

    def against(segment: Segment, k):
        k_pos = torch.arange(segment.start, segment.stop, device=q.device)
        masked = hierarchy.causal and segment.stop > tile.start + 1  # else no key comes after a query
        return _scores(q, k, q_pos, k_pos, hierarchy, segment.shared, segment.deepest, masked)

    pieces = k.split([s.stop - s.start for s in tile.segments], dim=-2)
    scores = torch.cat([against(s, piece) for s, piece in zip(tile.segments, pieces, strict=True)], dim=-1)
    return scores.softmax(-1) @ v


class _Blockwise(torch.autograd.Function):
    """Tile after tile of queries; the backward pass recomputes a tile instead of keeping it (Chen et al. 2016)."""

    @staticmethod
    def forward(ctx, q, k, v, hierarchy):
        ctx.save_for_backward(q, k, v)
        ctx.hierarchy = hierarchy
        ctx.tiles = tiles(q.shape[-2], hierarchy.block_sizes, hierarchy.causal, TILE_SIZE)
        out = torch.empty_like(v)
        for tile in ctx.tiles:
            rows, keys = slice(tile.start, tile.stop), tile.keys
            out[..., rows, :] = _tile_attention(q[..., rows, :], k[..., keys, :], v[..., keys, :], tile, hierarchy)
        return out

    @staticmethod
    def backward(ctx, grad_out):
        if torch.is_grad_enabled():  # create_graph=True
            raise RuntimeError('backend="blockwise" cannot be differentiated twice, use backend="dense"')
        q, k, v = ctx.saved_tensors
        grad_q, grad_k, grad_v = (torch.zeros_like(t) for t in (q, k, v))
        for tile in ctx.tiles:
            rows, keys = slice(tile.start, tile.stop), tile.keys
            with torch.enable_grad():
                inputs = [t.detach().requires_grad_() for t in (q[..., rows, :], k[..., keys, :], v[..., keys, :])]
                out = _tile_attention(*inputs, tile, ctx.hierarchy)
            dq, dk, dv = torch.autograd.grad(out, inputs, grad_out[..., rows, :])
            grad_q[..., rows, :] = dq
            grad_k[..., keys, :] += dk
            grad_v[..., keys, :] += dv
        return grad_q, grad_k, grad_v, None
