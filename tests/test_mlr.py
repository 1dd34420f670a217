"""MLR attention: both ways to compute it give equation (1), its softmax and its gradients."""

import itertools

import pytest
import torch
from drawing import F64, assert_close, block_hierarchies, randn, sizes
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode

import structattn_minimal as sa
from structattn_minimal import mlr


@pytest.fixture
def tile_size(request, monkeypatch):
    """Queries a tile of the block-wise form, for tests that must reach its seams with few tokens."""
    monkeypatch.setattr(mlr, "TILE_SIZE", request.param)
    return request.param


def specification(q, k, v, ranks, block_sizes, normalize_levels=False, causal=True, level_scales=None):
    """Equation (1) as a loop over heads, pairs and levels: (scores, output)."""
    scales = [1 / r for r in ranks] if level_scales is None else level_scales
    ends = list(itertools.accumulate(ranks))
    *batch, T, _ = q.shape
    S = torch.full((*batch, T, T), float("-inf"), dtype=q.dtype)
    for head in itertools.product(*map(range, batch)):
        for i in range(T):
            for j in range(i + 1 if causal else T):
                shared = [l for l, size in enumerate(block_sizes) if i // size == j // size]
                terms = [
                    scales[l] * (q[*head, i, ends[l] - ranks[l] : ends[l]] @ k[*head, j, ends[l] - ranks[l] : ends[l]])
                    for l in shared
                ]
                S[*head, i, j] = sum(terms) / (len(shared) if normalize_levels else 1)
    return S, S.softmax(-1) @ v


def inputs(*batch, seq_len, d, d_v, requires_grad=False):
    return [randn(*batch, seq_len, width).requires_grad_(requires_grad) for width in (d, d, d_v)]


def outputs_and_gradients(q, k, v, ranks, extra=(), **options):
    out = sa.mlr_attention(q, k, v, ranks, **options)
    generator = torch.Generator().manual_seed(1)
    upstream = torch.randn(out.shape, generator=generator, **F64)
    return [out, *torch.autograd.grad(out, (q, k, v, *extra), upstream)]


def assert_blockwise_is_dense(q, k, v, ranks, **options):
    dense = outputs_and_gradients(q, k, v, ranks, backend="dense", **options)
    blockwise = outputs_and_gradients(q, k, v, ranks, backend="blockwise", **options)
    for ours, theirs in zip(blockwise, dense, strict=True):
        assert_close(ours, theirs)


@st.composite
def options(draw, n_levels):
    scales = st.none() | st.lists(st.floats(-2, 2), min_size=n_levels, max_size=n_levels)
    return {
        "normalize_levels": draw(st.booleans()),
        "causal": draw(st.booleans()),
        "level_scales": draw(scales),
    }


# The definition


@settings(max_examples=20)
@given(data=st.data(), case=block_hierarchies(3, 3, 3), batch=st.lists(sizes(2), max_size=1))
def test_scores_and_output_are_equation_1(data, case, batch):
    seq_len, block_sizes = case
    seq_len = min(seq_len, 12)
    ranks = tuple(data.draw(sizes(3)) for _ in block_sizes)
    chosen = data.draw(options(len(ranks)))
    q, k, v = inputs(*batch, 2, seq_len=seq_len, d=sum(ranks), d_v=3)
    S, out = specification(q, k, v, ranks, block_sizes, **chosen)
    assert_close(sa.mlr_scores(q, k, ranks, block_sizes=block_sizes, **chosen), S)
    for backend in ("auto", "dense", "blockwise"):
        assert_close(sa.mlr_attention(q, k, v, ranks, block_sizes=block_sizes, backend=backend, **chosen), out)


def test_by_default_blocks_halve_levels_weigh_1_over_r_and_scores_are_causal():
    ranks = (3, 2, 1)
    q, k, v = inputs(2, seq_len=8, d=6, d_v=4)
    S, out = specification(q, k, v, ranks, (8, 4, 2), causal=True, level_scales=[1 / 3, 1 / 2, 1])
    assert_close(sa.mlr_attention(q, k, v, ranks), out)
    assert_close(sa.mlr_scores(q, k, ranks), S)


@pytest.mark.parametrize("backend", ["auto", "dense", "blockwise"])
@given(seq_len=sizes(20), d=sizes(5), d_v=sizes(5), causal=st.booleans())
def test_with_one_level_it_is_scaled_dot_product_attention(backend, seq_len, d, d_v, causal):
    q, k, v = inputs(2, 3, seq_len=seq_len, d=d, d_v=d_v)
    out = sa.mlr_attention(q, k, v, (d,), causal=causal, backend=backend)
    assert_close(out, scaled_dot_product_attention(q, k, v, is_causal=causal, scale=1 / d))
    out = sa.mlr_attention(q, k, v, (d,), causal=causal, backend=backend, level_scales=[d**-0.5])
    assert_close(out, scaled_dot_product_attention(q, k, v, is_causal=causal))


# Block-wise = dense


@settings(max_examples=100)
@given(
    data=st.data(),
    tile_size=st.sampled_from([1, 3, 8, 256]),
    case=block_hierarchies(),
    batch=st.lists(sizes(2), max_size=2),
    d_v=sizes(5),
)
def test_blockwise_equals_dense(data, tile_size, case, batch, d_v):
    seq_len, block_sizes = case
    ranks = tuple(data.draw(sizes(4)) for _ in block_sizes)
    q, k, v = inputs(*batch, 2, seq_len=seq_len, d=sum(ranks), d_v=d_v, requires_grad=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlr, "TILE_SIZE", tile_size)
        assert_blockwise_is_dense(q, k, v, ranks, block_sizes=block_sizes, **data.draw(options(len(ranks))))


@pytest.mark.parametrize("tile_size", [8, 256], indirect=True)
@pytest.mark.parametrize("n_levels", range(1, 9))
def test_blockwise_equals_dense_with_1_to_8_levels(n_levels, tile_size):
    ranks = (4, 3, 2, 1, 1, 2, 1, 2)[:n_levels]
    q, k, v = inputs(1, 2, seq_len=256, d=sum(ranks), d_v=5, requires_grad=True)
    for causal in (True, False):
        assert_blockwise_is_dense(q, k, v, ranks, causal=causal)


@pytest.mark.parametrize("tile_size", [8, 100, 256], indirect=True)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("normalize_levels", [True, False])
def test_blockwise_equals_dense_with_a_ragged_last_block(tile_size, causal, normalize_levels):
    q, k, v = inputs(2, seq_len=700, d=9, d_v=4, requires_grad=True)
    options = {"block_sizes": (1024, 512, 256), "causal": causal, "normalize_levels": normalize_levels}
    assert_blockwise_is_dense(q, k, v, (4, 3, 2), **options)


def test_the_definition_at_length_700_against_masks_of_shared_levels():
    ranks, block_sizes = (4, 3, 2), (1024, 512, 256)
    q, k = randn(1, 700, 9), randn(1, 700, 9)
    shared = sa.shared_levels(700, block_sizes)
    parts = zip(q.split(ranks, -1), k.split(ranks, -1), ranks, strict=True)
    S = sum((shared > l) * (q_l @ k_l.mT) / r for l, (q_l, k_l, r) in enumerate(parts))
    assert_close(sa.mlr_scores(q, k, ranks, block_sizes=block_sizes, causal=False), S)


@pytest.mark.parametrize("tile_size", [3, 256], indirect=True)
@pytest.mark.parametrize("backend", ["dense", "blockwise"])
@pytest.mark.parametrize("causal", [True, False])
def test_gradcheck(tile_size, backend, causal):
    q, k, v = inputs(1, seq_len=7, d=4, d_v=2, requires_grad=True)
    scales = randn(3).requires_grad_()

    def attention(q, k, v, scales):
        options = {"block_sizes": (8, 4, 2), "normalize_levels": True, "causal": causal, "backend": backend}
        return sa.mlr_attention(q, k, v, (2, 1, 1), level_scales=scales, **options)

    assert torch.autograd.gradcheck(attention, (q, k, v, scales))


@pytest.mark.parametrize("tile_size", [8], indirect=True)
def test_level_scales_may_be_learned(tile_size):
    q, k, v = inputs(2, seq_len=32, d=6, d_v=4, requires_grad=True)
    scales = torch.tensor([0.5, 0.2, 1.5], **F64, requires_grad=True)
    results = [
        outputs_and_gradients(q, k, v, (3, 2, 1), extra=(scales,), level_scales=scales, backend=backend)
        for backend in ("dense", "blockwise")
    ]
    for dense, blockwise in zip(*results, strict=True):
        assert_close(blockwise, dense)
    assert results[0][-1].abs().min() > 0
    assert_close(sa.mlr_attention(q, k, v, (3, 2, 1), level_scales=[0.5, 0.2, 1.5]), results[0][0])


@pytest.mark.parametrize("tile_size", [8], indirect=True)
@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 2)])
def test_gradients_to_some_inputs_alone(tile_size, wanted):
    tensors = inputs(2, seq_len=32, d=6, d_v=4)
    for i in wanted:
        tensors[i].requires_grad_()
    upstream, chosen = randn(2, 32, 4), [tensors[i] for i in wanted]
    dense, blockwise = (
        torch.autograd.grad(sa.mlr_attention(*tensors, (3, 2, 1), backend=backend), chosen, upstream)
        for backend in ("dense", "blockwise")
    )
    for ours, theirs in zip(blockwise, dense, strict=True):
        assert_close(ours, theirs)


