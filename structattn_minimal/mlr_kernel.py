"""MLR attention on a GPU in one pass: `mlr_kernel_triton`'s kernels as an operation of torch, with exact gradients.

A tile of queries lies in one block of each coarse level. Its keys fall into phases, and all pairs of a phase share the
same levels: plain attention over the first r_1 + ... + r_l features. `row_phases` says which keys those are. The tile
around the diagonal takes masks, for causality and for levels finer than the tile.
"""

import os
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, library
from torch.nn.functional import pad


def _has_triton() -> bool:
    """Whether there is a Triton that knows tensor descriptors, 3.4 or later, found without importing it."""
    spec = find_spec("triton")
    folders = (spec and spec.submodule_search_locations) or ()
    return any((Path(folder) / "tools/tensor_descriptor.py").is_file() for folder in folders)


HAS_TRITON = _has_triton()
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # read once, as Triton does
WIDEST = 128  # features, and values, that a program holds
DEEPEST = 8  # levels
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class Launch(NamedTuple):
    """How a kernel is cut: rows of its own tile, rows a step, warps, pipeline stages, registers a thread at most."""

    tile: int
    step: int
    warps: int
    stages: int
    registers: int | None = None


# By kernel, for heads up to 64 wide and for wider ones: the quickest of some thirty that were tried on an H100.
LAUNCH = {
    ("scale_queries", False): Launch(64, 64, 4, 1),
    ("scale_queries", True): Launch(64, 64, 4, 1),
    ("forward", False): Launch(64, 64, 4, 3),
    ("forward", True): Launch(128, 64, 8, 2, 128),
    ("backward_rows", False): Launch(64, 64, 4, 3),
    ("backward_rows", True): Launch(128, 64, 8, 3),
    ("backward_columns", False): Launch(64, 64, 4, 3, 168),
    ("backward_columns", True): Launch(64, 64, 4, 2),
}
SMALL = Launch(32, 32, 4, 1)  # float32 goes through no tensor core, and its tiles are twice the bytes


def launch(name: str, q: Tensor, full: int, block_sizes: Sequence[int]) -> Launch:
    """How kernel `name` is cut for these queries."""
    if q.dtype == torch.float32:
        return SMALL
    how = LAUNCH[name, full > 64]
    # Several levels around the diagonal need registers of their own: a cap would make them spill.
    return how if n_coarse(block_sizes, how.tile) == len(block_sizes) else how._replace(registers=None)


def obstacle(q: Tensor, v: Tensor, n_levels: int, causal: bool) -> str | None:
    """Why the kernel cannot take these, in words; None if it can."""
    if not HAS_TRITON:
        return "needs the package triton, 3.4 or later (torch 2.8 brings it)"
    if not q.is_cuda and not INTERPRETED:
        return f"needs a GPU, or Triton's interpreter (TRITON_INTERPRET=1), got tensors on {q.device}"
    if not causal:
        return "is causal only, got causal=False"
    if q.dtype not in DTYPES:
        return f"takes float32, bfloat16 and float16, got {q.dtype}"
    if max(q.shape[-1], v.shape[-1]) > WIDEST:
        return f"takes d and d_v up to {WIDEST}, got {q.shape[-1]} and {v.shape[-1]}"
    if n_levels > DEEPEST:
        return f"takes up to {DEEPEST} levels, got {n_levels}"
    return None


