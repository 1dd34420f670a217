"""A step captured once and replayed: one launch for all its kernels, where Python would launch them one by one."""

from collections.abc import Callable

import torch
from torch import Tensor


def captured(step: Callable[[], Tensor], device: torch.device) -> Callable[[], Tensor]:
    """`step` as a CUDA graph; on any other device `step` itself.

    A graph knows kernels and addresses, nothing else. So `step` must read and write tensors that stay where they are,
    change them in place, wait for no number, and do the same whenever it is called; it must have run once, since a
    library does not set itself up during a capture. To capture it does not run it: the caches are as they were.

    Returns a function whose result is one tensor, which the next call overwrites.
    """
    if device.type != "cuda":
        return step
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.device(device), torch.cuda.graph(graph):
        out = step()

    def replay() -> Tensor:
        graph.replay()
        return out

    return replay