@pytest.mark.parametrize("tile_size", [8], indirect=True)
def test_memory_layout_does_not_matter(tile_size):
    q, k, v = randn(2, 32, 3, 6).transpose(1, 2), randn(2, 3, 6, 32).mT, randn(32, 2, 3, 4).permute(1, 2, 0, 3)
    assert not any(t.is_contiguous() for t in (q, k, v))
    plain = [t.detach().contiguous().requires_grad_() for t in (q, k, v)]
    strided = [t.detach().requires_grad_() for t in (q, k, v)]
    for ours, theirs in zip(
        outputs_and_gradients(*strided, (3, 2, 1), backend="blockwise"),
        outputs_and_gradients(*plain, (3, 2, 1), backend="dense"),
        strict=True,
    ):
        assert_close(ours, theirs)


@pytest.mark.parametrize("tile_size", [8], indirect=True)
def test_inputs_are_left_as_they_were(tile_size):
    q, k, v = inputs(2, seq_len=32, d=6, d_v=4, requires_grad=True)
    before = [t.detach().clone() for t in (q, k, v)]
    outputs_and_gradients(q, k, v, (3, 2, 1), backend="blockwise")
    assert all(torch.equal(t, b) for t, b in zip((q, k, v), before, strict=True))


@pytest.mark.parametrize("tile_size", [8], indirect=True)
def test_without_gradients_nothing_is_recorded(tile_size):
    q, k, v = inputs(2, seq_len=32, d=6, d_v=4, requires_grad=True)
    with torch.no_grad():
        out = sa.mlr_attention(q, k, v, (3, 2, 1), backend="blockwise")
    assert not out.requires_grad
    with torch.inference_mode():
        assert_close(sa.mlr_attention(q, k, v, (3, 2, 1), backend="blockwise"), out)


