# ruff: noqa: F811 (fixtures)
"""HeadBrowser: what it draws are the maps and measures of the models that it is given."""

import json

import pytest
import torch
from explorable_page import browser, js, picture, shown  # noqa: F401 (fixtures)

from structattn_minimal.experiments import inspection, text
from structattn_minimal.transformer import GPT, GPTConfig
from structattn_minimal.viz.explorables import HeadBrowser
from structattn_minimal.viz.explorables.head_browser import EDGES, TOKENS, look_into, spelled

LARGEST = 500_000  # bytes that the page may carry for it


@pytest.fixture(scope="module")
def planted():
    """A model of one MLR layer with two heads, and tokens; all weights are drawn at random."""
    options = {"ranks": (4, 2, 2)}
    torch.manual_seed(1)
    model = GPT(GPTConfig(1, 2, 16, 256, vocab_size=96, attention="mlr", attention_options=options))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return model, torch.randint(96, (2, 256))


def test_rows_of_a_spelled_map_are_its_weights(js, planted):
    model, tokens = planted
    inside = look_into({"mlr": model}, tokens, "a" * TOKENS)
    x = text.layer_inputs(model, tokens[:1, :TOKENS])[0]
    weights = inspection.attention_map(model.blocks[0].attention, x)[0]
    for head in range(2):
        spelled_map = inside["models"]["mlr"][0][head]["map"]
        assert len(spelled_map) == TOKENS * (TOKENS + 1) // 2
        for i in (0, 1, 63, 64, 127):
            found = torch.tensor(js("head_browser", "(c, [map, i]) => c.row(map, i)", [spelled_map, i]))
            assert found.shape == (i + 1,)
            assert (found.sqrt() - weights[head, i, : i + 1].sqrt()).abs().max() <= 0.5 / 63 + 1e-6


def test_measures_are_those_of_each_head(planted):
    model, tokens = planted
    heads = look_into({"mlr": model}, tokens, "a" * TOKENS)["models"]["mlr"][0]
    attention, x = model.blocks[0].attention, text.layer_inputs(model, tokens)[0]
    weights = inspection.attention_map(attention, x)
    expected = {
        "rank": inspection.score_rank(attention, x[:4]),
        "form_rank": inspection.effective_rank(inspection.forms(attention)),
        "mass": inspection.distance_mass(weights, (*EDGES, 256), 128),
        "energy": inspection.level_energy(attention, x),
        "use": inspection.level_use(attention, x),
        "distance": inspection.mean_distance(weights, 128),
    }
    for name, values in expected.items():
        found = torch.tensor([head[name] for head in heads])
        assert found.shape == values.shape
        assert (found - values).abs().max() <= 0.0006
    spectra = inspection.spectrum(attention)
    for head, sigma in zip(heads, spectra, strict=True):
        assert len(head["spectrum"]) == 7  # 8 features a head, and QK-norm takes one direction
        assert (torch.tensor(head["spectrum"]) - sigma[:7] / sigma[0]).abs().max() <= 0.0006


def test_models_that_read_vectors_have_names_for_tokens_and_shorter_bins(shown):
    config = GPTConfig(2, 2, 16, 12, d_in=3, d_out=1, attention="btt")
    names = [f"{kind}{i}" for i in range(1, 5) for kind in "xy"]
    inside = look_into({"a": GPT(config), "b": GPT(config)}, torch.randn(3, 12, 3), names, {"b": "the other"})
    assert inside["labels"] == [["a", "a"], ["b", "the other"]]
    assert inside["edges"] == [0, 1, 2, 4, 12]
    page = shown(HeadBrowser(inside=inside))
    assert words(page).startswith("a, layer 1, head 1: on average it looks")
    assert "Here the query at 4, “x3”, looks most at" in words(page)
    page.get_by_role("radio", name="the other").check(force=True)
    page.get_by_role("slider", name="the query on the map").press("ArrowDown")
    assert words(page).startswith("the other, layer 1, head 1")
    assert "Here the query at 5, “y3”" in words(page)
    assert page.get_by_role("img", name="The prompt: x1 y1 x2 y2").count() == 1


def test_the_page_carries_little_and_names_what_it_shows():
    state = HeadBrowser().state
    assert len(json.dumps(state)) < LARGEST / 2  # the widget may travel beside the page's own state
    assert state["inside"]["labels"] == [["standard", "standard"], ["mlr", "MLR attention"]]
    assert len(state["inside"]["tokens"]) == TOKENS


def test_digits_spell_the_roots_of_weights():
    assert spelled(torch.tensor([0.0, 1.0, (31 / 63) ** 2])) == "A_f"


def test_runs_cover_each_pair_that_is_not_blank_once(js):
    weights = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0], [0, 0.04, 0.96]])
    spelled_map = "".join(spelled(row[: i + 1]) for i, row in enumerate(weights))
    runs = js("head_browser", "(c, map) => c.runs(map, 3)", spelled_map)
    drawn = torch.zeros(3, 3)
    for shade, i, start, stop in runs:
        drawn[i, start:stop] += shade / 15
    assert (drawn - weights.sqrt()).abs().max() < 0.05


def test_bins_have_names_and_favourites_an_order(js):
    assert js("head_browser", "(c, edges) => c.binNames(edges)", [0, 1, 2, 4, 16]) == ["0", "1", "2–3", "4–15"]
    assert js("head_browser", "(c, w) => c.favourites(w, 2)", [0.1, 0.6, 0.3]) == [1, 2]


def words(page):
    picture(page)
    return page.locator(".sx-words").inner_text().replace("\u00a0", " ")


def test_a_head_is_chosen_and_a_query_moved(shown):
    page = shown(HeadBrowser())
    assert words(page).startswith("standard, layer 1, head 1: on average it looks")
    assert "level" not in words(page)
    assert "The effective rank of its scores is" in words(page)
    page.get_by_role("radio", name="MLR attention").check(force=True)
    page.get_by_role("group", name="Layer", exact=True).get_by_role("radio", name="3").check(force=True)
    assert words(page).startswith("MLR attention, layer 3, head 1:")
    assert "Its loudest level is 1; taking out level 4 would move the most attention." in words(page)
    page.get_by_role("slider", name="the query on the map").press("ArrowDown")
    assert "Here the query at 65" in words(page)
    page.locator(".hb-text span").nth(20).click()
    assert "Here the query at 20" in words(page)
