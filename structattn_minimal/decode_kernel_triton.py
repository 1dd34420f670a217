"""A decoding step as two Triton kernels: `attend` looks at a stretch of the tokens held, `merge` joins the stretches.
The end of a launch is what tells that all stretches are done, and that nobody needs the old `lengths` any more.

The ring of level l holds the current block of that level from slot 0 on: the token at j lies in slot j - block_l, and
those before block_l, the block's first token, are not at this level. So all levels are read as one tile of (tokens,
features), each column with the pointer, the row length and the block of its own level; standard attention is the case
of one level. What a mask hides is never read: neither slots that an old block has left, nor the one that the newest
token is just being written to, by another program. Imported by `decode_kernel` when a step runs.

Each row of a tile keeps a softmax of its own (maximum, sum, output), of the tokens that fall to it, and these are
merged at the end, so that no warp waits for another in the loop. Logits are kept in base 2.
"""

from typing import no_type_check  # else a test's type checks would wrap what Triton compiles

import triton
import triton.language as tl

from .mlr_kernel_triton import LOG2E

LOWEST = tl.constexpr(-1e38)  # the maximum of no logits; finite, so that differences are numbers


@no_type_check
@triton.jit(do_not_specialize=["n_heads"])
def attend(
    Q, NEW_K, NEW_V, KEYS, VALUES, LENGTHS, SLOTS, SCALES, TOP, TOTAL, OUT, n_heads, RANKS: tl.constexpr,
    D: tl.constexpr, NORMALIZE: tl.constexpr, FULL: tl.constexpr, VECTOR: tl.constexpr, TILE: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    """The newest token's softmax over one stretch of those before it; the first has the newest too, and stores it.

    A program each (row and head, stretch); what it finds is its largest logit in TOP, its sum of exponentials in TOTAL
    and of values weighted so in OUT. KEYS, SLOTS, SCALES, RANKS: one a level. A tile is read as FULL columns, of which
    D are features and each VECTOR lie side by side in one ring.
    """
    row, split, splits = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    capacity = tl.load(SLOTS)  # level 1 holds all
    newest = tl.minimum(tl.load(LENGTHS + row // n_heads), capacity - 1).to(tl.int32)
    column, lane = tl.arange(0, FULL), tl.arange(0, TILE)
    is_feature = column < D
    feature, key, scale = column, KEYS[0] + column, tl.zeros((FULL,), tl.float32)
    width, block, blocks = tl.zeros((FULL,), tl.int32), tl.zeros((FULL,), tl.int32), ()
    for l in tl.static_range(len(RANKS)):
        of_level, slots = feature >= 0, tl.load(SLOTS + l).to(tl.int32)
        blocks += (newest // slots * slots,)
        token_0 = KEYS[l] + (row * slots - blocks[l]) * RANKS[l] + feature  # where it would lie
        key = tl.where(of_level, token_0, key)
        width, block = tl.where(of_level, RANKS[l], width), tl.where(of_level, blocks[l], block)
        scale = tl.where(of_level, SCALES[l] * LOG2E, scale)
        feature -= RANKS[l]
    value = VALUES + row * capacity * D + column
    q = tl.load(Q + row * D + column, mask=is_feature, other=0.0).to(tl.float32) * scale

    stores = is_feature & (split == 0)
    new_k = tl.load(NEW_K + row * D + column, mask=stores, other=0.0).to(key.dtype.element_ty)
    new_v = tl.load(NEW_V + row * D + column, mask=stores, other=0.0).to(value.dtype.element_ty)
    tl.store(key + newest * width, new_k, mask=stores)
    tl.store(value + newest * D, new_v, mask=stores)
    score = tl.sum(q * new_k.to(tl.float32), 0) / (len(RANKS) if NORMALIZE else 1)
    has_newest = (lane == 0) & (split == 0)
    top, total = tl.where(has_newest, score, LOWEST), tl.where(has_newest, 1.0, 0.0)
    out = tl.where(has_newest[:, None], new_v.to(tl.float32)[None, :], 0.0)

    stretch = tl.cdiv(tl.cdiv(newest, splits), TILE) * TILE
    end = tl.minimum((split + 1) * stretch, newest)
    for start in tl.range(split * stretch, end, TILE, num_stages=STAGES):
        token = start + lane
        held = (token < end)[:, None] & is_feature[None, :]
        at_level = tl.max_constancy(held & (token[:, None] >= block[None, :]), (1, VECTOR))
        keys = tl.max_contiguous(key[None, :] + token[:, None] * width[None, :], (1, VECTOR))
        keys = tl.multiple_of(keys, (1, VECTOR * key.dtype.element_ty.primitive_bitwidth // 8))
        k = tl.load(keys, mask=at_level, other=0.0).to(tl.float32)
        v = tl.load(value[None, :] + token[:, None] * D, mask=held, other=0.0).to(tl.float32)
        scores = tl.sum(q[None, :] * k, 1)
        if NORMALIZE:
            shared = tl.zeros((TILE,), tl.float32)
            for l in tl.static_range(len(RANKS)):
                shared += (token >= blocks[l]).to(tl.float32)
            scores /= shared
        scores = tl.where(token < end, scores, float("-inf"))
        new_top = tl.maximum(top, scores)
        shrink, p = tl.math.exp2(top - new_top), tl.math.exp2(scores - new_top)
        top, total, out = new_top, total * shrink + p, out * shrink[:, None] + p[:, None] * v

    highest, at = tl.max(top, 0), row * splits + split
    weight = tl.math.exp2(top - highest)
    tl.store(TOP + at, highest)
    tl.store(TOTAL + at, tl.sum(total * weight, 0))
    tl.store(OUT + at * D + column, tl.sum(out * weight[:, None], 0), mask=is_feature)


@no_type_check
@triton.jit(do_not_specialize=["n_heads"])
def merge(TOP, TOTAL, OUT, LENGTHS, HEADS, n_heads, SPLITS: tl.constexpr, D: tl.constexpr, FULL: tl.constexpr):
    """HEADS: what the stretches of each row and head give together. And LENGTHS counts on, once a row."""
    row, column = tl.program_id(0).to(tl.int64), tl.arange(0, FULL)
    at, is_feature = row * SPLITS + tl.arange(0, SPLITS), column < D
    top = tl.load(TOP + at)
    weight = tl.math.exp2(top - tl.max(top, 0))
    out = tl.load(OUT + at[:, None] * D + column[None, :], mask=is_feature[None, :], other=0.0)
    out = tl.sum(out * weight[:, None], 0) / tl.sum(tl.load(TOTAL + at) * weight, 0)
    tl.store(HEADS + row * D + column, out, mask=is_feature)
    if row % n_heads == 0:
        tl.store(LENGTHS + row // n_heads, tl.load(LENGTHS + row // n_heads) + 1)
