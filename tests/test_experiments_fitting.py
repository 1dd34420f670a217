"""Fits of structured matrices: the optimiser against closed forms, and the closed forms against other constructions."""

import numpy as np
import pytest
import torch
from drawing import F64, assert_close, randn

import structattn_minimal as sa
from structattn_minimal.experiments import fitting

D = 16
CLOSED = ("low rank", "Kronecker", "Monarch", "BTT")
each_target = pytest.mark.parametrize("target", fitting.targets(D))


def best_of_rank(target, rank):
    squares = torch.linalg.svdvals(target).square()
    return (squares[rank:].sum() / squares.sum()).item()


@each_target
@pytest.mark.parametrize("family", CLOSED)
def test_the_optimiser_reaches_the_closed_form(family, target):
    T, make = fitting.targets(D)[target], fitting.members(D)[family]
    errors = fitting.fits(make, T, range(2))
    assert errors[0] == pytest.approx(fitting.best_error(make(), T), rel=1e-5, abs=1e-9)


@each_target
@pytest.mark.parametrize("family", fitting.NAMES)
def test_no_fit_is_better_than_its_rank_allows(family, target):
    T, make = fitting.targets(D)[target], fitting.members(D)[family]
    assert fitting.fits(make, T, [0], steps=100)[0] >= best_of_rank(T, make().max_rank) - 1e-12


@pytest.mark.parametrize("family", fitting.NAMES)
def test_a_member_is_recovered_by_its_own_family(family):
    make = fitting.members(D)[family]
    torch.manual_seed(3)
    T = make().double().to_dense().detach()
    assert fitting.fits(make, T, range(4))[0] < 1e-4


def test_low_rank_is_eckart_and_young():
    T = randn(9, 7)
    assert fitting.best_error(sa.LowRank(9, 7, 3), T) == pytest.approx(best_of_rank(T, 3))


def test_kronecker_is_van_loan_s_rearrangement():
    a, b, c, d = 3, 2, 4, 5
    T = randn(a * b, c * d)
    blocks = torch.stack([T[i * b : (i + 1) * b, j * d : (j + 1) * d].flatten() for i in range(a) for j in range(c)])
    u, s, vh = torch.linalg.svd(blocks)
    nearest = np.kron(s[0] * u[:, 0].reshape(a, c), vh[0].reshape(b, d))
    error = (T - torch.from_numpy(nearest)).square().sum() / T.square().sum()
    assert fitting.best_error(sa.Kronecker((a, b), (c, d)), T) == pytest.approx(error.item())


@pytest.mark.parametrize("family", CLOSED)
def test_a_member_misses_nothing_of_itself(family):
    M = fitting.members(D)[family]().double()
    assert fitting.best_error(M, M.to_dense().detach()) < 1e-20


def test_slices_hold_every_entry_once():
    T = torch.arange(D * D, **F64).reshape(D, D)
    for family in CLOSED:
        slices, _ = fitting.rearranged(fitting.members(D)[family](), T)
        assert torch.equal(slices.flatten().sort().values, T.flatten())


def test_families_without_closed_form_say_so():
    with pytest.raises(ValueError, match="matrix must be LowRank"):
        fitting.best_error(sa.Butterfly(8), randn(8, 8))


@pytest.mark.parametrize("d", [16, 64])
def test_members_have_about_the_same_parameters(d):
    counts = {name: make().num_params for name, make in fitting.members(d).items()}
    assert list(counts) == list(fitting.NAMES)
    assert [counts[name] for name in ("low rank", "Monarch", "BTT", "MLR")] == [2 * d**1.5] * 4
    assert all(0.5 <= count / (2 * d**1.5) <= 1.01 for count in counts.values())
    if d == 64:
        assert (counts["Kronecker"], counts["butterfly"]) == (1028, 768)
    for bad in (32, 4, 36):
        with pytest.raises(ValueError, match="d must be 16, 64"):
            fitting.members(bad)


def test_targets_have_the_size_of_a_random_member():
    for d in (16, 64):
        for target in fitting.targets(d).values():
            assert_close(target.square().sum(), torch.tensor(float(d), **F64))
    found = fitting.targets(64)
    assert_close(found["permutation"] @ found["permutation"].T, torch.eye(64, **F64))
    near, far = found["local"][:8, :8].square().mean(), found["local"][:32, 32:].square().mean()
    assert 0.5 < near / far / 64 < 2  # an eighth of the size, three doublings away


def test_a_target_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="target must have the shape"):
        fitting.fit(sa.LowRank(4, 4, 1), randn(4, 5))


def test_fits_leave_the_global_generator_alone():
    T, before = torch.eye(4), torch.get_rng_state()
    fitting.fits(lambda: sa.LowRank(4, 4, 1), T, [0], steps=2)
    assert torch.equal(before, torch.get_rng_state())
