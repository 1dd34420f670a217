"""Chapter 5's theorems: which matrices are block tensor trains, the nearest one, what is cheapest, how they start."""

from itertools import product

import pytest
import torch
from drawing import F64, assert_close, pairs, randn, sizes
from hypothesis import given
from hypothesis import strategies as st

import structattn_minimal as sa
from structattn_minimal.experiments.nearest_structured import block_ranks, btt_blocks, btt_error, nearest_btt


@given(out=pairs(4), into=pairs(4), rank=sizes(3))
def test_a_block_of_a_btt_is_a_sum_of_s_outer_products(out, into, rank):
    (_, b), (c, d) = out, into
    M = sa.BTT(out, into, rank, **F64)
    dense, blocks = M.to_dense(), btt_blocks(M.to_dense(), out, into)
    for beta, gamma in product(range(b), range(c)):
        block = dense[beta::b, gamma * d : (gamma + 1) * d]  # every b-th row, d neighbouring columns
        assert torch.equal(blocks[beta, gamma], block)
        assert_close(block, sum(torch.outer(M.left[beta, gamma, s], M.right[gamma, :, beta, s]) for s in range(rank)))


@given(out=pairs(4), into=pairs(4), rank=sizes(4), data=st.data())
def test_a_matrix_is_a_btt_exactly_when_its_blocks_have_rank_s(out, into, rank, data):
    (a, b), (c, d) = out, into
    drawn = sa.BTT(out, into, rank, **F64).to_dense().detach()
    assert (block_ranks(drawn, out, into) == min(a, d, rank)).all()
    # the other way: any matrix whose blocks have rank at most s is met exactly
    ranks = torch.tensor([[data.draw(st.integers(0, min(a, d, rank))) for _ in range(c)] for _ in range(b)])
    blocks = torch.stack([torch.stack([randn(a, r) @ randn(r, d) for r in row]) for row in ranks.tolist()])
    target = blocks.permute(2, 0, 1, 3).reshape(a * b, c * d)
    assert torch.equal(block_ranks(target, out, into), ranks)
    assert_close(nearest_btt(target, out, into, rank).to_dense(), target, tolerance=1e-11)


@given(out=pairs(4), into=pairs(4))
def test_every_matrix_is_a_btt_of_rank_min_a_d(out, into):
    (a, b), (c, d) = out, into
    target = randn(a * b, c * d)
    assert_close(nearest_btt(target, out, into, min(a, d)).to_dense(), target, tolerance=1e-11)
    assert btt_error(target, out, into, min(a, d)) == 0
    assert_close(nearest_btt(target, out, into, min(a, d) + 2).to_dense(), target, tolerance=1e-11)


@given(out=pairs(4), into=pairs(4), rank=sizes(4))
def test_the_nearest_btt_leaves_the_singular_values_that_its_blocks_lose(out, into, rank):
    (a, b), (c, d) = out, into
    target = randn(a * b, c * d)
    best = nearest_btt(target, out, into, rank)
    missed = (target - best.to_dense()).norm().item()
    assert missed == pytest.approx(btt_error(target, out, into, rank), abs=1e-11)
    for size in (1e-3, 0.1, 1.0):  # no BTT is nearer
        with torch.no_grad():
            other = sa.BTT(out, into, rank, **F64)
            other.left.copy_(best.left + size * torch.randn_like(best.left))
            other.right.copy_(best.right + size * torch.randn_like(best.right))
        assert (target - other.to_dense()).norm().item() >= missed - 1e-12


def test_the_nearest_btt_is_where_gradients_vanish():
    target = randn(12, 12)
    best = nearest_btt(target, (3, 4), (4, 3), 2)
    (target - best.to_dense()).square().sum().backward()
    assert max(p.grad.abs().max().item() for p in best.parameters()) < 1e-12


@pytest.mark.parametrize(
    ("m", "out", "into", "says"),
    [
        (torch.zeros(4, 6), (2, 3), (2, 2), r"m must have shape \(6, 4\).*got \(4, 6\)"),
        (torch.zeros(4, 4), (4, 0), (2, 2), "out_factors"),
        (torch.zeros(4, 4), (2, 2), (2,), "in_factors"),
    ],
)
def test_factors_that_do_not_fit_are_refused(m, out, into, says, unchecked):
    for act in (btt_blocks, block_ranks, lambda *given: nearest_btt(*given, 1), lambda *given: btt_error(*given, 1)):
        with pytest.raises(ValueError, match=says):
            act(m, out, into)
    with pytest.raises(ValueError, match="rank"):
        nearest_btt(torch.zeros(4, 4), (2, 2), (2, 2), 0)


# Members


@given(out=pairs(4), into=pairs(4), terms=sizes(3))
def test_a_tensor_train_is_a_sum_of_kronecker_products_and_a_btt_whose_cores_repeat(out, into, terms):
    (a, b), (c, d) = out, into
    G, E = randn(a, c, terms), randn(terms, b, d)  # the two cores
    M = sa.BTT(out, into, terms, **F64)
    with torch.no_grad():
        M.left.copy_(G.permute(1, 2, 0).expand(b, c, terms, a))
        M.right.copy_(E.permute(2, 1, 0).expand(c, d, b, terms))
    kroneckers = sum(torch.kron(G[..., s].contiguous(), E[s]) for s in range(terms))
    assert_close(M.to_dense(), kroneckers)
    x = randn(5, c * d)
    train = torch.einsum("acs,sbd,ncd->nab", G, E, x.unflatten(-1, (c, d)))
    assert_close(train.flatten(-2), M(x))


