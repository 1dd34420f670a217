"""A CUDA graph's stand-in for machines without a GPU: it records the operations of a step, and runs them again.

Like a graph it knows operations and tensors alone. What Python decided at the recording is decided for good, a tensor
that was rebound and not changed in place is read where it was, and a step that waits for a number cannot be recorded.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WAITS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::equal"}


class Recorder(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls, self.before = [], {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func._schema.name in WAITS:
            raise RuntimeError(f"a step that waits for a number cannot be recorded: {func}")
        for given, argument in zip(args, func._schema.arguments, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:  # changed in place
                self.before.setdefault(id(given), (given, given.clone()))
        out = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, out))
        return out

    def undo(self):
        """A recording does not run: put back what was there."""
        for tensor, was in self.before.values():
            tensor.copy_(was)

    def run(self):
        for func, args, kwargs, out in self.calls:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                if isinstance(old, torch.Tensor):
                    old.copy_(new)


def recorded(step):
    """`step` as a function that runs the operations of this one call of it; the call itself leaves no trace."""
    recorder = Recorder()
    with torch.no_grad():
        with recorder:
            out = step()
        recorder.undo()

    def replay():
        with torch.no_grad():
            recorder.run()
        return out

    return replay
