"""A comparison of scoring functions, run by run: each method at each width, its learning rate swept, then its seeds.

A run has files of its own in the comparison's folder: a checkpoint while it goes on, then its results. So a comparison
can be killed, continued, and collected into one record at any time. Several processes may be at it, one for each GPU:
each takes the next run that no other has.
"""

import gc
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, fields
from math import inf, isfinite
from pathlib import Path
from time import perf_counter
from types import ModuleType

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from ..costs import attention_cost
from ..transformer import GPT, GPTConfig
from . import distributed, regression_task, text_task
from .checkpoints import delete_checkpoint, load_checkpoint, previous, save_checkpoint
from .mup import rate_factors
from .presets import Comparison, RegressionComparison, TextComparison
from .progress import Progress
from .records import commit, hardware, versions, write_json, write_record
from .text import save_model
from .training import Population, Training, fit, warmup_cosine

# What is compared, as a module of these names: `config`, `model`, `draw` and `losses` make a training; `measure` says
# how good its models are, and `METRIC` by which of its numbers, the lower the better; `CURVES` names the losses;
# `identity`, `describe`, `baselines` and a `keepsake` of the first model go into the record.
TASKS = {RegressionComparison: regression_task, TextComparison: text_task}
OF_ALL_RUNS = ("versions", "setting")  # a record names these once
STAGES = {"sweep": "swept", "seeds": "by_seed"}  # and where the record keeps their models


@dataclass(frozen=True)
class Run:
    """One method at one width, and where its files are."""

    preset: Comparison
    method: str
    width: int
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.method}_D{self.width}"

    @property
    def results(self) -> Path:
        return self.folder / f"{self.name}.json"

    @property
    def checkpoint(self) -> Path:
        return self.folder / f"{self.name}.safetensors"

    @property
    def model(self) -> Path:
        """The weights of the first seed, for those who want to look into a trained model."""
        return self.folder / f"{self.name}_model.safetensors"

    @property
    def task(self) -> ModuleType:
        return TASKS[type(self.preset)]

    @property
    def config(self) -> GPTConfig:
        return self.task.config(self.preset, self.method, self.width)

    @property
    def setting(self) -> dict:
        """What two runs must share to be of one comparison: all but its extent."""
        fields = {name: value for name, value in asdict(self.preset).items() if name not in ("widths", "methods")}
        return fields | self.task.identity(self.preset)

    def finished(self) -> dict | None:
        """Its results, if they are there. Raises `ValueError` if they are of another setting, or no results."""
        if not self.results.exists():
            return None
        try:
            found = json.loads(self.results.read_text(encoding="utf-8"))
            self.check(found["setting"], self.results)
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{self.results} holds no results ({error}): delete it to run {self.name} again") from None
        return found if found["status"] == "finished" else None

    def check(self, setting: dict, path: Path) -> None:
        """Refuse to go on with what was begun in another setting.

        What was begun before a field existed had its default value: that of a new field must change nothing.
        """
        defaults = {field.name: field.default for field in fields(self.preset) if field.default is not MISSING}
        own, defaults = json.loads(json.dumps([self.setting, defaults]))
        setting = defaults | setting
        if wrong := [name for name in own if setting.get(name) != own[name]]:
            told = ", ".join(f"{name} = {setting.get(name)} and not {own[name]}" for name in wrong)
            raise ValueError(f"{path} is of another setting, {told}: name its preset, or choose another --out")


def runs(preset: Comparison, folder: Path) -> list[Run]:
    """Narrow models first: they cost least."""
    return [Run(preset, method, width, folder) for width in preset.widths for method in preset.methods]


# One run


def build(
    run: Run, rates: list[float], seeds: list[int], device: torch.device, compile: bool = True, steps: int | None = None
) -> Training:
    """The models of one population, each with its rate and seed, and their training."""
    preset, task, gpu, steps = run.preset, run.task, device.type == "cuda", steps or run.preset.steps
    models = [task.model(run.config, seed) for seed in seeds]
    factors = rate_factors(models[0], preset.base_width if preset.mup else None)
    population = Population(models, rates, factors, device=device, bf16=gpu and preset.precision == "bf16")
    schedule = [warmup_cosine(step, steps, preset.warmup) for step in range(steps)]
    draw = task.draw(preset, steps, device)
    return Training(
        population, seeds, draw, task.losses, schedule, n_curves=len(task.CURVES), fast=gpu, compile=compile
    )


