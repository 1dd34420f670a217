"""BTTSteps: every step and the whole against the package, in the browser; what the reader can do with it."""

import pytest
import torch
from drawing import F64, assert_close
from explorable_page import browser, js, picture, shown  # noqa: F401 (fixtures)

import structattn_minimal as sa
from structattn_minimal.viz.explorables import BTTSteps

GRIDS = {"4x4": (4, 4, 4, 4), "2x8": (2, 8, 2, 8), "8x2": (8, 2, 8, 2), "narrow": (8, 2, 2, 8)}
each_grid = pytest.mark.parametrize("grid", GRIDS)
each_rank = pytest.mark.parametrize("rank", [1, 2, 4])


def drawn(js, grid, rank, seed=3):  # noqa: F811
    """The module's numbers, and the package's BTT with the same ones."""
    one = js("btt_steps", "(c, given) => c.draw(...given)", [grid, rank, seed])
    a, b, c, d = GRIDS[grid]
    M = sa.BTT((a, b), (c, d), rank, **F64)
    with torch.no_grad():
        M.right.copy_(torch.tensor(one["right"], **F64).reshape(M.right.shape))
        M.left.copy_(torch.tensor(one["left"], **F64).reshape(M.left.shape))
    return one, M


@each_grid
@each_rank
def test_the_last_step_is_the_product_with_m(js, grid, rank):  # noqa: F811
    one, M = drawn(js, grid, rank)
    stages = [torch.tensor(stage, **F64) for stage in js("btt_steps", "(c, one) => c.stages(one)", one)]
    x = torch.tensor(one["x"], **F64)
    assert_close(stages[0], x)
    assert_close(stages[1], x)
    inner = torch.einsum("cd,cdbs->cbs", x.reshape(M.c, M.d), M.right)
    assert_close(stages[2], inner.flatten())
    assert_close(stages[3], inner.transpose(0, 1).flatten())
    assert_close(stages[4], torch.einsum("bcs,bcsa->ba", inner.transpose(0, 1), M.left).flatten())
    assert_close(stages[5], M(x))
    assert_close(torch.tensor(js("btt_steps", "(c, one) => c.dense(one)", one), **F64), M.to_dense())


@each_grid
@each_rank
def test_the_matrices_of_the_steps_multiply_to_m(js, grid, rank):  # noqa: F811
    one, M = drawn(js, grid, rank)
    product, width = torch.eye(16, **F64), 16
    for step in range(1, 6):
        entries = js("btt_steps", "(c, [one, step]) => c.entries(one, step)", [one, step])
        height = {2: M.b * M.c * rank, 3: M.b * M.c * rank}.get(step, 16)
        factor = torch.zeros(height, width, **F64)
        for row, column, value in entries:
            factor[row, column] = value
        if step in (1, 3, 5):
            assert_close(factor @ factor.T, torch.eye(height, **F64))
        parents = js("btt_steps", "(c, [one, step]) => c.parents(one, step, 1)", [one, step])
        assert sorted(parents) == factor[1].nonzero()[:, 0].tolist()
        product, width = factor @ product, height
    assert_close(product, M.to_dense())


@each_grid
@each_rank
def test_costs_are_the_packages(js, grid, rank):  # noqa: F811
    one, M = drawn(js, grid, rank)
    costs = js("btt_steps", "(c, one) => c.costs(one)", one)
    assert costs == {
        "params": M.num_params, "macs": M.macs, "inner": M.b * M.c * rank, "maxRank": M.max_rank,
    }  # fmt: skip
    assert BTTSteps(grid=grid, rank=rank, watch=0).inner == costs["inner"]


def test_it_is_stepped_through_and_starts_again(shown):  # noqa: F811
    page = shown(BTTSteps(step=0))
    said = []
    for _ in range(6):
        picture(page)
        said.append(page.locator(".sx-words").inner_text())
        page.locator("button.main").click()
    picture(page)
    assert [text[:9] for text in said] == [f"Step {step} of" for step in range(6)]
    assert page.locator(".sx-words").inner_text().startswith("Step 0 of 5")
    assert page.get_by_role("button", name="Back").is_disabled()


def test_the_watched_entry_lights_what_it_is_made_from(shown):  # noqa: F811
    page = shown(BTTSteps(step=3, watch=6))
    assert "was entry 9 before" in page.locator(".sx-words").inner_text()
    page.locator(".bt-cell").nth(1).hover()
    picture(page)
    assert "was entry 4 before" in page.locator(".sx-words").inner_text()
    page.get_by_role("slider", name="Step", exact=True).press("ArrowRight")  # the watched entry goes along
    picture(page)
    assert "made from 4 of 16 numbers: entries 0 to 3" in page.locator(".sx-words").inner_text()


def test_a_smaller_inner_vector_keeps_the_watched_entry_in_range(shown):  # noqa: F811
    page = shown(BTTSteps(rank=4, step=2, watch=63))
    page.get_by_role("slider", name="Rank").press("Home")
    picture(page)
    assert page.get_by_role("slider", name="Entry to watch").input_value() == "15"


@pytest.mark.parametrize(("motion", "moving"), [("no-preference", True), ("reduce", False)])
def test_cells_fly_only_where_motion_is_welcome(shown, motion, moving):  # noqa: F811
    page = shown(BTTSteps(step=2), reduced_motion=motion)
    page.locator("button.main").click()
    picture(page)
    flying = "() => document.getAnimations().some((one) => one.effect.target.matches('.bt-cell'))"
    assert page.evaluate(flying) == moving
