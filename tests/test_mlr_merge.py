"""MLR attention from merged pieces: the pieces cover each pair once, and the merge is exact, forwards and backwards."""

from math import prod

import pytest
import torch
from drawing import F64, assert_close, randn
from hypothesis import given
from hypothesis import strategies as st

import structattn_minimal as sa
from structattn_minimal import mlr_merge


@st.composite
def halved(draw, most=48):
    """(T, block sizes) whose levels come from halving T; a level may skip a halving, or repeat the one before."""
    factors = draw(st.lists(st.sampled_from([1, 2, 4]), max_size=3).filter(lambda f: prod(f) <= 16))
    sizes = [draw(st.integers(1, most // prod(factors)))]
    for factor in factors:
        sizes.insert(0, sizes[0] * factor)
    return sizes[0], tuple(sizes)


def drawn(seq_len, sizes, rank=3):
    ranks = tuple(1 + (rank + l) % 3 for l in range(len(sizes)))
    return ranks, [randn(2, 3, seq_len, n) for n in (sum(ranks), sum(ranks), 5)]


def numbers(q, k, v, ranks, upstream, **options):
    """Output, and the gradients of q, k and v."""
    tensors = [t.clone().requires_grad_() for t in (q, k, v)]
    out = sa.mlr_attention(*tensors, ranks, **options)
    return [out, *torch.autograd.grad(out, tensors, upstream)]


@given(case=halved())
def test_pieces_cover_every_causal_pair_once_with_its_level(case):
    seq_len, sizes = case
    ranks, _ = drawn(*case)
    shared = sa.shared_levels(seq_len, sizes)
    visits = torch.zeros(seq_len, seq_len, dtype=torch.int64)
    for piece in mlr_merge.pieces(seq_len, ranks, sizes):
        half = 0 if piece.causal else piece.size // 2
        for block in range(0, seq_len, piece.size):
            rows = slice(block + half, block + piece.size)
            columns = rows if piece.causal else slice(block, block + half)
            assert (shared[rows, columns] == piece.level).all()
            visits[rows, columns] += 1
        assert piece.prefix == sum(ranks[: piece.level])
    causal = torch.ones(seq_len, seq_len).tril().bool()
    assert (visits[causal] == 1).all()
    assert (visits <= 1).all()


@given(case=halved(), normalize=st.booleans())
def test_the_merged_pieces_are_the_definition(case, normalize):
    seq_len, sizes = case
    ranks, (q, k, v) = drawn(*case)
    scaled = q / torch.tensor([r for r in ranks for _ in range(r)], **F64)
    out, lse = mlr_merge.forward(scaled, k, v, mlr_merge.pieces(seq_len, ranks, sizes), normalize)
    options = {"block_sizes": sizes, "normalize_levels": normalize}
    assert_close(out, sa.mlr_attention(q, k, v, ranks, backend="dense", **options))
    assert_close(lse, sa.mlr_scores(q, k, ranks, **options).logsumexp(-1))


@given(case=halved(), normalize=st.booleans())
def test_gradients_of_the_pieces_add_up_to_those_of_the_definition(case, normalize):
    ranks, (q, k, v) = drawn(*case)
    options = {"block_sizes": case[1], "normalize_levels": normalize}
    upstream = torch.randn_like(v)
    merged = numbers(q, k, v, ranks, upstream, backend="merge", **options)
    for got, want in zip(merged, numbers(q, k, v, ranks, upstream, backend="dense", **options), strict=True):
        assert_close(got, want)


def test_large_scores_do_not_overflow():
    ranks, (q, k, v) = drawn(16, (16, 8, 4))
    upstream = torch.randn_like(v)
    merged = numbers(100 * q, 100 * k, v, ranks, upstream, backend="merge")
    for got, want in zip(merged, numbers(100 * q, 100 * k, v, ranks, upstream, backend="dense"), strict=True):
        assert got.isfinite().all()
        assert_close(got, want, tolerance=1e-8)


def test_level_scales_have_their_gradient():
    ranks, (q, k, v) = drawn(16, (16, 8, 4))
    scales = torch.rand(3, **F64).requires_grad_()

    def gradient(backend):
        out = sa.mlr_attention(q, k, v, ranks, level_scales=scales, backend=backend)
        return torch.autograd.grad(out.square().sum(), scales)[0]

    assert_close(gradient("merge"), gradient("dense"))


@pytest.mark.parametrize(
    ("seq_len", "sizes", "causal", "words"),
    [(12, (12, 4), True, "halving"), (10, (16, 8), True, "halving"), (8, (8, 4), False, "causal")],
)
def test_what_cannot_be_made_of_pieces_is_refused(seq_len, sizes, causal, words):
    ranks, (q, k, v) = drawn(seq_len, sizes)
    with pytest.raises(ValueError, match=rf"backend=.merge. .*{words}"):
        sa.mlr_attention(q, k, v, ranks, block_sizes=sizes, causal=causal, backend="merge")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_costs_the_merge_no_more_than_the_definition(dtype):
    q, k, v, upstream = (torch.randn(1, 2, 1024, 64).to(dtype) for _ in range(4))
    exact = numbers(*(t.double() for t in (6 * q, k, v)), (32, 16, 16), upstream.double(), backend="dense")

    def errors(backend):
        ours = numbers(6 * q, k, v, (32, 16, 16), upstream, backend=backend)
        return torch.stack([(a.double() - b).norm() / b.norm() for a, b in zip(ours, exact, strict=True)])

    assert (errors("merge") <= errors("dense")).all()


def test_no_heads_and_values_of_no_width_are_the_definition():
    for heads, d_v in ((0, 5), (3, 0)):
        q, k, v = (randn(2, heads, 16, n) for n in (6, 6, d_v))
        merged = numbers(q, k, v, (3, 2, 1), v, backend="merge")
        for got, want in zip(merged, numbers(q, k, v, (3, 2, 1), v, backend="dense"), strict=True):
            assert_close(got, want)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2e-2), (torch.float16, 4e-3)])
@pytest.mark.parametrize(("ranks", "d_v", "normalize"), [((32, 16, 16), 64, False), ((16, 8, 24), 32, True)])
def test_cudnn_pieces_on_the_gpu(dtype, tolerance, ranks, d_v, normalize):
    q, k, v, upstream = (torch.randn(2, 3, 512, n, device="cuda", dtype=dtype) for n in (*[sum(ranks)] * 2, d_v, d_v))
    how = {"normalize_levels": normalize, "level_scales": (0.25,) * 3}
    ours = numbers(q, k, v, ranks, upstream, backend="merge", **how)
    theirs = numbers(*(t.double() for t in (q, k, v)), ranks, upstream.double(), backend="dense", **how)
    assert max((a.double() - b).norm() / b.norm() for a, b in zip(ours, theirs, strict=True)) < tolerance
