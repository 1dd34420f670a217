# ruff: noqa: F811 (fixtures)
"""FairBudget: costs are those of the trained models, a row is one of the masks, and words say what is shown."""

from dataclasses import replace

import pytest
import torch
from explorable_page import COST_PARTS, browser, js, picture, shown  # noqa: F401 (fixtures)

from structattn_minimal.experiments import text_task
from structattn_minimal.experiments.comparison import macs_a_token
from structattn_minimal.experiments.presets import READERS, STEPS, TEXT_COMPARISONS
from structattn_minimal.partition import halving_block_sizes, same_block
from structattn_minimal.transformer import GPT
from structattn_minimal.viz.explorables import FairBudget
from structattn_minimal.viz.explorables.fair_budget import RANKS
from structattn_minimal.window import band

T, R = 1024, 64
START = {"method": "mlr", "width": 256, "window": 512, "ranks": RANKS[0], "query": 700, "budget": 16, "counted": "run"}


@pytest.mark.parametrize("width", [256, 384, 512, 768])
@pytest.mark.parametrize(
    ("reader", "setting"),
    [
        ("standard", {"method": "standard"}),
        ("swa", {"method": "swa", "window": 512}),
        ("gswa", {"method": "gswa", "window": 512}),
        ("sequential", {"method": "sequential", "window": 128}),
        ("mlr", {"method": "mlr", "ranks": "32|8|6|4|4|4|4|2"}),
        ("mlr_coarse", {"method": "mlr", "ranks": "32|16|16"}),
        ("mlr_steep", {"method": "mlr", "ranks": "32|16|8|8"}),
    ],
)
def test_a_character_costs_what_it_costs_the_model_that_is_trained(js, width, reader, setting):
    preset = TEXT_COMPARISONS[f"lm-{width}"]
    assert (preset.context, preset.head_dimension, preset.layers) == (T, R, 6)
    with torch.device("meta"):
        model = GPT(text_task.config(preset, reader, width))
    want = macs_a_token(model)
    found = js("fair_budget", "(c, s) => c.macs(s)", START | setting | {"width": width})
    assert {COST_PARTS[name]: number for name, number in want.items() if name != "all"} == found
    bought = js("fair_budget", "(c, s) => c.characters(s)", START | setting | {"width": width})
    assert bought == pytest.approx(1e16 / 3 / want["all"])


@pytest.mark.parametrize("window", [128, 256])
@pytest.mark.parametrize("method", ["swa", "gswa"])
def test_other_windows_cost_what_the_package_counts(js, method, window):
    reader = replace(READERS[method], window=window / T)
    attention = reader.attention(6, R, T)
    with torch.device("meta"):
        model = GPT(replace(text_task.config(TEXT_COMPARISONS["lm-256"], method, 256), **attention))
    found = js("fair_budget", "(c, s) => c.macs(s)", START | {"method": method, "window": window})
    assert found["scores"] == macs_a_token(model)["scores"]
    assert found["values"] == macs_a_token(model)["values"]


def dense(method, window, ranks):
    """(T, T): features compared, from the masks of the package."""
    p = torch.arange(T)
    causal, near = p[:, None] >= p, band(p, p, window, True)
    if method == "mlr":
        sizes = [T // n for n in STEPS] if ranks == [32, 16, 8, 8] else halving_block_sizes(T, len(ranks))
        return causal * sum(r * same_block(p, p, size).int() for r, size in zip(ranks, sizes, strict=True))
    far = {"standard": R, "swa": 0, "gswa": R // 2, "sequential": R / 3}[method]
    return torch.where(near, R, far * causal) if method != "standard" else R * causal


@pytest.mark.parametrize("method", ["standard", "swa", "gswa", "sequential", "mlr"])
@pytest.mark.parametrize("ranks", RANKS)
def test_a_row_and_the_causal_count_are_those_of_the_masks(js, method, ranks):
    want = dense(method, 256, [int(r) for r in ranks.split("|")]).double()
    setting = START | {"method": method, "window": 256, "ranks": ranks, "counted": "pairs"}
    for query in (0, 511, 512, 700, 1023):
        found = js("fair_budget", "(c, s) => c.features(s)", setting | {"query": query})
        assert found == pytest.approx(want[query].tolist())
    scores = js("fair_budget", "(c, s) => c.macs(s).scores", setting)
    assert scores == pytest.approx(6 * 4 * want.sum().item() / T, abs=0.51)  # 4 heads


def test_the_seam_in_words(shown):
    page = shown(FairBudget(query=511))
    words = page.locator(".sx-words")
    assert "compares itself with 512 of 512 characters, with 8 of them in all 64 features" in words.inner_text()
    page.get_by_role("slider", name="Query").press("ArrowRight")
    picture(page)
    assert "compares itself with 513 of 513 characters, with 1 of them in all 64 features" in words.inner_text()


def test_what_is_multiplied_and_what_is_seen_differ(shown):
    page = shown(FairBudget(method="swa", window=512))
    row = page.locator(".sx-table tr.now")
    assert "+0.0 %" in row.inner_text()  # a window of half the context saves no product
    page.get_by_role("radio", name="causal pairs").check(force=True)
    picture(page)
    assert "+" in row.inner_text()
    assert "+0.0 %" not in row.inner_text()
