"""MLR attention as three Triton kernels: forward, dq (a tile of queries each), dk and dv (a tile of keys each).

A tile of queries meets its keys in phases, level after level: first the keys that share level 1 alone, then those that
share levels 1 and 2, ... (`row_phases` in `mlr_kernel`). All pairs of a phase share the same levels, so it is plain
attention over the first r_1 + ... + r_l features, without a mask: the `_far` functions. Only around the diagonal do
levels finer than the tile, and causality, take masks: `_near_scores`. Imported by `mlr_kernel` when a kernel runs.

Tensors come as descriptors of (batch, heads, seq, features): what lies outside reads as zero and is not written, so
that no length or width is a special case. On Hopper and later they are the hardware's bulk copies (TMA). A prefix is
read as 16, 32, 64 or 128 columns, the steps of the tensor cores; Q16 ... Q128 are one tensor.

Scores are kept in base 2: softmax through exp2, and LSE the base-2 logarithm of the sum. SIZES, PREFIX and WIDTH
describe the levels whose blocks hold whole tiles: block size, features, columns. FINE_* describe the levels finer than
that: block size, first feature, feature after the last. FULL columns hold all features, and the values too.
"""

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def _position(n_batch, n_heads):
    """(batch, head, how many tiles of this head came before)"""
    heads = n_batch * n_heads
    return tl.program_id(0) % heads // n_heads, tl.program_id(0) % heads % n_heads, tl.program_id(0) // heads


@triton.jit
def _of_width(t16, t32, t64, t128, WIDTH: tl.constexpr):
    """The descriptor that reads WIDTH columns."""
    if WIDTH == 16:  # noqa: SIM116 (a kernel has no dictionaries)
        return t16
    elif WIDTH == 32:
        return t32
    elif WIDTH == 64:
        return t64
    else:
        return t128


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


@triton.jit
def _scale(SCALES, FIRST: tl.constexpr, LAST: tl.constexpr, WIDTH: tl.constexpr):
    """(1, WIDTH) the factor of features FIRST to LAST, and 0 for the others: they belong to other levels."""
    features = tl.arange(0, WIDTH)
    return tl.load(SCALES + features, mask=(features >= FIRST) & (features < LAST), other=0.0)[None, :]


@triton.jit
def _near_scores(
    a, b, i, j, SCALES, HOME: tl.constexpr, PREFIX: tl.constexpr, FINE_SIZE: tl.constexpr, FINE_FIRST: tl.constexpr,
    FINE_LAST: tl.constexpr, NORMALIZE: tl.constexpr, FULL: tl.constexpr,
):  # fmt: skip
    """(base-2 scores a b^T around the diagonal, d score / d dot product), for queries at i and keys at j."""
    scores = _dot((a * _scale(SCALES, 0, PREFIX, FULL)).to(a.dtype), b.T)
    shared = tl.full(scores.shape, HOME + 1, tl.float32)
    for f in tl.static_range(len(FINE_SIZE)):
        same = i // FINE_SIZE[f] == j // FINE_SIZE[f]
        fine = _dot((a * _scale(SCALES, FINE_FIRST[f], FINE_LAST[f], FULL)).to(a.dtype), b.T)
        scores += tl.where(same, fine, 0.0)
        shared += tl.where(same, 1.0, 0.0)
    slope = 1.0 / shared if NORMALIZE else tl.full(scores.shape, 1.0, tl.float32)
    return tl.where(i >= j, scores * slope * LOG2E, float("-inf")), slope


@triton.jit
def _near_gradient(
    total, ds, b, i, j, SCALES, PREFIX: tl.constexpr, FINE_SIZE: tl.constexpr, FINE_FIRST: tl.constexpr,
    FINE_LAST: tl.constexpr, FULL: tl.constexpr,
):  # fmt: skip
    """`total` and the gradient of a in `_near_scores`, from that of the dot products: each level by itself."""
    total += _dot(ds.to(b.dtype), b) * _scale(SCALES, 0, PREFIX, FULL)
    for f in tl.static_range(len(FINE_SIZE)):
        same = i // FINE_SIZE[f] == j // FINE_SIZE[f]
        total += _dot(tl.where(same, ds, 0.0).to(b.dtype), b) * _scale(SCALES, FINE_FIRST[f], FINE_LAST[f], FULL)
    return total


@triton.jit
def _near_start(row, FINE_SIZE: tl.constexpr, STEP: tl.constexpr):
    """The first key, in whole steps, that can share a fine level with a row of this tile."""
    start = row
    if len(FINE_SIZE) > 0:
        start = row // FINE_SIZE[0] * FINE_SIZE[0] // STEP * STEP
    return start


