"""Verdicts on the claims of chapter 11: each can come out in every way, and the spread over seeds is reported."""

from math import inf

import pytest
import torch

from structattn_minimal.experiments import comparison, regression_task, text
from structattn_minimal.experiments import regression_claims as claims
from structattn_minimal.experiments.presets import COMPARISONS
from structattn_minimal.experiments.records import read_record

WIDTHS = (32, 64, 128, 256)
COST = {"standard": 1.0, "standard_1": 1.0, "btt": 1.5, "mlr": 1.2}


def run(method, width, last, spread=0.01, cost=None):
    cost = cost or width**2 * COST[method]
    return {
        "method": method,
        "width": width,
        "head_dimension": width // (1 if method == "standard_1" else 8),
        "last": last,
        "lowest": None if last is None else last - spread,
        "highest": None if last is None else last + spread,
        "training_macs_a_model": cost,
        "seconds_a_model": 1000 / cost,  # the other way round
    }


def record(**errors):
    """d = 16: r = d at width 128."""
    runs = {f"{m}_D{D}": run(m, D, e) for m, es in errors.items() for D, e in zip(WIDTHS, es, strict=True)}
    made = {"commit": "0123456789", "hardware": "a processor, 4 torch threads, GPU A"}
    return made | {"setting": {"d": 16}, "baselines": {"ridge": 0.045}, "runs": runs}


AS_CLAIMED = {
    "standard": (0.8, 0.5, 0.05, 0.03),  # with ridge at 0.045, r = d is not enough
    "standard_1": (0.6, 0.2, 0.09, 0.03),
    "btt": (0.09, 0.03, 0.02, 0.01),
    "mlr": (0.3, 0.04, 0.03, 0.015),
}


def test_a_record_as_the_paper_claims():
    found = claims.verdicts(record(**AS_CLAIMED))
    assert [verdict.holds for verdict in found[:6]] == [True, False, True, True, True, True]
    assert "rank 8: 0.5 (0.49 to 0.51)" in found[0].evidence
    reached = "standard, 8 heads: {}; standard, 1 head: {}; BTT, 8 heads: {}; MLR, 8 heads: {}"
    assert reached.format(128, 128, 32, 64) in found[3].evidence
    assert reached.format(256, 256, 64, 64) in found[4].evidence
    assert "in 11 of 11 comparisons" in found[5].evidence  # the budget of width 32 buys no structured model


@pytest.mark.parametrize(
    ("place", "changed"),
    [
        (0, {"standard": (0.8, 0.05, 0.05, 0.02)}),  # low at r = d / 2
        (0, {"standard": (0.8, 0.5, 0.5, 0.02)}),  # high at r = d
        (2, {"standard_1": (0.9, 0.2, 0.09, 0.02)}),
        (3, {"standard_1": (0.6, 0.09, 0.09, 0.02)}),  # MLR needs as much
        (3, {"mlr": (0.5, 0.5, 0.5, 0.5)}),
        (5, {"standard": (0.8, 0.5, 0.01, 0.001)}),
    ],
)
def test_each_claim_can_fail(place, changed):
    assert claims.verdicts(record(**AS_CLAIMED | changed))[place].holds is False


def test_a_budget_is_counted_in_its_own_currency():
    """Where BTT is dear, it is not bought with what buys every standard model, and still wins beyond."""
    of = record(standard=(0.5,) * 4, standard_1=(0.5,) * 4, btt=(0.6, 0.1, 0.1, 0.1), mlr=(None,) * 4)
    macs = claims.verdicts(of)[5]
    assert macs.holds is False
    assert "lower mean error in 5 of 7" in macs.evidence
    for place, width in enumerate(WIDTHS):
        of["runs"][f"btt_D{width}"]["seconds_a_model"] = 10**9 + place
    assert "lower mean error in 3 of 4" in claims.verdicts(of)[6].evidence
    del of["runs"]["btt_D32"], of["runs"]["btt_D64"], of["runs"]["btt_D128"], of["runs"]["btt_D256"]
    assert claims.verdicts(of)[6].holds is None


MIXED = {
    "standard": (0.8, 0.5, 0.05, 0.03),
    "standard_1": (0.6, 0.2, 0.09, 0.03),
    "btt": (0.5, 0.3, 0.04, 0.02),
    "mlr": (None,) * 4,
}