def execute(
    run: Run,
    *,
    device: torch.device,
    until: float = inf,
    every: float = 60.0,
    compile: bool = True,
    progress: Progress,
) -> dict | None:
    """Take up the run where its checkpoint is, or begin it; its results, or None if the time was up before the end."""
    preset, began = run.preset, perf_counter()
    words = {"setting": run.setting, "config": asdict(run.config), "swept": [], "by_seed": [], "keepsake": {}}
    words |= {"wall": 0.0, "seconds": 0.0, "timed_steps": 0}
    tensors, training = None, None
    if run.checkpoint.exists() or previous(run.checkpoint).exists():
        tensors, words, damaged = load_checkpoint(run.checkpoint)
        run.check(words["setting"], run.checkpoint)
        if damaged:
            progress.say(f"{damaged}. Going on from the checkpoint before it")
    set_precision(preset.precision, device)
    wall = words["wall"]

    def save(training: Training) -> None:
        words.update(seconds=training.seconds, timed_steps=training.timed_steps, wall=wall + perf_counter() - began)
        if distributed.rank() == 0:
            save_checkpoint(run.checkpoint, training.state, words)

    while models := next_models(preset, words):
        stage, rates, seeds = models
        fresh = build(run, rates, seeds, device, compile, preset.of_stage(stage).steps)
        if training is not None and training.curves.shape == fresh.curves.shape:
            training.load(fresh.state)  # what is compiled and captured serves again
        else:
            if training is not None:
                release(training)
            training = fresh
        if tensors is not None:
            training.load(tensors)
            training.seconds, training.timed_steps, tensors = words["seconds"], words["timed_steps"], None
        which = f" {rates[0]:g}" if stage == "sweep" else f" {seeds[0]}"
        progress.begin(f"{run.name} {stage}{which if len(rates) == 1 else ''}", training)
        if not fit(training, until=until, report=progress.report, save=save, every=every):
            return None
        if stage == "seeds" and not words["by_seed"] and distributed.rank() == 0:
            first = training.population.model(0)
            save_model(first, run.model)
            words["keepsake"] = run.task.keepsake(preset, first)
        words[STAGES[stage]] += summaries(run, stage, training, rates, seeds)
    results = describe(run, device) | outcome(run, words["swept"], words["by_seed"]) | timing(training)
    results |= words.get("keepsake", {})
    results["wall_seconds"] = round(wall + perf_counter() - began, 1)
    release(training)
    return results


def next_models(preset: Comparison, words: dict) -> tuple[str, list[float], list[int]] | None:
    """The stage, rates and seeds of the models to train next, given those that have been; None after the last."""
    swept, by_seed = words["swept"], words["by_seed"]
    trials = preset.rates if len(preset.rates) > 1 or not preset.seeds else ()
    if rates := list(trials[len(swept) :][: preset.at_once]):
        return "sweep", rates, [preset.sweep_seed] * len(rates)
    rate, seeds = best_rate(TASKS[type(preset)].METRIC, swept, preset), list(preset.seeds[len(by_seed) :])
    seeds = seeds[: preset.at_once]
    return ("seeds", [rate] * len(seeds), seeds) if seeds and rate is not None else None


def timing(training: Training) -> dict:
    """What a step takes, compilation apart, and how it was run."""
    a_step, models = training.seconds / max(1, training.timed_steps), len(training.population)
    return {
        "models_at_once": models,
        "seconds_a_step": number(a_step),
        "seconds_a_model": number(a_step * len(training.schedule) / models),
        "setup_seconds": round(training.setup_seconds, 1),
        "step": training.how,
        "notes": training.notes,
    }


def release(training: Training) -> None:
    """Give back what the GPU holds for it."""
    training.forget()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def set_precision(precision: str, device: torch.device) -> None:
    if device.type == "cuda":
        torch.set_float32_matmul_precision("highest" if precision == "float32" else "high")
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(precision == "bf16")  # else it goes back to float32
    else:
        torch.set_num_threads(1)  # operations this small lose by being split over cores


def summaries(run: Run, stage: str, training: Training, rates: list[float], seeds: list[int]) -> list[dict]:
    """For each model: rate, seed, what it is worth, where it diverged, and its curves."""
    measured = run.task.measure(run.preset.of_stage(stage), training.population)
    curves, diverged = training.curves.cpu(), training.diverged()
    lost = [{} if step is None else {run.task.METRIC: None} for step in diverged]
    return [
        {"rate": rate, "seed": seed, "diverged_at": diverged[i]}
        | rounded(measured[i])
        | lost[i]
        | {"curve": thinned(curves[:, :, i], run.task.CURVES)}
        for i, (rate, seed) in enumerate(zip(rates, seeds, strict=True))
    ]


