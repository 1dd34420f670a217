"""How long a step of training takes: a language model of the same width and length for each way to attend.

From a text on the device to new weights, as `experiments` trains it: on a GPU compiled, in bfloat16, and one CUDA
graph. Each time is the median of several measurements after a warm-up.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

from ..experiments.comparison import Run, build, release, set_precision
from ..experiments.presets import LM_256, READERS, WIDER
from ..experiments.training import Training
from .clock import in_a_row

METHODS = WIDER
SHAPES = {"cuda": ((1024, 16), (8192, 2)), "cpu": ((256, 4), (1024, 1))}  # T, and sequences of so many characters
MODEL = {"cuda": {"width": 512, "layers": 6}, "cpu": {"width": 128, "layers": 2}}


def measure_all(
    shapes: Sequence[tuple[int, int]] | None = None,
    methods: Sequence[str] = METHODS,
    *,
    width: int | None = None,
    layers: int | None = None,
    repeats: int = 5,
    steps: int = 10,
    device: str | None = None,
) -> dict:
    """The record: `setting`, and in `cases` under "T1024_B64" and so on a `measure` for each method.

    `repeats` measurements of `steps` steps each. `device`: the GPU if there is one, else the CPU. Defaults of `shapes`,
    `width` and `layers`: SHAPES and MODEL of the device.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    shapes, model = shapes or SHAPES[device.type], MODEL[device.type]
    model = {"width": width or model["width"], "layers": layers or model["layers"]}
    how = {"repeats": repeats, "steps": steps}
    precision = LM_256.precision if device.type == "cuda" else "float32"
    set_precision(precision, device)
    cases = {}
    for seq_len, batch in shapes:
        rows = cases[f"T{seq_len}_B{batch}"] = {}
        for method in methods:
            rows[method] = measure(method, seq_len=seq_len, batch=batch, device=device, **model, **how)
    return {"setting": model | how | {"device": device.type, "precision": precision}, "cases": cases}


def measure(
    method: str, *, seq_len: int, batch: int, width: int, layers: int, repeats: int, steps: int, device: torch.device
) -> dict:
    """Of one step: `ms`, its `lowest` and `highest`, `peak_gb` on a GPU, and how it was taken."""
    total = 2 * Training.warm_up + steps * (repeats + 1)
    preset = replace(LM_256, corpus="python-docs", context=seq_len, batch=batch, layers=layers, steps=total)
    gpu = device.type == "cuda"
    if gpu:
        torch.compiler.reset()
        torch.cuda.reset_peak_memory_stats(device)
    training = build(Run(preset, method, width, Path()), [1e-3], [0], device)
    training.advance(2 * Training.warm_up)
    times = [seconds(training, steps) for _ in range(repeats + 1)][1:]
    row = {"label": READERS[method].label, "ms": round(1e3 * median(times), 4)}
    row |= {"lowest": round(1e3 * min(times), 4), "highest": round(1e3 * max(times), 4)}
    row |= {"peak_gb": round(torch.cuda.max_memory_allocated(device) / 1e9, 3)} if gpu else {}
    row |= {"step": training.how, "notes": training.notes}
    release(training)
    return row


def seconds(training: Training, steps: int) -> float:
    """Of one step, from `steps` in a row."""
    return in_a_row(lambda: training.advance(steps), 1, training.population.theta.device.type) / steps


def print_table(results: dict) -> None:
    """What `measure_all` found, each time with its ratio to standard attention's."""
    setting = results["setting"]
    print(f"{setting['layers']} layers, width {setting['width']}, {setting['precision']}, {setting['device']}")
    for name, rows in results["cases"].items():
        base = rows.get("standard")
        for row in rows.values():
            ratio = f"{row['ms'] / base['ms']:6.2f}x" if base else ""
            memory = f"{row['peak_gb']:8.2f} GB" if "peak_gb" in row else ""
            print(f"{name:>12} {row['label']:>32} {row['ms']:10.3f} ms {ratio}{memory}  {row['step']}")
            for note in row["notes"]:
                print(f"{'':12} {note}")
