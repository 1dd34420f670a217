"""Chapter 9's planted wrong answers."""

import torch

from ..wrong import wrong
from .solutions import merge, most_gain, online_attention, piece_gradients, rectangles

# 9.1


@wrong("9.1", "levels from zero", says="levels count from 1")
def from_zero(block_sizes):
    return [(level + 1, *rest) for level, *rest in rectangles(block_sizes)]


@wrong("9.1", "left asks right", says="the right part of a block asks")
def left_asks(block_sizes):
    return [(level, start, stop, first, last) for level, first, last, start, stop in rectangles(block_sizes)]


@wrong("9.1", "halves", says="more than two")
def halves(block_sizes):
    return [
        (level, block + size // 2, block + size, block, block + size // 2)
        for level, size in enumerate(block_sizes[:-1], 1)
        for block in range(0, block_sizes[0], size)
    ]


@wrong("9.1", "the first block alone", says="not only the first one")
def first_block(block_sizes):
    return [row for row in rectangles(block_sizes) if row[2] <= block_sizes[row[0] - 1]]


@wrong("9.1", "one pair of finer blocks at a time", says="as one rectangle")
def many(block_sizes):
    found = []
    for level, first, last, start, stop in rectangles(block_sizes):
        finer = last - first
        found += [(level, first, last, key, key + finer) for key in range(start, stop, finer)]
    return found


@wrong("9.1", "the next neighbour only", says="each meets all that come before it")
def neighbour(block_sizes):
    return [(level, first, last, first - (last - first), first) for level, first, last, _, _ in rectangles(block_sizes)]


# 9.2


@wrong("9.2", "overflow", says="torch.logaddexp")
def overflow(o, lse, o_new, lse_new):
    a, b = lse.exp(), lse_new.exp()
    return (a[:, None] * o + b[:, None] * o_new) / (a + b)[:, None], (a + b).log()


@wrong("9.2", "mean of the pieces", says="the pieces are averaged")
def mean(o, lse, o_new, lse_new):
    return (o + o_new) / 2, torch.logaddexp(lse, lse_new)


@wrong("9.2", "sum of the pieces", says="outputs are added")
def added(o, lse, o_new, lse_new):
    return o + o_new, torch.logaddexp(lse, lse_new)


@wrong("9.2", "exchanged weights", says="the louder piece weighs more")
def exchanged(o, lse, o_new, lse_new):
    return merge(o_new, lse, o, lse_new)


@wrong("9.2", "log-sum-exps added", says="log-sum-exps are added")
def lse_added(o, lse, o_new, lse_new):
    return merge(o, lse, o_new, lse_new)[0], lse + lse_new


@wrong("9.2", "the larger log-sum-exp", says="the larger of the two")
def lse_larger(o, lse, o_new, lse_new):
    return merge(o, lse, o_new, lse_new)[0], torch.maximum(lse, lse_new)


# 9.3


def recurrence(q, keys, values, shrink_out=True, shrink_total=True, divide=True):
    top, total, out = q.new_full((len(q), 1), -torch.inf), 0, 0
    for k, v in zip(keys, values, strict=True):
        scores = q @ k.T
        new_top = torch.maximum(top, scores.amax(1, keepdim=True))
        p, shrink = (scores - new_top).exp(), (top - new_top).exp()
        total = (shrink if shrink_total else 1) * total + p.sum(1, keepdim=True)
        out = (shrink if shrink_out else 1) * out + p @ v
        top = new_top
    return out / total if divide else out


@wrong("9.3", "output not rescaled", says="the output so far is not rescaled")
def out_kept(q, keys, values):
    return recurrence(q, keys, values, shrink_out=False)


@wrong("9.3", "sum not rescaled", says="the sum so far is not rescaled")
def total_kept(q, keys, values):
    return recurrence(q, keys, values, shrink_total=False)


@wrong("9.3", "no maximum", says="overflows")
def no_maximum(q, keys, values):
    p = [(q @ k.T).exp() for k in keys]
    return sum(one @ v for one, v in zip(p, values, strict=True)) / sum(one.sum(1, keepdim=True) for one in p)


@wrong("9.3", "mean over tiles", says="each tile has its own softmax")
def mean_of_tiles(q, keys, values):
    return sum((q @ k.T).softmax(1) @ v for k, v in zip(keys, values, strict=True)) / len(keys)


@wrong("9.3", "scaled", says="1 / sqrt(d)")
def scaled(q, keys, values):
    return online_attention(q / q.shape[1] ** 0.5, keys, values)


# 9.4


@wrong("9.4", "softmax of the piece", says="runs over this piece alone")
def own_softmax(q, k, v, scale, out, lse, d_out):
    return piece_gradients(q, k, v, scale, out, (scale * q @ k.T).logsumexp(1), d_out)


@wrong("9.4", "delta of the piece", says="from the output of this piece")
def own_delta(q, k, v, scale, out, lse, d_out):
    return piece_gradients(q, k, v, scale, (scale * q @ k.T).softmax(1) @ v, lse, d_out)


@wrong("9.4", "everything of the piece", says="of this piece alone")
def own_everything(q, k, v, scale, out, lse, d_out):
    scores = scale * q @ k.T
    return piece_gradients(q, k, v, scale, scores.softmax(1) @ v, scores.logsumexp(1), d_out)


@wrong("9.4", "delta over the piece", says="over these keys alone")
def partial_delta(q, k, v, scale, out, lse, d_out):
    return piece_gradients(q, k, v, scale, (scale * q @ k.T - lse[:, None]).exp() @ v, lse, d_out)


@wrong("9.4", "no delta", says="delta = d_out . out is missing")
def no_delta(q, k, v, scale, out, lse, d_out):
    return piece_gradients(q, k, v, scale, 0 * out, lse, d_out)


@wrong("9.4", "scale forgotten in the gradients", says="carry the scale once more")
def no_scale(q, k, v, scale, out, lse, d_out):
    dq, dk, dv = piece_gradients(q, k, v, scale, out, lse, d_out)
    return dq / scale, dk / scale, dv


# 9.5


@wrong("9.5", "what is left", says="dense over MLR")
def left(ranks, backward):
    return 1 / most_gain(ranks, backward)


@wrong("9.5", "values shrink too", says="does not shrink")
def all_shrink(ranks, backward):
    return sum(ranks) / sum(r / 2**l for l, r in enumerate(ranks))


@wrong("9.5", "no second scores", says="a second time")
def six(ranks, backward):
    f = sum(r / 2**l for l, r in enumerate(ranks)) / sum(ranks)
    return 6 / (3 * f + 3) if backward else 2 / (1 + f)


@wrong("9.5", "backward alone", says="backward pass alone")
def five(ranks, backward):
    f = sum(r / 2**l for l, r in enumerate(ranks)) / sum(ranks)
    return 5 / (3 * f + 2) if backward else 2 / (1 + f)


@wrong("9.5", "halved from level 1 on", says="count in full")
def half_of_level_1(ranks, backward):
    f = sum(r / 2**l for l, r in enumerate(ranks, 1)) / sum(ranks)
    return 7 / (4 * f + 3) if backward else 2 / (1 + f)


@wrong("9.5", "forward twice", says="seven products")
def forward_only(ranks, backward):
    return most_gain(ranks, False)
