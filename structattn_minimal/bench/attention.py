"""How fast MLR attention is on this GPU, against the T x T definition and torch's attention, with its error in bf16.

Fresh random inputs for each shape, bfloat16, causal, all in one run. Each time is the median over replays of a CUDA
graph, so that it is the GPU's and not that of launching kernels from Python.
"""

import gc
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from os import cpu_count

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from ..mlr import mlr_attention

AUTHORS = (32, 8, 6, 4, 4, 4, 4, 2)
SHAPES = [  # batch, heads, T, ranks
    (16, 12, 1024, AUTHORS),
    (16, 12, 1024, (32, 16, 16)),
    (4, 12, 4096, AUTHORS),
    (4, 12, 4096, (32, 16, 16)),
    (1, 12, 16384, (32, 16, 16)),
    (1, 12, 16384, (16, 16, 32)),
    (1, 8, 16384, (64, 16, 16, 16, 16)),
    (1, 8, 16384, (32, 32, 64)),
    (1, 8, 131072, (32, 32, 64)),
]
ERROR_LENGTH, ERROR_LISTS = 2048, (AUTHORS, (32, 16, 16), (64, 16, 16, 16, 16))


def methods(ranks):
    d = sum(ranks)

    def flash(q, k, v):
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return scaled_dot_product_attention(q, k, v, is_causal=True)

    return {
        "mlr": lambda q, k, v: mlr_attention(q, k, v, ranks),
        "one_level": lambda q, k, v: mlr_attention(q, k, v, (d,), backend="triton"),
        "merge": lambda q, k, v: mlr_attention(q, k, v, ranks, backend="merge"),
        "flash": flash,
        "default": lambda q, k, v: scaled_dot_product_attention(q, k, v, is_causal=True),
        "definition": lambda q, k, v: mlr_attention(q, k, v, ranks, backend="dense"),
    }


def fits(name, ranks, seq_len):
    """Not every method takes every shape, or is done in minutes."""
    if name == "definition":
        return seq_len <= 4096
    return name != "merge" or (ranks != AUTHORS and seq_len <= 16384)


def inputs(batch, heads, seq_len, d):
    """q, k, v, and a gradient of the output."""
    return [torch.randn(batch, heads, seq_len, d, device="cuda", dtype=torch.bfloat16) for _ in range(4)]


def milliseconds(run, repeats):
    """The median of `repeats` replays of a CUDA graph of `run()`."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repeats)]
    graph.replay()
    for start, stop in events:
        start.record()
        graph.replay()
        stop.record()
    torch.cuda.synchronize()
    return round(sorted(start.elapsed_time(stop) for start, stop in events)[repeats // 2], 4)


def time_one(attend, batch, heads, seq_len, d):
    """Milliseconds forward, and forward with backward; GB that the latter adds at its peak."""
    q, k, v, upstream = inputs(batch, heads, seq_len, d)
    q, k, v = (t.requires_grad_() for t in (q, k, v))

    def both():
        torch.autograd.grad(attend(q, k, v), (q, k, v), upstream)

    def forward():
        with torch.no_grad():
            attend(q, k, v)

    both()
    gc.collect()  # leftovers that go meanwhile would be taken off the peak
    held = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    both()
    peak = (torch.cuda.max_memory_allocated() - held) / 1e9
    repeats = 3 if seq_len > 100_000 else 30
    times = {"forward": milliseconds(forward, repeats), "both": milliseconds(both, repeats)}
    return times | {"peak_gb": round(peak, 4)}


def speeds(shapes=SHAPES):
    results = {}
    for batch, heads, seq_len, ranks in shapes:
        row = results[f"t{seq_len}_r{'_'.join(map(str, ranks))}"] = {"batch": batch, "heads": heads}
        for name, attend in methods(ranks).items():
            if fits(name, ranks, seq_len):
                row[name] = time_one(attend, batch, heads, seq_len, sum(ranks))
                torch.cuda.empty_cache()
        print_speed(seq_len, ranks, row)
    return results


def relative_errors(attend, exact, q, k, v, upstream):
    """|| ours - exact || / || exact || of the output and the gradients."""

    def numbers(attend, dtype):
        ts = [t.to(dtype, copy=True).requires_grad_() for t in (q, k, v)]
        out = attend(*ts)
        return [out, *torch.autograd.grad(out, ts, upstream.to(dtype))]

    pairs = zip(numbers(attend, q.dtype), numbers(exact, torch.float64), strict=True)
    errors = [((a.double() - b).norm() / b.norm()).item() for a, b in pairs]
    return dict(zip(("out", "dq", "dk", "dv"), errors, strict=True))


def errors(lists=ERROR_LISTS):
    """Relative errors in bf16 against float64, beside those of torch's own attention on the same inputs."""
    results = {}
    for ranks in lists:
        drawn = inputs(1, 4, ERROR_LENGTH, sum(ranks))

        def exact(q, k, v, ranks=ranks):
            return mlr_attention(q, k, v, ranks, backend="dense")

        def sdpa(q, k, v):
            return scaled_dot_product_attention(q, k, v, is_causal=True)

        ours, theirs = relative_errors(methods(ranks)["mlr"], exact, *drawn), relative_errors(sdpa, sdpa, *drawn)
        results["_".join(map(str, ranks))] = {"mlr": ours, "sdpa": theirs}
        print(f"error {ranks}:", ", ".join(f"{n} {ours[n]:.1e} ({ours[n] / theirs[n]:.2f}x)" for n in ours), flush=True)
    return results


def print_speed(seq_len, ranks, row):
    """A shape's times, and how many times ours goes into each of the others."""
    times = {name: cell for name, cell in row.items() if isinstance(cell, dict)}
    ours = times["mlr"]
    print(f"T = {seq_len}, ranks {'|'.join(map(str, ranks))}: ms forward / both (gain of mlr), peak over mlr's")
    for name, cell in times.items():
        gains = f"{cell['forward'] / ours['forward']:.2f}x / {cell['both'] / ours['both']:.2f}x"
        print(
            f"    {name:10} {cell['forward']:9.3f} / {cell['both']:9.3f}  ({gains})  "
            f"{cell['peak_gb'] / ours['peak_gb']:.2f}x",
            flush=True,
        )


def compile_one(seq_len, ranks):
    """Make Triton compile, and keep on disk, what `time_one` will run."""
    q, k, v, upstream = inputs(1, 1, seq_len, sum(ranks))
    q, k, v = (t.requires_grad_() for t in (q, k, v))
    torch.autograd.grad(mlr_attention(q, k, v, ranks, backend="triton"), (q, k, v), upstream)
    torch.cuda.synchronize()


def compile_all(shapes=SHAPES, lists=ERROR_LISTS):
    """All kernels at once, a process each: one after the other they would take minutes."""
    wanted = {(seq_len, ranks) for _, _, seq_len, ranks in shapes}
    wanted |= {(seq_len, (sum(ranks),)) for seq_len, ranks in wanted} | {(ERROR_LENGTH, ranks) for ranks in lists}
    with ProcessPoolExecutor(min(len(wanted), cpu_count()), mp_context=get_context("spawn")) as pool:
        for task in [pool.submit(compile_one, *one) for one in sorted(wanted)]:
            task.result()


def measure_all() -> dict:
    """The record: `speed` by shape and method, `error` by ranks."""
    compile_all()
    return {"speed": speeds(), "error": errors()}
