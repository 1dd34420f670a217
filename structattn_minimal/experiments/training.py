"""Many models, one loop. The models of a `Population` are the rows of one matrix, and each operation serves them all.

A small model leaves a processor idle: what costs is the number of operations, not their size. So seeds and learning
rates are trained together, one row each, with no parameter in common. On a GPU the whole step, from drawing the data to
the new weights, is one CUDA graph that the host merely replays (`Training`).
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from math import cos, inf, pi
from time import perf_counter

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from ..transformer import GPT, Block
from .distributed import agree, average, size

# What several models attend with: a kernel for tensor cores where one takes the shapes, else plain products.
ATTENTION = (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.MATH)


class Population:
    """GPTs of one shape, trained at once by Adam.

    theta: (models, parameters), a model a row. A call runs all models, each on its own inputs, and agrees with a loop
    over `model(i)`. A model whose gradient is no longer finite has diverged: it stays as it is, and the others go on.

    Args:
        models: of one architecture; their weights are copied.
        rates: the peak learning rate of each model.
        factors: for each parameter by name, its rate over the model's (`mup.rate_factors`).
        bf16: train the blocks under autocast to bfloat16; weights, residual stream, read-in and read-out keep float32.
    Raises `ValueError` if the models differ in shape or the rates in number.
    """

    betas, eps, clip = (0.9, 0.95), 1e-8, 1.0

    def __init__(
        self,
        models: Sequence[GPT],
        rates: Sequence[float],
        factors: dict[str, float],
        *,
        device: torch.device | str = "cpu",
        bf16: bool = False,
    ):
        shapes = {name: parameter.shape for name, parameter in models[0].named_parameters()}
        if any({name: p.shape for name, p in model.named_parameters()} != shapes for model in models):
            raise ValueError("models must have the same parameters")
        if len(rates) != len(models):
            raise ValueError(f"rates must hold one rate for each of {len(models)} models, got {len(rates)}")
        self.shapes, self.template, self.bf16 = shapes, deepcopy(models[0]).to("meta"), bf16
        rows = [parameters_to_vector(model.parameters()).detach() for model in models]
        self.theta = torch.stack(rows).to(device).requires_grad_()
        by_parameter = torch.cat([torch.full((shape.numel(),), factors[name]) for name, shape in shapes.items()])
        self.rates = (torch.tensor(rates)[:, None] * by_parameter).to(device)
        self.mean, self.square = torch.zeros_like(self.theta), torch.zeros_like(self.theta)
        self.steps = torch.zeros(1, dtype=torch.int64, device=device)
        self.alive = torch.ones(len(models), dtype=torch.bool, device=device)
        self._halves = [Halves(block) for block in self.template.blocks]
        self._run_block, self._adam = run_block, adam

    def __len__(self) -> int:
        return len(self.theta)

    @property
    def state(self) -> dict[str, Tensor]:
        """The tensors that a step changes, and the rates, which set the models apart."""
        names = ("theta", "mean", "square", "steps", "alive", "rates")
        return {name: getattr(self, name).detach() for name in names}

    def compile(self) -> None:
        """Compile what costs: a block, once for all layers, and Adam."""
        self._run_block = torch.compile(run_block, dynamic=False)
        self._adam = torch.compile(adam, dynamic=False)

    def __call__(self, inputs: Shaped[Tensor, "models batch ..."]) -> Float[Tensor, "models batch ..."]:
        """Every model on its own batch."""
        pieces = self.theta.split([shape.numel() for shape in self.shapes.values()], dim=1)
        weights = {n: piece.unflatten(1, s) for (n, s), piece in zip(self.shapes.items(), pieces, strict=True)}

        def of(module: str) -> dict[str, Tensor]:
            return {n.removeprefix(f"{module}."): w for n, w in weights.items() if n.startswith(f"{module}.")}

        gpt = self.template
        x = run_module(gpt.embed, of("embed"), inputs) + weights["position"][:, None, : inputs.shape[2]]
        training = torch.is_grad_enabled()  # evaluation is in float32, and too short to compile for
        run = self._run_block if training else run_block
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16 and training):
            layers = gpt.config.layers
            for i, layer in enumerate(layers):  # of blocks that are alike the first stands for all: it is compiled once
                x = run(self._halves[layers.index(layer)], of(f"blocks.{i}"), x)
        return run_module(gpt.head, of("head"), run_module(gpt.norm, of("norm"), x))

    def step(self, losses: Float[Tensor, " models"], rate: float | Float[Tensor, "1"]) -> None:
        """One step of Adam for every model, from the loss of each, at `rate` times its peak rate.

        Each model's gradient is clipped to norm 1.
        """
        (gradient,) = torch.autograd.grad(losses.sum(), self.theta)  # row i: the gradient of loss i
        with torch.no_grad():
            self._adam(**self.state, gradient=average(gradient), rate=rate)

    def model(self, i: int) -> GPT:
        """A copy of the i-th model by itself."""
        model = deepcopy(self.template).to_empty(device=self.theta.device)
        vector_to_parameters(self.theta[i].detach().clone(), model.parameters())
        return model


def run_module(module: nn.Module, weights: dict[str, Tensor], *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
    """`module` with each model's weights on each model's inputs."""
    if len(inputs[0]) == 1:  # half the time, without the machinery of a batch
        return functional_call(module, {name: w[0] for name, w in weights.items()}, tuple(x[0] for x in inputs))[None]
    return vmap(lambda w, *inputs: functional_call(module, w, inputs))(weights, *inputs)


class Halves(nn.Module):
    """A block before and after its tokens meet: a module, since `functional_call` calls nothing else."""

    def __init__(self, block: Block):
        super().__init__()
        self.block = block

    def forward(self, x, heads=None):
        """Queries, keys and values, or what the block returns once each head has attended."""
        block = self.block
        if heads is None:
            return block.attention.queries_keys_values(block.attention_norm(x))
        return block.after_attention(x, block.attention.merge_heads(heads))


def run_block(
    halves: Halves, weights: dict[str, Tensor], x: Float[Tensor, "models batch seq d_model"]
) -> Float[Tensor, "models batch seq d_model"]:
    """`halves.block` with each model's weights on each model's x.

    Where tokens meet there are no weights. There the models are rows of one batch, as fused attention takes them; for
    `vmap` it has no rule.
    """
    if len(x) == 1:
        return run_module(halves.block, weights, x)
    weights = {f"block.{name}": w for name, w in weights.items()}
    q_k_v = run_module(halves, weights, x)
    with sdpa_kernel(list(ATTENTION)):
        heads = halves.block.attention.attend(*(t.flatten(0, 1) for t in q_k_v))
    return run_module(halves, weights, x, heads.unflatten(0, x.shape[:2]))


def adam(theta, mean, square, steps, alive, rates, gradient, rate) -> None:
    """One step for every row, in place: clipped to norm 1, and none for a row whose gradient is not finite.

    No value goes to the host, so that the step can be captured in a CUDA graph.
    """
    first, second = Population.betas
    norm = gradient.norm(dim=1)
    alive &= norm.isfinite()
    gradient = (gradient * (Population.clip / norm).clamp(max=1)[:, None]).masked_fill(~alive[:, None], 0)
    steps += 1
    mean.lerp_(gradient, 1 - first)
    square.lerp_(gradient.square(), 1 - second)
    unbias = [(1 - beta ** steps.double()).to(theta.dtype) for beta in (first, second)]
    change = rate * rates * (mean / unbias[0]) / ((square / unbias[1]).sqrt() + Population.eps)
    theta -= change.masked_fill(~alive[:, None], 0)


def warmup_cosine(step: int, steps: int, warmup: float = 0.15) -> float:
    """The rate at `step` over its peak: a line up during the first share `warmup` of all steps, times a cosine to 0."""
    return min(1.0, (step + 1) / (warmup * steps)) * 0.5 * (1 + cos(pi * step / steps))


Draw = Callable[[Int[Tensor, " models"], Int[Tensor, "1"]], tuple[Tensor, Tensor]]
Losses = Callable[[Tensor, Tensor], Float[Tensor, "curves models"]]


class Training:
    """A population on its way through `schedule`. Its state is tensors on its device: no step waits for the host.

    state: what a checkpoint holds, by name. curves: (steps, curves, models), each model's losses before each step, NaN
    from where it diverged or has not come to yet.

    Args:
        seeds: of each model's data.
        draw: (seeds, step) -> inputs (models, batch, ...) and targets. For a run that can be resumed and captured it
            depends on these alone (`counter`). Of several processes, each draws its share.
        losses: (outputs, targets) -> (curves, models); the first is the one to train on.
        schedule: the rate of each step over its peak.
        fast: compile the step (unless `compile` is off) and capture it in a CUDA graph, on a GPU. Where that fails,
            `notes` says why and the step runs as it is.
    """

    warm_up = 3  # steps before the capture: torch.compile and cuBLAS settle in

    def __init__(
        self,
        population: Population,
        seeds: Sequence[int],
        draw: Draw,
        losses: Losses,
        schedule: Sequence[float],
        *,
        n_curves: int = 1,
        fast: bool = False,
        compile: bool = True,
    ):
        device = population.theta.device
        self.population, self.draw, self.losses = population, draw, losses
        self.schedule = torch.tensor(schedule, device=device)
        self.seeds = torch.tensor(seeds, device=device)
        self.curves = torch.full((len(schedule), n_curves, len(population)), torch.nan, device=device)
        self.done, self.notes = 0, []
        self.seconds, self.timed_steps, self.setup_seconds = 0.0, 0, 0.0
        self.fast, self.compiled, self._step, self._graph = fast, fast and compile, self._one_step, None

    @property
    def state(self) -> dict[str, Tensor]:
        return self.population.state | {"seeds": self.seeds, "curves": self.curves}

    def load(self, state: dict[str, Tensor]) -> None:
        """Copy a state into place, where a captured graph finds it. Raises `ValueError` if a shape differs."""
        own = self.state
        for name in sorted(own.keys() | state.keys()):
            shapes = [tuple(s[name].shape) if name in s else None for s in (own, state)]
            if shapes[0] != shapes[1]:
                raise ValueError(f"{name} must have shape {shapes[0]}, got {shapes[1]}")
        for name, tensor in own.items():
            tensor.copy_(state[name])
        self.done = int(self.population.steps)

    def diverged(self) -> list[int | None]:
        """For each model, the step at which it diverged."""
        lost = ~self.curves[: self.done, 0].isfinite()  # (steps, models)
        return [int(column.int().argmax()) if column.any() else None for column in lost.T.cpu()]

    @property
    def how(self) -> str:
        """How steps are taken."""
        kind = "compiled" if self.compiled else "eager"
        return f"{kind}, one CUDA graph" if self._graph else kind

    def advance(self, steps: int) -> None:
        """Take `steps` steps; the host does not wait for them."""
        if self.fast and self._graph is None and steps > self.warm_up:
            self._prepare()
            steps -= self.warm_up
        for _ in range(steps):
            self._step()
        self.done = self.done + steps

    def forget(self) -> None:
        """Let go of the graph, and with it of the memory that it holds."""
        self._graph, self._step = None, self._one_step

    def _one_step(self) -> None:
        population = self.population
        inputs, targets = self.draw(self.seeds, population.steps)
        losses = self.losses(population(inputs), targets)
        kept = average(losses.detach().clone()).masked_fill(~population.alive, torch.nan)
        self.curves.index_copy_(0, population.steps, kept[None].to(self.curves.dtype))
        population.step(losses[0], self.schedule.index_select(0, population.steps))

    def _prepare(self) -> None:
        """Compile the models and Adam, take the first steps, and capture one more, which is replayed from then on.

        The draw is captured as it is: integers that overflow are no business for a compiler. The warm-up steps count:
        whatever fails, each step is taken exactly once.
        """
        before = {name: tensor.clone() for name, tensor in self.state.items()}
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            try:
                if self.compiled:
                    self.population.compile()
                for _ in range(self.warm_up):
                    self._one_step()
            except Exception as error:
                if not self.compiled:
                    raise
                self.compiled = False
                self.notes.append(f"not compiled: {first_line(error)}")
                self.population._run_block, self.population._adam = run_block, adam
                self.load(before)
                for _ in range(self.warm_up):
                    self._one_step()
        torch.cuda.current_stream().wait_stream(stream)
        self.done = self.done + self.warm_up
        self._graph = False
        if size() > 1:
            return  # between the processes' gradients and the step, the host has a say
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._one_step()
            self._graph, self._step = graph, graph.replay
        except Exception as error:
            self.notes.append(f"not captured: {first_line(error)}")


def fit(
    training: Training,
    *,
    until: float = inf,
    report: Callable[[Training], None] | None = None,
    save: Callable[[Training], None] | None = None,
    every: float = 60.0,
) -> bool:
    """Train to the end, or to the moment `until` (of `perf_counter`), and say whether it is the end.

    The host looks every half second or so: `report` hears then, and `save` is called `every` so many seconds, when the
    time is up and when the user interrupts. If all models have diverged, that is the end too.
    """
    device, total, chunk = training.population.theta.device, len(training.schedule), 1 + training.warm_up
    saved, first = perf_counter(), True
    try:
        while training.done < total and training.population.alive.any():
            now = perf_counter()
            stop, steps = agree(int(now >= until), min(chunk, total - training.done))
            if stop:
                break
            training.advance(steps)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            took = perf_counter() - now
            if first:  # it compiles and captures
                training.setup_seconds, first = training.setup_seconds + took, False
            else:
                training.seconds, training.timed_steps = training.seconds + took, training.timed_steps + steps
                chunk = max(1, min(2 * chunk, int(chunk * 0.5 / took)))
            if report:
                report(training)
            if save and perf_counter() - saved >= every:
                save(training)
                saved = perf_counter()
    finally:  # a KeyboardInterrupt comes between two steps
        if save and training.done < total:
            save(training)
    return training.done == total or not training.population.alive.any()


def first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
