# ruff: noqa: F811 (fixtures)
"""WhatToBuy: rank, parameters and MACs are those of the models that are trained; guesses are kept for each scorer."""

import pytest
import torch
from explorable_page import COST_PARTS, browser, js, picture, shown  # noqa: F401 (fixtures)

from structattn_minimal.experiments import regression_task
from structattn_minimal.experiments.comparison import macs_a_token
from structattn_minimal.experiments.presets import COMPARISONS, EVEN
from structattn_minimal.transformer import GPT
from structattn_minimal.viz.explorables import WhatToBuy

KINDS = {"standard": ("standard", 8), "standard_1": ("standard", 1), "btt": ("btt", 8), "mlr": ("mlr", 8)}


@pytest.mark.parametrize("preset", ["icl-16", "icl-32", "icl-64"])
@pytest.mark.parametrize("method", KINDS)
@pytest.mark.parametrize("width", [32, 64, 128, 256, 512])
def test_the_budget_is_that_of_the_model_that_is_trained(js, preset, method, width):
    preset = COMPARISONS[preset]
    with torch.device("meta"):
        model = GPT(regression_task.config(preset, method, width))
    kind, heads = KINDS[method]
    setting = {"kind": kind, "d": preset.d, "width": width, "heads": heads}
    found = js("what_to_buy", "(c, s) => c.budget(s)", setting)
    macs = macs_a_token(model)
    assert {COST_PARTS[name]: count for name, count in macs.items() if name != "all"} == found["macs"]
    assert found["queryKey"] == model.blocks[0].attention.query_key_params()


@pytest.mark.parametrize("method", ["standard", "btt", "mlr"])
@pytest.mark.parametrize("width", [32, 64, 128])
def test_the_rank_is_that_of_a_form_drawn_at_random(js, method, width):
    attention = GPT(regression_task.config(COMPARISONS["icl-16"], method, width)).blocks[0].attention.double()
    with torch.no_grad():
        rank = int(torch.linalg.matrix_rank(attention.to_dense(0)))
    setting = {"kind": method, "d": 16, "width": width, "heads": 8}
    assert js("what_to_buy", "(c, s) => c.budget(s).rank", setting) == rank


@pytest.mark.parametrize("r", EVEN)
def test_levels_are_those_of_the_presets(js, r):
    assert js("what_to_buy", "(c, r) => c.mlrRanks(r)", r) == list(EVEN[r])


def test_rank_against_d_in_words(shown):
    page = shown(WhatToBuy())
    words = page.locator(".sx-words")
    assert "A standard head at width 64 has rank up to 8, below d = 16" in words.inner_text()
    page.get_by_role("slider", name="Width D").press("ArrowRight")
    picture(page)
    assert "A standard head at width 128 has rank up to 16, enough for d = 16" in words.inner_text()
    page.get_by_role("radio", name="BTT").check(force=True)
    picture(page)
    assert "A BTT head at width 128 has rank up to 64" in words.inner_text()


def test_each_scorer_has_a_guess_of_its_own(shown):
    page = shown(WhatToBuy())
    words, guesses = page.locator(".sx-words"), page.get_by_role("group", name="Your guess")
    assert "not guessed for standard" in words.inner_text()
    guesses.get_by_role("radio", name="wider").check(force=True)
    picture(page)
    assert "for standard: a low error at none of these widths" in words.inner_text()
    page.get_by_role("radio", name="MLR").check(force=True)
    picture(page)
    assert "not guessed for MLR" in words.inner_text()
    guesses.get_by_role("radio", name="64").check(force=True)
    picture(page)
    assert "for MLR: a low error from width 64 on" in words.inner_text()
    page.get_by_role("radio", name="standard").check(force=True)
    picture(page)
    assert guesses.get_by_role("radio", name="wider").is_checked()
