"""MLR attention on the CPU: block-wise against its dense definition and against standard attention, as ratios.

    python tests/benchmarks/bench_mlr_cpu.py [--heads 2] [--repeats 3] [--threads 2]

Each row is a process of its own. Times are medians after a warm-up. Memory is what the process adds at its peak to what
it held with the inputs in place (`VmHWM` of Linux, reset before each pass), so temporaries inside an operation count.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch

import structattn_minimal as sa

SEQ_LEN, WIDTH = 4096, 64
RANKS = {"32|16|16": (32, 16, 16), "32|8|6|4|4|4|4|2": (32, 8, 6, 4, 4, 4, 4, 2)}
BACKENDS = ("sdpa", "dense", "blockwise")


def attention(backend, ranks):
    if backend == "sdpa":
        return lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    return lambda q, k, v: sa.mlr_attention(q, k, v, ranks, backend=backend)


def peak_bytes(run):
    """How far the resident memory of this process rises above its present value while `run()` runs."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak

    def status(field):
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
        return 1024 * int(line.split()[1])

    before = status("VmRSS")
    run()
    return status("VmHWM") - before


def seconds(run, repeats):
    def once():
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    return median(once() for _ in range(repeats))


def measure(backend, ranks, heads, repeats, threads):
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    attend = attention(backend, ranks)
    q, k, v = (torch.randn(1, heads, SEQ_LEN, WIDTH, requires_grad=True) for _ in range(3))
    small = [t[..., :512, :].detach().requires_grad_() for t in (q, k, v)]
    attend(*small).sum().backward()  # libraries loaded, threads started

    def forward():
        with torch.no_grad():
            attend(q, k, v)

    def both():
        torch.autograd.grad(attend(q, k, v).sum(), (q, k, v))

    memory = {"forward_bytes": peak_bytes(forward), "both_bytes": peak_bytes(both)}  # and a warm-up
    return memory | {"forward": seconds(forward, repeats), "both": seconds(both, repeats)}


def in_a_process(backend, ranks, args):
    command = [sys.executable, __file__, "--backend", backend, "--ranks", *map(str, ranks)]
    options = ["--heads", args.heads, "--repeats", args.repeats, "--threads", args.threads]
    done = subprocess.run([*command, *map(str, options)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def table(args):
    setting = f"T = {SEQ_LEN}, d = {WIDTH}, {args.heads} heads, causal, float32, {args.threads} threads"
    print(f"{setting}, torch {torch.__version__}. Ratios are to the dense form.")
    line = "{:>18} {:>10} {:>16} {:>16} {:>18} {:>18}"
    print(line.format("ranks", "form", "forward", "with backward", "memory", "with backward"))
    for name, ranks in RANKS.items():
        rows = {backend: in_a_process(backend, ranks, args) for backend in BACKENDS}
        for backend, row in rows.items():
            cells = [f"{row[key]:.2f} s ({row[key] / rows['dense'][key]:.2f}x)" for key in ("forward", "both")]
            for key in ("forward_bytes", "both_bytes"):
                cells.append(f"{row[key] / 2**20:.0f} MiB ({row[key] / rows['dense'][key]:.3f}x)")
            print(line.format(name, backend, *cells), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--backend", choices=BACKENDS, help="measure this form alone, print JSON")
    parser.add_argument("--ranks", type=int, nargs="+", default=RANKS["32|16|16"])
    args = parser.parse_args()
    if args.backend:
        print(json.dumps(measure(args.backend, tuple(args.ranks), args.heads, args.repeats, args.threads)))
    else:
        table(args)


if __name__ == "__main__":
    main()
