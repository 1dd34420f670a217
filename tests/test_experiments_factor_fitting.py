"""Chapter 6: fitting MLR matrices, dividing ranks among levels, and what the levels say about blocks."""

import pytest
import torch
from drawing import F64, assert_close, randn
from hypothesis import given
from hypothesis import strategies as st

import structattn_minimal as sa
from structattn_minimal.experiments import factor_fitting as fitting
from structattn_minimal.partition import halving_block_sizes, shared_levels

some_ranks = st.lists(st.integers(0, 3), min_size=1, max_size=4)


def truncated(matrix, rank):
    u, sigma, vh = torch.linalg.svd(matrix)
    return u[:, :rank] * sigma[:rank] @ vh[:rank]


def dense(factors):
    return sum(fitting.level_to_dense(*level) for level in factors)


@given(ranks=some_ranks, rows=st.integers(1, 3), columns=st.integers(1, 3))
def test_the_error_never_grows(ranks, rows, columns):
    target = randn(8 * rows, 8 * columns)
    errors = []
    factors = fitting.fit_factors(target, ranks, sweeps=4, report=lambda level, error: errors.append(error))
    assert len(errors) == 4 * len(ranks)
    for before, after in zip([target.norm().item(), *errors], errors, strict=False):
        assert after <= before + 1e-12
    assert errors[-1] == pytest.approx((target - dense(factors)).norm().item(), abs=1e-10)


@given(ranks=st.lists(st.integers(1, 3), min_size=1, max_size=4))
def test_a_step_is_the_best_its_level_can_do(ranks):
    """After one sweep the last level stands at the truncated SVDs of what the others leave, block by block."""
    target = randn(16, 16)
    fitted = fitting.fit_levels(target, ranks, sweeps=1)
    *others, (left, right) = zip(fitted.left, fitted.right, strict=True)
    rest = target - sum((fitting.level_to_dense(*level) for level in others), torch.zeros(16, 16, **F64))
    size = 16 // len(left)
    for k in range(len(left)):
        block = slice(k * size, (k + 1) * size)
        assert_close(left[k] @ right[k].mT, truncated(rest[block, block], ranks[-1]), tolerance=1e-10)


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_one_level_is_the_best_low_rank_matrix(rank):
    target = randn(8, 12)
    fitted = fitting.fit_levels(target, (rank,))
    assert_close(fitted.to_dense(), truncated(target, rank), tolerance=1e-10)
    error = (target - fitted.to_dense()).norm() / target.norm()
    assert error.item() == pytest.approx(fitting.low_rank_error(target, rank), abs=1e-12)


def test_the_finest_level_alone_is_an_svd_of_each_block():
    target = randn(16, 8)
    factors = fitting.fit_factors(target, (0, 0, 1))
    blocks = [truncated(target[4 * k : 4 * k + 4, 2 * k : 2 * k + 2], 1) for k in range(4)]
    assert_close(dense(factors), torch.block_diag(*blocks), tolerance=1e-10)


def test_a_rank_beyond_its_block_wastes_storage_and_nothing_else():
    target = randn(8, 8)
    fitted = fitting.fit_levels(target, (1, 1, 5))
    assert fitted.num_params == 7 * 16
    assert_close(fitting.diagonal_blocks(fitted.to_dense(), 4), fitting.diagonal_blocks(target, 4), tolerance=1e-10)


@pytest.mark.parametrize("ranks", [(3,), (2, 1), (2, 1, 1), (1, 1, 1, 1), (4, 2, 2)])
def test_a_drawn_member_is_found_again(ranks):
    target = sa.MLR(64, 64, ranks, **F64).to_dense().detach()
    errors = [fitting.error_of(target, fitting.fit_factors(target, ranks, sweeps=sweeps)) for sweeps in (1, 400)]
    assert errors[1] < 1e-4
    assert errors[1] < errors[0] or len(ranks) == 1


