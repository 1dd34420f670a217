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
