"""Exercise 11.5 makes records up: they have the form of those that a comparison leaves behind."""

from dataclasses import replace
from pathlib import Path

import pytest

from exercises.case import Case
from exercises.ch11.records import RATES, comparison_record
from exercises.ch11.solutions import relative_budgets
from structattn_minimal.experiments import comparison
from structattn_minimal.experiments.presets import COMPARISONS

MICRO = COMPARISONS["icl-micro"]


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> dict:
    """The record of icl-micro at its smaller width."""
    folder = tmp_path_factory.mktemp("runs")
    assert comparison.run_all(MICRO, folder, only="D8", say=lambda line: None)
    return comparison.collect(MICRO, "icl-micro", folder, folder / "record.json", "a test")


def made_up(seeds=range(20)):
    return (comparison_record(Case(seed), 0.1)[0] for seed in seeds)


def test_made_up_records_have_the_fields_of_real_ones(real):
    run = real["runs"]["btt_D8"]
    for record in made_up():
        assert record.keys() == real.keys()
        assert record["setting"].keys() <= real["setting"].keys()
        assert record["baselines"].keys() == real["baselines"].keys()
        for name, each in record["runs"].items():
            assert name == f"{each['method']}_D{each['width']}"
            assert each.keys() <= run.keys() | {"error"}
            assert each["macs_a_token"].keys() == run["macs_a_token"].keys()
            for model in each.get("swept", []) + each.get("by_seed", []):
                assert model.keys() == run["by_seed"][0].keys()
                assert model["curve"].keys() == run["by_seed"][0]["curve"].keys()
        names = [f"{m}_D{w}" for w in record["setting"]["widths"] for m in record["setting"]["methods"]]
        assert sorted(names) == sorted([*record["runs"], *record["missing"]])


def test_made_up_runs_sum_their_models_up_as_real_ones_do():
    run = comparison.Run(replace(MICRO, rates=RATES), "btt", 8, Path("nowhere"))
    for record in made_up():
        for each in record["runs"].values():
            if each["status"] == "failed":
                assert not {"swept", "by_seed", "last"} & each.keys()
                continue
            summed = comparison.outcome(run, each["swept"], each["by_seed"])
            shared = summed.keys() & each.keys()
            assert {"status", "best_rate", "diverged", "last", "lowest", "highest"} <= shared
            assert {key: each[key] for key in shared} == {key: summed[key] for key in shared}


def test_the_answer_reads_a_real_record(real):
    runs = real["runs"]
    macs = {run["method"]: run["training_macs_a_model"] for run in runs.values()}
    found = relative_budgets(real, max(run["highest"] for run in runs.values()) * 1.01, "standard_1")
    assert found == {"standard_1": 1.0, "btt": macs["btt"] / macs["standard_1"]}
    best = min(runs.values(), key=lambda run: run["last"])  # a threshold between the two methods
    between = sum(run["last"] for run in runs.values()) / 2
    found = relative_budgets(real, between, best["method"])
    assert [method for method, ratio in found.items() if ratio] == [best["method"]]
