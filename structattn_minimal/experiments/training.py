"""Many models, one loop. The models of a `Population` are the rows of one matrix, and each operation serves them all.

A small model leaves a processor idle: what costs is the number of operations, not their size. So seeds and learning
rates are trained together, one row each, with no parameter in common.
"""

from collections.abc import Sequence
from copy import deepcopy
from math import cos, pi

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parameters_to_vector, vector_to_parameters


class Population:
    """Models of one shape, trained at once by Adam.

    theta: (models, parameters), a model a row. A call runs all models, each on its own inputs, and agrees with a loop
    over `model(i)`.

    Args:
        models: modules of one architecture; their weights are copied.
        rates: the peak learning rate of each model.
        factors: for each parameter by name, its rate over the model's (`mup.rate_factors`).
    Raises `ValueError` if the models differ in shape or the rates in number.
    """

    betas, eps, clip = (0.9, 0.95), 1e-8, 1.0

    def __init__(
        self,
        models: Sequence[nn.Module],
        rates: Sequence[float],
        factors: dict[str, float],
        *,
        device: torch.device | str = "cpu",
    ):
        shapes = {name: parameter.shape for name, parameter in models[0].named_parameters()}
        if any({name: p.shape for name, p in model.named_parameters()} != shapes for model in models):
            raise ValueError("models must have the same parameters")
        if len(rates) != len(models):
            raise ValueError(f"rates must hold one rate for each of {len(models)} models, got {len(rates)}")
        self.shapes, self.template = shapes, deepcopy(models[0]).to("meta")
        rows = [parameters_to_vector(model.parameters()).detach() for model in models]
        self.theta = torch.stack(rows).to(device).requires_grad_()
        by_parameter = torch.cat([torch.full((shape.numel(),), factors[name]) for name, shape in shapes.items()])
        self.rates = (torch.tensor(rates)[:, None] * by_parameter).to(device)
        self.mean, self.square = torch.zeros_like(self.theta), torch.zeros_like(self.theta)
        self.steps = 0

    def __len__(self) -> int:
        return len(self.theta)

    def __call__(self, inputs: Shaped[Tensor, "models batch ..."]) -> Float[Tensor, "models batch ..."]:
        """Every model on its own batch."""
        if len(self) == 1:  # half the time, without the machinery of a batch
            return self._one(self.theta[0], inputs[0])[None]
        with sdpa_kernel(SDPBackend.MATH):  # fused attention has no rule for a batch of models
            return vmap(self._one)(self.theta, inputs)

    def _one(self, row, inputs):
        pieces = row.split([shape.numel() for shape in self.shapes.values()])
        weights = {name: piece.view(shape) for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)}
        return functional_call(self.template, weights, (inputs,))

    def step(self, losses: Float[Tensor, " models"], rate: float) -> None:
        """One step of Adam for every model, from the loss of each, at `rate` times its peak rate.

        Each model's gradient is clipped to norm 1.
        """
        (gradient,) = torch.autograd.grad(losses.sum(), self.theta)  # row i: the gradient of loss i
        self.steps += 1
        first, second = self.betas
        with torch.no_grad():
            gradient *= (self.clip / gradient.norm(dim=1, keepdim=True)).clamp(max=1)
            self.mean.lerp_(gradient, 1 - first)
            self.square.lerp_(gradient.square(), 1 - second)
            size = (self.square / (1 - second**self.steps)).sqrt_().add_(self.eps)
            self.theta -= rate * self.rates * (self.mean / (1 - first**self.steps)) / size

    def model(self, i: int) -> nn.Module:
        """A copy of the i-th model by itself."""
        model = deepcopy(self.template).to_empty(device=self.theta.device)
        vector_to_parameters(self.theta[i].detach().clone(), model.parameters())
        return model


def warmup_cosine(step: int, steps: int, warmup: float = 0.15) -> float:
    """The rate at `step` over its peak: a line up during the first share `warmup` of all steps, times a cosine to 0."""
    return min(1.0, (step + 1) / (warmup * steps)) * 0.5 * (1 + cos(pi * step / steps))
