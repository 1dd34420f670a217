"""MLR attention on a GPU in one pass: `mlr_kernel_triton`'s kernels as an operation of torch, with exact gradients.

A tile of queries lies in one block of each coarse level. Its keys fall into phases, and all pairs of a phase share the
same levels: plain attention over the first r_1 + ... + r_l features. `row_phases` says which keys those are. The tile
around the diagonal takes masks, for causality and for levels finer than the tile.
"""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn.functional import pad

WIDEST = 128  # features, and values, that a program holds
DTYPES = (torch.float32, torch.bfloat16, torch.float16)

# Kernel -> (tile, step, warps, stages), for (kernel, wide heads?); first guesses, not yet measured.
LAUNCH = {
    ("forward", False): (128, 64, 8, 3),
    ("forward", True): (128, 64, 8, 3),
    ("backward_rows", False): (128, 64, 8, 3),
    ("backward_rows", True): (128, 64, 8, 3),
    ("backward_columns", False): (128, 64, 8, 3),
    ("backward_columns", True): (128, 64, 8, 2),
}
SMALL = (32, 32, 4, 1)  # float32 goes through no tensor core, and its tiles are twice the bytes


def obstacle(q: Tensor, v: Tensor, causal: bool) -> str | None:
    """Why the kernel cannot take these, in words; None if it can."""
    if find_spec("triton") is None:
        return "needs the package triton"
    if os.environ.get("TRITON_INTERPRET") != "1":  # right in the interpreter; illegal accesses on a GPU, unexplained
        return "needs Triton's interpreter (TRITON_INTERPRET=1) until the kernel is right on a GPU"
    if not causal:
        return "is causal only, got causal=False"
    if q.dtype not in DTYPES:
        return f"takes float32, bfloat16 and float16, got {q.dtype}"
    if max(q.shape[-1], v.shape[-1]) > WIDEST:
        return f"takes d and d_v up to {WIDEST}, got {q.shape[-1]} and {v.shape[-1]}"
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


def columns(n_features: int) -> tuple[int, int]:
    """`n_features` read as two powers of two (the second may be 0), at least 16: what tensor cores multiply."""
    steps = 16 * -(-n_features // 16)
    wide = 1 << steps.bit_length() - 1
    return wide, power_of_two(steps - wide) if steps > wide else 0


def power_of_two(n: int) -> int:
    """The least power of two that is at least `n` and 16."""
    return max(16, 1 << (n - 1).bit_length())


def _width(ranks: Sequence[int]) -> int:
    """Columns of q and k, so that no level reads past them."""
    ends = list(accumulate(ranks))
    fine = [end - rank + power_of_two(rank) for end, rank in zip(ends, ranks, strict=True)]
    return -(-max([sum(columns(end)) for end in ends] + fine) // 16) * 16


def _launch(name: str, tensors: Sequence[Tensor], ranks, block_sizes, normalize_levels: bool, **more) -> None:
    """Run kernel `name` on (batch, seq, width) tensors, one program a tile and batch entry."""
    from . import mlr_kernel_triton  # imports Triton

    q, _, v = tensors[:3]
    (n_batch, seq_len, width), width_v = q.shape, v.shape[-1]
    wide_heads = max(width, width_v) > 64
    tile, step, warps, stages = SMALL if q.dtype == torch.float32 else LAUNCH[name, wide_heads]
    coarse, ends = n_coarse(block_sizes, tile), list(accumulate(ranks))
    read = [columns(end) for end in ends[:coarse]]
    fine = ranks[coarse:]
    if name == "backward_columns":
        more["RAGGED"] = seq_len % tile != 0
    with torch.device(q.device) if not q.is_cuda else torch.cuda.device(q.device):
        getattr(mlr_kernel_triton, name)[(n_batch * -(-seq_len // tile),)](
            *tensors, n_batch, seq_len, WIDTH=width, WIDTH_V=width_v, SIZES=tuple(block_sizes[:coarse]),
            PREFIX=tuple(ends[:coarse]), WIDE=tuple(w for w, _ in read), REST=tuple(r for _, r in read),
            FINE_FROM=tuple(ends[coarse - 1 : -1]), FINE_RANK=tuple(fine), FINE_WIDE=tuple(map(power_of_two, fine)),
            FINE_SIZE=tuple(block_sizes[coarse:]), NORMALIZE=normalize_levels, TILE=tile, STEP=step,
            num_warps=warps, num_stages=stages, **more,
        )  # fmt: skip


def _flat(t: Tensor, width: int) -> Tensor:
    """(..., seq, n) as contiguous (batch, seq, width), zeros after the n features."""
    t = t.reshape(-1, *t.shape[-2:])
    return pad(t, (0, width - t.shape[-1])) if width > t.shape[-1] else t.contiguous()


@torch.library.custom_op("structattn::mlr", mutates_args=())
def mlr_op(
    q: Tensor, k: Tensor, v: Tensor, ranks: Sequence[int], block_sizes: Sequence[int], normalize_levels: bool
) -> tuple[Tensor, Tensor]:
    """(softmax(S) V, base-2 log-sum-exp of each row) with the levels' scales in q already."""
    width, width_v = _width(ranks), power_of_two(v.shape[-1])
    flat = [_flat(q, width), _flat(k, width), _flat(v, width_v)]
    out = torch.empty_like(flat[2])
    lse = torch.empty(q.shape[:-1], dtype=torch.float32, device=q.device)
    _launch("forward", [*flat, out, lse], ranks, block_sizes, normalize_levels)
    return out[..., : v.shape[-1]].reshape(v.shape).contiguous(), lse


@mlr_op.register_fake
def _(q, k, v, ranks, block_sizes, normalize_levels):
    return v.new_empty(v.shape), q.new_empty(q.shape[:-1], dtype=torch.float32)


@torch.library.custom_op("structattn::mlr_backward", mutates_args=())
def mlr_backward_op(
    d_out: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor,
    ranks: Sequence[int], block_sizes: Sequence[int], normalize_levels: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The gradients of q, k and v."""
    width, width_v = _width(ranks), power_of_two(v.shape[-1])
    flat_q, flat_k = _flat(q, width), _flat(k, width)
    flat_v, flat_out, flat_d_out = (_flat(t, width_v) for t in (v, out, d_out))
    dq, dk = (torch.zeros_like(flat_q, dtype=torch.float32) for _ in range(2))  # each phase adds its part
    dv, delta = torch.empty_like(flat_v), torch.empty_like(lse)
    levels = (ranks, block_sizes, normalize_levels)
    _launch("backward_rows", [flat_q, flat_k, flat_v, flat_out, lse, flat_d_out, delta, dq], *levels)
    _launch("backward_columns", [flat_q, flat_k, flat_v, flat_d_out, lse, delta, dk, dv], *levels)
    grads = zip((dq, dk, dv), (q, k, v), strict=True)
    return tuple(g[..., : t.shape[-1]].to(t.dtype, copy=g.dtype == t.dtype).reshape(t.shape) for g, t in grads)


@mlr_backward_op.register_fake
def _(d_out, q, k, v, out, lse, ranks, block_sizes, normalize_levels):
    return tuple(t.new_empty(t.shape) for t in (q, k, v))


def _save(ctx, inputs, output):
    q, k, v, *ctx.levels = inputs
    ctx.save_for_backward(q, k, v, *output)
    ctx.mark_non_differentiable(output[1])


def _gradients(ctx, d_out, _):
    q, k, v, out, lse = ctx.saved_tensors
    return (*mlr_backward_op(d_out, q, k, v, out, lse, *ctx.levels), None, None, None)


mlr_op.register_autograd(_gradients, setup_context=_save)