@pytest.mark.parametrize(("out", "into"), [((4, 4), (4, 4)), ((2, 8), (2, 8)), ((8, 2), (8, 2))])
def test_the_identity_is_a_btt_of_rank_1(out, into):
    assert block_ranks(torch.eye(16, **F64), out, into).max() == 1


@pytest.mark.parametrize(("c", "d"), [(4, 4), (2, 8), (8, 2)])
def test_the_fourier_transform_of_a_shuffled_input_is_a_btt_of_rank_1(c, d, unchecked):
    """Cooley and Tukey's first step: after the input is read with stride c, each block is an outer product."""
    n = c * d
    at = torch.arange(n, **F64)
    F = torch.exp(-2j * torch.pi * at[:, None] * at / n)
    stride = torch.arange(n).reshape(d, c).T.flatten()
    sigma = torch.linalg.svdvals(btt_blocks(F[:, stride], (c, d), (c, d)))
    assert sigma[..., 1].abs().max() < 1e-12 * n
    assert torch.linalg.svdvals(btt_blocks(F, (c, d), (c, d)))[..., 1].max() > 0.1


def test_the_blocks_of_an_exponential_kernel_have_rank_3():
    at = torch.arange(64, **F64)
    kernel = torch.exp(-(at[:, None] - at).abs() / 8)
    assert block_ranks(kernel, (8, 8), (8, 8)).max() == 3
    assert btt_error(kernel, (8, 8), (8, 8), 3) < 1e-12


# Costs


@given(out=pairs(6), into=pairs(6), rank=sizes(4))
def test_the_inner_vector_bounds_the_rank(out, into, rank):
    (_, b), (c, _) = out, into
    M = sa.BTT(out, into, rank, **F64)
    assert torch.linalg.matrix_rank(M.to_dense()) <= b * c * rank


def divisors(n):
    return [i for i in range(1, n + 1) if n % i == 0]


@pytest.mark.parametrize("width", [16, 36, 60, 64, 128, 144, 256])
def test_no_btt_of_full_rank_is_cheaper_than_2_d_sqrt_d(width):
    grids = [
        ((width // b, b), (c, width // c), s) for b in divisors(width) for c in divisors(width) for s in (1, 2, 3, 4)
    ]
    full = {grid: sa.BTT(*grid).num_params for grid in grids if sa.BTT(*grid).max_rank == width}
    least = min(full.values())
    assert least >= 2 * width**1.5 - 1e-6
    root = round(width**0.5)
    if root**2 == width:
        assert [grid for grid, count in full.items() if count == least] == [((root, root), (root, root), 1)]
    for (_, b), (c, _), s in grids:
        assert sa.BTT((width // b, b), (c, width // c), s).num_params == width * s * (b + c)


def test_the_authors_split_of_256_costs_10240_parameters_and_the_balanced_one_8192():
    assert sa.BTT((8, 32), (8, 32)).num_params == 10_240
    assert sa.BTT((16, 16), (16, 16)).num_params == 8_192
    assert sa.BilinearBTTAttention(256, 8).query_key_params() == 8 * 8_192


@pytest.mark.parametrize(("width", "rank"), [(64, 64), (128, 64), (256, 256), (512, 256)])
def test_a_head_whose_width_is_no_square_loses_rank_at_s_1(width, rank):
    """b = c, the largest divisor up to the root: the fewest parameters, and an inner vector of b c numbers."""
    attention = sa.BilinearBTTAttention(width, 1, qk_norm=False).double()
    assert torch.linalg.matrix_rank(attention.to_dense(0)) == rank


# At the start


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_entries_start_with_variance_1_over_columns_and_kurtosis_3_plus_6_over_s(rank):
    entries = torch.stack([sa.BTT((8, 8), (8, 8), rank, **F64).to_dense() for _ in range(400)]).detach()
    square, fourth = entries.square().mean((1, 2)), entries.pow(4).mean((1, 2))
    for measured, expected in ((square, 1 / 64), (fourth, (3 + 6 / rank) / 64**2)):
        error = measured.std().item() / len(measured) ** 0.5
        assert measured.mean().item() == pytest.approx(expected, abs=5 * error)
        assert error < 0.05 * expected


@pytest.mark.parametrize(("clip", "rank", "variance"), [(True, 1, 1), (True, 4, 1 / 4), (False, 4, 1)])
def test_the_clip_divides_the_variance_of_scores_by_s_at_the_start(clip, rank, variance):
    """sigma_0 of the left core is 1 / sqrt(s) times the size at which it is drawn."""
    layers = [sa.BilinearBTTAttention(256, 8, btt_rank=rank, clip=clip, qk_norm=False) for _ in range(4)]
    forms = torch.stack([layer.scale * layer.to_dense(h) for layer in layers for h in range(8)]).detach()
    assert forms.square().sum((1, 2)).mean().item() == pytest.approx(variance, rel=0.06)


@pytest.mark.parametrize("causal", [True, False])
def test_a_btt_layer_scores_its_keys_as_they_are(causal):
    attention = sa.BilinearBTTAttention(36, 3, btt_rank=2, causal=causal, qk_norm=False).double()
    x = randn(2, 7, 36)
    _, keys = attention.queries_keys(x)
    assert torch.equal(keys, x[:, None])  # one for all heads
    forms = torch.stack([attention.to_dense(h) for h in range(3)])
    scores = 36**-0.5 * torch.einsum("bic,hcd,bjd->bhij", x, forms, x)
    if causal:
        scores = scores.masked_fill(torch.ones(7, 7).triu(1).bool(), -torch.inf)
    assert_close(attention.scores(x), scores)