def thinned(curves: Tensor, names: tuple[str, ...], points: int = 100) -> dict[str, list]:
    """(steps, curves) as means over stretches of equal length; a stretch in which the model diverged has none."""
    stretch = max(1, len(curves) // points)
    means = curves[: len(curves) // stretch * stretch].unflatten(0, (-1, stretch)).mean(1)
    columns = rounded(dict(zip(names, means.T.tolist(), strict=True)))
    return {"steps": list(range(stretch, len(curves) + 1, stretch))} | columns


def rounded(value: object) -> object:
    """Each number in lists and dicts as `number` gives it; whole numbers as they are."""
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return number(value) if isinstance(value, float) else value


def number(value: float) -> float | None:
    """With four digits; None, which JSON can hold, for what is no finite number."""
    return float(f"{value:.4g}") if isfinite(value) else None


def best_rate(metric: str, swept: list[dict], preset: Comparison) -> float | None:
    """The rate of the best model on what none was trained on; None if all diverged."""
    if not swept:
        return preset.rates[0]
    whole = [model for model in swept if model[metric] is not None]
    return min(whole, key=lambda model: model[metric])["rate"] if whole else None


def outcome(run: Run, swept: list[dict], seeds: list[dict]) -> dict:
    metric, rates = run.task.METRIC, run.preset.rates
    rate = best_rate(metric, swept, run.preset)
    return {
        "status": "finished",
        "best_rate": rate,
        "best_rate_is_at_the_edge": len(rates) > 1 and rate in (rates[0], rates[-1]),
        "swept": swept,
        "by_seed": seeds,
        "diverged": sum(model["diverged_at"] is not None for model in swept + seeds),
    } | over_seeds(metric, seeds)


def over_seeds(metric: str, seeds: list[dict]) -> dict:
    """Mean, lowest and highest of the models that did not diverge; None if all did."""
    found = [model[metric] for model in seeds if model[metric] is not None]
    mean = number(sum(found) / len(found)) if found else None
    return {metric: mean, "lowest": min(found, default=None), "highest": max(found, default=None)}


def describe(run: Run, device: torch.device) -> dict:
    """What was run, what it costs, and where."""
    preset, config = run.preset, run.config
    with torch.device("meta"):
        model = GPT(config)
    macs = macs_a_token(model)
    where = {"commit": commit(), "hardware": hardware(), "versions": versions(), "device": device.type}
    where["processes"] = distributed.size()
    return (
        {
            "setting": run.setting,
            "method": run.method,
            "width": run.width,
            "heads": config.n_heads,
            "head_dimension": run.width // config.n_heads,
            "params": sum(weight.numel() for weight in model.parameters()),
            "query_key_params_a_layer": model.blocks[0].attention.query_key_params(),
            "macs_a_token": macs,
            "training_macs_a_model": 3 * macs["all"] * preset.batch * preset.context * preset.steps,  # backward: twice
        }
        | run.task.describe(preset, run.method, run.width)
        | where
    )


def macs_a_token(model: GPT) -> dict[str, int]:
    """Multiply-accumulates of the forward pass, a token of a full sequence; attention by `attention_cost`."""
    config, seq_len = model.config, model.config.context
    costs, width = [attention_cost(block.attention, seq_len) for block in model.blocks], config.d_model
    ends = config.d_in + config.d_out if config.vocab_size is None else config.vocab_size  # tokens are looked up
    parts = {
        "attention_projections": sum(cost.projection_macs for cost in costs) // seq_len,
        "scores": sum(cost.score_macs for cost in costs) // seq_len,
        "values": sum(cost.value_macs for cost in costs) // seq_len,
        "feed_forward": config.n_layers * 2 * config.expansion * width**2,
        "ends": width * ends,
    }
    return parts | {"all": sum(parts.values())}


# All runs


def run_all(
    preset: Comparison,
    folder: str | Path,
    *,
    device: torch.device | str = "cpu",
    resume: bool = False,
    until: float = inf,
    every: float = 60.0,
    compile: bool = True,
    only: str = "",
    say: Callable[[str], None] = print,
) -> bool:
    """Run what is not finished and not another process's, one after the other; whether all of it is finished.

    A run that fails is recorded, and the next one begins.

    only: of the runs, those whose name contains it.
    Raises `ValueError` before any work if `folder` holds another comparison, or holds runs and `resume` is not asked;
    `OSError` if nothing more can be saved.
    """
    device, folder = torch.device(device), Path(folder)
    prepare(preset, folder)
    own = [run for run in runs(preset, folder) if only in run.name]
    if not own:
        names = [run.name for run in runs(preset, folder)]
        raise ValueError(f"only must be part of the name of a run, got {only!r}: {names}")
    begun = [run for run in own if run.results.exists() or run.checkpoint.exists()]
    if begun and not resume:
        raise ValueError(f"{folder} holds {begun[0].name} already: --resume goes on with it, or choose another --out")
    complete = True
    for run in own:
        if run.finished():
            continue
        if distributed.agree(int(perf_counter() >= until))[0]:
            return False
        with claimed(run) as ours:
            if not ours:
                say(f"{run.name} is another process's")
                continue
            if run.finished():  # by another process, since we looked
                continue
            results = attempt(run, say=say, device=device, until=until, every=every, compile=compile)
            if results is None:
                return False
            keep(run, results, say)
            complete = complete and results["status"] == "finished"
    return complete


@contextmanager
def claimed(run: Run) -> Iterator[bool]:
    """Whether the run is this process's as long as the block lasts. A process that is killed lets go of it."""
    run.folder.mkdir(parents=True, exist_ok=True)
    lock, ours = FileLock(run.folder / f"{run.name}.lock"), True
    try:
        if distributed.rank() == 0:
            lock.acquire(timeout=0)
    except Timeout:
        ours = False
    try:
        yield bool(distributed.agree(ours)[0])
    finally:
        lock.release()


def attempt(run: Run, *, say: Callable[[str], None], device: torch.device, **how) -> dict | None:
    """`execute`, in whose place an error of the run's own is its result."""
    progress = Progress(say)
    if device.type == "cuda":
        torch.compiler.reset()  # it remembers only a few shapes
    try:
        return execute(run, device=device, progress=progress, **how)
    except (OSError, ValueError):  # the disk, or a checkpoint: for the user to mend
        raise
    except Exception as error:
        failed = {"status": "failed", "error": f"{type(error).__name__}: {error}"[:1000]}
        say(f"{run.name} failed: {failed['error']}")
        return describe(run, device) | failed
    finally:
        progress.end()


def keep(run: Run, results: dict, say: Callable[[str], None]) -> None:
    """Write the results in place of the checkpoint."""
    if distributed.rank() != 0:
        return
    write_json(run.results, results)
    if results["status"] != "finished":
        return
    delete_checkpoint(run.checkpoint)
    say(
        f"{run.name}: {run.task.METRIC_IN_WORDS} {results[run.task.METRIC]} at rate {results['best_rate']}; "
        f"{results['seconds_a_step']} s a step of {results['models_at_once']} models ({results['step']}), "
        f"{results['setup_seconds']} s to set up, {results['wall_seconds']} s in all"
    )
    for note in results["notes"]:
        say(note)


def prepare(preset: Comparison, folder: Path) -> None:
    """What has to be downloaded or read once is, by the first process; the others wait for it."""
    if distributed.rank() == 0:
        runs(preset, folder)[0].setting  # noqa: B018 (it names what the models are trained on)
    distributed.agree(0)


def collect(
    preset: Comparison, name: str, folder: str | Path, out: str | Path, command: str, *, grow: bool = False
) -> dict:
    """All results in `folder` as one record at `out`, and what the task compares them with.

    grow: keep what the record at `out` holds already and `folder` does not. Raises `ValueError` if `folder` holds no
    results, or if what is there is of another setting.
    """
    every = runs(preset, Path(folder))
    for run in every:
        run.finished()  # refuses what is of another setting
    new = {run.name: json.loads(run.results.read_text(encoding="utf-8")) for run in every if run.results.exists()}
    if not new:
        raise ValueError(f"{folder} holds no results of {name}")
    kept = recorded_runs(every[0], Path(out)) if grow else {}
    found = {run.name: (kept | new)[run.name] for run in every if run.name in kept | new}
    origin = {key: joined(run[key] for run in found.values()) for key in ("commit", "hardware")}
    origin["versions"] = next(iter(new.values()))["versions"]
    origin["wall_seconds"] = round(sum(run.get("wall_seconds", 0) for run in found.values()), 1)
    results = {
        "preset": name,
        "setting": every[0].setting | {"widths": list(preset.widths), "methods": list(preset.methods)},
        "baselines": TASKS[type(preset)].baselines(preset),
        "runs": {name: {key: run[key] for key in run if key not in OF_ALL_RUNS} for name, run in found.items()},
        "missing": [run.name for run in every if run.name not in found],
    }
    seeds = [preset.sweep_seed, *preset.seeds]
    write_record(out, results, command=command, seeds=seeds, origin=origin)
    return results


def recorded_runs(like: Run, path: Path) -> dict[str, dict]:
    """The runs of a record, if it is there, each with what the record says of all; older ones name no machine."""
    if not path.exists():
        return {}
    record = json.loads(path.read_text(encoding="utf-8"))
    like.check(record["setting"], path)
    of_all = {key: record[key] for key in ("commit", "hardware", *OF_ALL_RUNS)}
    return {name: of_all | run for name, run in record["runs"].items()}


def joined(values: Iterable[str]) -> str:
    """Each of them once; some are joined already."""
    return "; ".join(dict.fromkeys(one for value in values for one in value.split("; ")))
