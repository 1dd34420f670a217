"""Rotary positions: a product of turned features tells how far apart two tokens are, and nothing else of where."""

import cmath

import pytest
import torch
from drawing import assert_close, randn, sizes
from hypothesis import given
from hypothesis import strategies as st
from layers import CONTEXT, KINDS, D, H, layer

import structattn_minimal as sa
from structattn_minimal.rotary import rotate

each_rotary = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.endswith("rotary")])


@given(half=sizes(5), at=st.lists(st.integers(0, 5000), min_size=1, max_size=4))
def test_a_pair_of_features_is_a_complex_number_that_turns(half, at):
    x = randn(len(at), 2 * half)
    turned = rotate(x, torch.tensor(at))
    for row, new, m in zip(x, turned, at, strict=True):
        for i in range(half):
            expected = complex(row[i], row[half + i]) * cmath.exp(1j * m * 10_000 ** (-2 * i / (2 * half)))
            assert_close(
                torch.stack([new[i], new[half + i]]), torch.tensor([expected.real, expected.imag], dtype=torch.float64)
            )


@given(half=sizes(5), m=st.integers(0, 5000), n=st.integers(0, 5000), shift=st.integers(0, 5000))
def test_a_product_depends_on_the_distance_alone(half, m, n, shift):
    q, k = randn(1, 2 * half), randn(1, 2 * half)

    def product(m, n):
        return rotate(q, torch.tensor([m])) @ rotate(k, torch.tensor([n])).T

    assert_close(product(m, n), product(m + shift, n + shift))
    assert_close(product(m, m), q @ k.T)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_angles_are_exact_in_low_precision_too(dtype):
    x, position = randn(3, 8).to(dtype), torch.tensor([1021, 1022, 1023])
    assert rotate(x, position).dtype == dtype
    assert_close(rotate(x, position).double(), rotate(x.double(), position), 1e-2 if dtype == torch.bfloat16 else 1e-3)


@pytest.mark.parametrize("kind", ["standard, rotary", "swa, rotary"])
def test_the_score_is_a_form_that_depends_on_the_distance(kind):
    attention, x = layer(kind, causal=False, qk_norm=False), randn(2, 6, D)
    S = attention.scores(x)
    for h in range(H):
        for i in range(6):
            for j in range(6):
                if S[0, h, i, j].isfinite():
                    M = attention.to_dense(h, i - j)
                    assert_close(S[:, h, i, j], attention.scale * torch.einsum("bd, de, be -> b", x[:, i], M, x[:, j]))
    assert (attention.to_dense(0, 0) - attention.to_dense(0, 3)).abs().max() > 1e-2
    assert_close(attention.to_dense(0), attention.query.weight[: D // H].T @ attention.key.weight[: D // H])


@pytest.mark.parametrize(("plain", "turned"), [("standard", "standard, rotary"), ("swa", "swa, rotary")])
def test_it_adds_no_parameter_and_changes_what_is_not_at_distance_zero(plain, turned):
    first, second, x = layer(plain), layer(turned), randn(2, 9, D)
    second.load_state_dict(first.state_dict())
    a, b = first.scores(x), second.scores(x)
    assert_close(a.diagonal(dim1=-2, dim2=-1), b.diagonal(dim1=-2, dim2=-1))
    assert (a - b)[..., 5, 4].abs().max() > 1e-3
    assert sa.attention_cost(first, 9) == sa.attention_cost(second, 9)


@pytest.mark.parametrize("start", [7, torch.tensor([7, 3])])
def test_tokens_may_begin_anywhere(start):
    attention, x = layer("standard, rotary"), randn(2, 5, D)
    q, _ = attention.placed_queries_keys(x, start)
    first = start if isinstance(start, torch.Tensor) else torch.tensor([start] * 2)
    for row, before in enumerate(first.tolist()):
        padded = torch.cat([randn(1, before, D), x[row : row + 1]], dim=1)
        assert_close(q[row], attention.placed_queries_keys(padded)[0][0, :, before:])


def test_every_level_turns_by_itself():
    """The features of a level are rotated as a head of their size would be: the finest level alone shows it."""
    attention, x = layer("mlr, rotary", qk_norm=False), randn(1, CONTEXT, D)
    q, k = attention.placed_queries_keys(x)
    plain_q, plain_k = attention.queries_keys(x)
    position = torch.arange(CONTEXT)
    for level in (slice(0, 2), slice(2, 4)):
        assert_close(q[..., level], rotate(plain_q[..., level], position))
        assert_close(k[..., level], rotate(plain_k[..., level], position))


@each_rotary
def test_same_tokens_elsewhere_are_scored_alike_where_blocks_are_alike(kind):
    attention, x = layer(kind), randn(1, 8, D)
    if kind.startswith("mlr"):  # a shift by half the context keeps the finest blocks whole, and level 1 is everywhere
        moved, shift = torch.cat([randn(1, CONTEXT // 2, D), x], 1), CONTEXT // 2
    else:
        moved, shift = torch.cat([randn(1, 3, D), x], 1), 3
    assert_close(attention.scores(moved)[..., shift:, shift:], attention.scores(x))
