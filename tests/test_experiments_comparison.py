"""A comparison: killed and taken up again, shared by processes, refused where it does not fit, always recorded."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import structattn_minimal as sa
from structattn_minimal.experiments import __main__ as command
from structattn_minimal.experiments import comparison, presets, records, regression, regression_task, text
from structattn_minimal.experiments.presets import COMPARISONS, SCORERS

MICRO = COMPARISONS["icl-micro"]
ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def run_all(preset, folder, **options):
    lines = []
    complete = comparison.run_all(preset, folder, say=lines.append, **options)
    return complete, "\n".join(lines)


def results(folder, name="btt_D8"):
    return json.loads((folder / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The whole of icl-micro, through the command line."""
    folder = tmp_path_factory.mktemp("runs") / "new"
    command.main(["regression", "--preset", "icl-micro", "--out", str(folder)])
    return folder


# Interrupted at any moment


def found_after_kills(folder, task, moments):
    """What `killed_runs.py` tells of each moment, all of which must end alike."""
    script = [sys.executable, str(ROOT / "tests/killed_runs.py"), str(folder), task]
    told = subprocess.run(script, env=ENVIRONMENT, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    assert len(found) == moments
    for moment, what in found.items():
        assert what["killed"], moment
        assert what["same"], moment
    return found


def test_a_killed_run_ends_with_the_same_weights(tmp_path):
    found = found_after_kills(tmp_path, "regression", moments=8)
    assert "btt_D8.safetensors" in found["step 11 of the sweep"]["left"]  # it did go on, not begin again
    assert "btt_D8.safetensors.unfinished" in found["a later checkpoint, half written"]["left"]
    assert "btt_D8.safetensors" not in found["between a checkpoint's renames"]["left"]


def test_a_time_limit_stops_with_a_checkpoint_and_resume_goes_on(tmp_path, finished):
    soon = perf_counter() + 0.05
    complete, _ = run_all(replace(MICRO, steps=20), tmp_path, only="btt_D8", until=soon)
    assert not complete
    with pytest.raises(ValueError, match=r"holds btt_D8 already: --resume goes on with it, or choose another --out"):
        run_all(MICRO, tmp_path)
    assert run_all(MICRO, tmp_path, resume=True)[0]
    names = ("swept", "by_seed", "best_rate", "last", "training_macs_a_model", "setting")
    for name in ("btt_D8", "standard_1_D16"):
        assert [results(tmp_path, name)[key] for key in names] == [results(finished, name)[key] for key in names]


def test_what_is_finished_is_not_run_again(finished, monkeypatch):
    monkeypatch.setattr(comparison, "execute", None)
    assert run_all(MICRO, finished, resume=True) == (True, "")


@pytest.mark.parametrize("damage", [b"", b"\xff" * 100])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, finished, monkeypatch, damage):
    fit = comparison.fit
    monkeypatch.setattr(comparison, "fit", lambda training, **options: fit(training, **options | {"until": stop[0]}))
    stop = [perf_counter() + 0.03]
    run_all(MICRO, tmp_path, only="btt_D8", every=0)
    run = comparison.Run(MICRO, "btt", 8, tmp_path)
    run.checkpoint.with_name("btt_D8.safetensors.previous").write_bytes(run.checkpoint.read_bytes())
    run.checkpoint.write_bytes(damage)
    stop = [float("inf")]
    complete, said = run_all(MICRO, tmp_path, only="btt_D8", resume=True)
    assert complete
    assert "btt_D8.safetensors is broken" in said
    assert "Going on from the checkpoint before it" in said
    assert results(tmp_path)["by_seed"] == results(finished)["by_seed"]


