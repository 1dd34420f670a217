"""Chapter 11 takes records as they come, and what its prose says of those that lie beside it is so."""

import re
from pathlib import Path

import pytest
import torch

from exercises.registry import CELL
from structattn_minimal.experiments import records, regression_task
from structattn_minimal.experiments import regression_claims as claims
from structattn_minimal.experiments.presets import COMPARISONS, SCORERS
from structattn_minimal.viz import figures, tables

SOURCE = (Path(__file__).parents[1] / "chapters/11_end_to_end.md").read_text(encoding="utf-8")
# cells that need no record, and those that look into models
OTHERS = (
    "WhatToBuy",
    "def macs",
    "def by_hand",
    "for models in (1, 4, 16)",
    "nearest =",
    "small = {",
    "ends = {",
    "live_runs",
)
INSIDE = ("inside", "found(model)", "shares", "spectra", "sigma")


@pytest.fixture(scope="module")
def both():
    found = claims.recorded()
    assert {16, 32} <= set(found)
    return found


@pytest.fixture
def read(monkeypatch, capsys):
    """What the chapter's cells print, given these records of comparisons, by d."""

    def cells(there: dict[int, dict]) -> str:
        first = records.read_record("icl_32_first")
        monkeypatch.setattr(
            claims, "recorded", lambda names=claims.DIMENSIONS: {n: there[n] for n in names if n in there}
        )
        monkeypatch.setattr(records, "read_record", {"icl_32_first": first}.__getitem__)
        monkeypatch.setattr(tables, "display", print)
        monkeypatch.setattr(figures, "show", lambda fig, alt: print(f"figure of {len(fig.data)} lines"))
        names = {"torch": torch, "regression_task": regression_task}
        for cell in CELL.findall(SOURCE):
            if not any(word in cell for word in (*OTHERS, *INSIDE)):
                exec(re.sub(r"^:tags:.*", "", cell), names)
        return capsys.readouterr().out

    return cells


def failed(run):
    return {key: run[key] for key in ("method", "width", "head_dimension")} | {
        "status": "failed",
        "error": "out of memory",
    }


def test_a_record_with_gaps_is_told_as_it_is(read, both):
    """Runs that failed, that were not made, and of which each seed diverged."""
    runs = dict(both[16]["runs"])
    runs["btt_D32"] = failed(runs["btt_D32"])
    del runs["mlr_D64"]
    gone = [seed | {"last": None, "diverged_at": 3} for seed in runs["standard_1_D64"]["by_seed"]]
    runs["standard_1_D64"] = runs["standard_1_D64"] | {"by_seed": gone, "last": None, "diverged": 4}
    printed = read({16: both[16] | {"runs": runs, "missing": ["mlr_D64"]}})
    assert re.search(r"^ *d = 16 +14 +1 +6000 +128 +4 +4$", printed, re.M)
    assert "d = 32: not recorded yet" in printed
    assert "4 trainings diverged" in printed
    row = re.search(r"^ *D = 64 +0\.5 d +(.*)", printed, re.M)[1].split()
    assert row[0] == row[2] == "-"
    assert float(row[1]) > 1
    assert "slow start, d = 32: not recorded yet" in printed


def test_every_record_is_told(read, both):
    printed = read(both)
    assert printed.count("Structure wins at every budget") == 2 * len(both)
    assert f"figure of {sum(len(record['setting']['methods']) for record in both.values())} lines" in printed


# What the prose says


def of(record, name):
    return record["runs"][name]


@pytest.mark.parametrize(("d", "half"), [(16, 64), (32, 128)])
def test_at_half_the_rank_structure_is_four_to_seven_times_better(both, d, half):
    record = both[d]
    leads = {lead["rank"] / d: lead for lead in claims.leads(record)}
    assert leads[0.5]["width"] == half
    for method in claims.STRUCTURED:
        assert 3.5 < leads[0.5][method] < 7
        assert leads[0.5][method] == max(lead[method] for lead in leads.values() if lead[method] is not None)
        ours, theirs = of(record, f"{method}_D{half}"), of(record, f"standard_D{half}")
        assert ours["highest"] < theirs["lowest"]
        assert ours["query_key_params_a_layer"] <= theirs["query_key_params_a_layer"]
        low, high = {16: (1.7, 2.0), 32: (2.0, 3.0)}[d]
        assert low < leads[1][method] < high
    assert max(lead[m] for lead in leads.values() for m in claims.STRUCTURED if lead[m] is not None) < 10


def test_at_a_quarter_of_the_rank_the_picture_is_mixed(both):
    assert all(of(both[16], f"{method}_D32")["last"] > 0.3 for method in ("standard", *claims.STRUCTURED))
    lead = claims.leads(both[32])[1]
    assert (lead["width"], lead["rank"]) == (64, 8)
    assert lead["mlr"] < 1
    assert 2.5 < lead["btt"] < 3.5


@pytest.mark.parametrize("d", [16, 32])
def test_the_bound_decides_whether_eight_heads_need_rank_d(both, d):
    assert [claims.bottleneck(both[d], low).holds for low in (claims.LOW, both[d]["baselines"]["ridge"])] == [
        False,
        True,
    ]


