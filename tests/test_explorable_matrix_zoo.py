# ruff: noqa: E501, F811 (the JavaScript; fixtures by import)
"""MatrixZoo: its members, their costs and singular values, held against the package and torch."""

import pytest
import site_checks
import torch
from drawing import F64, assert_close
from explorable_page import browser, js, picture, shown  # noqa: F401 (fixtures)

import structattn_minimal as sa
from structattn_minimal.viz.explorables import MatrixZoo
from structattn_minimal.viz.explorables.matrix_zoo import SETTINGS

WIDTHS = (16, 64)
EVERY = [
    (family, d, dial)
    for family, settings in SETTINGS.items()
    for i, d in enumerate(WIDTHS)
    for dial in range(settings[i])
]


def package(js, family, d, dial):
    """The same member, from the package, and its size as the dial says it."""
    size = js("matrix_zoo", "(c, [family, d, dial]) => c.sizesOf(family, d)[dial]", [family, d, dial])
    side = int(d**0.5)
    makers = {
        "low rank": lambda: sa.LowRank(d, d, size, **F64),
        "Kronecker": lambda: sa.Kronecker((size, d // size), (size, d // size), **F64),
        "Monarch": lambda: sa.Monarch(d, size, **F64),
        "butterfly": lambda: sa.Butterfly(d, **F64),
        "BTT": lambda: sa.BTT((side, side), (side, side), rank=size, **F64),
        "MLR": lambda: sa.MLR(d, d, tuple(js("matrix_zoo", "(c, [d, size]) => c.mlrRanks(d, size)", [d, size])), **F64),
    }
    return makers[family](), size


def test_the_python_face_knows_every_dial(js):
    for i, d in enumerate(WIDTHS):
        found = js("matrix_zoo", "(c, d) => c.FAMILIES.map((f) => [f, c.sizesOf(f, d).length])", d)
        assert dict(found) == {family: settings[i] for family, settings in SETTINGS.items()}


@pytest.mark.parametrize(("family", "d", "dial"), EVERY)
def test_costs_are_the_package_s(js, family, d, dial):
    M, size = package(js, family, d, dial)
    found = js("matrix_zoo", "(c, [family, d, size]) => c.facts(family, d, size)", [family, d, size])
    assert found == {"params": M.num_params, "macs": M.macs, "rank": M.max_rank}


@pytest.mark.parametrize(("family", "d", "dial"), EVERY)
def test_members_and_their_singular_values(js, family, d, dial):
    M, size = package(js, family, d, dial)
    found = js(
        "matrix_zoo",
        """(c, [family, d, size]) => {
            const factors = c.draw(family, d, size, 5);
            const dense = c.dense(family, d, size, factors);
            const values = c.singularValues(dense);
            return { factors, dense, values, rank: c.numericalRank(values) };
        }""",
        [family, d, size],
    )
    with torch.no_grad():
        for parameter, factor in zip(M.parameters(), found["factors"], strict=True):
            parameter.copy_(torch.tensor(factor, **F64).reshape(parameter.shape))
    dense = torch.tensor(found["dense"], **F64)
    assert_close(dense, M.to_dense())
    expected = torch.linalg.svdvals(dense)
    assert_close(torch.tensor(found["values"], **F64) / expected[0], expected / expected[0])
    assert found["rank"] == M.max_rank == torch.linalg.matrix_rank(dense, rtol=1e-11)


def test_factors_are_drawn_as_the_package_draws(js):
    """Rows of squared length one on average, for every member."""
    for family, d, dial in EVERY:
        if d == 16:
            _, size = package(js, family, d, dial)
            draws = js("matrix_zoo", "(c, [f, d, size]) => Array.from({ length: 300 }, (_, seed) => c.dense(f, d, size, c.draw(f, d, size, seed)).flat().reduce((sum, x) => sum + x * x, 0) / d)", [family, d, size])  # fmt: skip
            draws = torch.tensor(draws, **F64)
            assert abs(draws.mean() - 1) < 5 * draws.std() / len(draws) ** 0.5


def test_a_point_opens_its_member_by_mouse_and_by_keyboard(shown):
    page = shown(MatrixZoo(family="low rank", dial=3))
    member = page.get_by_role("slider", name="member of the zoo")
    words = page.locator(".sx-words")
    assert words.inner_text().startswith("Low rank at D = 64")
    member.press("ArrowRight")
    picture(page)
    assert "rank 16 of 64" in words.inner_text()
    member.press("ArrowDown")
    picture(page)
    assert words.inner_text().startswith("Kronecker")
    box = page.locator(".sx-plot").nth(1).bounding_box()
    page.mouse.click(box["x"] + 0.05 * box["width"] + 8, box["y"] + 0.8 * box["height"])  # lower left: rank one
    picture(page)
    assert "rank 1 of 64" in words.inner_text()


def test_members_at_one_point_open_in_turn(shown):
    page = shown(MatrixZoo(family="Monarch", dial=2))  # lies where BTT of rank 1 does
    page.get_by_role("slider", name="member of the zoo").click()
    picture(page)
    assert page.locator(".sx-words").inner_text().startswith("BTT")
    for family in ("Kronecker", "Monarch", "BTT"):  # the Kronecker product of 32 and 2 is four parameters larger
        page.get_by_role("slider", name="member of the zoo").press("Enter")
        picture(page)
        assert page.locator(".sx-words").inner_text().startswith(family)


def test_the_dial_follows_the_family_and_the_width(shown):
    page = shown(MatrixZoo(family="low rank", dial=6))
    page.get_by_role("radio", name="16").press("Space")
    picture(page)
    assert "rank 16 of 16" in page.locator(".sx-words").inner_text()
    page.get_by_role("radio", name="butterfly").press("Space")
    picture(page)
    assert page.locator(".sx-words").inner_text().startswith("Butterfly at D = 16: 4 sparse factors")
    assert page.locator("input[type=range]").first.is_disabled()


@pytest.mark.parametrize("family", SETTINGS)
def test_every_family_is_shown(shown, family):
    page = shown(MatrixZoo(family=family, dial=0), width=390)
    assert site_checks.overflow(page) == []
    assert page.locator(".sx-words").inner_text().lower().startswith(family.lower())