def test_two_damaged_checkpoints_end_the_command_with_advice(tmp_path, capsys):
    for name in ("btt_D8.safetensors", "btt_D8.safetensors.previous"):
        (tmp_path / name).write_bytes(b"no checkpoint")
    with pytest.raises(
        SystemExit, match=r"ValueError: .*btt_D8\.safetensors is broken.*: delete .* to begin this run again"
    ):
        command.main(["regression", "--preset", "icl-micro", "--out", str(tmp_path), "--only", "btt_D8", "--resume"])


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a full disk is simulated by /dev/full")
def test_a_full_disk_ends_the_command_and_loses_nothing(tmp_path, finished):
    arguments = ["regression", "--preset", "icl-micro", "--out", str(tmp_path), "--only", "D8"]
    (tmp_path / f"btt_D8.{os.getpid()}.unfinished").symlink_to("/dev/full")
    with pytest.raises(SystemExit, match=r"OSError: .*cannot write .*the disk is full.*--resume"):
        command.main(arguments)
    assert results(tmp_path, "standard_1_D8")["status"] == "finished"  # the run before it
    command.main([*arguments, "--resume"])
    assert results(tmp_path)["by_seed"] == results(finished)["by_seed"]


# Divergence and failure


def test_diverged_models_are_recorded_and_the_others_count(tmp_path, finished):
    complete, _ = run_all(replace(MICRO, rates=(1e-2, 1e30)), tmp_path, only="btt_D8")
    found = results(tmp_path)
    assert complete
    assert [model["diverged_at"] for model in found["swept"]] == [None, 1]
    assert found["swept"][1]["last"] is None
    assert found["swept"][1]["curve"]["loss"][2:] == [None] * 18
    assert (found["best_rate"], found["diverged"]) == (1e-2, 1)
    assert found["by_seed"] == results(finished)["by_seed"]


def test_a_run_whose_models_all_diverge_is_finished_and_says_so(tmp_path):
    complete, _ = run_all(replace(MICRO, rates=(1e30, 1e30)), tmp_path, only="btt_D8")
    found = results(tmp_path)
    assert complete
    assert (found["best_rate"], found["last"], found["by_seed"], found["diverged"]) == (None, None, [], 2)


def test_a_failed_run_is_recorded_the_next_one_begins_and_resume_tries_again(tmp_path, monkeypatch):
    build = comparison.build

    def fail(run, *rest):
        if run.method == "standard_1":
            raise RuntimeError("CUDA out of memory")
        return build(run, *rest)

    monkeypatch.setattr(comparison, "build", fail)
    arguments = ["regression", "--preset", "icl-micro", "--out", str(tmp_path), "--only", "D8"]
    with pytest.raises(SystemExit, match="not finished"):
        command.main(arguments)
    failed = results(tmp_path, "standard_1_D8")
    assert (failed["status"], failed["error"]) == ("failed", "RuntimeError: CUDA out of memory")
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["runs"]["standard_1_D8"]["status"] == "failed"
    assert record["runs"]["btt_D8"]["status"] == "finished"
    assert record["missing"] == ["standard_1_D16", "btt_D16"]
    monkeypatch.undo()
    command.main([*arguments, "--resume"])
    assert results(tmp_path, "standard_1_D8")["status"] == "finished"


# Wrong input


def test_results_and_checkpoints_of_another_setting_are_refused(finished, tmp_path):
    with pytest.raises(ValueError, match=r"standard_1_D8\.json is of another setting, steps = 20 and not 40: name its"):
        run_all(replace(MICRO, steps=40), finished, resume=True)
    run_all(MICRO, tmp_path, only="btt_D8", until=perf_counter() + 0.05)
    with pytest.raises(ValueError, match=r"btt_D8\.safetensors is of another setting, batch = 8 and not 4"):
        run_all(replace(MICRO, batch=4), tmp_path, only="btt_D8", resume=True)
    (tmp_path / "btt_D16.json").write_text("{")
    with pytest.raises(ValueError, match=r"btt_D16\.json holds no results .*: delete it to run btt_D16 again"):
        run_all(MICRO, tmp_path, only="btt_D16", resume=True)


def rewritten(path, change):
    found = json.loads(path.read_text())
    change(found["setting"])
    path.write_text(json.dumps(found))