@triton.jit
def _softmax_step(out, top, total, scores, factor, v):
    """Rows' running maximum, sum and output after one more tile of scores (online softmax)."""
    new_top = tl.maximum(top, tl.max(scores, 1) * factor)
    p = tl.math.exp2(scores * factor - new_top[:, None])
    shrink = tl.math.exp2(top - new_top)
    out = tl.dot(p.to(v.dtype), v, out * shrink[:, None], input_precision="ieee")
    return out, new_top, total * shrink + tl.sum(p, 1)


@triton.jit
def _far_forward(out, top, total, Q, K, V, scale, factor, batch, head, row, first, last, STEP: tl.constexpr):
    """A phase of a tile of queries: keys `first` to `last`, all of one level."""
    q = _load(Q, batch, head, row)
    q = (q * scale).to(q.dtype)
    for column in tl.range(first, last, STEP):
        scores = _dot(q, _load(K, batch, head, column).T)
        out, top, total = _softmax_step(out, top, total, scores, factor, _load(V, batch, head, column))
    return out, top, total


@triton.jit
def forward(
    Q16, Q32, Q64, Q128, K16, K32, K64, K128, V, OUT, LSE, SCALES, n_batch, n_heads, seq_len,
    SIZES: tl.constexpr, PREFIX: tl.constexpr, WIDTH: tl.constexpr, FINE_SIZE: tl.constexpr, FINE_FIRST: tl.constexpr,
    FINE_LAST: tl.constexpr, NORMALIZE: tl.constexpr, TILE: tl.constexpr, STEP: tl.constexpr, FULL: tl.constexpr,
):  # fmt: skip
    """Softmax(S) V and the log-sum-exp of each row; the longest rows start first."""
    HOME: tl.constexpr = len(PREFIX) - 1
    batch, head, tile = _position(n_batch, n_heads)
    row = (tl.cdiv(seq_len, TILE) - 1 - tile) * TILE
    rows = row + tl.arange(0, TILE)
    out = _zeros(TILE, FULL)
    top = tl.full((TILE,), float("-inf"), tl.float32)
    total = tl.zeros((TILE,), tl.float32)
    near = _near_start(row, FINE_SIZE, STEP)
    # Around the diagonal first: every row sees the key `near`, so that its maximum is finite from the start.
    q = _load(_of_width(Q16, Q32, Q64, Q128, FULL), batch, head, row)
    for column in tl.range(near, row + TILE, STEP):
        columns = column + tl.arange(0, STEP)
        k = _load(_of_width(K16, K32, K64, K128, FULL), batch, head, column)
        scores, _ = _near_scores(
            q, k, rows[:, None], columns[None, :], SCALES, HOME, PREFIX[HOME], FINE_SIZE, FINE_FIRST, FINE_LAST,
            NORMALIZE, FULL,
        )  # fmt: skip
        out, top, total = _softmax_step(out, top, total, scores, 1.0, _load(V, batch, head, column))
    for l in tl.static_range(HOME, -1, -1):
        first = row // SIZES[l] * SIZES[l] if l > 0 else 0
        last = row // SIZES[l + 1] * SIZES[l + 1] if l < HOME else near
        out, top, total = _far_forward(
            out, top, total, _of_width(Q16, Q32, Q64, Q128, WIDTH[l]), _of_width(K16, K32, K64, K128, WIDTH[l]), V,
            _scale(SCALES, 0, PREFIX[l], WIDTH[l]), LOG2E / (l + 1) if NORMALIZE else LOG2E,
            batch, head, row, first, last, STEP,
        )  # fmt: skip
    _store(OUT, batch, head, row, out / total[:, None])
    lse = LSE + (batch * n_heads + head).to(tl.int64) * seq_len + rows
    tl.store(lse, top + tl.math.log2(total), mask=rows < seq_len)


# A phase reads only as many columns as its level has, and its gradient has no more. A tile's gradient grows in memory
# (PARTS), phase by phase, where that tile's program alone writes: the sum has one order, and runs agree to the bit.


@triton.jit
def _put(PARTS, row, value, seq_len, FULL: tl.constexpr, ADD: tl.constexpr):
    """Write the first columns of (seq, FULL) in `value`'s rows, or add to them."""
    rows = row + tl.arange(0, value.shape[0])[:, None]
    at = PARTS + rows * FULL + tl.arange(0, value.shape[1])[None, :]
    if ADD:
        tl.debug_barrier()  # other threads wrote these entries in the phase before
        value += tl.load(at, mask=rows < seq_len, other=0.0)
    tl.store(at, value, mask=rows < seq_len)


@triton.jit
def _get(PARTS, row, seq_len, TILE: tl.constexpr, FULL: tl.constexpr):
    """What was added to TILE rows."""
    rows = row + tl.arange(0, TILE)[:, None]
    tl.debug_barrier()
    return tl.load(PARTS + rows * FULL + tl.arange(0, FULL)[None, :], mask=rows < seq_len, other=0.0)


