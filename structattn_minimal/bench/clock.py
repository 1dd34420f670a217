"""The clock of benchmarks whose steps are launched from Python."""

from collections.abc import Callable
from time import perf_counter

import torch


def in_a_row(step: Callable, steps: int, device: str) -> float:
    """Seconds of one step, from `steps` in a row, with all that a GPU still has to do."""

    def wait():
        if device == "cuda":
            torch.cuda.synchronize()

    wait()
    start = perf_counter()
    for _ in range(steps):
        step()
    wait()
    return (perf_counter() - start) / steps
