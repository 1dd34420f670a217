"""Structured matrices: multiplying by the factors is multiplying by M, and M is what its equation says."""

from itertools import product

import numpy as np
import pytest
import scipy.linalg
import torch
from drawing import F64, FAMILIES, assert_close, matrix, pairs, randn, sizes
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

import structattn_minimal as sa
from structattn_minimal.matrices import clip_rms

each_family = pytest.mark.parametrize("family", FAMILIES)


def block_diagonal(blocks):
    return torch.from_numpy(scipy.linalg.block_diag(*[block.detach().numpy() for block in blocks]))


def transposition(rows, columns):
    """The matrix that reads a vector as a (rows, columns) grid and writes its columns one after the other."""
    P = torch.zeros(rows * columns, rows * columns, **F64)
    for i, j in product(range(rows), range(columns)):
        P[j * rows + i, i * columns + j] = 1
    return P


# Forward = dense


@each_family
@given(data=st.data(), batch=st.lists(sizes(3), max_size=3))
def test_forward_equals_dense(family, data, batch):
    M = matrix(data.draw, family)
    x = randn(*batch, M.d_in)
    assert M.to_dense().shape == (M.d_out, M.d_in)
    assert_close(M(x), x @ M.to_dense().T)


@each_family
@settings(max_examples=10)
@given(data=st.data())
def test_gradients_of_forward_equal_those_of_dense(family, data):
    M = matrix(data.draw, family)
    x, g = randn(3, M.d_in).requires_grad_(), randn(3, M.d_out)
    wanted = [x, *M.parameters()]
    for by_factors, by_dense in zip(
        torch.autograd.grad(M(x), wanted, g), torch.autograd.grad(x @ M.to_dense().T, wanted, g), strict=True
    ):
        assert_close(by_factors, by_dense)


# Dense = the equation, built another way


@given(shape=pairs(), rank=sizes(6))
def test_low_rank_is_a_sum_of_outer_products(shape, rank):
    M = sa.LowRank(*shape, rank, **F64)
    assert_close(M.to_dense(), sum(torch.outer(M.left[:, i], M.right[:, i]) for i in range(rank)))


@given(out=pairs(), into=pairs())
def test_kronecker_scales_one_block(out, into):
    M = sa.Kronecker(out, into, **F64)
    expected = torch.cat([torch.cat([entry * M.right for entry in row], 1) for row in M.left])
    assert_close(M.to_dense(), expected)
    assert_close(M.to_dense(), torch.from_numpy(np.kron(M.left.detach(), M.right.detach())))


@given(out=pairs(3), into=pairs(3), rank=sizes(3))
def test_btt_entry_by_entry(out, into, rank):
    (a, b), (c, d) = out, into
    M = sa.BTT(out, into, rank, **F64)
    dense = M.to_dense()
    for alpha, beta, gamma, delta in product(range(a), range(b), range(c), range(d)):
        entry = sum(M.left[beta, gamma, s, alpha] * M.right[gamma, delta, beta, s] for s in range(rank))
        assert_close(dense[alpha * b + beta, gamma * d + delta], entry)


@given(out=pairs(4), into=pairs(4), rank=sizes(3))
def test_btt_is_two_block_diagonal_factors_and_two_permutations(out, into, rank):
    (a, b), (c, d) = out, into
    M = sa.BTT(out, into, rank, **F64)
    R = block_diagonal(M.right[gamma].reshape(d, b * rank).T for gamma in range(c))  # (c b s, c d)
    P_R = torch.kron(transposition(c, b), torch.eye(rank, **F64))
    L = block_diagonal(M.left[beta].reshape(c * rank, a).T for beta in range(b))  # (b a, b c s)
    assert_close(M.to_dense(), transposition(b, a) @ L @ P_R @ R)


@given(blocks=sizes(5), width=sizes(5))
def test_monarch_is_dense_blocks_around_a_stride_permutation(blocks, width):
    M = sa.Monarch(blocks * width, blocks, **F64)
    R = block_diagonal(M.right[i, :, :, 0].T for i in range(blocks))
    L = block_diagonal(M.left[j, :, 0].T for j in range(width))
    P = transposition(blocks, width)
    assert R.shape == L.shape == P.shape == (M.d_out, M.d_in)
    assert_close(M.to_dense(), P.T @ L @ P @ R)


