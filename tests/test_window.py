"""Windowed attention, in chunks and in blocks, is attention under a T x T band."""

import pytest
import torch
from drawing import assert_close, randn, sizes
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from structattn_minimal.window import band, blocks, chunks, windowed_attention, windowed_pairs


def under_a_mask(q, k, v, window, causal, scale):
    T = q.shape[-2]
    S = scale * q @ k.mT
    for i in range(T):
        for j in range(T):
            if j > i + (0 if causal else window) or j < i - window:
                S[..., i, j] = float("-inf")
    return S.softmax(-1) @ v


@settings(max_examples=60)
@given(
    windowed=st.sampled_from([windowed_attention, chunks]),
    seq_len=sizes(16),
    window=sizes(18),
    causal=st.booleans(),
    batch=st.lists(sizes(2), max_size=2),
    d_v=sizes(4),
)
def test_windows_equal_a_mask(windowed, seq_len, window, causal, batch, d_v):
    q, k, v = (randn(*batch, seq_len, width).requires_grad_() for width in (3, 3, d_v))
    expected = under_a_mask(q, k, v, window, causal, 0.7)
    out = windowed(q, k, v, window, causal=causal, scale=0.7)
    assert_close(out, expected)
    upstream = randn(*out.shape)
    ours, theirs = (torch.autograd.grad(y, (q, k, v), upstream) for y in (out, expected))
    for a, b in zip(ours, theirs, strict=True):
        assert not a.isnan().any()
        assert_close(a, b)


def test_a_query_sees_itself_and_window_earlier_keys():
    position = torch.arange(6)
    causal, both = (band(position, position, 2, causal) for causal in (True, False))
    assert causal.sum(1).tolist() == [1, 2, 3, 3, 3, 3]
    assert both.sum(1).tolist() == [3, 4, 5, 5, 4, 3]
    assert causal[5].tolist() == [False, False, False, True, True, True]


@given(seq_len=sizes(40), window=sizes(44), causal=st.booleans())
def test_windowed_pairs_are_those_that_are_multiplied(seq_len, window, causal):
    q, k, v = (randn(seq_len, 2) for _ in range(3))
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        windowed_attention(q, k, v, window, causal=causal, scale=1.0)
    assert counter.get_total_flops() == 2 * (2 + 2) * windowed_pairs(seq_len, window, causal)
    assert windowed_pairs(seq_len, window, causal) <= seq_len**2


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("seq_len", "window", "d", "d_v"), [(150, 50, 16, 32), (40, 7, 32, 16)])
def test_blocks_equal_chunks(seq_len, window, d, d_v, causal):
    q, k, v = (torch.randn(2, 3, seq_len, width) for width in (d, d, d_v))
    ways = (way(q, k, v, window, causal=causal, scale=0.3) for way in (blocks, chunks))
    torch.testing.assert_close(*ways, atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("seq_len", "window", "d", "d_v"), [(1024, 512, 64, 64), (1024, 128, 32, 64), (384, 100, 16, 16)]
)
def test_on_a_gpu_compiled_windows_come_in_blocks(seq_len, window, d, d_v, dtype, unchecked):
    """And q and k may have another dtype than v, as under autocast."""
    torch.compiler.reset()
    q, k, v = (torch.randn(2, 3, seq_len, width, device="cuda", requires_grad=True) for width in (d, d, d_v))

    def way(windowed, dtype):
        out = windowed(q, k, v.to(dtype), window, causal=True, scale=d**-0.5)
        return out, *torch.autograd.grad(out.float().square().sum(), (q, k, v))

    def windowed(*args, **kwargs):
        return windowed_attention(*args, **kwargs)

    compiled = way(torch.compile(windowed, dynamic=False, fullgraph=True), dtype)
    tolerance = 1e-2 if dtype == torch.float32 else 5e-2  # tf32 in Triton
    for ours, expected in zip(compiled, way(chunks, torch.float32), strict=True):
        assert (ours.float() - expected).norm() < tolerance * expected.norm()