@triton.jit
def _far_rows(
    Q, K, V, PARTS, d_out, lse, delta, scale, slope, batch, head, row, first, last, seq_len,
    TILE: tl.constexpr, STEP: tl.constexpr, WIDTH: tl.constexpr, FULL: tl.constexpr,
):  # fmt: skip
    """A phase of a tile of queries: keys `first` to `last`, all of one level."""
    q = _load(Q, batch, head, row)
    q = (q * scale).to(q.dtype)
    dq = _zeros(TILE, WIDTH)
    for column in tl.range(first, last, STEP):
        k, v = _load(K, batch, head, column), _load(V, batch, head, column)
        p = tl.math.exp2(_dot(q, k.T) * (slope * LOG2E) - lse[:, None])
        ds = p * (_dot(d_out, v.T) - delta[:, None])
        dq = tl.dot(ds.to(k.dtype), k, dq, input_precision="ieee")
    _put(PARTS, row, dq * scale * slope, seq_len, FULL, True)


@triton.jit
def backward_rows(
    Q16, Q32, Q64, Q128, K16, K32, K64, K128, V, OUT, D_OUT, LSE, DELTA, PARTS, DQ, SCALES, n_batch, n_heads, seq_len,
    SIZES: tl.constexpr, PREFIX: tl.constexpr, WIDTH: tl.constexpr, FINE_SIZE: tl.constexpr, FINE_FIRST: tl.constexpr,
    FINE_LAST: tl.constexpr, NORMALIZE: tl.constexpr, TILE: tl.constexpr, STEP: tl.constexpr, FULL: tl.constexpr,
):  # fmt: skip
    """dq of a tile of queries, and DELTA = sum of out * d_out over the features of a row, which the keys need."""
    HOME: tl.constexpr = len(PREFIX) - 1
    batch, head, tile = _position(n_batch, n_heads)
    row = (tl.cdiv(seq_len, TILE) - 1 - tile) * TILE
    rows = row + tl.arange(0, TILE)
    start = (batch * n_heads + head).to(tl.int64) * seq_len
    PARTS += start * FULL
    d_out = _load(D_OUT, batch, head, row)
    delta = tl.sum(_load(OUT, batch, head, row).to(tl.float32) * d_out.to(tl.float32), 1)
    tl.store(DELTA + start + rows, delta, mask=rows < seq_len)
    lse = tl.load(LSE + start + rows, mask=rows < seq_len, other=float("inf"))
    near = _near_start(row, FINE_SIZE, STEP)
    q = _load(_of_width(Q16, Q32, Q64, Q128, FULL), batch, head, row)
    dq = _zeros(TILE, FULL)
    for column in tl.range(near, row + TILE, STEP):
        i, j = rows[:, None], (column + tl.arange(0, STEP))[None, :]
        k = _load(_of_width(K16, K32, K64, K128, FULL), batch, head, column)
        scores, slope = _near_scores(
            q, k, i, j, SCALES, HOME, PREFIX[HOME], FINE_SIZE, FINE_FIRST, FINE_LAST, NORMALIZE, FULL
        )  # fmt: skip
        p = tl.math.exp2(scores - lse[:, None])
        ds = p * (_dot(d_out, _load(V, batch, head, column).T) - delta[:, None]) * slope
        dq = _near_gradient(dq, ds, k, i, j, SCALES, PREFIX[HOME], FINE_SIZE, FINE_FIRST, FINE_LAST, FULL)
    _put(PARTS, row, dq, seq_len, FULL, False)
    for l in tl.static_range(HOME, -1, -1):
        first = row // SIZES[l] * SIZES[l] if l > 0 else 0
        last = row // SIZES[l + 1] * SIZES[l + 1] if l < HOME else near
        if first < last:
            _far_rows(
                _of_width(Q16, Q32, Q64, Q128, WIDTH[l]), _of_width(K16, K32, K64, K128, WIDTH[l]), V, PARTS, d_out,
                lse, delta, _scale(SCALES, 0, PREFIX[l], WIDTH[l]), 1.0 / (l + 1) if NORMALIZE else 1.0,
                batch, head, row, first, last, seq_len, TILE, STEP, WIDTH[l], FULL,
            )  # fmt: skip
    _store(DQ, batch, head, row, _get(PARTS, row, seq_len, TILE, FULL))


