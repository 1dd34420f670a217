"""MLR attention as three Triton kernels: forward, dq (a tile of rows each), dk and dv (a tile of columns each).

A tile of queries meets its keys in phases, level after level: first the keys that share level 1 alone, then those that
share levels 1 and 2, ... (`row_phases` in `mlr_kernel`). All pairs of a phase share the same levels, so it is plain
attention over the first r_1 + ... + r_l features, without a mask. Only around the diagonal do levels finer than the
tile, and causality, take masks. Imported by `mlr_kernel` when a kernel runs: needs Triton.

Scores are kept in base 2: softmax through exp2, and LSE the base-2 logarithm of the sum. The scales of the levels are
in q already. PREFIX, WIDE, REST hold for each level that the tile fits into: the features it uses, read as WIDE + REST
columns (powers of two, the tensor cores' steps). FINE_* describe the levels finer than that.
"""

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def _load(
    base, row, column, seq_len, WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, RAGGED: tl.constexpr
):
    """ROWS x COLUMNS of a (seq_len, WIDTH) matrix; rows past its end are zero where RAGGED allows for them."""
    rows = row + tl.arange(0, ROWS)
    at = base + rows[:, None] * WIDTH + (column + tl.arange(0, COLUMNS))[None, :]
    return tl.load(at, mask=rows[:, None] < seq_len, other=0.0) if RAGGED else tl.load(at)


@triton.jit
def _first(tile, USED: tl.constexpr):
    """`tile` with zeros after its first USED columns: what the padding holds belongs to other levels."""
    if tile.shape[1] <= USED:
        return tile
    return tl.where(tl.arange(0, tile.shape[1])[None, :] < USED, tile, 0.0).to(tile.dtype)


@triton.jit
def _add(base, row, column, value, seq_len, WIDTH: tl.constexpr, USED: tl.constexpr):
    """Add the first USED columns of `value` to a matrix that this program alone writes."""
    rows = row + tl.arange(0, value.shape[0])
    columns = tl.arange(0, value.shape[1])
    at = base + rows[:, None] * WIDTH + (column + columns)[None, :]
    inside = (rows[:, None] < seq_len) & (columns[None, :] < USED)
    tl.debug_barrier()  # other threads may have written these entries in the phase before
    tl.store(at, tl.load(at, mask=inside, other=0.0) + value, mask=inside)


