"""RankBudget: what the page computes, held against torch and the package, and what its controls do."""

import pytest
import torch
from drawing import F64, assert_close, randn
from explorable_page import browser, js, picture, shown  # noqa: F401 (fixtures)

from structattn_minimal.experiments import factor_fitting
from structattn_minimal.partition import halving_block_sizes, shared_levels
from structattn_minimal.viz.explorables import RankBudget

NAMES = {"exponential": "exponential", "distance": "1 / |i - j|", "gaussian": "Gaussian"}
RANKS = ([8, 0, 0, 0, 0], [2, 2, 2, 1, 1], [0, 0, 3, 0, 1], [0, 0, 0, 4, 12], [1, 1, 1, 1, 1])


def as_tensor(values):
    return torch.tensor(values, **F64)


def kernel(js, kind):  # noqa: F811
    return as_tensor(js("rank_budget", "(c, kind) => c.kernel(kind)", kind))


def test_kernels_are_the_package_s(js):  # noqa: F811
    ours = factor_fitting.kernels(32, **F64)
    for kind, name in NAMES.items():
        assert_close(kernel(js, kind), ours[name])
    order = js("rank_budget", "(c) => c.shuffle(32, 6)")
    assert sorted(order) == list(range(32))
    assert_close(kernel(js, "shuffled"), ours["exponential"][order][:, order])


@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (8, 8), (32, 32)])
def test_svd(js, shape):  # noqa: F811
    m, n = shape
    for matrix in (randn(m, n), randn(m, 1) @ randn(1, n), torch.zeros(m, n, **F64)):
        found = js(
            "rank_budget",
            "(c, A) => c.svd(A).map(({ sigma, left, right }) => [sigma, [...left], [...right]])",
            matrix.tolist(),
        )
        sigma, left, right = (as_tensor(list(part)) for part in zip(*found, strict=True))
        assert_close(sigma, torch.linalg.svdvals(matrix), tolerance=1e-10)
        assert_close(left.mT @ right, matrix, tolerance=1e-10)
        assert_close(right @ right.mT, torch.eye(n, **F64), tolerance=1e-10)


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("kind", [*NAMES, "shuffled"])
def test_the_fit_is_the_package_s(js, kind, ranks):  # noqa: F811
    target = kernel(js, kind)
    found = js(
        "rank_budget",
        "(c, [A, ranks]) => { const { fitted, error } = c.fit(A, ranks); return { fitted, error }; }",
        [target.tolist(), ranks],
    )
    factors = factor_fitting.fit_factors(target, ranks, sweeps=8)
    assert found["error"] == pytest.approx(factor_fitting.error_of(target, factors), abs=1e-8)
    assert_close(
        as_tensor(found["fitted"]), sum(factor_fitting.level_to_dense(*level) for level in factors), tolerance=1e-7
    )
    error = js("rank_budget", "(c, [A, rank]) => c.lowRankError(A, rank)", [target.tolist(), sum(ranks)])
    assert error == pytest.approx(factor_fitting.low_rank_error(target, sum(ranks)), abs=1e-10)


@pytest.mark.parametrize("kind", NAMES)
def test_an_exchange_is_the_package_s(js, kind):  # noqa: F811
    target, ranks = kernel(js, kind), (8, 0, 0, 0, 0)
    for _ in range(3):
        factors = factor_fitting.fit_factors(target, ranks, sweeps=8)
        better = factor_fitting._exchange(target, ranks, factors, factor_fitting.error_of(target, factors), 0, 8)
        expected = better and list(better[0])
        assert js("rank_budget", "(c, [A, ranks]) => c.exchange(A, ranks)", [target.tolist(), list(ranks)]) == expected
        if better is None:
            break
        ranks = better[0]


@pytest.mark.parametrize("ranks", RANKS)
def test_rank_and_features(js, ranks):  # noqa: F811
    member = as_tensor(js("rank_budget", "(c, ranks) => c.member(ranks, 3)", ranks))
    most = min(32, sum(2**level * rank for level, rank in enumerate(ranks)))
    assert torch.linalg.matrix_rank(member) == most
    assert js("rank_budget", "(c, A) => c.numericRank(A)", member.tolist()) == most
    assert js("rank_budget", "(c, ranks) => c.maxRank(ranks)", ranks) == most
    counts = as_tensor([0, *ranks]).cumsum(0)[shared_levels(32, halving_block_sizes(32, 5))]
    assert_close(as_tensor(js("rank_budget", "(c, ranks) => c.features(ranks)", ranks)), counts)


@pytest.mark.parametrize("budget", range(4, 13))
def test_presets_spend_the_budget(js, budget):  # noqa: F811
    presets = js("rank_budget", "(c, budget) => c.presets(budget)", budget)
    assert all(len(ranks) == 5 and sum(ranks) == budget for ranks in presets.values())
    if budget == 8:
        assert presets == {
            "all global": [8, 0, 0, 0, 0],
            "all local": [0, 0, 8, 0, 0],
            "even": [2, 2, 2, 1, 1],
            "like 16 | 8 | 4 | 4": [4, 2, 1, 1, 0],
        }


def test_presets_and_sliders_move_the_ranks(shown):  # noqa: F811
    page = shown(RankBudget())
    words = page.locator(".sx-words")
    assert words.inner_text().startswith("Ranks 8 | 0 | 0 | 0 | 0 spend 8 of 8. Such a matrix has rank up to 8 of 32")
    assert "about as much as low rank" in words.inner_text()
    page.get_by_role("button", name="even").click()
    picture(page)
    assert words.inner_text().startswith("Ranks 2 | 2 | 2 | 1 | 1 spend 8 of 8. Such a matrix has rank up to 32 of 32")
    page.get_by_role("slider", name="r3").press("ArrowRight")
    picture(page)
    assert "9 of 8, 1 over the budget" in page.locator(".rb-sum").inner_text()
    page.get_by_role("radio", name="random member").check()
    before = picture(page)
    page.get_by_role("button", name="Draw another").click()
    assert picture(page) != before


def test_exchanges_lead_to_where_none_helps(shown):  # noqa: F811
    page = shown(RankBudget())
    words = page.locator(".sx-words")
    for _ in range(20):
        page.get_by_role("button", name="Exchange one rank").click()
        picture(page)
        if "No exchange" in words.inner_text():
            break
    assert "No exchange of one rank between two levels helps" in words.inner_text()
    assert "less than low rank" in words.inner_text()
    assert "spend 8 of 8" in words.inner_text()
