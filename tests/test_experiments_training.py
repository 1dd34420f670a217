"""The loop: state in tensors, no word with the host, divergence of one model alone, compiled as uncompiled."""

from collections import Counter
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from math import inf, nan
from pathlib import Path
from time import perf_counter

import pytest
import torch
from drawing import assert_close, randn, sizes
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call
from torch.nn.attention import SDPBackend
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from structattn_minimal import GPT, GPTConfig
from structattn_minimal.experiments import comparison, training
from structattn_minimal.experiments.mup import rate_factors
from structattn_minimal.experiments.presets import COMPARISONS, SCORERS
from structattn_minimal.experiments.training import Halves, Population, Training, fit, run_block
from structattn_minimal.transformer import ATTENTION_KINDS, Block

CPU = torch.device("cpu")
MICRO = replace(COMPARISONS["icl-micro"], methods=tuple(SCORERS), widths=(32,))
each_method = pytest.mark.parametrize("method", list(SCORERS))
each_kind = pytest.mark.parametrize("kind", list(ATTENTION_KINDS))
KIND_OPTIONS = {
    "swa": {"window": 3},
    "gswa": {"ranks": (5, 3), "window": 3},
    "bilinear_mlr": {"ranks": (4, 2, 2)},
    "mlr": {"ranks": (4, 2, 2)},
}


def begin(method="btt", rates=(3e-3, 1e-2), seeds=(0, 1), preset=MICRO, device=CPU):
    return comparison.build(comparison.Run(preset, method, 32, Path()), list(rates), list(seeds), device)


def finish(one):
    one.advance(len(one.schedule) - one.done)
    return one


def assert_same(one, other):
    for name, tensor in one.state.items():
        torch.testing.assert_close(tensor, other.state[name], atol=0, rtol=0, equal_nan=True, msg=name)


@each_method
def test_a_population_is_a_loop_of_its_models(method):
    """Each model alone has its own rate and prompts; what it learns does not depend on its company."""
    together = finish(begin(method))
    for i, (rate, seed) in enumerate([(3e-3, 0), (1e-2, 1)]):
        alone = finish(begin(method, [rate], [seed]))
        torch.testing.assert_close(together.curves[:, :, i], alone.curves[:, :, 0], atol=1e-4, rtol=1e-4)
        weights = together.population.theta[i] - alone.population.theta[0]
        assert (
            weights.norm()
            < 1e-2 * (alone.population.theta[0] - begin(method, [rate], [seed]).population.theta[0]).norm()
        )


def test_a_population_runs_each_layer_as_its_own_kind():
    """Layers that are alike share one compiled block; the others must not."""
    options = ({}, {"window": 2}, {"window": 5}, {"window": 2})
    config = GPTConfig(4, 2, 8, 12, vocab_size=5, attention=("standard", *["swa"] * 3), attention_options=options)
    models = [GPT(config) for _ in range(2)]
    for model in models:
        torch.nn.utils.vector_to_parameters(torch.randn(sum(p.numel() for p in model.parameters())), model.parameters())
    tokens = torch.randint(5, (2, 3, 12))
    for size in (1, 2):  # one model goes another way than several
        population = Population(models[:size], [1e-3] * size, rate_factors(models[0], 8))
        for i, outputs in enumerate(population(tokens[:size])):
            torch.testing.assert_close(outputs, models[i](tokens[i]), atol=1e-4, rtol=1e-4)


