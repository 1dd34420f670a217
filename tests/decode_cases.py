"""Prints, for random caches, how far the decoding kernels' steps are from the float64 definition and torch's step.

With two arguments device and dtype. Each line: the case; the largest relative error of a row and head against the
definition, and against torch's step; the largest difference between what the two steps stored. Before each step all
slots that it must not read are NaN. A process of its own: Triton reads TRITON_INTERPRET when it is imported.
"""

import json
import random
import sys

import torch
from kernel_cases import hierarchy

import structattn_minimal as sa
from structattn_minimal import decode_kernel
from structattn_minimal.partition import halving_block_sizes as halved

AUTHORS = (32, 8, 6, 4, 4, 4, 4, 2)
FIXED = [  # ranks, block_sizes, capacity, lengths, steps, heads, level_scales, normalize_levels, tile, programs
    ((16,), None, 1, (0,), 1, 2, None, False, 16, 1),  # the only slot; no blocks: standard attention
    ((16,), None, 70, (69, 0, 32), 1, 2, None, False, 16, 12),
    ((7, 5), (2, 1), 1, (0, 0), 1, 1, None, False, 16, 1),
    ((5, 4, 3), (24, 12, 6), 24, (0,), 24, 1, None, False, 4, 3),  # every seam, from the first token to the last
    ((5, 4, 3), (24, 8, 2), 23, (0,), 23, 1, None, True, 4, 3),
    ((1, 1, 1, 1), (16, 8, 4, 2), 16, (15, 8, 7, 0), 1, 2, None, True, 4, 64),
    ((2, *[1] * 8), halved(256, 9), 256, (255, 128, 127, 254), 1, 1, None, True, 32, 12),  # finest blocks of one token
    (AUTHORS, halved(128, 8), 128, (127, 64, 63, 95), 1, 2, None, False, 16, 24),
    ((16, 8, 4, 4), (1024, 128, 32, 8), 1000, (999, 895, 896, 7), 1, 1, None, False, 32, 16),  # steep levels
    ((33, 20), (64, 32), 45, (44, 32, 31, 0), 1, 1, [0.3, 0.7], True, 16, 8),  # a block that the capacity cuts short
    ((4, 4, 2), (48, 24, 12), 37, (24, 35, 23, 11), 2, 2, "learnt", True, 8, 16),
    ((128,), None, 100, (99, 31, 64), 1, 1, None, False, 32, 4096),  # empty stretches
]
LARGE = [
    ((64,), None, 131072, (131071, 70000), 1, 2, None, False, None, None),
    ((64, 16, 16, 16, 16), halved(65536, 5), 50000, (49999, 32768, 32767, 5), 1, 4, None, False, None, None),
    (AUTHORS, halved(16384, 8), 16384, (16382, 8192, 8191, 0, 12345), 2, 8, None, True, None, None),
    ((32, 16, 16), halved(4096, 3), 4096, tuple(range(4064, 4096)), 1, 8, None, False, None, None),
    ((16, 16, 16, 16), (8192, 1024, 256, 64), 8000, (7999, 4096, 4095, 64), 1, 8, None, True, None, None),
]


