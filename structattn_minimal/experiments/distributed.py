"""Several processes, one batch: each takes its share of the prompts, and gradients are averaged before the step.

`torchrun --nproc-per-node 2 -m structattn_minimal.experiments ...` starts them; a process by itself notices nothing.
"""

import os

import torch
from torch import Tensor, distributed


def start(device: torch.device) -> torch.device:
    """Join the processes that torchrun started, if it did; the device of this one."""
    if device.type == "cuda":
        if device.index is None:
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
    if "WORLD_SIZE" in os.environ and not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return device


def stop() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def size() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def average(tensor: Tensor) -> Tensor:
    """The mean over processes, in place."""
    if size() > 1:
        distributed.all_reduce(tensor)
        tensor /= size()
    return tensor


def agree(*numbers: int) -> list[int]:
    """What the first process says. Clocks differ, and all must take the same number of steps."""
    if size() == 1:
        return list(numbers)
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    said = torch.tensor(numbers, device=device)
    distributed.broadcast(said, src=0)
    return said.tolist()
