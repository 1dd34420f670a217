"""Language models compared: the same batches for all, killed and taken up again, read and written."""

import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import mkdtemp
from time import perf_counter

import pytest
import torch
from test_experiments_comparison import found_after_kills
from test_experiments_training import HostTalk
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

import structattn_minimal as sa
from structattn_minimal.experiments import __main__ as command
from structattn_minimal.experiments import alphabet, batches, comparison, generate, text, text_task, training
from structattn_minimal.experiments.presets import COMPARED, TEXT_COMPARISONS

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
each_method = pytest.mark.parametrize("method", list(COMPARED))


def write_text(path):
    """A text of one's own: quick to read, and quick to learn a little of."""
    path.write_text("".join(f"{i} potatoes and {i * i} beans. " for i in range(2000)))
    return str(path)


OWN = write_text(Path(mkdtemp()) / "own.txt")
SMOKE = replace(TEXT_COMPARISONS["lm-smoke"], corpus=OWN)


def arguments(folder, *more, name="mlr_D16"):
    return ["text", "--preset", "lm-smoke", "--corpus", OWN, "--out", str(folder), "--only", name, *more]


def results(folder, name="mlr_D16"):
    return json.loads((folder / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two methods of lm-smoke, through the command line."""
    folder = tmp_path_factory.mktemp("runs") / "new"
    command.main(arguments(folder))
    command.main(arguments(folder, "--resume", name="sequential"))
    return folder


# What is drawn


def test_stretches_are_of_the_text_and_targets_one_character_later():
    tokens = torch.arange(200, dtype=torch.uint8)
    inputs, targets = batches.counted_sample(tokens, torch.tensor([3, 4]), torch.tensor([9]), batch=2000, context=8)
    assert inputs.dtype == targets.dtype == torch.int64
    assert inputs.shape == (2, 2000, 8)
    assert (inputs.diff(dim=-1) == 1).all()
    assert torch.equal(targets, inputs + 1)
    assert set(inputs[..., 0].flatten().tolist()) == set(range(192))  # all of them, up to the last
    assert (inputs[0] != inputs[1]).any()
    other, _ = batches.counted_sample(tokens, torch.tensor([3]), torch.tensor([10]), batch=2000, context=8)
    assert (inputs[0] != other[0]).any()
    with pytest.raises(ValueError, match="tokens must be more than context = 200, got 200"):
        batches.counted_sample(tokens, torch.tensor([3]), torch.tensor([9]), batch=1, context=200)


def test_processes_share_a_batch_out():
    tokens, seeds, step = torch.arange(200, dtype=torch.uint8), torch.tensor([3]), torch.tensor([0])
    whole, _ = batches.counted_sample(tokens, seeds, step, batch=7, context=8)
    for i in range(3):
        part, _ = batches.counted_sample(tokens, seeds, step, batch=7, context=8, share=(i, 3))
        assert torch.equal(part, whole[:, i::3])


def test_all_methods_and_widths_read_the_same_batches():
    drawn = [
        comparison.build(comparison.Run(SMOKE, method, width, Path()), [1e-3], [5], CPU).draw(
            torch.tensor([5]), torch.tensor([12])
        )[0]
        for method, width in (("standard", 16), ("mlr", 16), ("mlr", 32))
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2])


# One model at a time, on the quickest path


@each_method
def test_a_model_by_itself_is_no_batch_of_models_and_says_nothing_to_the_host(method, monkeypatch):
    one = comparison.build(comparison.Run(SMOKE, method, 16, Path()), [1e-3], [0], CPU)
    monkeypatch.setattr(training, "vmap", None)  # it would take twice the time
    with HostTalk():
        one.advance(2)
    assert one.curves[:2].isfinite().all()


@each_method
def test_bfloat16_changes_rounding_and_nothing_else(method):
    """The way a GPU trains: what attends sees bfloat16 alone, and the gradient is that of float32 but for rounding."""
    run, gradients = comparison.Run(SMOKE, method, 16, Path()), []
    for bf16 in (False, True):
        one = comparison.build(run, [1e-3], [0], CPU)
        population = one.population
        with torch.no_grad():  # as if trained: no weight is zero
            population.theta += 0.2 * torch.randn(population.theta.shape, generator=torch.Generator().manual_seed(1))
        population.bf16 = bf16
        inputs, targets = one.draw(one.seeds, population.steps)
        gradients.append(torch.autograd.grad(one.losses(population(inputs), targets).sum(), population.theta)[0])
    exact, rounded = gradients
    assert not torch.equal(exact, rounded)
    # Levels of few features have logits of up to 8, and undivided they add up: of those bfloat16 keeps 8 bits.
    tolerance = {"mlr_steep": 0.1, "mlr_steep_rotary": 0.1, "mlr_steep_sum": 0.5}.get(method, 0.05)
    assert (exact - rounded).norm() < tolerance * exact.norm()


def test_a_longer_context_has_as_many_characters_a_step_and_the_same_shares():
    short, long = TEXT_COMPARISONS["lm-512"], TEXT_COMPARISONS["lm-512-long"]
    assert (long.context, long.batch * long.context) == (4 * short.context, short.batch * short.context)
    assert long.windows * long.context == short.windows * short.context
    for method in long.methods:
        blocks = [dict(text_task.config(preset, method, 512).layers[0][1]).get("context") for preset in (short, long)]
        assert blocks == ([None, None] if method.startswith("standard") else [1024, 4096])


def test_a_short_sweep_then_seeds_one_model_at_a_time():
    words = {"swept": [], "by_seed": []}
    preset = replace(SMOKE, rates=(1e-3, 2e-3), seeds=(0, 1))
    order = []
    while (models := comparison.next_models(preset, words)) and len(order) < 9:
        stage, rates, seeds = models
        order.append((stage, rates, seeds, preset.of_stage(stage).steps))
        words[comparison.STAGES[stage]].append({"rate": rates[0], "held_out_loss": 1 / rates[0]})
    assert order == [
        ("sweep", [1e-3], [100], 10),
        ("sweep", [2e-3], [100], 10),
        ("seeds", [2e-3], [0], 30),
        ("seeds", [2e-3], [1], 30),
    ]


# What is measured and recorded


def test_the_saved_model_is_the_one_that_was_measured(finished):
    held_out = text_task.corpus(OWN).held_out
    inputs, targets = batches.windows(held_out, context=SMOKE.context, most=SMOKE.windows)
    for name in ("mlr_D16", "sequential_D16"):
        model, first = text.load_model(finished / f"{name}_model.safetensors"), results(finished, name)["by_seed"][0]
        losses = cross_entropy(model(inputs.long()).mT, targets.long(), reduction="none").mean(0)
        assert first["held_out_loss"] == pytest.approx(losses.mean().item(), rel=1e-3)
        ends = [0, *first["by_position"]["up_to"]]
        assert ends == [0, 1, 2, 4, 8, 16, 32]
        pieces = [losses[a:b].mean().item() for a, b in pairwise(ends)]
        assert first["by_position"]["loss"] == pytest.approx(pieces, rel=1e-3)
        assert [(one["block"], one["up_to"]) for one in first["by_seam"]] == [(16, [1, 2, 4, 8, 16]), (8, [1, 2, 4, 8])]
        assert first["by_seam"][0]["loss"][0] == pytest.approx(losses[16].item(), rel=1e-3)
        assert first["by_seam"][1]["loss"][0] == pytest.approx(losses[8::8].mean().item(), rel=1e-3)


def test_a_record_is_complete(finished):
    record = json.loads((finished / "record.json").read_text())
    assert {"commit", "command", "seeds", "hardware", "versions", "wall_seconds", "preset", "setting"} <= record.keys()
    assert record["seeds"] == [100, 0, 1]
    assert 2 < record["baselines"]["unigram_loss"] < 3.5
    assert record["baselines"]["corpus"]["sha256"] == record["setting"]["corpus_sha256"]
    assert list(record["runs"]) == ["sequential_D16", "mlr_D16"]
    assert "mlr_gain_D16" in record["missing"]
    for name, run in record["runs"].items():
        model = text.load_model(finished / f"{name}_model.safetensors")
        assert run["params"] == sum(weight.numel() for weight in model.parameters())
        assert run["attention"] == [kind for kind, _ in model.config.layers]
        assert [(each["rate"], each["seed"]) for each in run["swept"]] == [(8e-4, 100), (4e-3, 100)]
        assert [(each["rate"], each["seed"]) for each in run["by_seed"]] == [(run["best_rate"], s) for s in (0, 1)]
        assert run["best_rate"] == min(run["swept"], key=lambda model: model["held_out_loss"])["rate"]
        assert [len(each["curve"]["loss"]) for each in run["swept"] + run["by_seed"]] == [10, 10, 30, 30]
        assert run["by_seed"][0]["curve"]["loss"][0] == pytest.approx(4.564, abs=2e-3)  # log 96
        assert run["held_out_loss"] < 3.8
        assert run["lowest"] <= run["held_out_loss"] <= run["highest"]
        assert run["characters_a_model"] == 30 * 8 * 32
        sample = run["sample"]  # of the first seed, after what the text held out begins with
        assert sample["prompt"] == alphabet.decode(text_task.corpus(OWN).held_out[:8])
        assert sample["text"] == generate.continuation(model, sample["prompt"], 400, temperature=sample["temperature"])
        assert run["training_macs_a_model"] == 3 * run["macs_a_token"]["all"] * 30 * 8 * 32
        assert run["seconds_a_step"] > 0
    assert not list(finished.glob("*.previous")) + list(finished.glob("*D16.safetensors"))


@pytest.mark.parametrize("method", ["standard", "swa", "gswa", "sequential"])
@pytest.mark.parametrize("name", ["lm-smoke", "lm-256"])
def test_costs_are_those_of_a_counter(name, method):
    preset = TEXT_COMPARISONS[name]
    with torch.device("meta"):
        model = sa.GPT(text_task.config(preset, method, preset.widths[0]))
    macs = comparison.macs_a_token(model)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(torch.empty(1, preset.context, dtype=torch.long, device="meta"))
    counted = counter.get_total_flops() / 2 / preset.context
    assert macs["all"] == sum(v for part, v in macs.items() if part != "all") == pytest.approx(counted, rel=1e-6)


def test_mlr_scores_cost_what_its_blocks_hold():
    """32 features see all of T = 1024, the next 8 half of it, ...: the credit for locality, no less, no more."""
    with torch.device("meta"):
        mlr = sa.GPT(text_task.config(TEXT_COMPARISONS["lm-256"], "mlr", 256))
    seen = sum(rank * 1024 // 2**level for level, rank in enumerate((32, 8, 6, 4, 4, 4, 4, 2)))
    assert comparison.macs_a_token(mlr)["scores"] == 6 * 4 * seen
    assert comparison.macs_a_token(mlr)["values"] == 6 * 4 * 64 * 1024


@pytest.mark.parametrize("width", [256, 384, 512, 768])
def test_the_models_are_those_of_the_paper(width):
    preset = TEXT_COMPARISONS[f"lm-{width}"]
    assert preset.widths == (width,)
    configs = {method: text_task.config(preset, method, width) for method in preset.methods}
    for config in configs.values():
        shape = (config.n_layers, config.d_model, config.d_model // config.n_heads, config.context, config.vocab_size)
        assert shape == (6, width, 64, 1024, 96)
    assert configs["swa"].layers == (("swa", {"window": 512}),) * 6
    assert configs["gswa"].layers == (("gswa", {"ranks": (32, 32), "window": 512}),) * 6
    assert configs["sequential"].layers == (("standard", {}), ("swa", {"window": 128}), ("swa", {"window": 128})) * 2
    options = configs["mlr_gain"].attention_options
    assert options["ranks"] == (32, 8, 6, 4, 4, 4, 4, 2)
    assert options["normalize_levels"]
    options = configs["mlr_steep"].attention_options
    assert options["level_scales"] == (0.25, 0.5, 1.0, 1.0)  # 8 / r
    assert options["block_sizes"] == (1024, 128, 32, 8)


# Interrupted, and several at once


def test_a_killed_run_ends_with_the_same_weights(tmp_path):
    write_text(tmp_path / "own.txt")
    found = found_after_kills(tmp_path, "text", moments=3)
    assert "sequential_D16.safetensors" in found["step 20 of the second seed"]["left"]


def test_a_time_limit_stops_and_resume_goes_on(tmp_path, finished):
    with pytest.raises(SystemExit, match="not finished: the same command with --resume goes on"):
        command.main(arguments(tmp_path, "--minutes", "0.002"))
    with pytest.raises(SystemExit, match=r"holds mlr_D16 already: --resume goes on with it"):
        command.main(arguments(tmp_path))
    command.main(arguments(tmp_path, "--resume"))
    for key in ("swept", "by_seed", "best_rate", "held_out_loss", "setting"):
        assert results(tmp_path)[key] == results(finished)[key], key


def test_two_processes_train_as_one_with_the_same_batch(tmp_path, finished):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", port]
    words = ["-m", "structattn_minimal.experiments", *arguments(tmp_path)]
    told = subprocess.run([*launch, *words], env=ENVIRONMENT, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert told.stdout.count("held-out loss") == 1  # one of them speaks
    assert results(tmp_path)["processes"] == 2
    for stage in ("swept", "by_seed"):
        for two, one in zip(results(tmp_path)[stage], results(finished)[stage], strict=True):
            assert two["curve"]["loss"] == pytest.approx(one["curve"]["loss"], rel=2e-3)
            assert two["held_out_loss"] == pytest.approx(one["held_out_loss"], rel=2e-3)


def test_a_rate_at_which_the_model_diverges_is_recorded_and_not_chosen(tmp_path, finished):
    preset = replace(SMOKE, rates=(1e30, 4e-3))
    assert comparison.run_all(preset, tmp_path, only="mlr_D16", say=lambda line: None)
    found = results(tmp_path)
    assert [each["diverged_at"] is None for each in found["swept"]] == [False, True]
    assert found["swept"][0]["held_out_loss"] is None
    assert (found["best_rate"], found["diverged"]) == (4e-3, 1)
    assert found["by_seed"] == results(finished)["by_seed"]


# One's own text


def test_another_text_under_the_same_name_is_refused(tmp_path, finished):
    assert list(results(finished)["setting"]["corpus_sha256"]) == ["own.txt"]
    path = tmp_path / "own.txt"
    words = arguments(tmp_path / "runs", "--corpus", write_text(path))
    with pytest.raises(SystemExit, match="not finished"):
        command.main([*words, "--minutes", "0.002"])
    path.write_text(path.read_text().replace("beans", "peas"))
    text_task.corpus.cache_clear()  # another process would not have it
    with pytest.raises(SystemExit, match=r"mlr_D16\.safetensors is of another setting, corpus_sha256 = .* and not"):
        command.main([*words, "--resume"])


def test_the_command_shortens_a_comparison(tmp_path):
    """What a record of other steps is made with; and one rate is no choice."""
    shorter = arguments(tmp_path, "--steps", "12", "--rates", "3e-3", "--seeds", "5", "--methods", "standard", "mlr")
    command.main(shorter)
    record = json.loads((tmp_path / "record.json").read_text())
    found = results(tmp_path)
    assert (found["swept"], [model["seed"] for model in found["by_seed"]], found["best_rate"]) == ([], [5], 3e-3)
    assert found["characters_a_model"] == 12 * 8 * 32
    assert (record["setting"]["steps"], record["setting"]["methods"]) == (12, ["standard", "mlr"])
    assert record["missing"] == ["standard_D16"]
    with pytest.raises(SystemExit, match="steps = 12 and not 13"):
        command.main([*shorter, "--resume", "--steps", "13"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--preset", "lm-smoke", "--corpus", "SHORT"], r"short\.txt must have at least 20,000 characters, got 300"),
        (["--preset", "lm-smoke", "--corpus", "no-such"], "corpus must be one of .*, got 'no-such'"),
        (["--preset", "lm-smoke", "--steps", "0"], "--steps must be positive, got 0"),
        (["--preset", "lm-smoke", "--rates", "1e-3", "-1"], "--rates must be positive, got -1"),
        (["--preset", "lm-512", "--methods", "mlr_coarse"], "--methods of lm-512 must be among .*, got mlr_coarse"),
        (
            ["--preset", "lm-tiny", "--out", "x", "--steps", "9"],
            "--steps, .*--methods, .* go with a comparison, not with lm-tiny",
        ),
        (["--preset", "lm-255"], "--preset of text must be one of lm-tiny, lm-256, .*, got lm-255"),
        (["--preset", "lm-256", "--device", "cuda"], "sees no GPU here"),
        (["--preset", "lm-256"], "--device cuda: .* sees no GPU here"),
    ],
)
def test_a_wrong_word_is_refused_by_name(words, told, tmp_path, capsys):
    if "lm-256" in words and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    (tmp_path / "short.txt").write_text("abc" * 100)
    with pytest.raises(SystemExit):
        command.main(["text", *(str(tmp_path / "short.txt") if word == "SHORT" else word for word in words)])
    assert re.search(told, capsys.readouterr().err.replace("\n", " "))


# What a model writes


def written(capsys, *words):
    command.main(["generate", *map(str, words)])
    return capsys.readouterr().out


def test_generate_continues_the_prompt_and_can_be_repeated(finished, capsys):
    source = ["--from", finished / "mlr_D16_model.safetensors", "--prompt", "def f", "--characters", "100"]
    first, again, other, best = (
        written(capsys, *source, *more)
        for more in (["--seed", "1"], ["--seed", "1"], ["--seed", "2"], ["--temperature", "0"])
    )
    assert first == again != other
    assert len(first) == len(best) == 5 + 100 + 1  # longer than the context, and the end of the line
    assert first.startswith("def f")
    assert best == written(capsys, *source, "--temperature", "0", "--seed", "7")


def test_beyond_the_context_it_goes_on_from_the_latter_half(finished):
    model = text.load_model(finished / "sequential_D16_model.safetensors")
    torch.nn.init.normal_(model.head.weight)  # so that a character depends on those before it
    long = generate.continuation(model, "x" * 40, 40, temperature=0)
    known = "x" * 40 + long
    for at in (0, 16, 32):  # the first of each stretch
        expected = generate.continuation(model, known[40 + at - 16 : 40 + at], 1, temperature=0)
        assert long[at] == expected


def test_an_unfinished_run_can_be_heard(tmp_path, finished, capsys):
    run = comparison.Run(SMOKE, "sequential", 16, tmp_path)
    comparison.run_all(SMOKE, tmp_path, only="sequential", until=perf_counter() + 0.1, every=0, say=lambda line: None)
    assert run.checkpoint.exists()
    assert len(written(capsys, "--from", run.checkpoint, "--prompt", "a", "--characters", 9)) == 11
    model = generate.load_either(run.checkpoint)
    assert model.config == run.config


def test_what_cannot_be_read_is_named(tmp_path, finished, capsys):
    whole = (finished / "mlr_D16_model.safetensors").read_bytes()
    path = tmp_path / "damaged.safetensors"
    for content in (whole[:-10], whole[:50], b"", b"no weights"):
        path.write_bytes(content)
        with pytest.raises(SystemExit, match=r"ValueError: .*damaged\.safetensors is broken"):
            written(capsys, "--from", path)
    with pytest.raises(SystemExit, match=r"FileNotFoundError: .*nowhere\.safetensors"):
        written(capsys, "--from", tmp_path / "nowhere.safetensors")
    numbers = sa.GPT(sa.GPTConfig(1, 1, 8, 8, d_in=2, d_out=1))
    text.save_model(numbers, path)
    with pytest.raises(SystemExit, match=r"damaged\.safetensors must hold a model of the 96 characters"):
        written(capsys, "--from", path)


def test_a_damaged_checkpoint_of_a_run_is_named(tmp_path, capsys):
    comparison.run_all(SMOKE, tmp_path, only="sequential", until=perf_counter() + 0.1, every=0, say=lambda line: None)
    path = tmp_path / "sequential_D16.safetensors"
    (tmp_path / "sequential_D16.safetensors.previous").unlink(missing_ok=True)
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(SystemExit, match=r"ValueError: .*sequential_D16\.safetensors is damaged: its checksum"):
        written(capsys, "--from", path)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--characters", "0"], "characters must be a positive integer, got 0"),
        (["--temperature", "-1"], "temperature must be at least 0"),
        (["--prompt", "ж"], "prompt must be in the alphabet, newline and printable ASCII, 1 of it is not"),
    ],
)
def test_wrong_words_to_generate_are_named(words, told, finished, capsys):
    with pytest.raises(SystemExit, match=told):
        written(capsys, "--from", finished / "mlr_D16_model.safetensors", *words)
