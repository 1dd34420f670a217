# ruff: noqa: F811 (fixtures)
"""ThreeFloors: its counts are those of the package and of the tiles, and it names the floor that binds."""

import pytest
from explorable_page import browser, js, picture, shown  # noqa: F401 (fixtures)

import structattn_minimal as sa
from structattn_minimal.partition import halving_block_sizes, tiles
from structattn_minimal.viz.explorables import ThreeFloors

PUBLISHED = (32, 8, 6, 4, 4, 4, 4, 2)
LISTS = [PUBLISHED, (32, 16, 16), (5, 3), (64, 16, 16, 16, 16), (48,)]


def setting(tokens=1024, ranks=PUBLISHED, passes="forward", chip="H100", counted="pairs"):
    return {"tokens": tokens, "ranks": list(ranks), "passes": passes, "chip": chip, "counted": counted}


def floors(js, chosen):
    return js("three_floors", "(c, s) => [c.floors(s, 1), c.floors(s, c.share(s))]", chosen)


@pytest.mark.parametrize("ranks", LISTS)
@pytest.mark.parametrize("tokens", [256, 4096])
def test_products_are_those_that_the_package_counts(js, tokens, ranks):
    """Forward: scores and values of the causal half. Backward: scores again, dQ and dK; dO V^T and dV."""
    r, peak = sum(ranks), js("three_floors", "(c) => c.CHIPS.H100")
    layers = sa.StandardAttention(r, 1), sa.MLRAttention(r, 1, ranks=ranks, context=tokens)
    for n, layer in enumerate(layers):
        cost = sa.attention_cost(layer, tokens)
        scores, values = cost.score_macs / 2, cost.value_macs / 2
        for passes, macs in (("forward", scores + values), ("both", 4 * scores + 3 * values)):
            found = floors(js, setting(tokens, ranks, passes))[n]
            assert found["tensor"] == pytest.approx(1e6 * 2 * macs / peak["flops"])


@pytest.mark.parametrize("chip", ["H100", "A100"])
def test_exponentials_and_traffic_do_not_depend_on_the_structure(js, chip):
    peak = js("three_floors", "(c, chip) => c.CHIPS[chip]", chip)
    for passes, exps, tensors in (("forward", 1, 4), ("both", 2, 12)):
        for found in floors(js, setting(2048, PUBLISHED, passes, chip)):
            assert found["exp"] == pytest.approx(1e6 * exps * 2048**2 / 2 / peak["exps"])
            assert found["memory"] == pytest.approx(1e6 * tensors * 2048 * 64 * 2 / peak["bytes"])


@pytest.mark.parametrize("counted", ["sixteens", "powers"])
@pytest.mark.parametrize("ranks", LISTS)
@pytest.mark.parametrize("tokens", [256, 1024, 16384])
def test_the_share_with_tiles_is_that_of_the_package_s_tiles(js, tokens, ranks, counted):
    fit = {"sixteens": range(16, 129, 16), "powers": (16, 32, 64, 128)}[counted]
    done = dense = 0
    for tile in tiles(tokens, halving_block_sizes(tokens, len(ranks)), causal=True, tile_size=128):
        whole = next(n for n in fit if n >= sum(ranks))
        dense += tile.stop * whole
        for s in tile.segments:
            around = max(0, s.stop - max(s.start, tile.start))  # keys of the diagonal take all features
            width = next(n for n in fit if n >= sum(ranks[: s.shared]))
            done += around * whole + (s.stop - s.start - around) * width
    found = js("three_floors", "(c, s) => c.share(s)", setting(tokens, ranks, counted=counted))
    assert found == pytest.approx(done / dense)


def test_gains_are_of_the_highest_floor_and_of_the_sum(js):
    dense, mlr = {"tensor": 6, "exp": 5, "memory": 1}, {"tensor": 3, "exp": 5, "memory": 1}
    found = js("three_floors", "(c, [a, b]) => [c.gains(a, b), c.highest(a), c.highest(b)]", [dense, mlr])
    assert found == [{"overlapped": 6 / 5, "apart": 12 / 9}, "tensor", "exp"]


def words(page):
    picture(page)
    return page.locator(".sx-words").inner_text().replace("\u00a0", " ")


def test_at_1024_tokens_memory_binds_and_nothing_is_gained(shown):
    page = shown(ThreeFloors())
    assert "The highest floor is that of memory, for both." in words(page)
    assert "A kernel that overlaps all three gains at most 1.00 times" in words(page)
    assert words(page).startswith("60 % of the score MACs are left.")
    page.get_by_role("radio", name="tiles, 16s").check(force=True)
    assert words(page).startswith("69 % of the score MACs are left.")


def test_at_length_the_backward_pass_gains_what_its_products_say(shown):
    page = shown(ThreeFloors(tokens=2**14))
    assert "gains at most 1.01 times" in words(page)
    page.get_by_role("radio", name="with backward").check(force=True)
    assert "The highest floor is that of the tensor cores, for both." in words(page)
    assert f"gains at most {7 / (4 * sum(r / 2**l for l, r in enumerate(PUBLISHED)) / 64 + 3):.2f} times" in words(page)
