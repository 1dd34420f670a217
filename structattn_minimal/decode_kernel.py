"""A decoding step on a GPU in two launches: `decode_kernel_triton`'s kernels in the place of torch's operations, which
are a dozen for standard attention and some sixty for MLR attention of eight levels.

The tokens that a row holds are cut into stretches, and each stretch of a head is a program, so that few rows keep a GPU
as busy as many (Dao et al. 2023, "Flash-Decoding"). How many stretches there are depends on shapes alone, where they
lie on `lengths`, which stays on the GPU: a CUDA graph can hold the step.
"""

from math import gcd

import torch
from torch import Tensor

from . import mlr_kernel
from .attention import StandardAttention
from .attention_local import MLRAttention
from .mlr_kernel import columns

# Of a hundred settings tried on an H200, the nearest to each shape's own best, in the geometric mean over 24 shapes:
# standard attention and three kinds of MLR in bfloat16, 1024 to 16384 tokens, 1 and 32 rows of 8 heads of 64 features.
TILE_NUMBERS = 4096  # of keys that a program reads at once, and as many of values
WARPS, STAGES = 4, 3  # warps for numbers of 16 bits
PROGRAMS, MOST_STRETCHES = 512, 32  # enough to keep a GPU busy, as long as a row is not cut too fine to be merged


def cut(rows: int, capacity: int, full: int) -> tuple[int, int]:
    """(tokens a tile, stretches a row), for `rows` = B H of them, of whose keys `full` columns are read."""
    tile = TILE_NUMBERS // full
    wanted = min(-(-PROGRAMS // rows), -(-capacity // tile), MOST_STRETCHES)
    return tile, 1 << (wanted - 1).bit_length()  # a power of two, as `merge` reads them


def obstacle(cache) -> str | None:
    """Why the kernels cannot take a step of this cache, in words; None if they can."""
    kind, buffer = type(cache.attention), cache.values.buffer
    if kind not in (StandardAttention, MLRAttention):
        return f"takes StandardAttention and MLRAttention, got {kind.__name__}"
    return mlr_kernel.obstacle(buffer, buffer, n_levels=1, causal=True)  # however many levels: these have no limit


def constants(ranks: tuple[int, ...], normalize_levels: bool, dtype: torch.dtype, tile: int) -> dict:
    """What `attend` is compiled for."""
    side_by_side = gcd(16 // dtype.itemsize, *ranks)  # columns in 16 bytes at most, all of one level
    sizes = {"D": sum(ranks), "FULL": columns(sum(ranks)), "VECTOR": side_by_side, "TILE": tile, "STAGES": STAGES}
    return {"RANKS": ranks, "NORMALIZE": normalize_levels} | sizes


def warps(dtype: torch.dtype) -> int:
    """A thread has as many bytes of a tile whatever the dtype: with twice as many, float32 would spill registers."""
    return WARPS * dtype.itemsize // 2


def step(cache, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`AttentionCache._step`, for a cache without `obstacle`. q, k, v: (B, H, 1, r), turned already if rotary.

    A graph replayed beyond the capacity, which no check sees, writes each token in the place of the last one.
    """
    from . import decode_kernel_triton as kernels  # imports Triton

    attention, buffers = cache.attention, [ring.buffer for ring in cache.keys]
    groups = attention.key_groups(1)
    ranks, scales = tuple(group.features for group in groups), tuple(group.scale for group in groups)
    if isinstance(scales[0], Tensor):  # which a launch would have to wait for
        q, scales = torch.cat(attention.split_queries(q), dim=-1), (1.0,) * len(groups)
    q, k, v = (t.contiguous() for t in (q, k, v))
    (batch, heads, _, d), dtype = v.shape, buffers[0].dtype
    rows, full = batch * heads, columns(d)
    tile, stretches = cut(rows, cache.capacity, full)
    top, total = q.new_empty(2, rows, stretches, dtype=torch.float32)
    part, out = q.new_empty(rows, stretches, d, dtype=torch.float32), torch.empty_like(v)
    with torch.cuda.device_of(v):  # Triton launches on the current device
        kernels.attend[rows, stretches](
            q, k, v, tuple(buffers), cache.values.buffer, cache.lengths, cache._slots, scales,
            top, total, part, heads, num_warps=warps(dtype),
            **constants(ranks, getattr(attention, "normalize_levels", False), dtype, tile),
        )  # fmt: skip
        kernels.merge[rows,](top, total, part, cache.lengths, out, heads, SPLITS=stretches, D=d, FULL=full)
    return out