@pytest.mark.parametrize("d", [16, 32])
def test_a_bound_between_btt_and_one_head_at_half_the_rank_gives_the_same_verdicts(both, d):
    record, half = both[d], 4 * d
    assert of(record, f"btt_D{half}")["last"] < record["baselines"]["ridge"] < of(record, f"standard_1_D{half}")["last"]
    for bound in (of(record, f"btt_D{half}")["last"], 0.999 * of(record, f"standard_1_D{half}")["last"]):
        assert claims.bottleneck(record, bound).holds
        assert claims.narrower(record, bound).holds


@pytest.mark.parametrize("d", [16, 32])
def test_half_the_width_does_at_128_and_not_at_64(both, d):
    ours, theirs = of(both[d], "mlr_D128"), of(both[d], "standard_D256")
    assert ours["last"] < theirs["last"]
    assert not claims.apart(ours, theirs)
    assert 3 < theirs["training_macs_a_model"] / ours["training_macs_a_model"] < 3.6
    assert (of(both[d], "btt_D128")["last"] < theirs["last"]) == (d == 16)
    assert (
        min(of(both[d], f"{method}_D64")["last"] for method in claims.STRUCTURED) > of(both[d], "standard_D128")["last"]
    )


def test_at_twice_the_rank_structure_is_still_ahead(both):
    (lead,) = (lead for lead in claims.leads(both[16]) if lead["rank"] == 32)
    assert 1.6 < min(lead["btt"], lead["mlr"]) < max(lead["btt"], lead["mlr"]) < 2
    assert all(lead["rank"] <= 32 for lead in claims.leads(both[32]))


def test_one_head_wins_below_rank_d_and_then_falls_behind(both):
    assert all(claims.one_head(both[d]).holds for d in (16, 32))
    narrow = {method: of(both[16], f"{method}_D32")["last"] for method in SCORERS}
    assert min(narrow, key=narrow.get) == "standard_1"
    wide, narrower = (of(both[32], f"standard_1_D{width}") for width in (256, 128))
    assert sum(model["last"] > narrower["highest"] for model in wide["by_seed"]) == 3
    (foreseen,) = (model for model in wide["swept"] if model["rate"] == wide["best_rate"])
    assert wide["swept"].index(foreseen) == 2  # the prose names its place
    assert foreseen["last"] < wide["lowest"]


def test_rank_is_not_all(both):
    assert of(both[16], "btt_D32")["last"] > of(both[16], "standard_1_D32")["last"]
    form = (
        regression_task.model(regression_task.config(COMPARISONS["icl-32"], "mlr", 64), 0)
        .blocks[0]
        .attention.to_dense(0)
    )
    assert int(torch.linalg.matrix_rank(form, rtol=1e-5)) == 30
    assert of(both[32], "mlr_D64")["last"] > of(both[32], "standard_D64")["last"]
    assert not claims.apart(of(both[32], "standard_D64"), of(both[32], "mlr_D64"))
    assert of(both[16], "btt_D32")["best_rate"] == max(both[16]["setting"]["rates"])


@pytest.mark.parametrize("d", [16, 32])
def test_which_budgets_structure_wins(both, d):
    record = both[d]
    assert [claims.cheaper(record, key).holds for key in claims.CURRENCIES] == [False, False]
    offers = claims.bought(record, "training_macs_a_model")
    lost = [budget for budget, a, b in offers if a["last"] >= b["last"]]
    assert max(lost) == of(record, "standard_D128")["training_macs_a_model"]
    assert any(budget < max(lost) for budget, a, b in offers if a["last"] < b["last"])  # the winner alternates
    since = claims.wins_from(record, "training_macs_a_model")
    assert since == of(record, "mlr_D128")["training_macs_a_model"]
    assert 96 not in record["setting"]["widths"]
    seconds = claims.wins_from(record, "seconds_a_model")
    assert seconds == of(record, {16: "mlr_D128", 32: "btt_D128"}[d])["seconds_a_model"]
    if d == 16:  # a few per cent decide
        assert 1 < seconds / of(record, "standard_D256")["seconds_a_model"] < 1.1


def test_seconds_of_one_record_are_of_one_version_and_of_the_other_are_not(both):
    later = {name for name, run in both[16]["runs"].items() if run["commit"] != of(both[16], "btt_D32")["commit"]}
    assert later == {"standard_1_D256", "btt_D256", "mlr_D256"}
    assert len({run["commit"] for run in both[32]["runs"].values()}) == 1