def test_results_older_than_a_field_had_its_default(finished, tmp_path, monkeypatch):
    folder = tmp_path / "runs"
    shutil.copytree(finished, folder)
    for run in comparison.runs(MICRO, folder):
        rewritten(run.results, lambda setting: setting.pop("power"))
    monkeypatch.setattr(comparison, "execute", None)  # nothing is run again
    assert run_all(MICRO, folder, resume=True) == (True, "")
    record = comparison.collect(MICRO, "icl-micro", folder, tmp_path / "record.json", "python -m x")
    assert record["setting"]["power"] == 1.0
    with pytest.raises(ValueError, match=r"is of another setting, power = 1\.0 and not 2\.0: name its preset"):
        run_all(replace(MICRO, power=2.0), folder, resume=True)
    rewritten(folder / "btt_D8.json", lambda setting: setting.update(power=2.0))  # one that names it means it
    with pytest.raises(ValueError, match=r"btt_D8\.json is of another setting, power = 2\.0 and not 1\.0"):
        run_all(MICRO, folder, resume=True)
    rewritten(folder / "btt_D8.json", lambda setting: (setting.update(power=1.0), setting.pop("batch")))
    with pytest.raises(ValueError, match=r"btt_D8\.json is of another setting, batch = None and not 8"):
        run_all(MICRO, folder, resume=True)  # what has no default has to be there


def test_checkpoints_older_than_a_field_had_its_default(tmp_path, finished, monkeypatch):
    run_all(MICRO, tmp_path, only="btt_D8", until=perf_counter() + 0.05)
    load = comparison.load_checkpoint

    def older(path):
        tensors, words, damaged = load(path)
        del words["setting"]["power"]
        return tensors, words, damaged

    monkeypatch.setattr(comparison, "load_checkpoint", older)
    with pytest.raises(ValueError, match=r"btt_D8\.safetensors is of another setting, power = 1\.0 and not 2\.0"):
        run_all(replace(MICRO, power=2.0), tmp_path, only="btt_D8", resume=True)
    assert run_all(MICRO, tmp_path, only="btt_D8", resume=True)[0]
    assert results(tmp_path) == results(finished) | {
        key: results(tmp_path)[key] for key in results(finished) if "seconds" in key or key == "commit"
    }


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["regression", "--preset", "icl-61"],
            "--preset of regression must be one of icl-chapter, .*icl-16.*, got icl-61",
        ),
        (["text", "--preset", "icl-16"], "--preset of text must be one of lm-tiny, lm-256, .*, got icl-16"),
        (["regression", "--preset", "lm-256"], "--preset of regression must be one of .*, got lm-256"),
        (["regression", "--preset", "icl-tiny"], "--out must name the record of icl-tiny"),
        (["regression", "--preset", "icl-micro", "--device", "cuda"], "sees no GPU here"),
    ],
)
def test_a_wrong_word_is_refused_by_name(words, told, capsys):
    if "cuda" in words and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SystemExit):
        command.main(words)
    assert re.search(told, capsys.readouterr().err.replace("\n", " "))


def test_a_part_of_no_name_is_refused(tmp_path):
    with pytest.raises(SystemExit, match=r"only must be part of the name of a run, got 'D9': \['standard_1_D8'"):
        command.main(["regression", "--preset", "icl-micro", "--out", str(tmp_path), "--only", "D9"])


# Several processes at one comparison


def test_processes_share_the_runs_out(tmp_path, finished):
    """Each run is one process's, nobody waits for another, and the record is as if one had run all."""
    words = ["-m", "structattn_minimal.experiments", "regression", "--preset", "icl-micro", "--out", str(tmp_path)]
    both = [subprocess.Popen([sys.executable, *words, "--resume"], env=ENVIRONMENT, stdout=-1, text=True) for _ in "ab"]
    told = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    names = [run.name for run in comparison.runs(MICRO, tmp_path)]
    for name in names:
        assert sum(f"{name}: last-point error" in lines for lines in told) == 1, told
        assert results(tmp_path, name)["by_seed"] == results(finished, name)["by_seed"]
    assert json.loads((tmp_path / "record.json").read_text())["runs"].keys() == set(names)


