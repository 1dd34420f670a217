# ruff: noqa: E501, F811 (the JavaScript; fixtures)
"""PairExplorer: shared levels, ranks and costs are those of the package; the pair is chosen by hand and by key."""

import pytest
import torch
from explorable_page import browser, js, picture, shown  # noqa: F401 (fixtures)

import structattn_minimal as sa
from structattn_minimal.partition import halving_block_sizes
from structattn_minimal.viz.explorables import PairExplorer

RANKS = [(8, 4, 2, 2), (3, 5, 1, 7)]


def setting(kind="mlr", tokens=32, ranks=RANKS[0], window=8, shift=False):
    return {"kind": kind, "tokens": tokens, "ranks": list(ranks), "window": window, "shift": shift}


def table(js, function, chosen):
    program = f"(c, s) => Array.from({{length: s.tokens}}, (_, i) => Array.from({{length: i + 1}}, (_, j) => c.{function}(s, i, j)))"
    rows = js("pair_explorer", program, chosen)
    return torch.tensor([row + [0] * (chosen["tokens"] - len(row)) for row in rows])


@pytest.mark.parametrize("tokens", [16, 32, 64])
@pytest.mark.parametrize("shift", [False, True])
def test_levels_are_those_that_the_package_shares(js, tokens, shift):
    sizes = halving_block_sizes(tokens, 4)
    if shift:  # half a finest block of padding in front, and a first block that still holds everything
        offset = sizes[-1] // 2
        expected = sa.shared_levels(tokens + offset, (2 * tokens, *sizes[1:]))[offset:, offset:]
    else:
        expected = sa.shared_levels(tokens, sizes)
    assert torch.equal(table(js, "sharedLevels", setting(tokens=tokens, shift=shift)), expected.tril())


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("kind", ["mlr", "standard", "swa", "gswa"])
def test_effective_ranks(js, kind, ranks):
    position = torch.arange(32)
    r, near = sum(ranks), (position[:, None] - position <= 5).long()
    prefix = torch.tensor(ranks).cumsum(0)
    expected = {
        "mlr": prefix[sa.shared_levels(32, halving_block_sizes(32, 4)) - 1],
        "standard": torch.full((32, 32), r),
        "swa": r * near,
        "gswa": ranks[0] + (r - ranks[0]) * near,
    }[kind]
    assert torch.equal(table(js, "effectiveRank", setting(kind, ranks=ranks, window=5)), expected.tril())


@pytest.mark.parametrize("tokens", [16, 64])
@pytest.mark.parametrize("window", [1, 5, 63])
@pytest.mark.parametrize("ranks", RANKS)
def test_costs_are_those_of_the_package(js, tokens, window, ranks):
    r = sum(ranks)
    layers = {
        "mlr": sa.MLRAttention(r, 1, ranks=ranks, context=tokens),
        "standard": sa.StandardAttention(r, 1),
        "swa": sa.SlidingWindowAttention(r, 1, window=window),
        "gswa": sa.GlobalSlidingWindowAttention(r, 1, ranks=(ranks[0], r - ranks[0]), window=window),
    }
    for kind, layer in layers.items():
        cost = sa.attention_cost(layer, tokens)
        values = r * (min(tokens, window + 1) if kind == "swa" else tokens)
        found = js("pair_explorer", "(c, s) => c.costs(s)", setting(kind, tokens, ranks, window))
        assert found == {"scores": cost.score_macs, "keys": cost.cached_elements - values}


@pytest.mark.parametrize("ranks", RANKS)
def test_the_average_rank_at_a_distance_is_its_closed_form(js, ranks):
    tokens, sizes = 64, halving_block_sizes(64, 4)
    rank = torch.tensor(ranks).cumsum(0)[sa.shared_levels(tokens, sizes) - 1].double()
    shown_ = js(
        "pair_explorer",
        "(c, s) => Array.from({length: 64}, (_, d) => c.averageRank(s, d))",
        setting("mlr", tokens, ranks),
    )
    for d in range(tokens):
        closed = sum(r * max(0, tokens - 2**l * d) for l, r in enumerate(ranks)) / (tokens - d)
        assert rank.diagonal(-d).mean().item() == pytest.approx(closed)
        assert shown_[d] == pytest.approx(closed)


def test_it_opens_at_the_seam_and_arrow_keys_leave_it(shown):
    page = shown(PairExplorer())
    words = page.locator(".sx-words")
    assert "share level 1 alone" in words.inner_text()
    assert "this is the seam" in words.inner_text()
    pair = page.get_by_role("slider", name="the pair on the map")
    pair.press("ArrowUp")
    picture(page)
    assert "Query 15 and key 15, distance 0: they share levels 1 to 4" in words.inner_text()
    page.get_by_role("button", name="Go to the seam").click()
    page.get_by_role("button", name="Shift the blocks").click()
    picture(page)
    assert "Query 16 and key 15, distance 1: they share levels 1 to 4" in words.inner_text()


def test_the_pair_under_the_pointer_is_shown(shown):
    page = shown(PairExplorer(kind="swa"))
    box = page.locator(".sx-plot").first.bounding_box()
    unit = (400 - 38) / 32 * box["width"] / 400
    left, top = box["x"] + 34 * box["width"] / 400, box["y"] + 4 * box["height"] / 400
    page.mouse.move(left + 2.5 * unit, top + 30.5 * unit)
    picture(page)
    assert page.locator(".sx-words").inner_text().startswith("Query 30 and key 2, distance 28: outside the window")