def test_what_each_budget_buys():
    unit = 32**2
    assert [
        (budget / unit, a["method"], a["width"], b["method"], b["width"])
        for budget, a, b in claims.bought(record(**MIXED), "training_macs_a_model")
    ] == [
        (1.5, "btt", 32, "standard_1", 32),
        (4, "btt", 32, "standard_1", 64),
        (6, "btt", 64, "standard_1", 64),
        (16, "btt", 64, "standard", 128),
        (24, "btt", 128, "standard", 128),
        (64, "btt", 128, "standard", 256),
        (96, "btt", 256, "standard", 256),
    ]


@pytest.mark.parametrize(
    ("changed", "units"),
    [
        ({}, 96),  # it wins at 1.5 and 24 too, and loses in between
        ({"btt": (0.5, 0.3, 0.02, 0.02)}, 24),
        ({"btt": (0.5, 0.1, 0.02, 0.02), "standard": (0.8, 0.5, 0.15, 0.03), "standard_1": (0.6, 0.2, 0.15, 0.03)}, 6),
        ({"btt": (0.5, 0.1, 0.02, 0.03)}, 24),  # the narrower one is bought still
        ({"btt": (0.1, 0.1, 0.04, 0.03)}, None),  # no more than a draw at the largest
        ({"btt": (None,) * 4}, None),
    ],
)
def test_from_which_budget_on_structure_wins(changed, units):
    of = record(**MIXED | changed)
    since = claims.wins_from(claims.bought(of, "training_macs_a_model"))
    assert since == (None if units is None else units * 32**2)
    told = str(claims.verdicts(of)[5])
    if units is not None:
        assert told.endswith(f"at every budget from {since:.2g} on")
    else:
        assert ("no budget buys both" in told) == (changed["btt"][0] is None)
        assert told.endswith("not at the largest budget") == (changed["btt"][0] is not None)


def test_a_claim_that_holds_names_no_budget():
    assert "from" not in claims.verdicts(record(**AS_CLAIMED))[5].evidence


def test_a_lead_is_how_many_times_the_error_eight_heads_have():
    found = claims.leads(record(**AS_CLAIMED | {"mlr": (None, 0.04, 0.03, 0.015)}))
    assert [(lead["width"], lead["rank"]) for lead in found] == [(32, 4), (64, 8), (128, 16), (256, 32)]
    assert found[0]["mlr"] is None
    assert found[1]["btt"] == pytest.approx(0.5 / 0.03)
    assert found[2]["standard_1"] == pytest.approx(0.05 / 0.09)


def test_seconds_of_several_versions_or_machines_are_told_apart():
    of = record(**AS_CLAIMED)
    assert claims.clocks(of) == ["0123456 on GPU A"]
    assert not any("compare:" in verdict.evidence for verdict in claims.verdicts(of))
    of["runs"]["btt_D64"] |= {"commit": "abcdefabcdef"}
    of["runs"]["mlr_D64"] |= {"commit": "abcdefabcdef", "hardware": "another, 2 cores, GPU B"}
    of["runs"]["mlr_D32"] = {"method": "mlr", "width": 32, "status": "failed", "commit": "fedcba"}
    assert claims.clocks(of) == ["0123456 on GPU A", "abcdefa on GPU A", "abcdefa on GPU B"]
    macs, seconds = claims.verdicts(of)[-2:]
    assert "compare:" not in macs.evidence
    assert seconds.evidence.endswith("not all of these seconds compare: " + ", ".join(claims.clocks(of)))
    of["runs"]["btt_D64"] |= {"commit": "abcdefabcdef; 9876543210"}  # nobody knows which
    assert claims.clock(of, of["runs"]["btt_D64"]) == "abcdefa or 9876543 on GPU A"
    for run in of["runs"].values():  # what was timed again is as the last clock says
        run["timed"] = {"commit": "9999999999", "hardware": "x, GPU C"}
    assert claims.clocks(of) == ["9999999 on GPU C"]


def test_the_spread_of_the_seeds_is_told():
    wide = record(**AS_CLAIMED | {"standard_1": (0.79, 0.2, 0.09, 0.02)})
    assert "in 2 of 2 comparisons, in 1 of them beyond" in claims.verdicts(wide)[2].evidence