@given(ranks=some_ranks)
def test_reordering_within_the_finest_blocks_changes_nothing(ranks):
    target, p = randn(16, 16), 2 ** (len(ranks) - 1)
    order = torch.cat([k * (16 // p) + torch.randperm(16 // p) for k in range(p)])
    there = dense(fitting.fit_factors(target, ranks, sweeps=2))[order][:, order]
    assert_close(dense(fitting.fit_factors(target[order][:, order], ranks, sweeps=2)), there, tolerance=1e-8)


@pytest.mark.parametrize(
    ("target", "ranks", "name"),
    [
        (randn(12, 12), (1, 1, 1, 1), "rows"),
        (randn(8, 12), (1, 1, 1, 1), "columns"),
        (randn(8), (1,), "target"),
        (torch.ones(8, 8, dtype=torch.int64), (1,), "target"),
        (torch.full((8, 8), torch.nan), (1,), "target"),
        (randn(8, 8), (1, 0), "ranks"),
        (randn(8, 8), (1, -1), "ranks"),
        (randn(8, 8), (1.5,), "ranks"),
        (randn(8, 8), (), "ranks"),
        (randn(8, 8), "11", "ranks"),
    ],
)
def test_what_cannot_be_fitted_is_refused_by_name(target, ranks, name, unchecked):
    with pytest.raises(ValueError, match=name):
        fitting.fit_levels(target, ranks)


def test_other_arguments_are_refused_by_name(unchecked):
    for name, call in {
        "sweeps": lambda: fitting.fit_levels(randn(8, 8), (1,), sweeps=0),
        "budget": lambda: fitting.allocate(randn(8, 8), 2, 3),
        "least": lambda: fitting.allocate(randn(8, 8), 4, 3, least=-1),
        "n_levels": lambda: fitting.allocate(randn(8, 8), 4, 0),
        "u must": lambda: fitting.semiseparable_levels(randn(6, 1), randn(6, 1), randn(6)),
        "v must": lambda: fitting.semiseparable_levels(randn(8, 1), randn(8, 2), randn(8)),
        "diagonal": lambda: fitting.semiseparable_levels(randn(8, 1), randn(8, 1), randn(4)),
        "level": lambda: fitting.sibling_blocks(randn(8, 8), 0),
    }.items():
        with pytest.raises(ValueError, match=name):
            call()


# what a rank more is worth, and the exchange


@given(ranks=st.lists(st.integers(0, 2), min_size=2, max_size=3))
def test_gains_and_losses_are_what_a_changed_rank_changes(ranks):
    target = randn(16, 16)
    factors = fitting.fit_factors(target, ranks, sweeps=2)
    changes = fitting.gains_and_losses(target, ranks, factors)
    for level, rank in enumerate(ranks):
        others = target - (dense(factors) - fitting.level_to_dense(*factors[level]))

        def squared_error(rank, others=others, level=level):
            best = fitting.best_factors(fitting.diagonal_blocks(others, 2**level), rank)
            return (others - fitting.level_to_dense(*best)).square().sum().item()

        gain, loss = changes[level]
        assert gain == pytest.approx(squared_error(rank) - squared_error(rank + 1), abs=1e-9)
        assert loss == pytest.approx(squared_error(rank - 1) - squared_error(rank) if rank else float("inf"), abs=1e-9)


@pytest.mark.parametrize("least", [0, 1])
def test_an_allocation_spends_the_budget_and_no_exchange_helps(least):
    for target in fitting.kernels(32, **F64).values():
        ranks = fitting.allocate(target, 8, 5, least=least, sweeps=4)
        assert sum(ranks) == 8
        assert min(ranks) >= least
        best = fitting.error_of(target, fitting.fit_factors(target, ranks, sweeps=4))
        assert best <= fitting.error_of(target, fitting.fit_factors(target, (2, 2, 2, 1, 1), sweeps=4)) + 1e-12
        for giver in range(5):
            for taker in range(5):
                if giver != taker and ranks[giver] > least:
                    tried = [rank + (level == taker) - (level == giver) for level, rank in enumerate(ranks)]
                    assert fitting.error_of(target, fitting.fit_factors(target, tried, sweeps=4)) > best * (1 - 1e-8)


def test_a_low_rank_target_gets_all_its_rank_on_the_first_level():
    assert fitting.allocate(randn(16, 6) @ randn(6, 16), 6, 3, least=0) == (6, 0, 0)
    assert fitting.allocate(torch.block_diag(randn(8, 8), randn(8, 8)), 8, 2, least=0) == (0, 8)


# blocks


@given(ranks=st.lists(st.integers(1, 3), min_size=2, max_size=4))
def test_sibling_blocks_have_the_rank_of_the_levels_they_share(ranks):
    M = sa.MLR(32, 32, tuple(ranks), **F64).to_dense().detach()
    for level in range(1, len(ranks)):
        most = min(32 >> level, sum(ranks[:level]))
        assert torch.linalg.matrix_rank(fitting.sibling_blocks(M, level)).unique().tolist() == [most]


def test_sibling_blocks_hold_the_pairs_that_share_so_many_levels():
    shared = shared_levels(16, halving_block_sizes(16, 4)).double()
    for level in (1, 2, 3):
        blocks = fitting.sibling_blocks(shared, level)
        assert blocks.unique().tolist() == [level]
        assert blocks.numel() == (shared == level).sum()


@given(ranks=st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_an_entry_sums_over_the_levels_that_its_row_and_column_share(ranks):
    M = sa.MLR(16, 16, tuple(ranks), **F64)
    shared = shared_levels(16, halving_block_sizes(16, len(ranks)))
    u = [left.flatten(0, 1) for left in M.left]  # (D, r_l): row m's own features
    v = [right.flatten(0, 1) for right in M.right]
    entries = [[sum(u[l][m] @ v[l][n] for l in range(shared[m, n])) for n in range(16)] for m in range(16)]
    assert_close(M.to_dense(), torch.stack([torch.stack(row) for row in entries]))


@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 1), (16, 1), (32, 2)])
def test_a_semiseparable_matrix_is_mlr_with_its_rank_on_every_level(n, k):
    u, v, diagonal = randn(n, k), randn(n, k), randn(n)
    want = torch.tensor([[(u[min(i, j)] @ v[max(i, j)]).item() if i != j else diagonal[i].item()
                          for j in range(n)] for i in range(n)], **F64)  # fmt: skip
    assert_close(fitting.semiseparable(u, v, diagonal), want)
    exact = fitting.semiseparable_levels(u, v, diagonal)
    assert exact.ranks == (k,) * n.bit_length()
    assert_close(exact.to_dense(), want, tolerance=1e-11)


def test_two_kernels_are_semiseparable():
    kernels = fitting.kernels(32, **F64)
    i = torch.arange(32, **F64)[:, None]
    grow = ((i - 15.5) / 4).exp()
    made = fitting.semiseparable(grow, 1 / grow, torch.ones(32, **F64))
    assert_close(made, kernels["exponential"])
    inverse = kernels["inverse Laplacian"]
    assert_close(fitting.semiseparable(i + 1, 1 - (i + 1) / 33, inverse.diagonal()), inverse)
    step = torch.diag(torch.ones(31, **F64), 1)
    laplacian = 2 * torch.eye(32, **F64) - step - step.T
    assert_close(inverse @ laplacian, torch.eye(32, **F64), tolerance=1e-10)
