"""Decoding with caches: tokens a second and cached bytes, MLR against standard attention, at the end of T tokens.

    python tests/benchmarks/bench_decode.py [--seq-lens 1024 4096] [--batches 1 32] [--json FILE]

Two costs are timed, each a median after a warm-up: a GPT that takes a token a step, and one attention layer alone
("layer"), where the cache is most of the work. On a CPU in float32; on a GPU in bfloat16, each step one CUDA graph
("graph") or launched operation by operation ("eager"), and T = 16384 too.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median

import torch

import structattn_minimal as sa

KINDS = {
    "standard": {},
    "mlr 32|16|16": {"ranks": (32, 16, 16)},
    "mlr 16|16|16|16": {"ranks": (16, 16, 16, 16)},
    "mlr 32|8|6|4|4|4|4|2": {"ranks": (32, 8, 6, 4, 4, 4, 4, 2)},
}
AMOUNTS = {"model": lambda row, key: row["batch"] / row[key], "layer": lambda row, key: 1e6 * row[key]}
WIDTH, HEADS, LAYERS = 512, 8, 6  # head dimension 64


def seconds(step, repeats, device):
    """The median over `repeats` of the time of `step()`."""

    def wait():
        if device == "cuda":
            torch.cuda.synchronize()

    def once():
        wait()
        start = time.perf_counter()
        step()
        wait()
        return time.perf_counter() - start

    for _ in range(3):
        once()
    return median(once() for _ in range(repeats))


def at_the_last_token(cache, seq_len):
    """As if `seq_len` - 1 random tokens had come: the time of a step depends on shapes, not on numbers."""
    for ring in [*cache.keys, cache.values]:
        ring.buffer.normal_()
    rewind(cache, seq_len)


def rewind(cache, seq_len):
    cache.lengths.fill_(seq_len - 1)
    cache._lengths = [seq_len - 1] * len(cache._lengths)


def graphed(step):
    step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def measure(kind, seq_len, batch, device, repeats):
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    options = {"attention": kind.split()[0], "attention_options": KINDS[kind]}
    model = sa.GPT(sa.GPTConfig(LAYERS, HEADS, WIDTH, seq_len, vocab_size=96, **options)).to(device, dtype)
    caches = model.new_caches(batch)
    for cache in caches:
        at_the_last_token(cache, seq_len)
    token = torch.zeros(batch, 1, dtype=torch.long, device=device)
    x = torch.randn(batch, 1, WIDTH, device=device, dtype=dtype)

    def model_step():
        for cache in caches:
            rewind(cache, seq_len)
        model.extend(token, caches)

    def layer_step():
        rewind(caches[0], seq_len)
        caches[0].extend(x)

    row = {"cached_bytes": sum(cache.elements for cache in caches) * dtype.itemsize}
    closed_form = LAYERS * batch * sa.attention_cost(model.blocks[0].attention, seq_len).cached_elements
    assert row["cached_bytes"] == closed_form * dtype.itemsize
    for name, step in (("model", model_step), ("layer", layer_step)):
        row[name] = seconds(step, repeats, device)
        if device == "cuda":
            row[f"{name}_graph"] = seconds(graphed(step), repeats, device)
    return row


def main():
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seq-lens", type=int, nargs="+", default=[1024, 4096] + [16384] * gpu)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--repeats", type=int, default=50 if gpu else 9)
    parser.add_argument("--json", type=Path, help="write the rows there too")
    args = parser.parse_args()
    device = "cuda" if gpu else "cpu"
    hardware = torch.cuda.get_device_name() if gpu else f"CPU, {torch.get_num_threads()} threads"
    print(f"{hardware}, torch {torch.__version__}: {LAYERS} layers, D = {WIDTH}, {HEADS} heads")
    line = "{:>6} {:>6} {:>22} {:>18} {:>30} {:>30}"
    print(line.format("T", "batch", "attention", "cached", "model, tokens/s", "layer, us a step"))
    rows = []
    for seq_len in args.seq_lens:
        for batch in args.batches:
            for kind in KINDS:
                row = {"seq_len": seq_len, "batch": batch, "attention": kind}
                row |= measure(kind, seq_len, batch, device, args.repeats)
                base = row if kind == "standard" else base
                cells = []
                for part, amount in AMOUNTS.items():
                    keys = [key for key in (part, f"{part}_graph") if key in row]
                    cells.append(" / ".join(f"{amount(row, key):.0f} ({base[key] / row[key]:.2f}x)" for key in keys))
                size = f"{row['cached_bytes'] / 2**20:.1f} MiB ({row['cached_bytes'] / base['cached_bytes']:.2f}x)"
                print(line.format(seq_len, batch, kind, size, *cells), flush=True)
                rows.append(row)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