@pytest.mark.parametrize("backend", ["blockwise", "merge"])
def test_a_second_derivative_is_refused_in_words(backend):
    q, k, v = inputs(1, seq_len=8, d=3, d_v=2, requires_grad=True)
    out = sa.mlr_attention(q, k, v, (2, 1), backend=backend)
    with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
        torch.autograd.grad(out.sum(), q, create_graph=True)


# What the structure means


@pytest.mark.parametrize("tile_size", [8, 256], indirect=True)
@pytest.mark.parametrize("backend", ["dense", "blockwise"])
def test_the_future_changes_nothing(tile_size, backend):
    q, k, v = inputs(2, seq_len=48, d=6, d_v=4)
    now = sa.mlr_attention(q, k, v, (3, 2, 1), backend=backend)
    for t in (1, 7, 8, 24, 47):
        later = [torch.cat([x[:, :t], 100 * randn(2, 48 - t, x.shape[-1])], 1) for x in (q, k, v)]
        assert_close(sa.mlr_attention(*later, (3, 2, 1), backend=backend)[:, :t], now[:, :t])


def test_across_a_seam_a_pair_keeps_the_features_of_its_shared_levels_alone():
    q, k = randn(1, 16, 6), randn(1, 16, 6)
    S = sa.mlr_scores(q, k, (3, 2, 1), causal=False)[0]
    products = q[0, :, None] * k[0]  # (queries, keys, features)
    assert_close(S[7, 8], products[7, 8, :3].sum() / 3)  # the middle: level 1 alone
    assert_close(S[3, 4], products[3, 4, :3].sum() / 3 + products[3, 4, 3:5].sum() / 2)
    assert_close(S[6, 7], products[6, 7, :3].sum() / 3 + products[6, 7, 3:5].sum() / 2 + products[6, 7, 5])