def test_the_run_of_another_process_is_left_to_it(tmp_path):
    with comparison.claimed(comparison.Run(MICRO, "btt", 8, tmp_path)) as ours:
        assert ours
        complete, said = run_all(MICRO, tmp_path)
    assert complete
    assert "btt_D8 is another process's" in said
    assert not (tmp_path / "btt_D8.json").exists()
    assert (tmp_path / "btt_D16.json").exists()
    assert run_all(MICRO, tmp_path, resume=True)[0]  # the claim is over
    assert (tmp_path / "btt_D8.json").exists()


def test_a_run_that_another_has_finished_meanwhile_is_not_run_again(tmp_path, finished, monkeypatch):
    @contextmanager
    def late(run):
        shutil.copy(finished / run.results.name, run.results)
        yield True

    monkeypatch.setattr(comparison, "claimed", late)
    monkeypatch.setattr(comparison, "execute", None)
    assert run_all(MICRO, tmp_path) == (True, "")


# What is recorded


def test_a_record_is_complete(finished):
    record = json.loads((finished / "record.json").read_text())
    assert {"commit", "command", "seeds", "hardware", "versions", "wall_seconds", "preset", "setting"} <= record.keys()
    assert record["seeds"] == [100, 0, 1]
    assert "--preset icl-micro" in record["command"]
    assert record["missing"] == []
    assert record["wall_seconds"] == pytest.approx(sum(run["wall_seconds"] for run in record["runs"].values()), abs=0.5)
    assert record["baselines"]["least_squares"] < 1e-6 < record["baselines"]["ridge"] < 0.2
    assert list(record["runs"]) == ["standard_1_D8", "btt_D8", "standard_1_D16", "btt_D16"]
    for name, run in record["runs"].items():
        model = text.load_model(finished / f"{name}_model.safetensors")
        assert run["params"] == sum(weight.numel() for weight in model.parameters())
        assert run["status"] == "finished"
        assert run["seconds_a_step"] > 0
        assert [model["rate"] for model in run["swept"]] == [3e-3, 1e-2]
        assert [(model["rate"], model["seed"]) for model in run["by_seed"]] == [
            (run["best_rate"], 0),
            (run["best_rate"], 1),
        ]
        assert run["best_rate"] == min(run["swept"], key=lambda model: model["last"])["rate"]
        assert run["lowest"] <= run["last"] <= run["highest"]
        for each in run["swept"] + run["by_seed"]:
            assert len(each["by_position"]) == MICRO.pairs
            assert each["last"] == each["by_position"][-1]
            assert len(each["curve"]["loss"]) == len(each["curve"]["last"]) == len(each["curve"]["steps"]) == 20
    assert not list(finished.glob("*.previous")) + list(finished.glob("*D8.safetensors"))


def test_a_record_grows_by_what_another_folder_holds(finished, tmp_path, monkeypatch):
    def collected(folder, preset=MICRO, **how):
        comparison.collect(preset, "icl-micro", folder, tmp_path / "record.json", "python -m x", **how)
        return json.loads((tmp_path / "record.json").read_text())

    halves = [tmp_path / "first", tmp_path / "second"]
    for folder, part in zip(halves, ("D8", "D16"), strict=True):
        folder.mkdir()
        for file in finished.glob(f"*{part}.json"):
            shutil.copy(file, folder)
    for file in halves[1].glob("*.json"):  # run elsewhere, and later
        file.write_text(json.dumps(json.loads(file.read_text()) | {"commit": "abc", "hardware": "another machine"}))
    first = collected(halves[0])
    assert first["missing"] == ["standard_1_D16", "btt_D16"]
    assert collected(halves[1], grow=True)["commit"] == f"{first['commit']}; abc"
    grown, whole = collected(halves[1], grow=True), json.loads((finished / "record.json").read_text())
    origins = [(run.pop("commit"), run.pop("hardware")) for run in grown["runs"].values()]
    here = first["commit"], first["hardware"]
    assert origins == [here] * 2 + [("abc", "another machine")] * 2  # of each run its own
    assert {(run.pop("commit"), run.pop("hardware")) for run in whole["runs"].values()} == {here}
    assert (grown["runs"], grown["missing"], grown["wall_seconds"]) == (whole["runs"], [], whole["wall_seconds"])
    assert list(grown["runs"]) == list(whole["runs"])
    assert grown["hardware"] == f"{first['hardware']}; another machine"
    assert list(collected(halves[1])["runs"]) == ["standard_1_D16", "btt_D16"]  # if it is not to grow, it does not
    older = json.loads((tmp_path / "record.json").read_text())
    for run in older["runs"].values():
        del run["commit"], run["hardware"]
    (tmp_path / "record.json").write_text(json.dumps(older | {"commit": "abc; def", "hardware": "one; two"}))
    grown = collected(halves[0], grow=True)
    origins = [(run["commit"], run["hardware"]) for run in grown["runs"].values()]
    assert origins == [here] * 2 + [("abc; def", "one; two")] * 2
    assert grown["commit"] == f"{first['commit']}; abc; def"
    monkeypatch.setattr(comparison.Run, "finished", lambda run: None)  # as if the folder were of that setting too
    with pytest.raises(ValueError, match=r"record\.json is of another setting, batch = 8 and not 9"):
        collected(halves[1], replace(MICRO, batch=9), grow=True)


