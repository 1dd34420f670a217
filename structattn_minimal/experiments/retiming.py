"""Time the steps of a recorded comparison again, all in one go.

A record that grew over days holds the seconds of several versions of the code, perhaps of several machines. What its
models learned stays comparable, what they cost in seconds does not. So each step is timed anew; nothing is trained.
"""

import json
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from filelock import FileLock

from .comparison import Run, build, release, runs, set_precision, timing
from .presets import Comparison
from .records import commit, hardware, write_json

REPEATS, STEPS = 5, 20  # how often so many steps are timed; the median counts


def retime(
    preset: Comparison,
    record: str | Path,
    *,
    device: torch.device,
    compile: bool = True,
    only: str = "",
    say: Callable[[str], None] = print,
) -> None:
    """Replace the seconds of each finished run in `record`, one after the other, and note with which code and where.

    only: of the runs, those whose name contains it; so several processes may share a record out, one a GPU. Raises
    `ValueError` if the record is of another setting or holds no such run; `FileNotFoundError` if there is none.
    """
    path = Path(record)
    content, every = json.loads(path.read_text(encoding="utf-8")), runs(preset, path.parent)
    every[0].check(content["setting"], path)
    wanted = [
        run for run in every if only in run.name and content["runs"].get(run.name, {}).get("status") == "finished"
    ]
    if not wanted:
        raise ValueError(f"{path} must hold a finished run whose name contains {only!r}, got none")
    for run in wanted:
        before = content["runs"][run.name]
        after = timed(run, before["models_at_once"], device, compile)
        with FileLock(f"{path}.lock"):  # another process may have written, since we read
            latest = json.loads(path.read_text(encoding="utf-8"))
            latest["runs"][run.name] |= after
            write_json(path, latest)
        say(f"{run.name}: {after['seconds_a_step']} s a step, {before['seconds_a_step']} before")


def timed(run: Run, models: int, device: torch.device, compile: bool) -> dict:
    """What a record says of a step of `models` models, compilation apart."""
    set_precision(run.preset.precision, device)
    if device.type == "cuda":
        torch.compiler.reset()  # it remembers only a few shapes
    training = build(run, [run.preset.rates[0]] * models, list(range(models)), device, compile)
    steps = max(1, min(STEPS, (len(training.schedule) - training.warm_up) // (REPEATS + 1)))
    began = perf_counter()
    training.advance(training.warm_up + 1)  # it compiles and captures
    wait(device)
    setup, taken = perf_counter() - began, []
    for _ in range(REPEATS):
        began = perf_counter()
        training.advance(steps)
        wait(device)
        taken.append((perf_counter() - began) / steps)
    training.seconds, training.timed_steps, training.setup_seconds = median(taken), 1, setup
    found = timing(training)
    release(training)
    return found | {"timed": {"commit": commit(), "hardware": hardware()}}


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
