"""MLBTC holds the other families: each is rebuilt from it with the same numbers."""

from itertools import product

import pytest
import torch
from drawing import F64, assert_close, levels_of, matrix, randn
from hypothesis import given
from hypothesis import strategies as st

import structattn_minimal as sa


@pytest.mark.parametrize("family", ["LowRank", "Kronecker", "Monarch", "BTT", "MLR"])
@given(data=st.data())
def test_every_family_is_an_mlbtc_with_the_same_numbers(family, data):
    M = matrix(data.draw, family)
    twin, x = sa.as_mlbtc(M), randn(2, M.d_in)
    assert isinstance(twin, sa.MLBTC)
    assert {e.item() for p in twin.parameters() for e in p.flatten()} == {
        e.item() for p in M.parameters() for e in p.flatten()
    }
    assert_close(twin.to_dense(), M.to_dense())
    assert_close(twin(x), M(x))


@given(data=st.data())
def test_a_butterfly_is_a_product_of_mlbtcs(data):
    M = matrix(data.draw, "Butterfly")
    factors = sa.butterfly_factors(M)
    x = randn(2, M.d_in)
    dense, y = torch.eye(M.d_in, **F64), x
    for factor in factors:
        assert isinstance(factor, sa.MLBTC)
        dense, y = factor.to_dense() @ dense, factor(y)
    assert 2 ** len(factors) == M.d_in
    assert_close(dense, M.to_dense())
    assert_close(y, M(x))


@given(data=st.data(), shape=st.sampled_from([(4, 12), (6, 6), (12, 8)]))
def test_mlbtc_entry_by_entry(data, shape):
    levels = data.draw(st.lists(levels_of(*shape), min_size=1, max_size=3))
    M = sa.MLBTC(*shape, levels, **F64)
    expected = torch.zeros(shape, **F64)
    for level, R, L in zip(levels, M.right, M.left, strict=True):
        p, c, b, s = level.blocks, level.inputs, level.outputs, level.rank
        a, d = shape[0] // (p * b), shape[1] // (p * c)
        for k, alpha, beta, gamma, delta in product(*map(range, (p, a, b, c, d))):
            row, column = (k * a + alpha) * b + beta, (k * c + gamma) * d + delta
            expected[row, column] += L[k, beta, gamma, :, alpha].detach() @ R[k, gamma, delta, beta].detach()
        assert R.shape == (p, c, d, b, s)
        assert L.shape == (p, b, c, s, a)
    assert_close(M.to_dense(), expected)


def test_a_level_holds_as_many_parameters_as_its_family():
    btt, mlr = sa.BTT((4, 6), (3, 8), rank=2), sa.MLR(24, 24, (3, 2, 1))
    assert sa.as_mlbtc(btt).num_params == btt.num_params
    assert sa.as_mlbtc(mlr).num_params == mlr.num_params
    assert sa.as_mlbtc(mlr).max_rank == mlr.max_rank


def sub_blocks(M, level):
    """(p, b, c, a, d): what each input chunk sends to each output chunk, and what lies off the diagonal blocks."""
    p, c, b = level.blocks, level.inputs, level.outputs
    grid = M.unflatten(0, (p, -1, b)).unflatten(-1, (p, c, -1))  # (p, a, b, p, c, d)
    own = torch.stack([grid[k, :, :, k] for k in range(p)]).permute(0, 2, 3, 1, 4)
    others = [grid[k, :, :, j].flatten() for k in range(p) for j in range(p) if j != k]
    return own, torch.cat(others or [M.new_zeros(1)])


@given(data=st.data(), shape=st.sampled_from([(4, 12), (6, 6), (12, 8)]))
def test_a_level_is_what_the_ranks_of_its_sub_blocks_say(data, shape):
    level = data.draw(levels_of(*shape))
    own, outside = sub_blocks(sa.MLBTC(*shape, [level], **F64).to_dense().detach(), level)
    assert outside.abs().max() == 0
    assert torch.linalg.matrix_rank(own, rtol=1e-9).max() <= level.rank

    # and back: every matrix of such sub-blocks is a level, by the singular vectors of each
    p, b, c, a, d = own.shape
    s = level.rank
    u, sigma, vh = torch.linalg.svd(own, full_matrices=False)
    left, right = (torch.zeros(p, b, c, n, s, **F64) for n in (a, d))
    kept = min(s, len(sigma[0, 0, 0]))
    left[..., :kept], right[..., :kept] = (u * sigma[..., None, :])[..., :kept], vh.mT[..., :kept]
    twin = sa.MLBTC(*shape, [level], **F64)
    with torch.no_grad():
        twin.left[0].copy_(left.transpose(-1, -2))
        twin.right[0].copy_(right.permute(0, 2, 3, 1, 4))
    expected = torch.zeros(p, a, b, p, c, d, **F64)
    for k in range(p):
        expected[k, :, :, k] = own[k].permute(2, 0, 1, 3)
    assert_close(twin.to_dense(), expected.reshape(shape))


@pytest.mark.parametrize("log_d", [2, 3, 4, 5])
def test_a_butterfly_is_a_monarch_at_every_cut(log_d):
    d = 2**log_d
    M = sa.Butterfly(d, **F64).to_dense().detach()
    for cut in range(1, log_d):
        own, _ = sub_blocks(M, sa.Level(inputs=d >> cut, outputs=2**cut))
        sigma = torch.linalg.svdvals(own)
        assert (sigma[..., 1] / sigma[..., 0]).max() < 1e-12