@triton.jit
def _far_columns(
    dv, Q, K, v, D_OUT, LSE, DELTA, PARTS, scale, slope, batch, head, column, first, last, seq_len,
    TILE: tl.constexpr, STEP: tl.constexpr, WIDTH: tl.constexpr, FULL: tl.constexpr,
):  # fmt: skip
    """A phase of a tile of keys: queries `first` to `last`, all of one level. Scores stand as (keys, queries)."""
    k = _load(K, batch, head, column)
    k = (k * scale).to(k.dtype)
    dk = _zeros(TILE, WIDTH)
    for row in tl.range(first, last, STEP):
        rows = row + tl.arange(0, STEP)
        lse = tl.load(LSE + rows, mask=rows < seq_len, other=float("inf"))
        delta = tl.load(DELTA + rows, mask=rows < seq_len, other=0.0)
        q, d_out = _load(Q, batch, head, row), _load(D_OUT, batch, head, row)
        p = tl.math.exp2(_dot(k, q.T) * (slope * LOG2E) - lse[None, :])
        dv = tl.dot(p.to(d_out.dtype), d_out, dv, input_precision="ieee")
        ds = p * (_dot(v, d_out.T) - delta[None, :])
        dk = tl.dot(ds.to(q.dtype), q, dk, input_precision="ieee")
    _put(PARTS, column, dk * scale * slope, seq_len, FULL, True)
    return dv


@triton.jit
def backward_columns(
    Q16, Q32, Q64, Q128, K16, K32, K64, K128, V, D_OUT, LSE, DELTA, PARTS, DK, DV, SCALES, n_batch, n_heads, seq_len,
    SIZES: tl.constexpr, PREFIX: tl.constexpr, WIDTH: tl.constexpr, FINE_SIZE: tl.constexpr, FINE_FIRST: tl.constexpr,
    FINE_LAST: tl.constexpr, NORMALIZE: tl.constexpr, TILE: tl.constexpr, STEP: tl.constexpr, FULL: tl.constexpr,
):  # fmt: skip
    """dk and dv of a tile of keys, which meets the queries after it from the finest level to the coarsest."""
    HOME: tl.constexpr = len(PREFIX) - 1
    batch, head, tile = _position(n_batch, n_heads)
    column = tile * TILE
    start = (batch * n_heads + head).to(tl.int64) * seq_len
    LSE += start
    DELTA += start
    PARTS += start * FULL
    near = column + TILE  # where the masked rows end
    if len(FINE_SIZE) > 0:
        near = tl.cdiv(((column + TILE - 1) // FINE_SIZE[0] + 1) * FINE_SIZE[0], STEP) * STEP
        end = tl.maximum((column // SIZES[HOME] + 1) * SIZES[HOME], column + TILE) if HOME > 0 else seq_len
        near = tl.minimum(near, end)
    v = _load(V, batch, head, column)
    k = _load(_of_width(K16, K32, K64, K128, FULL), batch, head, column)
    dk, dv = _zeros(TILE, FULL), _zeros(TILE, FULL)
    for row in tl.range(column, near, STEP):
        rows = row + tl.arange(0, STEP)
        i, j = rows[None, :], (column + tl.arange(0, TILE))[:, None]
        q = _load(_of_width(Q16, Q32, Q64, Q128, FULL), batch, head, row)
        scores, slope = _near_scores(
            k, q, i, j, SCALES, HOME, PREFIX[HOME], FINE_SIZE, FINE_FIRST, FINE_LAST, NORMALIZE, FULL
        )  # fmt: skip
        lse = tl.load(LSE + rows, mask=rows < seq_len, other=float("inf"))
        delta = tl.load(DELTA + rows, mask=rows < seq_len, other=0.0)
        d_out = _load(D_OUT, batch, head, row)
        p = tl.math.exp2(scores - lse[None, :])
        dv = tl.dot(p.to(d_out.dtype), d_out, dv, input_precision="ieee")
        ds = p * (_dot(v, d_out.T) - delta[None, :]) * slope
        dk = _near_gradient(dk, ds, q, i, j, SCALES, PREFIX[HOME], FINE_SIZE, FINE_FIRST, FINE_LAST, FULL)
    _put(PARTS, column, dk, seq_len, FULL, False)
    for l in tl.static_range(HOME, -1, -1):
        first = (column // SIZES[l + 1] + 1) * SIZES[l + 1] if l < HOME else near
        last = tl.minimum((column // SIZES[l] + 1) * SIZES[l], seq_len) if l > 0 else seq_len
        if first < last:
            dv = _far_columns(
                dv, _of_width(Q16, Q32, Q64, Q128, WIDTH[l]), _of_width(K16, K32, K64, K128, WIDTH[l]), v, D_OUT, LSE,
                DELTA, PARTS, _scale(SCALES, 0, PREFIX[l], WIDTH[l]), 1.0 / (l + 1) if NORMALIZE else 1.0,
                batch, head, column, first, last, seq_len, TILE, STEP, WIDTH[l], FULL,
            )  # fmt: skip
    _store(DK, batch, head, column, _get(PARTS, column, seq_len, TILE, FULL))
    _store(DV, batch, head, column, dv)