def test_the_saved_model_is_the_one_that_was_measured(finished):
    model, (x, y) = (
        text.load_model(finished / "btt_D8_model.safetensors"),
        regression_task.fresh_prompts(MICRO, torch.device("cpu"))[0],
    )
    errors = (regression.predictions(model(regression.interleave(x, y))) - y).square().mean(0)
    assert errors[-1].item() == pytest.approx(results(finished)["by_seed"][0]["last"], rel=1e-3)


@pytest.mark.parametrize("method", list(SCORERS))
@pytest.mark.parametrize("name", [name for name in COMPARISONS if name[4:].isdigit()])
def test_costs_are_those_of_a_counter(name, method):
    """And all presets make models."""
    preset = COMPARISONS[name]
    run = comparison.Run(preset, method, preset.widths[-1], Path())
    with torch.device("meta"):
        model = sa.GPT(run.config)
    macs, tokens = comparison.macs_a_token(model), 2 * preset.pairs
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(torch.empty(1, tokens, preset.d, device="meta"))
    counted = counter.get_total_flops() / 2 / tokens
    assert (
        macs["all"] == sum(value for part, value in macs.items() if part != "all") == pytest.approx(counted, rel=1e-6)
    )


def test_all_widths_of_all_presets_make_models():
    for preset in COMPARISONS.values():
        for run in comparison.runs(preset, Path()):
            assert run.config.d_model == run.width
            ranks = run.config.attention_options.get("ranks")
            assert ranks is None or sum(ranks) == run.width // 8


def test_fresh_prompts_are_no_training_prompts_and_the_same_for_all():
    first, again = (regression_task.fresh_prompts(MICRO, torch.device("cpu")) for _ in range(2))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first, again, strict=True))
    assert sum(len(x) for x, _ in first) == MICRO.fresh
    x = torch.cat([x for x, _ in first])
    assert len(x.flatten(1).unique(dim=0)) == len(x)
    assert regression_task.FRESH_SEED not in (*MICRO.seeds, MICRO.sweep_seed)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_training_prompts_follow_the_curriculum_of_their_setting(power):
    preset = replace(MICRO, d=4, steps=50, batch=2, curriculum=0.8, power=power)
    seeds, draw = torch.tensor([0]), regression_task.draw(preset, preset.steps, torch.device("cpu"))
    seen = [draw(seeds, torch.tensor([step]))[0][0, :, 0::2].ne(0).any(0).any(0).sum().item() for step in range(50)]
    assert seen == [regression.active_dimensions(step, 50, 4, 0.8, power) for step in range(50)]
    assert seen.index(2) == {1.0: 10, 2.0: 20}[power]