def test_best_rates_are_as_told(both):
    """From width 64 on, at most a step apart but for one head at d = 32, whose best rate rises by two."""
    for d, record in both.items():
        rates = record["setting"]["rates"]
        for method in SCORERS:
            best = [rates.index(rate) for width, rate in claims.best_rates(record, method).items() if width >= 64]
            steps = max(best) - min(best)
            assert steps <= 1 or (d, method, best) == (32, "standard_1", [0, 1, 2])
        at_the_end = [model["last"] for run in record["runs"].values() if run["width"] == 32 for model in run["swept"]]
        assert min(at_the_end) > 0.2 or d == 16
    assert [
        run["method"]
        for run in both[16]["runs"].values()
        if run["width"] == 32
        if min(m["last"] for m in run["swept"]) < 0.2
    ] == ["standard_1"]
    highest = max(both[32]["setting"]["rates"])
    assert [run["width"] for run in both[32]["runs"].values() if run["best_rate"] == highest] == [32]
    assert COMPARISONS["icl-64"].rates == tuple(rate for rate in both[32]["setting"]["rates"] if rate < highest)
    too_high = of(both[32], "standard_1_D256")["swept"][3]
    assert claims.learned_nothing(too_high, regression_task.answering_zero(COMPARISONS["icl-32"]))
    assert of(both[32], "standard_1_D256")["best_rate"] == both[32]["setting"]["rates"][2]


def test_what_each_dimension_costs(both):
    """All learn while it is easy but one; the peak is where the last dimension joins, and orders the ends."""
    ends, peaks, drops = {}, {}, {}
    for d, record in both.items():
        grown = record["setting"]["curriculum"] * record["setting"]["steps"]
        lows = []
        for run in record["runs"].values():
            points = [claims.turning_points(model, grown) for model in run["by_seed"]]
            lows += [(low, run["method"], run["width"]) for low, _, _ in points]
            key = d, run["method"], run["width"]
            peaks[key], ends[key] = (sum(column) / len(points) for column in list(zip(*points, strict=True))[1:])
            drops[key] = peaks[key] / ends[key]
            for model in run["by_seed"]:
                _, peak, _ = claims.turning_points(model, grown)
                at = dict(zip(model["curve"]["last"], model["curve"]["steps"], strict=True))[peak]
                assert 0.75 * grown <= at <= 1.2 * grown or (d, run["method"], run["width"]) == (16, "mlr", 32)
        hard = [low for low in lows if low[0] > 0.6]
        assert [low[1:] for low in hard] == ([("mlr", 32)] if d == 16 else [])
        order = [
            sorted(keys, key=of_these.get) for of_these in (peaks, ends) if (keys := [k for k in peaks if k[0] == d])
        ]
        n = len(order[0])
        squares = sum((order[0].index(k) - order[1].index(k)) ** 2 for k in order[0])
        assert 1 - 6 * squares / (n * (n**2 - 1)) > 0.85  # Spearman
    assert all(drop < 1.4 for (d, _, width), drop in drops.items() if (d, width) == (32, 32))
    assert all(drop > 10 for (_, method, width), drop in drops.items() if width == 256 and method != "standard_1")


def test_of_the_first_attempt_most_learned_nothing():
    first = records.read_record("icl_32_first")
    zero = regression_task.answering_zero(COMPARISONS["icl-32"])
    idle = {
        method: [
            claims.learned_nothing(model, zero) for run, model in claims.models_of(first) if run["method"] == method
        ]
        for method in SCORERS
    }
    assert all(idle["mlr"])
    shares = {method: sum(each) / len(each) for method, each in idle.items()}
    assert shares["btt"] > 0.5 < shares["standard"]
    assert shares["standard_1"] < 0.5


def test_at_d_16_two_models_learned_nothing(both):
    zero = regression_task.answering_zero(COMPARISONS["icl-16"])
    idle = [
        (run["method"], model["rate"])
        for run, model in claims.models_of(both[16])
        if claims.learned_nothing(model, zero)
    ]
    assert idle == [("standard_1", max(both[16]["setting"]["rates"]))] * 2


def test_of_the_second_attempt_one_model_learned_nothing(both):
    zero, highest = regression_task.answering_zero(COMPARISONS["icl-32"]), max(both[32]["setting"]["rates"])
    idle = [
        (run["method"], model["rate"])
        for run, model in claims.models_of(both[32])
        if claims.learned_nothing(model, zero)
    ]
    assert idle == [("standard_1", highest)]
    single = [
        model for run, model in claims.models_of(both[32]) if run["method"] == "standard_1" and model["rate"] == highest
    ]
    assert all(0.88 < model["last"] / zero < 1.01 for model in single)
    grown = both[32]["setting"]["curriculum"] * both[32]["setting"]["steps"]
    assert all(claims.turning_points(model, grown)[0] < 0.25 for model in single)  # they had learned
    rest = [model["last"] for _, model in claims.models_of(both[32]) if model not in single]
    assert max(rest) < 0.85
    changed = {
        key
        for key in ("power", "curriculum", "batch", "steps", "rates", "layers", "warmup")
        if both[32]["setting"][key] != records.read_record("icl_32_first")["setting"].get(key, 1.0)
    }
    assert changed == {"power", "curriculum", "batch"}


@pytest.mark.parametrize("d", [16, 32])
def test_the_work_a_second_grows_with_the_width(both, d):
    for method in SCORERS:
        runs = claims.runs_of(both[d], method).values()
        work = [run["macs_a_token"]["all"] / run["seconds_a_step"] for run in runs]
        assert work == sorted(work)