def test_the_rank_between_halves_is_that_of_level_1():
    q, k = randn(1, 64, 8), randn(1, 64, 8)
    S = sa.mlr_scores(q, k, (3, 4, 1), causal=False)[0]
    assert torch.linalg.matrix_rank(S[:32, 32:]) == 3
    assert torch.linalg.matrix_rank(S[:16, 16:32]) == 3 + 4


# Precision and company


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.1)])
@pytest.mark.parametrize("backend", ["dense", "blockwise"])
@pytest.mark.parametrize("tile_size", [16], indirect=True)
def test_lower_precision_stays_near_float64(tile_size, dtype, tolerance, backend):
    q, k, v = inputs(2, 2, seq_len=64, d=8, d_v=4, requires_grad=True)
    exact = outputs_and_gradients(q, k, v, (4, 2, 2))
    low = [t.detach().to(dtype).requires_grad_() for t in (q, k, v)]
    out = sa.mlr_attention(*low, (4, 2, 2), backend=backend)
    assert out.dtype == dtype
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), **F64).to(dtype)
    for ours, theirs in zip([out, *torch.autograd.grad(out, low, upstream)], exact, strict=True):
        assert_close(ours.double(), theirs, tolerance)


@pytest.mark.parametrize("backend", ["auto", "dense", "blockwise"])
@pytest.mark.parametrize("tile_size", [16], indirect=True)
def test_autocast_treats_it_like_scaled_dot_product_attention(tile_size, backend):
    q, k, v = (t.float().requires_grad_() for t in inputs(2, 2, seq_len=64, d=8, d_v=4))
    exact = sa.mlr_attention(q, k, v, (4, 2, 2))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = q, k, v.bfloat16()  # as after a normalisation of queries and keys
        out = sa.mlr_attention(*mixed, (4, 2, 2), backend=backend)
        assert out.dtype == scaled_dot_product_attention(*mixed).dtype == torch.bfloat16
    assert_close(out.float(), exact, 0.1)
    grads = torch.autograd.grad(out.float().sum(), (q, k, v))
    exact_grads = torch.autograd.grad(exact.sum(), (q, k, v))
    for ours, theirs in zip(grads, exact_grads, strict=True):
        assert ours.dtype == torch.float32
        assert_close(ours, theirs, 0.1)


@pytest.mark.parametrize("tile_size", [8], indirect=True)
@pytest.mark.parametrize("backend", ["dense", "blockwise"])
def test_it_compiles(tile_size, backend, unchecked):
    q, k, v = inputs(2, seq_len=32, d=6, d_v=4, requires_grad=True)
    torch.compiler.reset()

    def attention(q, k, v):
        return sa.mlr_attention(q, k, v, (3, 2, 1), backend=backend)

    compiled = torch.compile(attention, backend="eager")(q, k, v)
    assert_close(compiled, attention(q, k, v))
    upstream = randn(2, 32, 4)
    for ours, theirs in zip(
        torch.autograd.grad(compiled, (q, k, v), upstream),
        torch.autograd.grad(attention(q, k, v), (q, k, v), upstream),
        strict=True,
    ):
        assert_close(ours, theirs)


class LargestTensor(TorchDispatchMode):
    """Watches every operation for the largest tensor that one writes."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for t in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(t, torch.Tensor):
                self.elements = max(self.elements, t.numel())
        return result


@pytest.mark.parametrize("tile_size", [32], indirect=True)
@pytest.mark.parametrize("causal", [True, False])
def test_blockwise_never_writes_a_seq_by_seq_tensor(tile_size, causal):
    q, k, v = inputs(1, seq_len=512, d=4, d_v=4, requires_grad=True)
    largest = {}
    for backend in ("dense", "blockwise"):
        with LargestTensor() as watch:
            outputs_and_gradients(q, k, v, (2, 1, 1), causal=causal, backend=backend)
        largest[backend] = watch.elements
    assert largest == {"dense": 512 * 512, "blockwise": 32 * 512}