def test_ridge_is_what_minimises_the_penalised_error_and_least_squares_without():
    x, y = regression.sample_prompts(20, pairs=9, d=4, generator=torch.Generator().manual_seed(0))
    y = y + 0.3 * torch.randn(20, 9)
    for penalty in (0.0, 0.7):
        w = torch.zeros(20, 4, dtype=torch.float64, requires_grad=True)
        residual = (x[:, :-1].double() @ w[:, :, None]).squeeze(-1) - y[:, :-1].double()
        (gradient,) = torch.autograd.grad(residual.square().sum() + penalty * w.square().sum(), w)
        root = torch.linalg.solve(
            2 * (x[:, :-1].mT @ x[:, :-1]).double() + 2 * penalty * torch.eye(4), -gradient[..., None]
        )
        answers = (x[:, -1, None].double() @ root).flatten().float()
        torch.testing.assert_close(regression.ridge(x, y, penalty), answers, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(regression.ridge(x, y, 0.0), regression.least_squares(x, y)[:, -1], atol=1e-3, rtol=1e-3)


# Several processes


def test_two_processes_train_as_one_with_the_same_batch(tmp_path, finished):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", port]
    words = ["-m", "structattn_minimal.experiments", "regression", "--preset", "icl-micro", "--only", "btt_D8"]
    told = subprocess.run([*launch, *words, "--out", str(tmp_path)], env=ENVIRONMENT, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert told.stdout.count("last-point error") == 1  # one of them speaks
    for stage in ("swept", "by_seed"):
        for two, one in zip(results(tmp_path)[stage], results(finished)[stage], strict=True):
            assert two["curve"]["loss"] == pytest.approx(one["curve"]["loss"], rel=1e-3)
            assert two["last"] == pytest.approx(one["last"], rel=1e-3)


def test_larger_dimensions_begin_slowly_and_what_is_recorded_stays_as_it_was():
    slow = {name: (preset.curriculum, preset.power) for name, preset in COMPARISONS.items() if preset.power != 1}
    assert slow == dict.fromkeys(("icl-32", "icl-64", "icl-rates", "icl-rates-plain"), (0.4, 2.0))
    recorded = records.read_record("icl_16")["setting"]
    run = comparison.Run(COMPARISONS["icl-16"], "btt", 32, Path())
    run.check(recorded, Path("icl_16.json"))
    with pytest.raises(ValueError, match=r"batch = 64 and not 128, curriculum = 0\.2 .*, power = 1\.0 and not 2\.0"):
        replace(run, preset=COMPARISONS["icl-32"]).check(
            records.read_record("icl_32_first")["setting"], Path("icl_32_first")
        )


def test_without_mup_every_parameter_has_the_base_rate_at_every_width():
    def rates(width, **changes):
        run = comparison.Run(replace(MICRO, **changes), "btt", width, Path())
        return comparison.build(run, [1e-3], [0], torch.device("cpu")).population.rates

    assert torch.equal(rates(128, mup=False), torch.full_like(rates(128), 1e-3))
    assert rates(128).min() < 5e-4
    assert "mup" not in records.read_record("icl_32_first")["setting"]  # from before the choice, which changes nothing
    with_it, without = COMPARISONS["icl-rates"], COMPARISONS["icl-rates-plain"]
    assert replace(without, mup=True) == with_it
    run = comparison.Run(without, "btt", 64, Path())
    with pytest.raises(ValueError, match="mup = True and not False"):
        run.check(replace(run, preset=with_it).setting, Path("record.json"))


def test_two_processes_may_write_their_record_at_the_same_time(tmp_path, monkeypatch):
    path, write_whole, pids = tmp_path / "record.json", records.write_whole, iter((1, 2))
    monkeypatch.setattr(os, "getpid", lambda: next(pids))

    def overtaken(file, content):
        write_whole(file, content)
        monkeypatch.setattr(records, "write_whole", write_whole)
        records.write_json(path, {"of": "the other"})

    monkeypatch.setattr(records, "write_whole", overtaken)
    records.write_json(path, {"of": "this one"})
    assert json.loads(path.read_text()) == {"of": "this one"}
    assert list(tmp_path.iterdir()) == [path]


def test_presets_are_in_one_place_and_the_command_knows_them():
    assert {
        "icl-16",
        "icl-32",
        "icl-64",
        "icl-16-long",
        "icl-rates",
        "icl-rates-plain",
        "icl-live",
        "icl-smoke",
        "icl-micro",
    } == presets.COMPARISONS.keys()
    assert command.presets("regression").keys() == regression.PRESETS.keys() | presets.COMPARISONS.keys()