@given(ranks=st.lists(sizes(4), min_size=1, max_size=4), rows=sizes(3), columns=sizes(3))
def test_mlr_is_a_sum_of_block_diagonals(ranks, rows, columns):
    finest = 2 ** (len(ranks) - 1)
    M = sa.MLR(rows * finest, columns * finest, tuple(ranks), **F64)
    levels = []
    for level, rank in enumerate(ranks):
        left, right = M.left[level], M.right[level]
        assert left.shape == (2**level, M.d_out // 2**level, rank)
        levels.append(block_diagonal([u @ v.T for u, v in zip(left, right, strict=True)]))
    assert_close(M.to_dense(), sum(levels))


@given(log_d=sizes(5))
def test_butterfly_mixes_pairs_at_doubling_distance(log_d):
    M = sa.Butterfly(2**log_d, **F64)
    x = randn(M.d_in)
    expected = x.clone()
    for k in range(log_d):
        stride, mixed = 2**k, expected.clone()
        for n, i in enumerate(i for i in range(M.d_in) if not i & stride):
            mixed[[i, i + stride]] = M.twiddle[k, n].detach() @ expected[[i, i + stride]]
        expected = mixed
    assert_close(M(x), expected)


@pytest.mark.parametrize("d", [2, 8, 64])
def test_the_hadamard_matrix_is_a_butterfly(d):
    M = sa.Butterfly(d, **F64)
    with torch.no_grad():
        M.twiddle.copy_(torch.tensor([[1, 1], [1, -1]]))
    hadamard = torch.from_numpy(scipy.linalg.hadamard(d, dtype=np.float64))
    assert_close(M.to_dense(), hadamard)
    assert_close(M(torch.eye(d, **F64)), hadamard)


@pytest.mark.parametrize("d", [2, 8, 32])
def test_the_fourier_transform_is_a_butterfly_of_bit_reversed_input(d, unchecked):  # annotations speak of real x
    M = sa.Butterfly(d, dtype=torch.complex128)
    for k, mixers in enumerate(M.twiddle.data):
        w = torch.exp(-1j * torch.pi * torch.arange(2**k, **F64) / 2**k).repeat(d // 2 ** (k + 1))
        ones = torch.ones_like(w)
        mixers.copy_(torch.stack([ones, w, ones, -w], -1).unflatten(-1, (2, 2)))
    bits = d.bit_length() - 1
    reversed_order = [int(f"{i:0{bits}b}"[::-1], 2) for i in range(d)]
    x = torch.randn(3, d, dtype=torch.complex128)
    assert_close(M(x[:, reversed_order]), torch.fft.fft(x))


# Closed forms


@each_family
@given(data=st.data())
def test_num_params_is_the_number_of_parameters(family, data):
    M = matrix(data.draw, family)
    assert M.num_params == sum(p.numel() for p in M.parameters())


@each_family
@given(data=st.data(), vectors=sizes(4, 2))
def test_macs_are_what_a_flop_counter_counts(family, data, vectors):
    M = matrix(data.draw, family, least=2)
    with FlopCounterMode(display=False) as counter:
        M(randn(vectors, M.d_in))
    assert counter.get_total_flops() == 2 * vectors * M.macs


@each_family
@settings(max_examples=100)
@given(data=st.data())
def test_max_rank_is_the_rank_of_a_random_draw(family, data):
    M = matrix(data.draw, family)
    assert M.max_rank == torch.linalg.matrix_rank(M.to_dense())


@given(grid=pairs(6, 2))
def test_btt_of_rank_1_has_full_rank(grid):
    square = sa.BTT(grid, grid[::-1], rank=1, **F64)
    balanced = sa.BTT(grid, grid, rank=1, **F64)
    assert balanced.max_rank == square.d_in
    assert torch.linalg.matrix_rank(balanced.to_dense()) == balanced.d_in


def test_a_square_btt_of_rank_1_has_2_d_sqrt_d_parameters():
    M = sa.BTT((16, 16), (16, 16))
    assert M.num_params == 2 * 256**1.5


# At the start


@pytest.mark.parametrize(
    "make",
    [
        lambda: sa.LowRank(24, 16, 4, **F64),
        lambda: sa.Kronecker((4, 6), (2, 8), **F64),
        lambda: sa.Monarch(24, 4, **F64),
        lambda: sa.Butterfly(8, **F64),
        lambda: sa.BTT((4, 6), (3, 8), rank=2, **F64),
        lambda: sa.MLR(24, 16, (4, 2, 1), **F64),
        lambda: sa.MLBTC(24, 16, [sa.Level(2, 4, 3, 2), sa.Level(rank=3), sa.Level(blocks=4)], **F64),
    ],
    ids=FAMILIES,
)
def test_inputs_of_unit_variance_leave_with_unit_variance(make):
    # For x ~ N(0, I), the variance of y_i is the squared norm of row i of M: its mean over draws must be 1.
    draws = torch.stack([make().to_dense().square().sum(1) for _ in range(1500)]).detach()  # (draws, d_out)
    error = draws.std(0) / len(draws) ** 0.5
    assert ((draws.mean(0) - 1).abs() < 5 * error).all()
    assert error.max() < 0.08  # else the bound above says nothing


@given(shape=pairs(6), fans=pairs(8), size=st.floats(0.01, 10))
def test_clip_rms_is_its_equation(shape, fans, size):
    (fan_in, fan_out), weight = fans, size * randn(*shape)
    rms = (weight.flatten() @ weight.flatten() / weight.numel()) ** 0.5
    sigma_0 = min(fan_in, fan_out) ** 0.5 / fan_in
    assert_close(clip_rms(weight, fan_in, fan_out), weight / max(1, rms / sigma_0))


@given(fans=pairs(8), size=st.floats(0.01, 10))
def test_clip_rms_leaves_an_rms_of_sigma_0_at_most_and_clips_once(fans, size):
    fan_in, fan_out = fans
    weight = size * randn(7, 5)
    clipped = clip_rms(weight, fan_in, fan_out)
    assert clipped.square().mean().sqrt() <= (1 + 1e-12) * min(fan_in, fan_out) ** 0.5 / fan_in
    assert_close(clip_rms(clipped, fan_in, fan_out), clipped)


def test_clip_rms_changes_nothing_within_bounds():
    weight = randn(9, 9) / 100
    assert torch.equal(clip_rms(weight, 9, 9), weight)


def test_gradients_flow_through_an_active_clip():
    weight = (10 * randn(3, 4)).requires_grad_()
    assert torch.autograd.gradcheck(lambda w: clip_rms(w, 4, 3), weight)
    (grad,) = torch.autograd.grad(clip_rms(weight, 4, 3).sum(), weight)
    assert grad.abs().max() > 0
    assert_close((grad * weight).sum(), torch.zeros((), **F64))  # growing a clipped weight changes nothing