def test_what_is_missing_decides_nothing():
    of = record(standard=(0.8, 0.5, None, None), standard_1=(None,) * 4, btt=(None,) * 4, mlr=(None,) * 4)
    found = claims.verdicts(of)
    assert [verdict.holds for verdict in found] == [None] * 7
    assert "not decided" in str(found[0])
    assert claims.runs_of(of, "btt") == {}


@pytest.mark.parametrize(
    ("narrow", "wide", "expected"),
    [
        ((3, 1, 2), (6, 2, 4), {(64, 256): 1}),  # the best rate stays
        ((1, 2, 3), (9, 2, 4), {(64, 256): 4.5}),
        ((1, 2, 3), (8, 4, 2), {(64, 256): 4}),
        ((1, 2, 3), (None, 2, 4), {(64, 256): inf}),  # the carried rate diverges
        ((None, None, None), (6, 2, 4), {}),
        ((1, 2, 3), (None, None, None), {}),
        ((), (6, 2, 4), {}),  # a single width
        ((), (), {}),
    ],
)
def test_what_it_costs_to_carry_a_rate_over(narrow, wide, expected):
    of = swept(btt={256: wide, 64: narrow}, mlr={512: (1, 2, 3)})
    of["runs"]["btt_D999"] = {"method": "btt", "width": 999, "status": "failed"}
    assert claims.carried_over(of, "btt") == expected


def test_a_rate_is_carried_to_every_wider_width():
    of = swept(btt={64: (1, 2, 3), 128: (6, 3, 9), 256: (8, 4, 2)})
    assert claims.carried_over(of, "btt") == {(64, 128): 2, (64, 256): 4, (128, 256): 2}


def swept(**errors):
    """A record of sweeps, by method and width the errors at the rates 1, 2 and 3."""
    runs = {}
    for method, widths in errors.items():
        for width, lasts in widths.items():
            models = [{"rate": rate, "last": last} for rate, last in zip((1, 2, 3), lasts, strict=False)]
            if models:
                best = comparison.best_rate("last", models, COMPARISONS["icl-rates"])
                runs[f"{method}_D{width}"] = {"method": method, "width": width, "best_rate": best, "swept": models}
    return {"runs": runs}


def test_recorded_names_only_what_is_there(monkeypatch):
    def read(name):
        if name == "icl_32":
            return {"setting": {"d": 32}}
        raise FileNotFoundError(name)

    monkeypatch.setattr(claims, "read_record", read)
    assert list(claims.recorded()) == [32]
    assert claims.recorded(["rates"]) == {}


def test_trained_gives_the_models_that_are_there(monkeypatch, tmp_path):
    monkeypatch.setattr(text, "recorded", tmp_path.joinpath)
    assert claims.trained() == {}
    preset = COMPARISONS["icl-16"]
    model = regression_task.model(regression_task.config(preset, "btt", 32), 0)
    text.save_model(model, tmp_path / "icl_16_btt.safetensors")
    found = claims.trained()
    assert list(found) == ["btt"]
    assert torch.equal(found["btt"].embed.weight, model.embed.weight)
    assert claims.trained(32) == {}


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ((0.3, 0.9, 0.4, 0.1), 30),  # easy prompts of the curriculum do not count
        ((0.3, 0.2, 0.2, 0.1), 10),
        ((0.9, 0.4, 0.3, 0.5), None),
        ((0.9, 0.4, None, None), None),
    ],
)
def test_the_step_from_which_an_error_stays_low(errors, expected):
    assert claims.below_from({"steps": [10, 20, 30, 40], "last": list(errors)}) == expected


def trained_as(seed, last, *errors):
    return {"seed": seed, "last": last, "curve": {"steps": [10, 20, 30], "last": list(errors)}}


def test_the_turning_points_of_a_curve():
    curve = {"steps": [10, 20, 30, 40, 50], "last": [0.9, 0.2, 0.6, 0.7, 0.1]}
    assert claims.turning_points({"curve": curve}, grown=30) == ((0.2, 20), (0.7, 40))
    assert claims.turning_points({"curve": curve}, grown=10) == ((0.9, 10), (0.9, 10))  # not the lowest of all
    assert claims.turning_points({"curve": curve}, grown=40)[1] == (0.7, 40)  # nor the highest, while few are in use