@triton.jit
def _zeros(ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    return tl.zeros((ROWS, COLUMNS), tl.float32)


@triton.jit
def _dot(a, b):
    return tl.dot(a, b, input_precision="ieee")


@triton.jit
def _pair(a, b, a_rest, b_rest, REST: tl.constexpr):
    """a b^T over the WIDE columns and, where there are any, the REST."""
    product = tl.dot(a, tl.trans(b), input_precision="ieee")
    return tl.dot(a_rest, tl.trans(b_rest), product, input_precision="ieee") if REST else product


@triton.jit
def _near_scores(
    Q, K, row, column, seq_len, WIDTH: tl.constexpr, PREFIX: tl.constexpr, WIDE: tl.constexpr, REST: tl.constexpr,
    FINE_FROM: tl.constexpr, FINE_RANK: tl.constexpr, FINE_WIDE: tl.constexpr, FINE_SIZE: tl.constexpr,
    NORMALIZE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """(base-2 scores around the diagonal, d score / d dot product): masks for finer levels and causality."""
    HOME: tl.constexpr = len(PREFIX)
    i = row + tl.arange(0, ROWS)[:, None]
    j = column + tl.arange(0, COLUMNS)[None, :]
    q = _first(_load(Q, row, 0, seq_len, WIDTH, ROWS, WIDE[HOME - 1], True), PREFIX[HOME - 1])
    k = _load(K, column, 0, seq_len, WIDTH, COLUMNS, WIDE[HOME - 1], True)
    scores = _dot(q, tl.trans(k))
    if REST[HOME - 1]:
        q = _load(Q, row, WIDE[HOME - 1], seq_len, WIDTH, ROWS, REST[HOME - 1], True)
        k = _load(K, column, WIDE[HOME - 1], seq_len, WIDTH, COLUMNS, REST[HOME - 1], True)
        scores += _dot(_first(q, PREFIX[HOME - 1] - WIDE[HOME - 1]), tl.trans(k))
    shared = tl.full((ROWS, COLUMNS), HOME, tl.float32)
    for f in tl.static_range(len(FINE_FROM)):
        same = i // FINE_SIZE[f] == j // FINE_SIZE[f]
        q = _first(_load(Q, row, FINE_FROM[f], seq_len, WIDTH, ROWS, FINE_WIDE[f], True), FINE_RANK[f])
        k = _load(K, column, FINE_FROM[f], seq_len, WIDTH, COLUMNS, FINE_WIDE[f], True)
        scores += tl.where(same, _dot(q, tl.trans(k)), 0.0)
        shared += tl.where(same, 1.0, 0.0)
    slope = 1.0 / shared if NORMALIZE else tl.full((ROWS, COLUMNS), 1.0, tl.float32)
    return tl.where(i >= j, scores * slope * LOG2E, float("-inf")), slope


@triton.jit
def _near_start(row, seq_len, FINE_SIZE: tl.constexpr, STEP: tl.constexpr):
    """The first key, in whole steps, that can share a fine level with a row of this tile."""
    start = row
    if len(FINE_SIZE) > 0:
        start = row // FINE_SIZE[0] * FINE_SIZE[0] // STEP * STEP
    return start


@triton.jit
def _softmax_step(out, top, total, scores, v):
    """Rows' running maximum, sum and output after one more tile of base-2 scores (online softmax)."""
    new_top = tl.maximum(top, tl.max(scores, 1))
    p = tl.math.exp2(scores - new_top[:, None])
    shrink = tl.math.exp2(top - new_top)
    out = tl.dot(p.to(v.dtype), v, out * shrink[:, None], input_precision="ieee")
    return out, new_top, total * shrink + tl.sum(p, 1)


@triton.jit
def forward(
    Q, K, V, OUT, LSE, heads, seq_len, WIDTH: tl.constexpr, WIDTH_V: tl.constexpr, SIZES: tl.constexpr,
    PREFIX: tl.constexpr, WIDE: tl.constexpr, REST: tl.constexpr, FINE_FROM: tl.constexpr, FINE_RANK: tl.constexpr,
    FINE_WIDE: tl.constexpr, FINE_SIZE: tl.constexpr, NORMALIZE: tl.constexpr, TILE: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """Softmax(S) V and the log-sum-exp of each row; the longest rows start first."""
    head = (tl.program_id(0) % heads).to(tl.int64)
    row = (tl.cdiv(seq_len, TILE) - 1 - tl.program_id(0) // heads) * TILE
    Q, K, V, OUT = (
        Q + head * seq_len * WIDTH,
        K + head * seq_len * WIDTH,
        V + head * seq_len * WIDTH_V,
        OUT + head * seq_len * WIDTH_V,
    )
    out = tl.zeros((TILE, WIDTH_V), tl.float32)
    top = tl.full((TILE,), float("-inf"), tl.float32)
    total = tl.zeros((TILE,), tl.float32)
    near = _near_start(row, seq_len, FINE_SIZE, STEP)
    for l in tl.static_range(len(PREFIX)):
        first = row // SIZES[l] * SIZES[l] if l > 0 else 0
        last = row // SIZES[l + 1] * SIZES[l + 1] if l + 1 < len(PREFIX) else near
        if first < last:
            q = _first(_load(Q, row, 0, seq_len, WIDTH, TILE, WIDE[l], True), PREFIX[l])
            q_rest = q
            if REST[l]:
                q_rest = _first(_load(Q, row, WIDE[l], seq_len, WIDTH, TILE, REST[l], True), PREFIX[l] - WIDE[l])
            for column in tl.range(first, last, STEP):
                k = _load(K, column, 0, seq_len, WIDTH, STEP, WIDE[l], False)
                k_rest = k
                if REST[l]:
                    k_rest = _load(K, column, WIDE[l], seq_len, WIDTH, STEP, REST[l], False)
                scores = _pair(q, k, q_rest, k_rest, REST[l]) * (LOG2E / (l + 1) if NORMALIZE else LOG2E)
                v = _load(V, column, 0, seq_len, WIDTH_V, STEP, WIDTH_V, False)
                out, top, total = _softmax_step(out, top, total, scores, v)
    for column in tl.range(near, row + TILE, STEP, num_stages=1):
        scores, _ = _near_scores(
            Q,
            K,
            row,
            column,
            seq_len,
            WIDTH,
            PREFIX,
            WIDE,
            REST,
            FINE_FROM,
            FINE_RANK,
            FINE_WIDE,
            FINE_SIZE,
            NORMALIZE,
            TILE,
            STEP,
        )
        v = _load(V, column, 0, seq_len, WIDTH_V, STEP, WIDTH_V, True)
        out, top, total = _softmax_step(out, top, total, scores, v)
    rows = row + tl.arange(0, TILE)
    at = OUT + rows[:, None] * WIDTH_V + tl.arange(0, WIDTH_V)[None, :]
    tl.store(at, (out / total[:, None]).to(OUT.dtype.element_ty), mask=rows[:, None] < seq_len)
    tl.store(LSE + head * seq_len + rows, top + tl.math.log2(total), mask=rows < seq_len)


@triton.jit
def backward_rows(
    Q, K, V, OUT, LSE, D_OUT, DELTA, DQ, heads, seq_len, WIDTH: tl.constexpr, WIDTH_V: tl.constexpr,
    SIZES: tl.constexpr, PREFIX: tl.constexpr, WIDE: tl.constexpr, REST: tl.constexpr, FINE_FROM: tl.constexpr,
    FINE_RANK: tl.constexpr, FINE_WIDE: tl.constexpr, FINE_SIZE: tl.constexpr, NORMALIZE: tl.constexpr,
    TILE: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """dq of a tile of rows, and delta = rowsum(out * d_out), which the columns need."""
    head = (tl.program_id(0) % heads).to(tl.int64)
    row = (tl.cdiv(seq_len, TILE) - 1 - tl.program_id(0) // heads) * TILE
    Q, K, DQ = Q + head * seq_len * WIDTH, K + head * seq_len * WIDTH, DQ + head * seq_len * WIDTH
    V, OUT, D_OUT = V + head * seq_len * WIDTH_V, OUT + head * seq_len * WIDTH_V, D_OUT + head * seq_len * WIDTH_V
    rows = row + tl.arange(0, TILE)
    d_out = _load(D_OUT, row, 0, seq_len, WIDTH_V, TILE, WIDTH_V, True)
    out = _load(OUT, row, 0, seq_len, WIDTH_V, TILE, WIDTH_V, True)
    delta = tl.sum(d_out.to(tl.float32) * out.to(tl.float32), 1)
    tl.store(DELTA + head * seq_len + rows, delta, mask=rows < seq_len)
    lse = tl.load(LSE + head * seq_len + rows, mask=rows < seq_len, other=float("inf"))
    near = _near_start(row, seq_len, FINE_SIZE, STEP)
    for l in tl.static_range(len(PREFIX)):
        first = row // SIZES[l] * SIZES[l] if l > 0 else 0
        last = row // SIZES[l + 1] * SIZES[l + 1] if l + 1 < len(PREFIX) else near
        if first < last:
            q = _first(_load(Q, row, 0, seq_len, WIDTH, TILE, WIDE[l], True), PREFIX[l])
            q_rest = q
            dq = _zeros(TILE, WIDE[l])
            dq_rest = dq
            if REST[l]:
                q_rest = _first(_load(Q, row, WIDE[l], seq_len, WIDTH, TILE, REST[l], True), PREFIX[l] - WIDE[l])
                dq_rest = _zeros(TILE, REST[l])
            for column in tl.range(first, last, STEP):
                k = _load(K, column, 0, seq_len, WIDTH, STEP, WIDE[l], False)
                k_rest = k
                if REST[l]:
                    k_rest = _load(K, column, WIDE[l], seq_len, WIDTH, STEP, REST[l], False)
                v = _load(V, column, 0, seq_len, WIDTH_V, STEP, WIDTH_V, False)
                scores = _pair(q, k, q_rest, k_rest, REST[l]) * (LOG2E / (l + 1) if NORMALIZE else LOG2E)
                p = tl.math.exp2(scores - lse[:, None])
                ds = (p * (_dot(d_out, tl.trans(v)) - delta[:, None])).to(k.dtype)
                dq = tl.dot(ds, k, dq, input_precision="ieee")
                if REST[l]:
                    dq_rest = tl.dot(ds, k_rest, dq_rest, input_precision="ieee")
            slope = 1.0 / (l + 1) if NORMALIZE else 1.0
            _add(DQ, row, 0, dq * slope, seq_len, WIDTH, PREFIX[l])
            if REST[l]:
                _add(DQ, row, WIDE[l], dq_rest * slope, seq_len, WIDTH, PREFIX[l] - WIDE[l])
    HOME: tl.constexpr = len(PREFIX) - 1
    for column in tl.range(near, row + TILE, STEP, num_stages=1):
        scores, slope = _near_scores(
            Q,
            K,
            row,
            column,
            seq_len,
            WIDTH,
            PREFIX,
            WIDE,
            REST,
            FINE_FROM,
            FINE_RANK,
            FINE_WIDE,
            FINE_SIZE,
            NORMALIZE,
            TILE,
            STEP,
        )
        v = _load(V, column, 0, seq_len, WIDTH_V, STEP, WIDTH_V, True)
        ds = tl.math.exp2(scores - lse[:, None]) * (_dot(d_out, tl.trans(v)) - delta[:, None]) * slope
        k = _load(K, column, 0, seq_len, WIDTH, STEP, WIDE[HOME], True)
        _add(DQ, row, 0, _dot(ds.to(k.dtype), k), seq_len, WIDTH, PREFIX[HOME])
        if REST[HOME]:
            k = _load(K, column, WIDE[HOME], seq_len, WIDTH, STEP, REST[HOME], True)
            _add(DQ, row, WIDE[HOME], _dot(ds.to(k.dtype), k), seq_len, WIDTH, PREFIX[HOME] - WIDE[HOME])
        for f in tl.static_range(len(FINE_FROM)):
            same = rows[:, None] // FINE_SIZE[f] == (column + tl.arange(0, STEP))[None, :] // FINE_SIZE[f]
            k = _load(K, column, FINE_FROM[f], seq_len, WIDTH, STEP, FINE_WIDE[f], True)
            _add(DQ, row, FINE_FROM[f], _dot(tl.where(same, ds, 0.0).to(k.dtype), k), seq_len, WIDTH, FINE_RANK[f])


@triton.jit
def backward_columns(
    Q, K, V, D_OUT, LSE, DELTA, DK, DV, heads, seq_len, WIDTH: tl.constexpr, WIDTH_V: tl.constexpr,
    SIZES: tl.constexpr, PREFIX: tl.constexpr, WIDE: tl.constexpr, REST: tl.constexpr, FINE_FROM: tl.constexpr,
    FINE_RANK: tl.constexpr, FINE_WIDE: tl.constexpr, FINE_SIZE: tl.constexpr, NORMALIZE: tl.constexpr,
    TILE: tl.constexpr, STEP: tl.constexpr, RAGGED: tl.constexpr,
):  # fmt: skip
    """dk and dv of a tile of columns, which meets the queries after it from the finest level to the coarsest."""
    head = (tl.program_id(0) % heads).to(tl.int64)
    column = tl.program_id(0) // heads * TILE
    Q, K, DK = Q + head * seq_len * WIDTH, K + head * seq_len * WIDTH, DK + head * seq_len * WIDTH
    V, D_OUT, DV = V + head * seq_len * WIDTH_V, D_OUT + head * seq_len * WIDTH_V, DV + head * seq_len * WIDTH_V
    LSE, DELTA = LSE + head * seq_len, DELTA + head * seq_len
    v = _load(V, column, 0, seq_len, WIDTH_V, TILE, WIDTH_V, True)
    dv = tl.zeros((TILE, WIDTH_V), tl.float32)
    HOME: tl.constexpr = len(PREFIX) - 1
    near = column + TILE  # where the masked rows end
    if len(FINE_SIZE) > 0:
        near = ((column + TILE - 1) // FINE_SIZE[0] + 1) * FINE_SIZE[0]
        near = tl.minimum(
            tl.cdiv(near, STEP) * STEP,
            tl.maximum((column // SIZES[HOME] + 1) * SIZES[HOME], column + TILE) if HOME > 0 else seq_len,
        )
    for row in tl.range(column, near, STEP, num_stages=1):
        rows = row + tl.arange(0, STEP)
        scores, slope = _near_scores(
            Q,
            K,
            row,
            column,
            seq_len,
            WIDTH,
            PREFIX,
            WIDE,
            REST,
            FINE_FROM,
            FINE_RANK,
            FINE_WIDE,
            FINE_SIZE,
            NORMALIZE,
            STEP,
            TILE,
        )
        lse = tl.load(LSE + rows, mask=rows < seq_len, other=float("inf"))
        delta = tl.load(DELTA + rows, mask=rows < seq_len, other=0.0)
        d_out = _load(D_OUT, row, 0, seq_len, WIDTH_V, STEP, WIDTH_V, True)
        p = tl.math.exp2(scores - lse[:, None])
        dv = tl.dot(tl.trans(p).to(d_out.dtype), d_out, dv, input_precision="ieee")
        ds = p * (_dot(d_out, tl.trans(v)) - delta[:, None]) * slope
        q = _load(Q, row, 0, seq_len, WIDTH, STEP, WIDE[HOME], True)
        _add(DK, column, 0, _dot(tl.trans(ds).to(q.dtype), q), seq_len, WIDTH, PREFIX[HOME])
        if REST[HOME]:
            q = _load(Q, row, WIDE[HOME], seq_len, WIDTH, STEP, REST[HOME], True)
            _add(DK, column, WIDE[HOME], _dot(tl.trans(ds).to(q.dtype), q), seq_len, WIDTH, PREFIX[HOME] - WIDE[HOME])
        for f in tl.static_range(len(FINE_FROM)):
            same = rows[:, None] // FINE_SIZE[f] == (column + tl.arange(0, TILE))[None, :] // FINE_SIZE[f]
            q = _load(Q, row, FINE_FROM[f], seq_len, WIDTH, STEP, FINE_WIDE[f], True)
            part = _dot(tl.trans(tl.where(same, ds, 0.0)).to(q.dtype), q)
            _add(DK, column, FINE_FROM[f], part, seq_len, WIDTH, FINE_RANK[f])
    for l in tl.static_range(len(PREFIX) - 1, -1, -1):
        first = (column // SIZES[l + 1] + 1) * SIZES[l + 1] if l < HOME else near
        last = tl.minimum((column // SIZES[l] + 1) * SIZES[l], seq_len) if l > 0 else seq_len
        if first < last:
            k = _first(_load(K, column, 0, seq_len, WIDTH, TILE, WIDE[l], True), PREFIX[l])
            k_rest = k
            dk = _zeros(TILE, WIDE[l])
            dk_rest = dk
            if REST[l]:
                k_rest = _first(_load(K, column, WIDE[l], seq_len, WIDTH, TILE, REST[l], True), PREFIX[l] - WIDE[l])
                dk_rest = _zeros(TILE, REST[l])
            for row in tl.range(first, last, STEP):
                rows = row + tl.arange(0, STEP)
                q = _load(Q, row, 0, seq_len, WIDTH, STEP, WIDE[l], RAGGED)
                q_rest = q
                if REST[l]:
                    q_rest = _load(Q, row, WIDE[l], seq_len, WIDTH, STEP, REST[l], RAGGED)
                lse = tl.load(LSE + rows, mask=rows < seq_len, other=float("inf"))
                delta = tl.load(DELTA + rows, mask=rows < seq_len, other=0.0)
                d_out = _load(D_OUT, row, 0, seq_len, WIDTH_V, STEP, WIDTH_V, RAGGED)
                scores = _pair(k, q, k_rest, q_rest, REST[l]) * (LOG2E / (l + 1) if NORMALIZE else LOG2E)
                p = tl.math.exp2(scores - lse[None, :])
                dv = tl.dot(p.to(d_out.dtype), d_out, dv, input_precision="ieee")
                ds = (p * (_dot(v, tl.trans(d_out)) - delta[None, :])).to(q.dtype)
                dk = tl.dot(ds, q, dk, input_precision="ieee")
                if REST[l]:
                    dk_rest = tl.dot(ds, q_rest, dk_rest, input_precision="ieee")
            slope = 1.0 / (l + 1) if NORMALIZE else 1.0
            _add(DK, column, 0, dk * slope, seq_len, WIDTH, PREFIX[l])
            if REST[l]:
                _add(DK, column, WIDE[l], dk_rest * slope, seq_len, WIDTH, PREFIX[l] - WIDE[l])
    columns = column + tl.arange(0, TILE)
    at = DV + columns[:, None] * WIDTH_V + tl.arange(0, WIDTH_V)[None, :]
    tl.store(at, dv.to(DV.dtype.element_ty), mask=columns[:, None] < seq_len)
