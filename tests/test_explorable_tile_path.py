# ruff: noqa: E501, F811 (the JavaScript; fixtures)
"""TilePath: phases, rectangles and counts are those of the package's partition; the tile is moved by hand and by key."""

import pytest
import site_checks
import torch
from explorable_page import browser, js, picture, shown  # noqa: F401 (fixtures)

import structattn_minimal as sa
from structattn_minimal.partition import halving_block_sizes, tiles
from structattn_minimal.viz.explorables import TilePath

PUBLISHED = (32, 8, 6, 4, 4, 4, 4, 2)
CASES = [  # tokens, ranks, tile: blocks finer than a tile, as large, coarser; one level; one tile
    (1024, PUBLISHED, 128),
    (1024, PUBLISHED, 16),
    (512, (3, 5, 1), 128),
    (512, (3, 5, 1), 32),
    (512, (16,), 64),
    (256, (7, 2, 9, 4), 256),
]


def setting(tokens, ranks, tile):
    return {"tokens": tokens, "ranks": list(ranks), "tile": tile}


def all_phases(js, tokens, ranks, tile):
    program = "(c, s) => Array.from({length: s.tokens / s.tile}, (_, row) => c.phases(s, row))"
    return js("tile_path", program, setting(tokens, ranks, tile))


@pytest.mark.parametrize("case", CASES)
def test_phases_are_the_segments_of_the_package(js, case):
    tokens, ranks, tile = case
    rows = tiles(tokens, halving_block_sizes(tokens, len(ranks)), causal=True, tile_size=tile)
    found = all_phases(js, *case)
    assert len(found) == len(rows)
    for phases, row in zip(found, rows, strict=True):
        *plain, diagonal = phases
        segments = [(s.shared, s.start, s.stop) for s in row.segments]
        level, start, stop = segments.pop()  # with the keys around the diagonal, which take masks
        if start < row.start:
            segments.append((level, start, row.start))
        assert [(p["level"], p["from"], p["to"]) for p in plain] == segments
        assert (diagonal["level"], diagonal["from"], diagonal["to"]) == (level, row.start, stop)
        assert [p["masked"] for p in phases] == [False] * len(plain) + [True]


def pairs_of(tokens, ranks):
    """Of each pair: the levels and the features that it shares, and a zero to count how often it is visited."""
    shared = sa.shared_levels(tokens, halving_block_sizes(tokens, len(ranks)))
    return shared, torch.tensor(ranks).cumsum(0)[shared - 1], torch.zeros_like(shared)


@pytest.mark.parametrize("case", CASES)
def test_a_phase_multiplies_the_features_that_its_pairs_share(js, case):
    tokens, ranks, tile = case
    _, width, visits = pairs_of(tokens, ranks)
    for row, phases in enumerate(all_phases(js, *case)):
        rows = slice(row * tile, (row + 1) * tile)
        for p in phases:
            pairs = width[rows, p["from"] : p["to"]]
            visits[rows, p["from"] : p["to"]] += 1
            assert (pairs <= p["width"]).all() if p["masked"] else (pairs == p["width"]).all()
            assert p["macs"] == p["width"] * pairs.numel()
    assert (visits <= 1).all()
    assert (visits[torch.ones(tokens, tokens).tril().bool()] == 1).all()


@pytest.mark.parametrize("case", CASES)
def test_rectangles_cover_the_causal_half_once(js, case):
    tokens, ranks, _ = case
    shared, width, visits = pairs_of(tokens, ranks)
    for r in js("tile_path", "(c, s) => c.rectangles(s)", setting(*case)):
        place = slice(*r["queries"]), slice(*r["keys"])
        visits[place] += 1
        if not r.get("diagonal"):
            assert (width[place] == r["width"]).all()
            assert (shared[place] == r["level"]).all()
            assert r["keys"][1] == r["queries"][0]
    assert (visits[torch.ones(tokens, tokens).tril().bool()] == 1).all()
    assert (visits <= 1).all()


def test_counts_of_the_whole_head(js):
    for case in CASES:
        tokens, ranks, tile = case
        phases = all_phases(js, *case)
        found = js("tile_path", "(c, s) => c.headMacs(s)", setting(*case))
        n = tokens // tile
        assert found == {
            "tiled": sum(p["macs"] for row in phases for p in row),
            "dense": tile**2 * n * (n + 1) // 2 * sum(ranks),
            "definition": tokens**2 * sum(ranks),
        }
        done = js("tile_path", "(c, s) => c.tileMacs(s, s.tokens / s.tile - 1, 1)", setting(*case))
        assert done == {"done": phases[-1][0]["macs"], "dense": tokens * tile * sum(ranks)}


