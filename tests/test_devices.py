"""What holds on the CPU holds on a GPU: the same module and the same input give the same numbers on either device.

The CPU half runs everywhere and holds the test itself; the GPU half is for the owner of one, by the same command.
"""

import copy

import pytest
import torch

import structattn_minimal as sa

GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"))
devices = pytest.mark.parametrize("device", ["cpu", GPU])

D, H, T = 32, 4, 48
LAYERS = {
    "standard": sa.StandardAttention(D, H),
    "sliding window": sa.SlidingWindowAttention(D, H, window=7),
    "global and window": sa.GlobalSlidingWindowAttention(D, H, ranks=(5, 3), window=7),
    "bilinear BTT": sa.BilinearBTTAttention(D, H, btt_rank=2),
    "bilinear MLR": sa.BilinearMLRAttention(D, H, ranks=(4, 2, 2)),
    "MLR dense": sa.MLRAttention(D, H, ranks=(4, 2, 2), context=64, backend="dense"),
    "MLR blockwise": sa.MLRAttention(D, H, ranks=(4, 2, 2), context=64, backend="blockwise"),
}
MATRICES = {
    "low rank": sa.LowRank(8, 12, 3),
    "Kronecker": sa.Kronecker((2, 4), (3, 4)),
    "Monarch": sa.Monarch(12, 3),
    "Butterfly": sa.Butterfly(16),
    "BTT": sa.BTT((2, 4), (3, 4), rank=2),
    "MLR": sa.MLR(8, 12, ranks=(2, 1, 1)),
    "MLBTC": sa.MLBTC(8, 12, levels=[sa.Level(inputs=3, outputs=2), sa.Level(blocks=2, rank=2)]),
}


def numbers(module, x):
    """The output, and the gradients of its sum of squares, all on the CPU."""
    x = x.requires_grad_()
    module.zero_grad()
    out = module(x)
    out.square().sum().backward()
    return [t.detach().cpu() for t in (out, x.grad, *(p.grad for p in module.parameters()))]


def assert_same_on(device, module, x):
    module = copy.deepcopy(module).double()
    expected = numbers(module, x.clone())
    got = numbers(module.to(device), x.to(device))
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-10)


@devices
@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_and_its_gradients(kind, device):
    assert_same_on(device, LAYERS[kind], torch.randn(2, T, D, dtype=torch.float64))


@devices
@pytest.mark.parametrize("kind", LAYERS)
def test_the_scores_of_a_layer(kind, device):
    layer, x = copy.deepcopy(LAYERS[kind]).double(), torch.randn(2, T, D, dtype=torch.float64)
    expected = layer.scores(x)
    torch.testing.assert_close(layer.to(device).scores(x.to(device)).cpu(), expected)


@devices
@pytest.mark.parametrize("kind", MATRICES)
def test_a_matrix_and_its_dense_form(kind, device):
    matrix = MATRICES[kind]
    assert_same_on(device, matrix, torch.randn(5, matrix.d_in, dtype=torch.float64))
    torch.testing.assert_close(copy.deepcopy(matrix).to(device).to_dense().cpu(), matrix.to_dense())


@devices
def test_a_structured_matrix_rebuilt_from_the_family(device):
    for matrix in (m for kind, m in MATRICES.items() if kind not in ("Butterfly", "MLBTC")):
        moved = copy.deepcopy(matrix).to(device)
        torch.testing.assert_close(sa.as_mlbtc(moved).to_dense().cpu(), matrix.to_dense())
    factors = sa.butterfly_factors(copy.deepcopy(MATRICES["Butterfly"]).to(device))
    assert all(p.device.type == device for factor in factors for p in factor.parameters())


@devices
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backend", ["dense", "blockwise"])
def test_low_precision_stays_near_float64(backend, dtype, device):
    ranks, seq = (8, 4, 4), 512
    q, k, v = (torch.randn(2, 3, seq, n, dtype=torch.float64) for n in (16, 16, 24))
    exact = sa.mlr_attention(q, k, v, ranks, backend="dense")
    low = sa.mlr_attention(*(t.to(device, dtype) for t in (q, k, v)), ranks, backend=backend)
    assert low.dtype == dtype
    error = (low.cpu().double() - exact).norm() / exact.norm()
    assert error < 30 * torch.finfo(dtype).eps, error


@devices
def test_generation_happens_where_the_model_is(device):
    config = sa.GPTConfig(
        n_layers=1, n_heads=2, d_model=16, context=16, vocab_size=7, attention_options={"qk_norm": False}
    )
    tokens = sa.GPT(config).to(device).generate(torch.zeros(2, 3, dtype=torch.long, device=device), 4, temperature=0)
    assert tokens.device.type == device
    assert tokens.shape == (2, 7)