@each_kind
@given(models=sizes(3), batch=sizes(3), seq_len=sizes(20), norm=st.booleans())
@settings(max_examples=8)
def test_a_block_of_several_models_is_that_of_each_by_itself(kind, models, batch, seq_len, norm):
    """To rounding, gradients included; whether tokens meet in fused attention or not."""
    options = KIND_OPTIONS.get(kind, {}) | {"qk_norm": norm}
    block = Block(GPTConfig(1, 2, 16, 20, vocab_size=2, attention=kind, attention_options=options)).double()
    weights = {name: randn(models, *w.shape).requires_grad_() for name, w in block.named_parameters()}
    x, upstream = randn(models, batch, seq_len, 16).requires_grad_(), randn(models, batch, seq_len, 16)
    together = run_block(Halves(block), weights, x)
    alone = torch.stack([functional_call(block, {n: w[i] for n, w in weights.items()}, x[i]) for i in range(models)])
    gradients = [torch.autograd.grad(out, [x, *weights.values()], upstream) for out in (together, alone)]
    for got, want in zip((together, *gradients[0]), (alone, *gradients[1]), strict=True):
        assert_close(got, want, 1e-10)


class Fused(TorchDispatchMode):
    """Counts calls of fused attention and of its gradient, by their first two axes."""

    def __init__(self):
        super().__init__()
        self.calls = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if "scaled_dot_product" in name:
            self.calls["backward" in name, *args[0].shape[:2]] += 1
        return func(*args, **(kwargs or {}))


def test_the_tokens_of_several_models_meet_in_one_call_of_fused_attention():
    """Forwards and backwards: the models are rows of its batch."""
    one = begin("standard")
    with Fused() as fused:
        one._one_step()
    layers, batch, heads = MICRO.layers, MICRO.batch, 8
    assert fused.calls == {(False, 2 * batch, heads): layers, (True, 2 * batch, heads): layers}


class HostTalk(TorchDispatchMode):
    """Refuses what makes a GPU wait for the host, or the host for a GPU, and so cannot be captured in a graph."""

    forbidden = ("_local_scalar_dense", "nonzero", "lift_fresh", "is_pinned", "equal.default", "masked_select")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert not any(name in str(func) for name in self.forbidden), f"{func} cannot be captured"
        return func(*args, **(kwargs or {}))


@each_method
def test_a_step_says_nothing_to_the_host(method):
    one = begin(method)
    with HostTalk():
        one.advance(2)
    assert one.curves[:2].isfinite().all()
    with pytest.raises(AssertionError, match="cannot be captured"), HostTalk():
        one.curves[0, 0, 0].item()
    with pytest.raises(AssertionError, match="cannot be captured"), HostTalk():
        torch.tensor([1.0, 2.0])


class OneDevice(TorchDispatchMode):
    """Refuses tensors that come from the host; a number beside a tensor is none, but arithmetic takes it as one."""

    arithmetic = ("add.Tensor", "sub.Tensor", "mul.Tensor", "div.Tensor")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
        of_host = [tensor for tensor in tensors if tensor.device.type == "cpu"]
        numbers = all(tensor.ndim == 0 for tensor in of_host) and any(name in str(func) for name in self.arithmetic)
        assert not of_host or len(of_host) == len(tensors) or numbers, f"{func} takes {of_host} from the host"
        return result


@each_method
def test_a_step_stays_on_its_device(method, monkeypatch, unchecked):
    monkeypatch.setattr(torch, "autocast", lambda *_, **options: nullcontext())  # which does not know this device
    one = begin(method, device=torch.device("meta"))
    with OneDevice():
        one._one_step()
    with pytest.raises(AssertionError, match="from the host"), OneDevice():
        torch.zeros(2).to("meta")


@pytest.mark.parametrize("bad", [nan, inf])
def test_a_model_that_diverges_is_frozen_and_the_others_go_on(bad):
    rates = torch.tensor([3e-3, 1e-2, 3e-3])
    ill, well = (begin(rates=rates.tolist(), seeds=(0, 1, 2)) for _ in range(2))
    for one in (ill, well):
        one.advance(4)
    with torch.no_grad():
        ill.population.theta[1, 0] = bad
    frozen = ill.population.theta[1].clone()
    for one in (ill, well):
        finish(one)
    assert ill.diverged() == [None, 4, None]
    assert well.diverged() == [None] * 3
    torch.testing.assert_close(ill.population.theta[1], frozen, equal_nan=True, atol=0, rtol=0)
    others = torch.tensor([0, 2])
    assert torch.equal(ill.population.theta[others], well.population.theta[others])
    assert torch.equal(ill.curves[:, :, others], well.curves[:, :, others])
    assert ill.curves[4:, 0, 1].isnan().all()


