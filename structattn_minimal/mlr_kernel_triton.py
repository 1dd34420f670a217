"""MLR attention as three Triton kernels: forward, dq (a tile of queries each), dk and dv (a tile of keys each).

A tile of queries meets its keys in phases, level after level: first the keys that share level 1 alone, then those that
share levels 1 and 2, ... (`row_phases` in `mlr_kernel`). All pairs of a phase share the same levels, so it is plain
attention over the first r_1 + ... + r_l features, without a mask: the `_far` functions. Only around the diagonal do
levels finer than the tile, and causality, take masks: `_near_scores`. Imported by `mlr_kernel` when a kernel runs.

Tensors come as descriptors of (batch, heads, seq, features): what lies outside reads as zero and is not written. On
Hopper and later they are the hardware's bulk copies (TMA). Q1 ... Q8 and K1 ... K8 are the same queries and keys, cut
off after the features of levels 1 ... 8, and read as WIDTH columns, 16, 32, 64 or 128, since tensor cores know no
others: so neither a length nor a rank is a special case, and what is multiplied never passes through registers.

Scores are kept in base 2: softmax through exp2, and LSE the base-2 logarithm of the sum. The queries come with the
levels' scales in them; DQ is of what they were before. HOME is the finest level whose blocks hold whole tiles; SIZES
are the block sizes of all levels, PREFIX their r_1 + ... + r_l, WIDTH the columns read for those.
"""

import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor  # noqa: F401 (for those who call a kernel)

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def _position(n_batch, n_heads):
    """(batch, head, how many tiles of this head came before)"""
    heads = n_batch * n_heads
    return tl.program_id(0) % heads // n_heads, tl.program_id(0) % heads % n_heads, tl.program_id(0) // heads


@triton.jit
def _of_level(t1, t2, t3, t4, t5, t6, t7, t8, LEVEL: tl.constexpr):
    if LEVEL == 1:  # noqa: SIM116 (a kernel has no dictionaries)
        return t1
    elif LEVEL == 2:
        return t2
    elif LEVEL == 3:
        return t3
    elif LEVEL == 4:
        return t4
    elif LEVEL == 5:
        return t5
    elif LEVEL == 6:
        return t6
    elif LEVEL == 7:
        return t7
    else:
        return t8


@triton.jit
def _load(tensor, batch, head, row):
    """(rows, columns) of a descriptor's block."""
    block = tensor.load([batch, head, row, 0])
    return block.reshape(block.shape[2], block.shape[3])


@triton.jit
def _store(tensor, batch, head, row, value):
    tensor.store([batch, head, row, 0], value.to(tensor.dtype).reshape(1, 1, value.shape[0], value.shape[1]))


