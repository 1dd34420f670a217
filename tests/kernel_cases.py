"""Prints, for random cases, the relative errors of the kernel's output and gradients against the float64 definition.

With four arguments device, dtype, n, m: every m-th case, from the n-th. A process of its own: Triton reads
TRITON_INTERPRET when it is imported, and cannot compile type-checked functions.
"""

import json
import random
import sys

import torch

import structattn_minimal as sa

FIXED = [  # ranks, block_sizes, T, d_v, normalize_levels
    ((16,), None, 70, 20, False),
    ((3, 2, 4), (96, 48, 24), 77, 5, True),
    ((16, 16), None, 128, 16, False),
    ((20, 9, 5, 3), (256, 64, 16, 4), 150, 17, True),
    ((33, 17, 8), (160, 80, 20), 130, 8, False),
]


def hierarchy(rng):
    """(ranks, block_sizes) of random nested levels."""
    sizes = [rng.choice([1, 3, 8, 16, 32])]
    for _ in range(rng.randint(0, 3)):
        sizes.insert(0, sizes[0] * rng.choice([1, 2, 3]))
    return tuple(rng.randint(1, 20) for _ in sizes), tuple(sizes)


def drawn(rng):
    ranks, sizes = hierarchy(rng)
    return ranks, sizes, rng.randint(1, sizes[0]), rng.randint(1, 40), rng.random() < 0.5


def errors(ranks, block_sizes, seq_len, d_v, normalize_levels, device="cpu", dtype=torch.float32):
    d = sum(ranks)
    tensors = [torch.randn(1, 2, seq_len, n, device=device, dtype=dtype).requires_grad_() for n in (d, d, d_v)]
    scales = (torch.rand(len(ranks), device=device, dtype=dtype) / 4).requires_grad_()
    upstream = torch.randn(1, 2, seq_len, d_v, device=device, dtype=dtype)

    def numbers(backend, dtype, level_scales):
        q, k, v = (t.to(dtype) for t in tensors)
        how = {"block_sizes": block_sizes, "normalize_levels": normalize_levels, "backend": backend}
        out = sa.mlr_attention(q, k, v, ranks, level_scales=level_scales, **how)
        learnt = [scales] if level_scales is not None else []
        return [out, *torch.autograd.grad(out, (*tensors, *learnt), upstream.to(dtype))]

    found = []
    for given in (scales, None):
        pairs = zip(numbers("triton", dtype, given), numbers("dense", torch.float64, given), strict=True)
        found += [((a.double() - b).norm() / (b.double().norm() + 1e-3)).item() for a, b in pairs]
    return found


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rng = random.Random(0)
    device, dtype, start, step = [*sys.argv[1:], *("cpu", "float32", "0", "1")[len(sys.argv) - 1 :]]
    cases = FIXED + [drawn(rng) for _ in range(12)]
    if device == "cuda":
        cases += [((32, 8, 6, 4, 4, 4, 4, 2), None, 1024, 64, True), ((64, 16, 16, 16, 16), None, 2048, 128, False)]
        cases += [((32, 16, 16), (4096, 1024, 256), 1500, 64, False)]
    for case in cases[int(start) :: int(step)]:
        print(json.dumps([case, errors(*case, device=device, dtype=getattr(torch, dtype))]), flush=True)