def test_with_small_tiles_the_share_approaches_the_closed_form(js):
    """Half of T^2 E over half of T^2 r: what is left over is the tiles around the diagonal."""
    ranks = (16, 16, 16, 16)
    share = sum(r / 2**l for l, r in enumerate(ranks)) / 64
    for tile, slack in ((256, 0.01), (16, 0.001)):
        head = js("tile_path", "(c, s) => c.headMacs(s)", setting(2**16, ranks, tile))
        assert 0 < head["tiled"] / head["dense"] - share < slack


def words(page):
    return page.locator(".sx-words").inner_text().replace("\u00a0", " ")


def test_a_tile_walks_through_its_phases_by_button_and_key(shown):
    page = shown(TilePath())
    assert "Queries 896 to 1,023, phase 1 of 4, keys 0 to 511" in words(page)
    assert "shares level 1 with every key, and no other: plain attention over the first 32 features, no mask" in words(
        page
    )
    page.get_by_role("button", name="Next phase").click()
    picture(page)
    assert "phase 2 of 4, keys 512 to 767" in words(page)
    assert "the first 40 features" in words(page)
    handle = page.get_by_role("slider", name="the tile on the map")
    for _ in range(2):
        handle.press("ArrowRight")
    picture(page)
    assert "phase 4 of 4, keys 896 to 1,023: the tile around the diagonal, all 64 features" in words(page)
    assert "levels 5 to 8 where a pair does not share them" in words(page)
    handle.press("ArrowRight")
    picture(page)
    assert "Queries 0 to 127, phase 1 of 1" in words(page)
    assert page.get_by_role("button", name="Back").is_disabled()
    handle.press("ArrowDown")
    picture(page)
    assert "Queries 128 to 255, phase 1 of 2, keys 0 to 127" in words(page)
    handle.press("ArrowLeft")
    picture(page)
    assert "Queries 0 to 127" in words(page)


def test_a_press_on_the_map_chooses_the_tile_and_the_next_press_walks_on(shown):
    page = shown(TilePath())
    box = page.locator(".sx-plot").first.bounding_box()
    unit = (400 - 34) / 8 * box["width"] / 400
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 4 * box["width"] / 400 + 4.5 * unit)
    picture(page)
    assert "Queries 512 to 639, phase 1 of 2, keys 0 to 511" in words(page)
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 4 * box["width"] / 400 + 4.5 * unit)
    picture(page)
    assert "Queries 512 to 639, phase 2 of 2" in words(page)


def test_the_sums_it_states_are_those_of_all_tiles(shown):
    page = shown(TilePath(tokens=1024, ranks=[16, 16, 16, 16], tile=128, row=3, step=2))
    # 28 tiles below the diagonal: 16 of level 1 at 16 features, 8 of level 2 at 32, 4 of level 3 at 48; and 8 on it at 64
    share = (16 * 16 + 8 * 32 + 4 * 48 + 8 * 64) / (36 * 64)
    assert f"All tiles together: {100 * share:.0f} % of a dense kernel's" in words(page)
    assert f"{100 * share * 36 / 64:.0f} % of the definition's" in words(page)


def test_longer_sequences_and_fewer_levels_keep_the_tile_inside(shown):
    page = shown(TilePath())
    page.get_by_role("slider", name="Tokens").press("End")
    picture(page)
    assert "Queries 130,944 to 131,071, phase 1 of 9" in words(page)
    page.get_by_role("slider", name="Levels").press("Home")
    picture(page)
    assert "phase 1 of 2, keys 0 to 130,943: every query shares level 1" in words(page)
    page.get_by_role("slider", name="Tokens").press("Home")
    page.get_by_role("radio", name="256").check(force=True)
    picture(page)
    assert "Queries 0 to 255, phase 1 of 1" in words(page)


def test_the_longest_table_fits_a_narrow_phone(shown):
    page = shown(TilePath(tokens=2**17, row=1023, step=3), width=320)
    assert site_checks.overflow(page) == []
    assert page.locator("tbody tr").count() == 9