@triton.jit
def _zeros(ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    return tl.zeros((ROWS, COLUMNS), tl.float32)


@triton.jit
def _dot(a, b):
    return tl.dot(a, b, input_precision="ieee")


# Around the diagonal all pairs share the levels up to HOME. Finer ones are settled pair by pair, coarse to fine, each
# overruling the one before where it is shared.


@triton.jit
def _near_scores(cut, other, i, j, SIZES: tl.constexpr, HOME: tl.constexpr, NORMALIZE: tl.constexpr):
    """Scores in base 2, -inf where a query at i does not see the key at j. cut: the own tile at each level from HOME
    on; other: all features, of which those that a level lacks meet zeros."""
    scores = _dot(cut[0], other.T) * (LOG2E / HOME if NORMALIZE else LOG2E)
    for l in tl.static_range(HOME + 1, len(SIZES) + 1):
        finer = _dot(cut[l - HOME], other.T) * (LOG2E / l if NORMALIZE else LOG2E)
        scores = tl.where(i // SIZES[l - 1] == j // SIZES[l - 1], finer, scores)
    return tl.where(i >= j, scores, float("-inf"))


@triton.jit
def _near_gradient(
    ds, other, i, j, SIZES: tl.constexpr, HOME: tl.constexpr, PREFIX: tl.constexpr, NORMALIZE: tl.constexpr
):
    """What these pairs add to the gradient of the own tile: of a level's features, the pairs that share the level."""
    if NORMALIZE:
        share = tl.full(ds.shape, 1.0 / HOME, tl.float32)
        for l in tl.static_range(HOME + 1, len(SIZES) + 1):
            share = tl.where(i // SIZES[l - 1] == j // SIZES[l - 1], 1.0 / l, share)
        ds *= share
    grad = _dot(ds.to(other.dtype), other)
    features = tl.arange(0, other.shape[1])[None, :]
    for l in tl.static_range(HOME + 1, len(SIZES) + 1):
        of_level = tl.where(i // SIZES[l - 1] == j // SIZES[l - 1], ds, 0.0).to(other.dtype)
        grad = tl.where(features < PREFIX[l - 2], grad, _dot(of_level, other))
    return grad


@triton.jit
def _near_start(row, SIZES: tl.constexpr, HOME: tl.constexpr, STEP: tl.constexpr):
    """The first key, in whole steps, that can share a level finer than HOME with a row of this tile."""
    start = row
    if len(SIZES) > HOME:
        start = row // SIZES[HOME] * SIZES[HOME] // STEP * STEP
    return start


@triton.jit(do_not_specialize=["n_batch", "n_heads"])
def scale_queries(
    Q, SCALES, SCALED, n_batch, n_heads, seq_len, PREFIX: tl.constexpr, TILE: tl.constexpr, FULL: tl.constexpr
):
    """SCALED = Q * SCALES, feature by feature, rounded once."""
    batch, head, tile = _position(n_batch, n_heads)
    _store(SCALED, batch, head, tile * TILE, _load(Q, batch, head, tile * TILE) * _scales(SCALES, PREFIX, FULL))


@triton.jit
def _scales(SCALES, PREFIX: tl.constexpr, FULL: tl.constexpr):
    """(1, FULL), zero where there is no feature."""
    features = tl.arange(0, FULL)
    return tl.load(SCALES + features, mask=features < PREFIX[len(PREFIX) - 1], other=0.0)[None, :]


@triton.jit
def _softmax_step(out, top, total, scores, factor, v):
    """Rows' running maximum, sum and output after one more tile of scores (online softmax)."""
    new_top = tl.maximum(top, tl.max(scores, 1) * factor)
    p = tl.math.exp2(scores * factor - new_top[:, None])
    shrink = tl.math.exp2(top - new_top)
    out = tl.dot(p.to(v.dtype), v, out * shrink[:, None], input_precision="ieee")
    return out, new_top, total * shrink + tl.sum(p, 1)


@triton.jit
def _far_forward(out, top, total, q, K, V, factor, batch, head, first, last, STEP: tl.constexpr):
    """A phase of a tile of queries: keys `first` to `last`, all of one level."""
    for column in tl.range(first, last, STEP):
        scores = _dot(q, _load(K, batch, head, column).T)
        out, top, total = _softmax_step(out, top, total, scores, factor, _load(V, batch, head, column))
    return out, top, total


@triton.jit(do_not_specialize=["n_batch", "n_heads"])
def forward(
    Q1, Q2, Q3, Q4, Q5, Q6, Q7, Q8, K1, K2, K3, K4, K5, K6, K7, K8, V, OUT, LSE, n_batch, n_heads, seq_len,
    SIZES: tl.constexpr, HOME: tl.constexpr, NORMALIZE: tl.constexpr, TILE: tl.constexpr, STEP: tl.constexpr,
    FULL: tl.constexpr,
):  # fmt: skip
    """Softmax(S) V and the log-sum-exp of each row; the longest rows start first."""
    L: tl.constexpr = len(SIZES)
    batch, head, tile = _position(n_batch, n_heads)
    row = (tl.cdiv(seq_len, TILE) - 1 - tile) * TILE
    rows = row + tl.arange(0, TILE)
    out = _zeros(TILE, FULL)
    top = tl.full((TILE,), float("-inf"), tl.float32)
    total = tl.zeros((TILE,), tl.float32)
    near = _near_start(row, SIZES, HOME, STEP)
    queries = ()  # of the levels that meet around the diagonal
    for l in tl.static_range(HOME, L + 1):
        queries += (_load(_of_level(Q1, Q2, Q3, Q4, Q5, Q6, Q7, Q8, l), batch, head, row),)
    # Around the diagonal first: every row sees the key `near`, so that its maximum is finite from the start.
    for column in tl.range(near, row + TILE, STEP, num_stages=2):
        i, j = rows[:, None], column + tl.arange(0, STEP)[None, :]
        k = _load(_of_level(K1, K2, K3, K4, K5, K6, K7, K8, L), batch, head, column)
        scores = _near_scores(queries, k, i, j, SIZES, HOME, NORMALIZE)
        out, top, total = _softmax_step(out, top, total, scores, 1.0, _load(V, batch, head, column))
    for l in tl.static_range(HOME, 0, -1):
        first = row // SIZES[l - 1] * SIZES[l - 1] if l > 1 else 0
        last = row // SIZES[l] * SIZES[l] if l < HOME else near
        if first < last:
            q = queries[0] if l == HOME else _load(_of_level(Q1, Q2, Q3, Q4, Q5, Q6, Q7, Q8, l), batch, head, row)
            out, top, total = _far_forward(
                out, top, total, q, _of_level(K1, K2, K3, K4, K5, K6, K7, K8, l), V,
                LOG2E / l if NORMALIZE else LOG2E, batch, head, first, last, STEP,
            )  # fmt: skip
    _store(OUT, batch, head, row, out / total[:, None])
    lse = LSE + (batch * n_heads + head).to(tl.int64) * seq_len + rows
    tl.store(lse, top + tl.math.log2(total), mask=rows < seq_len)


# A gradient is as wide as its level's features. It grows in registers from the coarsest level to the finest: no part of
# it ever goes out to memory. The masked steps behind are not pipelined: if they were, ptxas could not follow the
# gradient, and would let each tensor core instruction of the kernel wait for the one before.


@triton.jit
def _widened(grad, WIDTH: tl.constexpr):
    """The same, with columns of zeros behind."""
    for _ in tl.static_range(3):  # from 16 columns to 128
        if grad.shape[1] < WIDTH:
            grad = tl.join(grad, tl.zeros_like(grad)).permute(0, 2, 1).reshape(grad.shape[0], 2 * grad.shape[1])
    return grad


@triton.jit
def _far_rows(dq, q, K, V, d_out, lse, delta, slope, batch, head, first, last, STEP: tl.constexpr):
    """A phase of a tile of queries: keys `first` to `last`, all of one level."""
    for column in tl.range(first, last, STEP):
        k, v = _load(K, batch, head, column), _load(V, batch, head, column)
        p = tl.math.exp2(_dot(q, k.T) * (slope * LOG2E) - lse[:, None])
        ds = p * (_dot(d_out, v.T) * slope - (delta * slope)[:, None])
        dq = tl.dot(ds.to(k.dtype), k, dq, input_precision="ieee")
    return dq


@triton.jit(do_not_specialize=["n_batch", "n_heads"])
def backward_rows(
    Q1, Q2, Q3, Q4, Q5, Q6, Q7, Q8, K1, K2, K3, K4, K5, K6, K7, K8, V, OUT, D_OUT, LSE, DELTA, SCALES, DQ,
    n_batch, n_heads, seq_len, SIZES: tl.constexpr, HOME: tl.constexpr, PREFIX: tl.constexpr, WIDTH: tl.constexpr,
    NORMALIZE: tl.constexpr, TILE: tl.constexpr, STEP: tl.constexpr, FULL: tl.constexpr,
):  # fmt: skip
    """dq of a tile of queries, and DELTA = sum of out * d_out over the features of a row, which the keys need."""
    L: tl.constexpr = len(SIZES)
    batch, head, tile = _position(n_batch, n_heads)
    row = (tl.cdiv(seq_len, TILE) - 1 - tile) * TILE
    rows = row + tl.arange(0, TILE)
    start = (batch * n_heads + head).to(tl.int64) * seq_len
    delta = tl.sum(_load(OUT, batch, head, row).to(tl.float32) * _load(D_OUT, batch, head, row).to(tl.float32), 1)
    tl.store(DELTA + start + rows, delta, mask=rows < seq_len)
    lse = tl.load(LSE + start + rows, mask=rows < seq_len, other=float("inf"))
    near = _near_start(row, SIZES, HOME, STEP)
    d_out = _load(D_OUT, batch, head, row)
    dq = _zeros(TILE, WIDTH[0])
    for l in tl.static_range(1, HOME + 1):
        first = row // SIZES[l - 1] * SIZES[l - 1] if l > 1 else 0
        last = row // SIZES[l] * SIZES[l] if l < HOME else near
        dq = _widened(dq, WIDTH[l - 1])
        q = _load(_of_level(Q1, Q2, Q3, Q4, Q5, Q6, Q7, Q8, l), batch, head, row)
        if first < last:
            dq = _far_rows(
                dq, q, _of_level(K1, K2, K3, K4, K5, K6, K7, K8, l), V, d_out, lse, delta,
                1.0 / l if NORMALIZE else 1.0, batch, head, first, last, STEP,
            )  # fmt: skip
    queries = (q,)
    for l in tl.static_range(HOME + 1, L + 1):
        queries += (_load(_of_level(Q1, Q2, Q3, Q4, Q5, Q6, Q7, Q8, l), batch, head, row),)
    for column in tl.range(near, row + TILE, STEP, num_stages=1):
        i, j = rows[:, None], column + tl.arange(0, STEP)[None, :]
        k = _load(_of_level(K1, K2, K3, K4, K5, K6, K7, K8, L), batch, head, column)
        p = tl.math.exp2(_near_scores(queries, k, i, j, SIZES, HOME, NORMALIZE) - lse[:, None])
        ds = p * (_dot(d_out, _load(V, batch, head, column).T) - delta[:, None])
        dq += _near_gradient(ds, k, i, j, SIZES, HOME, PREFIX, NORMALIZE)
    _store(DQ, batch, head, row, dq * _scales(SCALES, PREFIX, FULL))


@triton.jit
def _far_columns(dk, dv, Q, k, v, D_OUT, LSE, DELTA, slope, batch, head, first, last, seq_len, STEP: tl.constexpr):
    """A phase of a tile of keys: queries `first` to `last`, all of one level. Scores stand as (keys, queries)."""
    for row in tl.range(first, last, STEP):
        rows = row + tl.arange(0, STEP)
        lse = tl.load(LSE + rows, mask=rows < seq_len, other=float("inf"))
        delta = tl.load(DELTA + rows, mask=rows < seq_len, other=0.0)
        q, d_out = _load(Q, batch, head, row), _load(D_OUT, batch, head, row)
        p = tl.math.exp2(_dot(k, q.T) * (slope * LOG2E) - lse[None, :])
        dv = tl.dot(p.to(d_out.dtype), d_out, dv, input_precision="ieee")
        ds = p * (_dot(v, d_out.T) * slope - (delta * slope)[None, :])
        dk = tl.dot(ds.to(q.dtype), q, dk, input_precision="ieee")
    return dk, dv


@triton.jit(do_not_specialize=["n_batch", "n_heads"])
def backward_columns(
    Q1, Q2, Q3, Q4, Q5, Q6, Q7, Q8, K1, K2, K3, K4, K5, K6, K7, K8, V, D_OUT, LSE, DELTA, DK, DV,
    n_batch, n_heads, seq_len, SIZES: tl.constexpr, HOME: tl.constexpr, PREFIX: tl.constexpr, WIDTH: tl.constexpr,
    NORMALIZE: tl.constexpr, TILE: tl.constexpr, STEP: tl.constexpr, FULL: tl.constexpr,
):  # fmt: skip
    """dk and dv of a tile of keys, which meets the queries after it, from the farthest phase to the nearest."""
    L: tl.constexpr = len(SIZES)
    batch, head, tile = _position(n_batch, n_heads)
    column = tile * TILE
    start = (batch * n_heads + head).to(tl.int64) * seq_len
    LSE += start
    DELTA += start
    near = column + TILE  # where the masked rows end
    if len(SIZES) > HOME:
        near = tl.cdiv(((column + TILE - 1) // SIZES[HOME] + 1) * SIZES[HOME], STEP) * STEP
        end = tl.maximum((column // SIZES[HOME - 1] + 1) * SIZES[HOME - 1], column + TILE) if HOME > 1 else seq_len
        near = tl.minimum(near, end)
    v = _load(V, batch, head, column)
    dk, dv = _zeros(TILE, WIDTH[0]), _zeros(TILE, FULL)
    for l in tl.static_range(1, HOME + 1):
        first = (column // SIZES[l] + 1) * SIZES[l] if l < HOME else near
        last = tl.minimum((column // SIZES[l - 1] + 1) * SIZES[l - 1], seq_len) if l > 1 else seq_len
        dk = _widened(dk, WIDTH[l - 1])
        k = _load(_of_level(K1, K2, K3, K4, K5, K6, K7, K8, l), batch, head, column)
        if first < last:
            dk, dv = _far_columns(
                dk, dv, _of_level(Q1, Q2, Q3, Q4, Q5, Q6, Q7, Q8, l), k, v, D_OUT, LSE, DELTA,
                1.0 / l if NORMALIZE else 1.0, batch, head, first, last, seq_len, STEP,
            )  # fmt: skip
    keys = (k,)
    for l in tl.static_range(HOME + 1, L + 1):
        keys += (_load(_of_level(K1, K2, K3, K4, K5, K6, K7, K8, l), batch, head, column),)
    for row in tl.range(column, near, STEP, num_stages=1):
        rows = row + tl.arange(0, STEP)
        i, j = rows[None, :], (column + tl.arange(0, TILE))[:, None]
        q = _load(_of_level(Q1, Q2, Q3, Q4, Q5, Q6, Q7, Q8, L), batch, head, row)
        lse = tl.load(LSE + rows, mask=rows < seq_len, other=float("inf"))
        delta = tl.load(DELTA + rows, mask=rows < seq_len, other=0.0)
        d_out = _load(D_OUT, batch, head, row)
        p = tl.math.exp2(_near_scores(keys, q, i, j, SIZES, HOME, NORMALIZE) - lse[None, :])
        dv = tl.dot(p.to(d_out.dtype), d_out, dv, input_precision="ieee")
        ds = p * (_dot(v, d_out.T) - delta[None, :])
        dk += _near_gradient(ds, q, i, j, SIZES, HOME, PREFIX, NORMALIZE)
    _store(DK, batch, head, column, dk)
    _store(DV, batch, head, column, dv)
