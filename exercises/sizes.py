"""How large the tensors are that an answer makes on its way: what is to be done without a matrix must not build one."""

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Largest(TorchDispatchMode):
    """Within this context, the most elements that the result of an operation holds in memory.

    A view counts as what it looks at, so that axes which are only repeated cost nothing.
    """

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if type(tensor) is Tensor and tensor.layout is torch.strided:
                self.elements = max(self.elements, tensor.untyped_storage().nbytes() // tensor.element_size())
        return made