@each_method
def test_bfloat16_changes_rounding_and_nothing_else(method):
    whole, half = begin(method), begin(method)
    half.population.bf16 = True
    for one in (whole, half):
        finish(one)
    assert not torch.equal(half.curves, whole.curves)
    torch.testing.assert_close(half.curves, whole.curves, atol=0.05, rtol=0.05)
    assert half.population.theta.dtype == torch.float32
    inputs, _ = whole.draw(whole.seeds, torch.tensor([0]))
    with torch.no_grad():  # evaluation is in float32
        half.population.theta.copy_(whole.population.theta)
        assert torch.equal(half.population(inputs), whole.population(inputs))


def test_all_diverged_is_the_end():
    one = begin(rates=(nan, nan))
    assert fit(one)
    assert one.done < len(one.schedule)
    assert one.diverged() == [1, 1]


def test_a_state_goes_to_another_training_and_on_there():
    left_alone, one, other = finish(begin()), begin(), begin(rates=(0.5, 0.5), seeds=(8, 9))
    one.advance(7)
    address = other.population.theta.data_ptr()
    other.load(one.state)
    assert other.done == 7
    assert_same(finish(other), left_alone)
    assert other.population.theta.data_ptr() == address  # where a captured graph looks for it
    with pytest.raises(ValueError, match=r"alive must have shape \(1,\), got \(2,\)"):
        begin(rates=[1e-2], seeds=[0]).load(one.state)


def test_the_time_limit_and_interruptions_save(monkeypatch):
    saved = []
    assert not fit(begin(), until=perf_counter() - 1, save=lambda t: saved.append(t.done))
    assert saved == [0]
    one, step = begin(), Training._one_step

    def interrupted(self):
        if int(self.population.steps) == 6:
            raise KeyboardInterrupt
        step(self)

    monkeypatch.setattr(Training, "_one_step", interrupted)
    one._step = one._one_step
    with pytest.raises(KeyboardInterrupt):
        fit(one, save=lambda t: saved.append(int(t.population.steps)))
    assert saved[-1] == 6
    monkeypatch.undo()
    again = begin()
    again.load(one.state)
    assert fit(again)
    assert_same(again, finish(begin()))


# The fast way, without a GPU: compiled for the processor, and a graph that is none.


@each_method
def test_a_compiled_block_and_step_agree_with_eager(method, unchecked, monkeypatch):
    torch.compiler.reset()
    original = torch.compile

    def whole(function, **options):  # a graph break is an error; no C++ is written, which would take a minute
        return original(function, fullgraph=True, backend="aot_eager_decomp_partition", **options)

    monkeypatch.setattr(torch, "compile", whole)
    eager, compiled = begin(method), begin(method)
    compiled.population.compile()
    for one in (eager, compiled):
        one.advance(5)
    torch.testing.assert_close(compiled.curves[:5], eager.curves[:5], atol=1e-4, rtol=1e-4)
    moved = (eager.population.theta - begin(method).population.theta).norm()
    assert (compiled.population.theta - eager.population.theta).norm() < 1e-2 * moved
    torch.compiler.reset()


class Graph:
    """Stands in for torch.cuda.CUDAGraph: a capture runs nothing, a replay takes a step."""

    def replay(self):
        self.step()