def drawn(rng):
    ranks, sizes = hierarchy(rng)
    finest, capacity = sizes[-1], rng.randint((sizes[0] + 1) // 2, sizes[0])
    seams = [min(at + off, capacity - 1) for at in range(0, capacity, finest) for off in (0, finest - 1)]
    scales = rng.choice([None, [rng.random() for _ in ranks], "learnt"])
    lengths = tuple(rng.choice(seams) for _ in range(rng.randint(1, 3)))
    options = (rng.randint(1, 2), scales, rng.random() < 0.5, rng.choice([2, 8, 32]), rng.choice([1, 8, 64]))
    return ranks, sizes, capacity, lengths, 1, *options


def attention_of(ranks, block_sizes, heads, level_scales, normalize_levels, like):
    width = heads * sum(ranks)
    if not block_sizes:
        return sa.StandardAttention(width, heads).to(like)
    scales = torch.rand(len(ranks), device=like.device) if level_scales == "learnt" else level_scales
    how = {"block_sizes": block_sizes, "level_scales": scales, "normalize_levels": normalize_levels}
    return sa.MLRAttention(width, heads, ranks=ranks, context=block_sizes[0], **how).to(like)


def defined(attention, q, k, v):
    """The newest token's output, in float64, when k and v (heads, tokens, features) end with it. q: (heads, d)."""
    t, d = k.shape[1] - 1, v.shape[2]
    ranks, sizes = getattr(attention, "ranks", (d,)), getattr(attention, "block_sizes", (t + 1,))
    position, scales = torch.arange(t + 1, device=q.device), [group.scale for group in attention.key_groups(1)]
    scores, shared = torch.zeros(k.shape[:2], dtype=torch.float64, device=q.device), torch.zeros_like(position)
    parts = (x.double().split(ranks, dim=-1) for x in (q, k))
    for q_l, k_l, size, scale in zip(*parts, sizes, scales, strict=True):
        same = position // size == t // size
        scores += same * float(scale) * (k_l @ q_l[:, :, None])[:, :, 0]
        shared += same
    if getattr(attention, "normalize_levels", False):
        scores /= shared
    return (scores.softmax(-1)[:, None] @ v.double())[:, 0]


def valid(cache, newest):
    """(ring, row, how many of its slots the row's newest token sees), its own among them."""
    for ring in [*cache.keys, cache.values]:
        yield from ((ring.buffer, row, t % ring.slots + 1) for row, t in enumerate(newest))


def hide(cache, newest):
    """NaN wherever a step must not look: slots never reached, those of old blocks, and the newest token's own."""
    for buffer, row, n in valid(cache, newest):
        buffer[row, :, n - 1 :] = torch.nan


def errors(ranks, block_sizes, capacity, lengths, steps, heads, level_scales, normalize_levels, tile, programs, like):
    attention = attention_of(ranks, block_sizes, heads, level_scales, normalize_levels, like)
    if tile:
        decode_kernel.TILE_NUMBERS, decode_kernel.PROGRAMS = tile * decode_kernel.columns(sum(ranks)), programs
    ours, theirs = (sa.AttentionCache(attention, len(lengths), capacity) for _ in range(2))
    q, k, v = (like.new_empty(len(lengths), heads, capacity, sum(ranks)).normal_() for _ in range(3))
    for cache in (ours, theirs):
        cache._store(k, v, torch.tensor(lengths, device=like.device))
    rows, found = range(len(lengths)), []
    for n in range(steps):
        newest = [length + n for length in lengths]
        hide(ours, newest)
        new = [x[rows, :, newest][:, :, None] for x in (q, k, v)]  # (B, H, 1, d) each
        out, other = decode_kernel.step(ours, *new)[:, :, 0].double(), theirs._step(*new)[:, :, 0].double()
        exact = [defined(attention, q[i, :, t], k[i, :, : t + 1], v[i, :, : t + 1]) for i, t in enumerate(newest)]
        found.append([((out - x).norm(dim=-1) / x.norm(dim=-1)).max() for x in (torch.stack(exact), other)])
    assert ours.lengths.tolist() == theirs.lengths.tolist() == [t + 1 for t in newest]
    pairs = zip(valid(ours, newest), valid(theirs, newest), strict=True)
    stored = [(a[i, :, :n] - b[i, :, :n]).abs().max() for (a, i, n), (b, _, _) in pairs]
    return [*torch.tensor(found).amax(0).tolist(), torch.stack(stored).max().item()]  # NaN if one is


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    rng = random.Random(0)
    device, dtype = [*sys.argv[1:], *("cpu", "float32")[len(sys.argv) - 1 :]]
    like = torch.empty(0, device=device, dtype=getattr(torch, dtype))
    cases = [*LARGE, *FIXED, *(drawn(rng) for _ in range(24))]  # large ones first, while the package says how it cuts
    assert all(max(lengths) + steps <= capacity for _, _, capacity, lengths, steps, *_ in cases)
    for case in cases[0 if device == "cuda" else len(LARGE) :]:
        print(json.dumps([case, errors(*case, like)]), flush=True)
