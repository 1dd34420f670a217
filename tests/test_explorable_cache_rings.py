# ruff: noqa: E501, F811 (the JavaScript; fixtures)
"""CacheRings: slots, valid keys and bytes are those of the package; tokens arrive by button, slider and by themselves."""

import pytest
import torch
from explorable_page import browser, js, picture, shown  # noqa: F401 (fixtures)

import structattn_minimal as sa
from structattn_minimal.cache import FUTURE, Ring
from structattn_minimal.partition import same_block
from structattn_minimal.viz.explorables import CacheRings

RANKS = [(8, 4, 2, 2), (3, 5, 1, 7)]


def setting(kind="mlr", tokens=32, ranks=RANKS[0], window=8):
    return {"kind": kind, "tokens": tokens, "ranks": list(ranks), "window": window}


def layer(kind, tokens, ranks, window):
    r = sum(ranks)
    return {
        "mlr": lambda: sa.MLRAttention(r, 1, ranks=ranks, context=tokens),
        "standard": lambda: sa.StandardAttention(r, 1),
        "swa": lambda: sa.SlidingWindowAttention(r, 1, window=window),
    }[kind]()


@pytest.mark.parametrize("kind", ["mlr", "standard", "swa"])
@pytest.mark.parametrize("tokens", [16, 64])
@pytest.mark.parametrize("ranks", RANKS)
def test_rings_and_costs_are_those_of_a_cache(js, kind, tokens, ranks):
    for window in (1, 5, tokens - 1):
        attention = layer(kind, tokens, ranks, window)
        cache = sa.AttentionCache(attention, 1, tokens)
        chosen = setting(kind, tokens, ranks, window)
        found = js("cache_rings", "(c, s) => c.rings(s)", chosen)
        held = [{"features": ring.buffer.shape[-1], "slots": ring.slots} for ring in [*cache.keys, cache.values]]
        assert found == {"keys": held[:-1], "values": held[-1]}
        costs = js("cache_rings", "(c, s) => c.costs(s)", chosen)
        assert costs["values"] == cache.values.buffer.numel()
        assert sum(costs.values()) == cache.elements == sa.attention_cost(attention, tokens).cached_elements


def test_the_table_scales_the_window_with_the_context(js):
    """At the context of the table, the costs of a layer of that context."""
    for kind in ("mlr", "standard", "swa"):
        found = js("cache_rings", "(c, s) => c.costs(c.scaled(s, 1024))", setting(kind, window=4))
        attention = layer(kind, 1024, RANKS[0], 128)
        assert sum(found.values()) == sa.attention_cost(attention, 1024).cached_elements


@pytest.mark.parametrize("slots", [1, 4, 9, 32])
def test_a_slot_holds_what_the_ring_of_the_package_holds(js, slots):
    ring = Ring(torch.zeros(1, 1, slots, 1))
    for arrived in range(33):
        positions = ring.positions(torch.tensor([arrived]))[0].tolist()
        expected = [None if position == FUTURE else position for position in positions]
        assert js("cache_rings", "(c, [slots, n]) => c.holds(slots, n)", [slots, arrived]) == expected


@pytest.mark.parametrize("kind", ["mlr", "standard", "swa"])
def test_a_slot_is_valid_where_the_newest_token_sees_its_key(js, kind):
    """Against the masks of the definition, for every level and every number of tokens."""
    chosen = setting(kind, window=5)
    cache = sa.AttentionCache(layer(kind, 32, RANKS[0], 5), 1, 32)
    program = "(c, s) => Array.from({length: 33}, (_, n) => c.rings(s).keys.map((ring) => c.seen(s, ring, n)))"
    for arrived, levels in enumerate(js("cache_rings", program, chosen)):
        for ring, found in zip(cache.keys, levels, strict=True):
            position = ring.positions(torch.tensor([arrived]))[0]
            newest = torch.tensor([arrived - 1])
            visible = position < FUTURE
            if kind == "mlr":
                visible &= same_block(newest, position, ring.slots)[0]
            if kind == "swa":
                visible &= newest - position <= 5
            assert found == visible.tolist()


def test_tokens_arrive_and_blocks_leave(shown):
    page = shown(CacheRings(arrived=16, follow=13))
    words = page.locator(".sx-words")
    assert "All levels of the key of token 13 can be used" in words.inner_text()
    assert "Token 15 went to slots 15, 15, 7, 3" in words.inner_text()
    page.get_by_role("button", name="Next token").click()
    picture(page)
    text = words.inner_text()
    assert "Token 16 went to slots 16, 0, 0, 0 of levels 1 to 4. A block begins at levels 2, 3, 4" in text
    assert "Of the key of token 13, level 1 can be used still; levels 2, 3, 4: their blocks are over" in text
    page.get_by_role("button", name="Back").click()
    picture(page)  # the slider follows the drawing
    page.get_by_role("slider", name="Tokens so far").press("ArrowLeft")
    picture(page)
    assert "Token 14 went to slots 14, 14, 6, 2" in words.inner_text()


def test_it_plays_to_the_end_and_stops_there(shown):
    page = shown(CacheRings(tokens=16, arrived=14, follow=3))
    page.get_by_role("button", name="Play").click()
    assert page.get_by_role("button", name="Pause").is_visible()
    page.wait_for_function("() => document.querySelector('.sx-words').textContent.includes('the decoder refuses it')")
    page.get_by_role("button", name="Play").wait_for()
    assert page.get_by_role("button", name="Next token").is_disabled()


def test_a_playing_explorable_can_be_paused(shown):
    page = shown(CacheRings(arrived=2, follow=0))
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("() => document.querySelector('.sx-words').textContent.startsWith('Token 2 went')")
    page.get_by_role("button", name="Pause").click()
    before = page.locator(".sx-words").inner_text()
    page.wait_for_timeout(1000)
    assert page.locator(".sx-words").inner_text() == before


def test_the_table_counts_keys_and_values_apart(shown):
    page = shown(CacheRings(kind="swa", arrived=20, follow=13))
    rows = page.locator(".sx-table tbody tr").all_inner_texts()
    assert [" ".join(row.split()) for row in rows] == [
        "MLR 21.5 32 53.5 KiB (84 %)",
        "standard 32 32 64 KiB (100 %)",
        "window of 256 8 8 16.1 KiB (25 %)",
    ]
    assert "The key of token 13 is held" in page.locator(".sx-words").inner_text()
    page.get_by_role("slider", name="Token to follow").press("Home")
    picture(page)
    assert "The key of token 0 has been overwritten, and so has its value" in page.locator(".sx-words").inner_text()
    page.get_by_role("radio", name="float32").check(force=True)
    picture(page)
    assert "128 KiB (100 %)" in page.locator(".sx-table tbody").inner_text()