@pytest.fixture
def no_gpu(monkeypatch):
    """What `_prepare` asks of torch.cuda; returns a list of what is to go wrong."""
    faults = []

    @contextmanager
    def capture(graph):
        before = {name: tensor.clone() for name, tensor in graph.training.state.items()}
        if "capture" in faults:
            raise RuntimeError("operation not permitted when stream is capturing\nand more")
        yield
        graph.training.load(before)  # what a capture ran, it did not run
        graph.step = graph.training._one_step

    class Stream:
        def wait_stream(self, other):
            pass

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", capture)

    def compile(function, **options):
        calls = []

        def compiled(*args, **keywords):
            calls.append(1)
            result = function(*args, **keywords)
            if "compile" in faults and len(calls) == 2:  # in the middle of the warm-up
                raise RuntimeError("no compiler")
            return result

        return compiled

    monkeypatch.setattr(torch, "compile", compile)
    return faults


@pytest.mark.parametrize(
    ("fault", "how"),
    [
        (None, "compiled, one CUDA graph"),
        ("capture", "compiled"),
        ("compile", "eager, one CUDA graph"),
    ],
)
def test_each_step_is_taken_once_whatever_fails(no_gpu, monkeypatch, fault, how):
    if fault:
        no_gpu.append(fault)
    fast = begin()
    fast.fast = fast.compiled = True
    init = Graph.__init__
    monkeypatch.setattr(Graph, "__init__", lambda self: (init(self), setattr(self, "training", fast))[0])
    assert fit(fast)
    assert_same(fast, finish(begin()))
    assert fast.how == how
    told = {None: [], "capture": ["not captured: RuntimeError: operation not permitted when stream is capturing"]}
    assert fast.notes == told.get(fault, ["not compiled: RuntimeError: no compiler"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@each_method
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_on_a_gpu_the_graph_is_the_loop(method, precision, unchecked):
    gpu, preset = torch.device("cuda"), replace(MICRO, precision=precision)
    comparison.set_precision(precision, gpu)
    torch.compiler.reset()
    fast, plain = (begin(method, preset=preset, device=gpu) for _ in range(2))
    plain.fast = False
    assert fit(fast)
    finish(plain)
    assert (fast.how, fast.notes) == ("compiled, one CUDA graph", [])
    tolerance = 1e-3 if precision == "float32" else 0.1
    torch.testing.assert_close(fast.curves, plain.curves, atol=tolerance, rtol=tolerance)
    cpu = finish(begin(method, preset=preset))
    torch.testing.assert_close(plain.curves.cpu(), cpu.curves, atol=tolerance, rtol=tolerance)
    resumed = begin(method, preset=preset, device=gpu)
    resumed.advance(13)
    again = begin(method, preset=preset, device=gpu)
    again.load(resumed.state)
    torch.testing.assert_close(finish(again).curves, fast.curves, atol=tolerance, rtol=tolerance)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@each_method
def test_on_a_gpu_fused_attention_changes_rounding_and_nothing_else(method, monkeypatch):
    """At a size that it takes; BTT has its own way while its scores are no larger than its queries."""
    run, gpu = comparison.Run(replace(MICRO, d=16, precision="bf16"), method, 256, Path()), torch.device("cuda")
    gradients, calls = [], []
    for kernels in (training.ATTENTION, (SDPBackend.MATH,)):
        monkeypatch.setattr(training, "ATTENTION", kernels)
        one = comparison.build(run, [1e-3] * 2, [0, 1], gpu)
        population = one.population
        noise = torch.randn(population.theta.shape, generator=torch.Generator().manual_seed(1)).to(gpu)
        with torch.no_grad():  # as if trained: no weight is zero
            population.theta += 0.02 * noise
        inputs, targets = one.draw(one.seeds, population.steps)
        with Fused() as fused:
            loss = one.losses(population(inputs), targets)[0].sum()
            gradients.append(torch.autograd.grad(loss, population.theta)[0])
        calls.append(len(fused.calls))
    assert calls[1] == 0
    assert method != "standard" or calls[0] == 2  # forwards and backwards
    fused, plain = gradients
    assert (fused - plain).norm() < 0.05 * plain.norm()
