# ruff: noqa: E501, F811 (the JavaScript; fixtures)
"""The family of chapter 7 in the browser: its arithmetic held against `sa.MLBTC`, its ways from preset to preset."""

import pytest
import torch
from drawing import F64, assert_close
from explorable_page import browser, js, picture, shown  # noqa: F401 (fixtures)

import structattn_minimal as sa
from structattn_minimal.mlbtc import _permutation
from structattn_minimal.viz.explorables import FamilyMorph

SETTINGS = [
    [[1, 1, 1, 4]],
    [[1, 1, 1, 16]],
    [[4, 1, 1, 4]],
    [[1, 4, 4, 1]],
    [[1, 4, 4, 3]],
    [[1, 2, 8, 1]],
    [[1, 8, 2, 4]],
    [[2, 2, 4, 3]],
    [[4, 2, 2, 1]],
    [[16, 1, 1, 1]],
    [[1, 1, 16, 2]],
    [[1, 1, 1, 2], [2, 1, 1, 2], [4, 1, 1, 2]],
    [[1, 4, 2, 2], [8, 2, 1, 3]],
]
PRESETS = {
    "low rank": ([[1, 1, 1, 4]], "free"),
    "MLR": ([[1, 1, 1, 2], [2, 1, 1, 2], [4, 1, 1, 2]], "free"),
    "BTT": ([[1, 4, 4, 2]], "free"),
    "butterfly factor": ([[4, 2, 2, 1]], "identity"),
}


def package(levels, numbers) -> sa.MLBTC:
    """The package's matrix with the browser's numbers."""
    M = sa.MLBTC(16, 16, [sa.Level(*level) for level in levels], **F64)
    with torch.no_grad():
        for right, left, level in zip(M.right, M.left, numbers, strict=True):
            right.copy_(torch.tensor(level["R"], **F64).reshape(right.shape))
            left.copy_(torch.tensor(level["L"], **F64).reshape(left.shape))
    return M


def numbers_of(js, levels, fill="free", seed=3):
    return js("family_morph", "(c, [levels, seed, fill]) => c.numbers(levels, seed, fill)", [levels, seed, fill])


@pytest.mark.parametrize("fill", ["free", "equal", "identity"])
@pytest.mark.parametrize("levels", SETTINGS)
def test_the_form_is_that_of_the_package(js, levels, fill):
    M = package(levels, numbers_of(js, levels, fill))
    dense = js("family_morph", "(c, [levels, fill]) => c.dense(levels, 3, fill)", [levels, fill])
    assert_close(torch.tensor(dense, **F64), M.to_dense())
    found = js("family_morph", "(c, levels) => [c.params(levels), c.free(levels, 'free'), c.maxRank(levels)]", levels)
    assert found == [M.num_params, M.num_params, M.max_rank]


@pytest.mark.parametrize("levels", SETTINGS)
def test_the_four_matrices_drawn_multiply_to_the_form(js, levels):
    numbers = numbers_of(js, levels)
    total = torch.zeros(16, 16, **F64)
    for level, factors in zip(levels, numbers, strict=True):
        four = js("family_morph", "(c, [level, factors]) => c.matrices(level, factors)", [level, factors])
        product = torch.eye(16, **F64)
        for name in ("PL", "L", "PR", "R"):
            matrix = torch.zeros(four[name]["rows"], four[name]["columns"], **F64)
            for row, column, value in four[name]["entries"]:
                matrix[row, column] = value
            product = product @ matrix
        total += product
    assert_close(total, package(levels, numbers).to_dense())


