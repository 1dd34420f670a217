"""How fast MLR attention is on this GPU, against the T x T definition and torch's attention, with its error in bf16.

    python -m structattn_minimal.bench attention [--out book/results/attention_speed.json]

Medians over CUDA events, fresh random inputs for each shape, bfloat16, causal, one run.
"""

import argparse

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from .experiments.records import write_record
from .mlr import mlr_attention

AUTHORS, FRIENDLY, FRIENDLY_128 = (32, 8, 6, 4, 4, 4, 4, 2), (32, 16, 16), (64, 16, 16, 16, 16)
SHAPES = [  # batch, heads, T, ranks
    (16, 12, 1024, AUTHORS),
    (16, 12, 1024, FRIENDLY),
    (4, 12, 4096, AUTHORS),
    (4, 12, 4096, FRIENDLY),
    (1, 12, 16384, FRIENDLY),
    (1, 8, 16384, FRIENDLY_128),
    (1, 8, 131072, FRIENDLY_128),
]


def methods(ranks):
    d = sum(ranks)

    def flash(q, k, v):
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return scaled_dot_product_attention(q, k, v, is_causal=True)

    return {
        "mlr": lambda q, k, v: mlr_attention(q, k, v, ranks, backend="triton"),
        "one_level": lambda q, k, v: mlr_attention(q, k, v, (d,), backend="triton"),
        "flash": flash,
        "default": lambda q, k, v: scaled_dot_product_attention(q, k, v, is_causal=True),
        "definition": lambda q, k, v: mlr_attention(q, k, v, ranks, backend="dense"),
    }


def inputs(batch, heads, seq_len, d, dtype=torch.bfloat16):
    return [torch.randn(batch, heads, seq_len, d, device="cuda", dtype=dtype) for _ in range(4)]


def milliseconds(run, repeats):
    """The median of `repeats` timed runs after three more."""
    for _ in range(3):
        run()
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repeats)]
    for start, stop in events:
        start.record()
        run()
        stop.record()
    torch.cuda.synchronize()
    return sorted(start.elapsed_time(stop) for start, stop in events)[repeats // 2]


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
    held = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    both()
    peak = (torch.cuda.max_memory_allocated() - held) / 1e9
    repeats = 5 if seq_len > 100_000 else 50
    return {"forward": milliseconds(forward, repeats), "both": milliseconds(both, repeats), "peak_gb": peak}


def speeds():
    results = {}
    for batch, heads, seq_len, ranks in SHAPES:
        row = results[f"t{seq_len}_r{'_'.join(map(str, ranks))}"] = {"batch": batch, "heads": heads}
        for name, attend in methods(ranks).items():
            if name == "definition" and seq_len > 4096:
                continue  # does not fit, or takes minutes
            row[name] = time_one(attend, batch, heads, seq_len, sum(ranks))
            torch.cuda.empty_cache()
    return results


def relative_errors(attend, exact, q, k, v, upstream):
    def numbers(attend, dtype):
        ts = [t.to(dtype, copy=True).requires_grad_() for t in (q, k, v)]
        out = attend(*ts)
        return [out, *torch.autograd.grad(out, ts, upstream.to(dtype))]

    pairs = zip(numbers(attend, q.dtype), numbers(exact, torch.float64), strict=True)
    return {n: ((a.double() - b).norm() / b.norm()).item() for n, (a, b) in zip(("out", "dq", "dk", "dv"), pairs)}  # noqa: B905


def errors():
    """Relative errors in bf16 against float64, beside those of torch's own attention on the same inputs."""
    results = {}
    for ranks in (AUTHORS, FRIENDLY, FRIENDLY_128):
        drawn = inputs(1, 4, 2048, sum(ranks))

        def exact(q, k, v, ranks=ranks):
            return mlr_attention(q, k, v, ranks, backend="dense")

        def sdpa(q, k, v):
            return scaled_dot_product_attention(q, k, v, is_causal=True)

        results["_".join(map(str, ranks))] = {
            "mlr": relative_errors(methods(ranks)["mlr"], exact, *drawn),
            "sdpa": relative_errors(sdpa, sdpa, *drawn),
        }
    return results


def print_tables(results):
    for shape, row in results["speed"].items():
        cells = [f"{n} {x['forward']:.3f}/{x['both']:.3f}" for n, x in row.items() if isinstance(x, dict)]
        gains = [f"{n} {row[n]['forward'] / row['mlr']['forward']:.2f}x/{row[n]['both'] / row['mlr']['both']:.2f}x"
                 for n in ("definition", "flash", "default", "one_level") if n in row]  # fmt: skip
        print(f"{shape}  ms forward/both: {', '.join(cells)}\n    gains: {', '.join(gains)}")
        print(f"    peak memory over default's: {row['mlr']['peak_gb'] / row['default']['peak_gb']:.2f}x")
    for ranks, row in results["error"].items():
        print(
            f"error {ranks}:",
            ", ".join(f"{n} {row['mlr'][n]:.1e} ({row['mlr'][n] / row['sdpa'][n]:.2f}x)" for n in row["mlr"]),
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["attention"])
    parser.add_argument("--out", help="write a record there")
    args = parser.parse_args()
    torch.manual_seed(0)
    results = {"speed": speeds(), "error": errors()}
    print_tables(results)
    if args.out:
        write_record(args.out, results, command="python -m structattn_minimal.bench attention", seeds=[0])


if __name__ == "__main__":
    main()