@pytest.fixture
def mixed():
    """Of seed 0 three models that end at 1.03 = zero and one that learns, of seed 1 none that does not learn."""
    swept = [trained_as(0, 1.03, 1.0, 1.2, 0.9), trained_as(0, 0.5, 1.0, 0.6, 0.45), trained_as(0, None, 1, None, None)]
    seeds = [trained_as(0, 1.031, 1.5, 1.2, 0.9), trained_as(1, 0.1, 0.8, 0.4, 0.2)]
    runs = {
        "btt_D32": {"method": "btt", "swept": swept, "by_seed": seeds},
        "mlr_D32": {"method": "mlr", "swept": [trained_as(0, 1.02, 1.0, 1.2, 0.9)], "by_seed": []},
        "mlr_D64": {"method": "mlr", "status": "failed"},
    }
    return {"runs": runs}


def test_who_learned_nothing_ends_within_two_percent_of_answering_zero(mixed):
    found = [(run["method"], claims.learned_nothing(model, 1.03)) for run, model in claims.models_of(mixed)]
    nothing = [True, False, False, True, False]  # one that diverged has not come to rest at zero
    assert found == [("btt", one) for one in nothing] + [("mlr", True)]
    ends = {1.0: False, 1.008: False, 1.011: True, 1.049: True, 1.06: False}
    assert {last: claims.learned_nothing({"last": last}, 1.03) for last in ends} == ends


def test_without_idle_seeds_the_others_count():
    def seeds(*ends):
        return [{"seed": i, "last": last} for i, last in enumerate(ends)]

    def run(*ends):
        return {"by_seed": seeds(*ends), "last": 7.0, "lowest": 7.0, "highest": 7.0}

    runs = {
        "some": run(0.2, 1.03, 0.4, None),
        "all": run(1.03, 1.02),
        "none": run(0.2, 0.4),
        "failed": {"status": "failed"},
    }
    found = claims.without_idle({"runs": runs, "setting": {"d": 2}}, 1.03)
    assert found["setting"] == {"d": 2}
    assert {name: found["runs"][name] for name in ("all", "none", "failed")} == {
        name: runs[name] for name in ("all", "none", "failed")
    }
    some = found["runs"]["some"]
    assert [model["seed"] for model in some["by_seed"]] == [0, 2, 3]
    assert (some["last"], some["lowest"], some["highest"]) == (pytest.approx(0.3), 0.2, 0.4)


def test_a_relative_curve_is_free_of_what_all_of_a_seed_share(mixed):
    (_, first), (_, learner), (_, lost), _, (_, alone), _ = claims.models_of(mixed)
    assert claims.relative_curve(mixed, first, 1.03) == {
        "steps": [10, 20, 30],
        "last": [1, 1, 1],
    }  # the median, no mean
    assert claims.relative_curve(mixed, learner, 1.03)["last"] == [1, 0.5, 0.5]
    assert claims.relative_curve(mixed, lost, 1.03)["last"] == [1, None, None]
    with pytest.raises(ValueError, match="record must hold a model of seed 1 that learned nothing, got none"):
        claims.relative_curve(mixed, alone, 1.03)


def test_a_comparison_that_failed_is_in_no_verdict():
    """It has a name of its own, so that the record of its dimension can take its place."""
    failed, records = read_record("icl_32_first"), claims.recorded()
    assert failed["setting"]["d"] == 32
    assert failed not in records.values()
    zero = regression_task.answering_zero(COMPARISONS["icl-32"])
    nothing = [claims.learned_nothing(model, zero) for _, model in claims.models_of(failed)]
    assert sum(nothing) > len(nothing) / 2


def test_answering_zero_costs_the_mean_square_of_what_is_asked():
    preset = COMPARISONS["icl-micro"]
    last = torch.cat([y[:, -1] for _, y in regression_task.fresh_prompts(preset, torch.device("cpu"))])
    assert regression_task.answering_zero(preset) == pytest.approx(last.square().mean().item(), rel=1e-5)
    assert regression_task.answering_zero(COMPARISONS["icl-16"]) == pytest.approx(1, abs=0.1)