def row_phases(start: int, tile: int, step: int, block_sizes: Sequence[int]) -> list[tuple[int, int, int]]:
    """(level, first key, key after the last) for the queries `start` to `start + tile`, then (0, ...): masked.

    The keys of level l share exactly the levels 1 to l with all of these queries. `start` is a multiple of `tile`, and
    `tile` one of `step`.
    """
    coarse = n_coarse(block_sizes, tile)
    starts = [0] + [start // size * size for size in block_sizes[1:coarse]]
    near = start
    if coarse < len(block_sizes):
        near = start // block_sizes[coarse] * block_sizes[coarse] // step * step
    ends = [*starts[1:], near]
    return [(l, *keys) for l, keys in enumerate(zip(starts, ends, strict=True), 1)] + [(0, near, start + tile)]


def n_coarse(block_sizes: Sequence[int], tile: int) -> int:
    """How many levels have blocks of whole tiles; the first holds all tokens, so it counts whatever its size."""
    return 1 + next((l for l, size in enumerate(block_sizes[1:]) if size % tile), len(block_sizes) - 1)


def columns(n_features: int) -> int:
    """How many columns are read for `n_features`: the least power of two that holds them, at least 16."""
    return max(16, 1 << (n_features - 1).bit_length())


def constants(kernel, how: Launch, full: int, ranks, block_sizes, normalize_levels) -> dict:
    """What a kernel is compiled for."""
    home = n_coarse(block_sizes, how.tile)
    values = {"SIZES": tuple(block_sizes), "HOME": home, "NORMALIZE": normalize_levels}
    values |= {"PREFIX": tuple(accumulate(ranks)), "WIDTH": widths(ranks, home, full)}
    values |= {"TILE": how.tile, "STEP": how.step, "FULL": full}
    return {name: value for name, value in values.items() if name in kernel.arg_names}


def widths(ranks: Sequence[int], home: int, full: int) -> tuple[int, ...]:
    """Columns read at each level: as many as its pairs need, but `full` at those that meet around the diagonal."""
    return tuple(columns(prefix) if l < home else full for l, prefix in enumerate(accumulate(ranks), 1))


def _launch(name: str, tensors: Sequence[tuple], q: Tensor, full: int, ranks, block_sizes, normalize_levels) -> None:
    """Run kernel `name`, one program a tile and head.

    tensors: the kernel's, in order. (t,) goes as it is; (t, "tile" or "step") as a descriptor of so many rows and
    `full` columns; with a True behind as one for each of `DEEPEST` levels, of as many features as the level sees.
    """
    from . import mlr_kernel_triton  # imports Triton

    n_batch, n_heads, seq_len, _ = q.shape
    kernel, how = getattr(mlr_kernel_triton, name), launch(name, q, full, block_sizes)
    home = n_coarse(block_sizes, how.tile)
    levels = list(zip(widths(ranks, home, full), accumulate(ranks), strict=True))

    def described(t, rows, width, n_features=None):
        shape = [*t.shape[:-1], n_features or t.shape[-1]]
        return mlr_kernel_triton.TensorDescriptor(t, shape, list(t.stride()), [1, 1, getattr(how, rows), width])

    arguments = []
    for t, *rows in tensors:
        match rows:
            case []:
                arguments.append(t)
            case [rows]:
                arguments.append(described(t, rows, full))
            case [rows, True]:
                arguments += [described(t, rows, *level) for level in levels] + [None] * (DEEPEST - len(levels))
    settings = constants(kernel, how, full, ranks, block_sizes, normalize_levels)
    options = {"num_warps": how.warps, "num_stages": how.stages, "maxnreg": how.registers}
    with torch.cuda.device_of(q):  # Triton launches on the current device
        programs = n_batch * n_heads * -(-seq_len // how.tile)
        kernel[(programs,)](*arguments, n_batch, n_heads, seq_len, **settings, **options)


def _readable(t: Tensor) -> Tensor:
    """(..., heads, seq, n) as (batch, heads, seq, m >= n), strides in steps of 16 bytes, as descriptors need it."""
    t = t.reshape(-1, *t.shape[-3:])
    unit = 16 // t.itemsize
    if t.shape[-1] % unit:
        return pad(t, (0, -t.shape[-1] % unit))
    steps = all(stride > 0 and stride % unit == 0 for stride in t.stride()[:-1])
    return t if steps and t.stride(-1) == 1 and t.data_ptr() % 16 == 0 else t.contiguous()


def _full(q: Tensor, v: Tensor) -> int:
    """Columns that hold all features, and all values."""
    return columns(max(q.shape[-1], v.shape[-1]))


def _as(t: Tensor, like: Tensor) -> Tensor:
    """`t` without its padding, with the shape, layout and dtype of `like`."""
    t = t[..., : like.shape[-1]].reshape(like.shape)
    fits = t.dtype == like.dtype and t.stride() == torch.empty_like(like, device="meta").stride()
    return t if fits else torch.empty_like(like).copy_(t)


def attention(
    q: Tensor, k: Tensor, v: Tensor, scales: Sequence[float], ranks: tuple[int, ...], block_sizes: tuple[int, ...],
    normalize_levels: bool,
) -> Tensor:  # fmt: skip
    """softmax(S) V, for q, k, v that have no `obstacle`, and a factor for each level's dot product."""
    return mlr_op(q, k, v, _feature_scales(ranks, tuple(scales), q.device), ranks, block_sizes, normalize_levels)[0]


def _feature_scales(ranks: tuple[int, ...], scales: tuple[float, ...], device: torch.device) -> Tensor:
    """(d,): the scale of each feature's level. Kept from call to call, except in a graph: that owns what it makes."""
    in_graph = torch.compiler.is_compiling() or (device.type == "cuda" and torch.cuda.is_current_stream_capturing())
    return (_make_scales if in_graph else _kept_scales)(ranks, scales, device)


def _make_scales(ranks, scales, device):
    pairs = zip(ranks, scales, strict=True)
    return torch.cat([torch.full((rank,), scale, device=device, dtype=torch.float32) for rank, scale in pairs])


@lru_cache
def _kept_scales(ranks, scales, device):
    with torch.inference_mode(False):  # else no later call could train with it
        return _make_scales(ranks, scales, device)


# Written out, since torch 2.6 reads no annotation such as Sequence[int].
SETTING = "SymInt[] ranks, SymInt[] block_sizes, bool normalize_levels"


@library.custom_op(
    "structattn::mlr",
    mutates_args=(),
    schema=f"(Tensor q, Tensor k, Tensor v, Tensor scales, {SETTING}) -> (Tensor, Tensor, Tensor)",
)
def mlr_op(
    q: Tensor, k: Tensor, v: Tensor, scales: Tensor,
    ranks: Sequence[int], block_sizes: Sequence[int], normalize_levels: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """(softmax(S) V, base-2 log-sum-exp of each row, q * scales); `scales` has no gradient."""
    how, q4, k4, v4 = (_full(q, v), ranks, block_sizes, normalize_levels), *map(_readable, (q, k, v))
    scaled, out = map(torch.empty_like, (q4, v4))
    lse = torch.empty(q4.shape[:-1], dtype=torch.float32, device=q.device)
    _launch("scale_queries", [(q4, "tile"), (scales,), (scaled, "tile")], q4, *how)
    tensors = [(scaled, "tile", True), (k4, "step", True), (v4, "step"), (out, "tile"), (lse,)]
    _launch("forward", tensors, q4, *how)
    return _as(out, v), lse.view(q.shape[:-1]), _as(scaled, q)


@mlr_op.register_fake
def _(q, k, v, scales, ranks, block_sizes, normalize_levels):
    return torch.empty_like(v), q.new_empty(q.shape[:-1], dtype=torch.float32), torch.empty_like(q)


@library.custom_op(
    "structattn::mlr_backward",
    mutates_args=(),
    schema=f"(Tensor d_out, Tensor q, Tensor k, Tensor v, Tensor scales, Tensor out, Tensor lse, {SETTING})"
    " -> (Tensor, Tensor, Tensor)",
)
def mlr_backward_op(
    d_out: Tensor, q: Tensor, k: Tensor, v: Tensor, scales: Tensor, out: Tensor, lse: Tensor,
    ranks: Sequence[int], block_sizes: Sequence[int], normalize_levels: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The gradients of the queries before they were scaled to q, of k and of v."""
    how = (_full(q, v), ranks, block_sizes, normalize_levels)
    q4, k4, v4, out4, d_out4 = map(_readable, (q, k, v, out, d_out))
    dq, dk, dv, delta = map(torch.empty_like, (q4, k4, v4, lse))
    rows = [(q4, "tile", True), (k4, "step", True), (v4, "step"), (out4, "tile"), (d_out4, "tile"), (lse,), (delta,)]
    _launch("backward_rows", [*rows, (scales,), (dq, "tile")], q4, *how)
    keys = [(q4, "step", True), (k4, "tile", True), (v4, "tile"), (d_out4, "step"), (lse,), (delta,)]
    _launch("backward_columns", [*keys, (dk, "tile"), (dv, "tile")], q4, *how)
    return _as(dq, q), _as(dk, k), _as(dv, v)


@mlr_backward_op.register_fake
def _(d_out, q, k, v, scales, out, lse, ranks, block_sizes, normalize_levels):
    return tuple(map(torch.empty_like, (q, k, v)))


def _save(ctx, inputs, output):
    _, k, v, scales, *ctx.levels = inputs
    out, lse, scaled = output
    ctx.save_for_backward(scaled, k, v, scales, out, lse)
    ctx.mark_non_differentiable(lse, scaled)
    ctx.set_materialize_grads(False)  # or theirs would be filled with zeros


def _gradients(ctx, d_out, *_):
    if d_out is None:
        return (None,) * 7
    return (*mlr_backward_op(d_out, *ctx.saved_tensors, *ctx.levels), None, None, None, None)


mlr_op.register_autograd(_gradients, setup_context=_save)
