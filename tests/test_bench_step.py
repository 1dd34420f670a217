"""The benchmark of a training step, in small and on a CPU: what it times are steps, each of which trains."""

import json

import pytest
import torch

from structattn_minimal.bench import step
from structattn_minimal.experiments.records import write_record
from structattn_minimal.experiments.training import Training

SMALL = {"width": 64, "layers": 1, "repeats": 3, "steps": 2, "device": "cpu"}


@pytest.fixture(scope="module")
def results():
    return step.measure_all([(64, 2), (128, 1)], ["standard", "swa", "mlr_steep"], **SMALL)


def test_every_method_has_its_time_at_every_length(results):
    assert list(results["cases"]) == ["T64_B2", "T128_B1"]
    for rows in results["cases"].values():
        assert list(rows) == ["standard", "swa", "mlr_steep"]
        for row in rows.values():
            assert 0 < row["lowest"] <= row["ms"] <= row["highest"]
            assert row["step"] == "eager"
    assert results["setting"] == SMALL | {"precision": "float32"}


def test_it_can_be_written_as_a_record_and_shown(results, tmp_path, capsys):
    write_record(tmp_path / "step_speed.json", results, command="test", seeds=[0])
    assert json.loads((tmp_path / "step_speed.json").read_text())["cases"] == results["cases"]
    step.print_table(results)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 2 * 3
    assert sum(" 1.00x" in line for line in lines if "standard" in line) == 2


def test_each_step_that_is_timed_changes_the_weights(monkeypatch):
    seen, advance = [], Training.advance

    def watched(training, steps):
        before = training.population.theta.detach().clone()
        advance(training, steps)
        seen.append((steps, not torch.equal(before, training.population.theta), training.done))

    monkeypatch.setattr(Training, "advance", watched)
    step.measure_all([(32, 2)], ["standard"], **SMALL)
    assert [steps for steps, _, _ in seen] == [2 * Training.warm_up] + [SMALL["steps"]] * (1 + SMALL["repeats"])
    assert all(changed for _, changed, _ in seen)


def test_what_is_told_is_the_median_of_all_but_the_first(monkeypatch):
    times = iter([9.0, 0.3, 0.1, 0.2])
    monkeypatch.setattr(step, "seconds", lambda training, steps: next(times))
    row = step.measure_all([(32, 2)], ["standard"], **SMALL)["cases"]["T32_B2"]["standard"]
    assert (row["ms"], row["lowest"], row["highest"]) == (200.0, 100.0, 300.0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_on_a_gpu_a_step_is_compiled_and_one_graph():
    (rows,) = step.measure_all([(256, 2)], ["standard", "mlr_steep"], **SMALL | {"device": "cuda"})["cases"].values()
    assert {row["step"] for row in rows.values()} == {"compiled, one CUDA graph"}
