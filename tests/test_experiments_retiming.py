"""Steps are timed anew, and nothing else in a record changes."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from structattn_minimal.experiments import __main__ as command
from structattn_minimal.experiments import retiming
from structattn_minimal.experiments.presets import COMPARISONS
from structattn_minimal.experiments.training import Training

MICRO = COMPARISONS["icl-micro"]
TIMES = {"seconds_a_step", "seconds_a_model", "setup_seconds", "timed", "step", "notes"}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded")
    command.main(["regression", "--preset", "icl-micro", "--out", str(folder)])
    return folder / "record.json"


@pytest.fixture
def record(recorded, tmp_path):
    shutil.copy(recorded, tmp_path / "record.json")
    return tmp_path / "record.json"


def retimed(record, *more):
    command.main(["regression", "--preset", "icl-micro", "--retime", str(record), *more])
    return json.loads(record.read_text())


def test_all_steps_are_timed_with_one_code_and_nothing_else_changes(record, capsys):
    before = json.loads(record.read_text())
    for run in before["runs"].values():
        run |= {"seconds_a_step": 99.0, "seconds_a_model": 99.0}
    record.write_text(json.dumps(before))
    after = retimed(record)
    assert {key: after[key] for key in after if key != "runs"} == {key: before[key] for key in before if key != "runs"}
    for name, run in after["runs"].items():
        assert {key for key in run if run[key] != before["runs"][name].get(key)} <= TIMES
        assert 0 < run["seconds_a_step"] < 5
        models = run["models_at_once"]
        assert run["seconds_a_model"] == pytest.approx(run["seconds_a_step"] * MICRO.steps / models, rel=1e-2)
        assert set(run["timed"]) == {"commit", "hardware"}
    told = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in told] == list(after["runs"])
    assert all(line.endswith("99.0 before") for line in told)


def test_a_time_is_the_median_of_several_and_without_the_first_steps(record, monkeypatch):
    clock, advance = [0.0], Training.advance

    def slow(training, steps):
        first = training.done == 0
        advance(training, steps)
        clock[0] += 100 if first else next(pace) * steps

    monkeypatch.setattr(Training, "advance", slow)
    monkeypatch.setattr(retiming, "perf_counter", lambda: clock[0])
    pace = iter([1.0, 7.0, 2.0, 3.0, 50.0])
    run = retimed(record, "--only", "btt_D8")["runs"]["btt_D8"]
    assert run["seconds_a_step"] == 3
    assert run["setup_seconds"] == 100


def test_only_what_is_asked_for_and_finished(record):
    before = json.loads(record.read_text())
    before["runs"]["btt_D16"] = {"method": "btt", "width": 16, "status": "failed", "error": "x"}
    del before["runs"]["standard_1_D16"]
    record.write_text(json.dumps(before))
    after = retimed(record, "--only", "btt")
    assert [name for name, run in after["runs"].items() if "timed" in run] == ["btt_D8"]
    assert after["runs"]["btt_D16"] == before["runs"]["btt_D16"]


def test_a_run_that_breaks_off_has_lost_nothing(record, monkeypatch):
    timed = retiming.timed
    monkeypatch.setattr(retiming, "timed", lambda run, *rest: timed(run, *rest) if run.width == 8 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        retiming.retime(MICRO, record, device=torch.device("cpu"), say=lambda line: None)
    runs = json.loads(record.read_text())["runs"]
    assert [name for name, run in runs.items() if "timed" in run] == ["standard_1_D8", "btt_D8"]


def test_what_another_process_has_timed_meanwhile_stays(record, monkeypatch):
    timed = retiming.timed

    def meanwhile(run, *rest):
        content = json.loads(record.read_text())
        content["runs"]["standard_1_D16"] |= {"seconds_a_step": 42.0, "timed": {"commit": "the other's"}}
        record.write_text(json.dumps(content))
        return timed(run, *rest)

    monkeypatch.setattr(retiming, "timed", meanwhile)
    runs = retimed(record, "--only", "btt")["runs"]
    assert runs["standard_1_D16"]["timed"] == {"commit": "the other's"}
    assert {name for name, run in runs.items() if set(run.get("timed", {})) == {"commit", "hardware"}} == {
        "btt_D8",
        "btt_D16",
    }


def test_what_cannot_be_timed_is_refused(record, tmp_path):
    for words, said in (
        (["--retime", str(tmp_path / "nowhere.json")], "FileNotFoundError: "),
        (["--retime", str(record), "--only", "D9"], "must hold a finished run whose name contains 'D9', got none"),
        (["--retime", str(record), "--steps", "21"], "is of another setting, steps = 20 and not 21"),
    ):
        with pytest.raises(SystemExit, match=said):
            command.main(["regression", "--preset", "icl-micro", *words])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_timed_step_is_the_captured_one(record):
    run = retiming.runs(replace(MICRO, steps=60), record.parent)[0]
    assert retiming.timed(run, 2, torch.device("cuda"), True)["step"] == "compiled, one CUDA graph"