@pytest.mark.parametrize("level", [levels[-1] for levels in SETTINGS])
def test_both_permutations_are_those_of_the_package(js, level):
    p, c, b, s = level
    found = js("family_morph", "(c, level) => c.permutations(level)", level)
    right, left = (torch.eye(len(found[side]), **F64)[found[side]] for side in ("right", "left"))
    assert_close(right, _permutation((p, c, b, s), (0, 2, 1, 3), like=right))
    assert_close(left, _permutation((p, b, 16 // (p * b)), (0, 2, 1), like=left))


def test_equal_blocks_make_a_kronecker_product_and_identities_a_butterfly_factor(js):
    (level,) = numbers_of(js, [[1, 4, 4, 1]], "equal")
    A = torch.tensor(level["L"], **F64).reshape(4, 4, 4)[0].T  # (b, c, a): the first, as (a, c)
    B = torch.tensor(level["R"], **F64).reshape(4, 4, 4)[0].T  # (c, d, b): the first, as (b, d)
    dense = js("family_morph", "(c) => c.dense([[1, 4, 4, 1]], 3, 'equal')")
    assert_close(torch.tensor(dense, **F64), torch.kron(A, B))
    assert js("family_morph", "(c) => c.free([[1, 4, 4, 1]], 'equal')") == sa.Kronecker((4, 4), (4, 4)).num_params
    butterfly = sa.Butterfly(16, **F64)
    pattern = butterfly.factor(1) != 0
    dense = js("family_morph", "(c) => c.dense([[4, 2, 2, 1]], 3, 'identity')")
    assert torch.equal(torch.tensor(dense) != 0, pattern)
    assert js("family_morph", "(c) => c.free([[4, 2, 2, 1]], 'identity')") == butterfly.num_params // 4


@pytest.mark.parametrize(
    ("levels", "fill", "names"),
    [
        ([[1, 1, 1, 4]], "free", ["a matrix of rank 4 at most", "MLR of one level", "one level of MLBTC"]),
        ([[4, 1, 1, 2]], "free", ["block diagonal, 4 blocks of rank 2 at most", "a level of MLR", "one level of MLBTC"]),
        ([[1, 4, 4, 1]], "free", ["a Monarch matrix of 4 blocks", "BTT of rank 1, (4, 4) × (4, 4)", "one level of MLBTC"]),
        ([[1, 2, 4, 1]], "free", ["BTT of rank 1, (4, 4) × (2, 8)", "one level of MLBTC"]),
        (
            [[1, 4, 4, 1]],
            "equal",
            ["a Kronecker product, (4 × 4) ⊗ (4 × 4)", "a Monarch matrix of 4 blocks", "BTT of rank 1, (4, 4) × (4, 4)", "one level of MLBTC"],
        ),
        ([[1, 4, 4, 2]], "free", ["BTT of rank 2, (4, 4) × (4, 4)", "one level of MLBTC"]),
        ([[4, 2, 2, 1]], "identity", ["butterfly factor B2", "4 BTT matrices of rank 1 along the diagonal", "one level of MLBTC"]),
        ([[1, 1, 1, 2], [2, 1, 1, 3]], "free", ["MLR with ranks 2 | 3", "MLBTC"]),
        ([[2, 1, 1, 2], [1, 1, 1, 3]], "free", ["a sum of block-diagonal matrices", "MLBTC"]),
        ([[1, 4, 4, 1], [1, 1, 1, 1]], "free", ["a sum of 2 BTT matrices", "MLBTC"]),
        ([[2, 4, 2, 1], [1, 1, 1, 1]], "free", ["MLBTC of 2 levels"]),
    ],
)  # fmt: skip
def test_the_families_that_hold_a_setting(js, levels, fill, names):
    assert js("family_morph", "(c, [levels, fill]) => c.families(levels, fill)", [levels, fill]) == names


def test_the_way_from_any_setting_to_any_other_is_legal_and_turns_one_dial_at_a_time(js):
    for start in SETTINGS:
        for end in SETTINGS:
            steps = js("family_morph", "(c, [from, to]) => c.path(from, to)", [start, end])
            for before, after in zip([start, *steps], steps, strict=False):
                FamilyMorph(levels=after)  # refuses what is not legal
                turned = sum(
                    x != y for old, new in zip(before, after, strict=False) for x, y in zip(old, new, strict=True)
                )
                assert turned + abs(len(after) - len(before)) == 1
            assert ([start, *steps])[-1] == end


def test_a_dial_goes_as_far_as_the_setting_stays_legal(js):
    for levels in SETTINGS:
        for level in levels:
            for dial in range(4):
                most = js("family_morph", "(c, [level, dial]) => c.highest(level, dial)", [level, dial])
                FamilyMorph(levels=[[*level[:dial], most, *level[dial + 1 :]]])
                assert most >= level[dial]


def test_a_universal_setting_has_the_dimension_of_all_matrices(js):
    for [level] in (levels for levels in SETTINGS if len(levels) == 1):
        p, c, b, s = level
        a, d = 16 // (p * b), 16 // (p * c)
        s = min(s, a, d)
        dimension = p * b * c * s * (a + d - s)
        assert js("family_morph", "(c, levels) => c.universal(levels)", [level]) == (dimension == 256)


@pytest.mark.parametrize("preset", PRESETS)
def test_with_less_motion_a_preset_is_reached_at_once(shown, preset):
    page = shown(FamilyMorph())
    button = page.get_by_role("button", name=preset, exact=True)
    button.click()
    picture(page)
    assert button.get_attribute("aria-pressed") == "true"


def test_with_motion_a_preset_is_reached_over_legal_settings(shown):
    page = shown(FamilyMorph(levels=[[1, 1, 1, 4]]), reduced_motion="no-preference")
    button = page.get_by_role("button", name="BTT", exact=True)
    button.click()
    picture(page)
    assert button.get_attribute("aria-pressed") == "false"
    page.wait_for_function(
        "() => document.querySelector('.sx-words').textContent.startsWith('M is BTT of rank 2, (4, 4)')"
    )
    assert button.get_attribute("aria-pressed") == "true"


def test_levels_come_and_go(shown):
    page = shown(FamilyMorph())
    add, remove = (page.get_by_role("button", name=name) for name in ("Add a level", "Remove it"))
    assert remove.is_disabled()
    add.click()
    picture(page)
    words = page.locator(".sx-words")
    assert words.inner_text().startswith("M is a sum of 2 BTT matrices")
    assert "Level 2 of 2" in words.inner_text()
    add.click()
    picture(page)
    assert add.is_disabled()
    remove.click()
    remove.click()
    picture(page)
    assert words.inner_text().startswith("M is a Monarch matrix of 4 blocks, hence BTT of rank 1")
