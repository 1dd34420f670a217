"""A comparison of scoring functions, run by run: each method at each width, its learning rate swept, then its seeds.

A run has files of its own in the comparison's folder: a checkpoint while it goes on, then its results. So a comparison
can be killed, continued, shared between GPUs, and collected into one record at any time.
"""

import gc
import json
from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor

from ..costs import attention_cost
from ..transformer import GPT, GPTConfig
from . import distributed
from .checkpoints import delete_checkpoint, load_checkpoint, save_checkpoint
from .mup import rate_factors
from .presets import SCORERS, Comparison
from .progress import Progress
from .records import commit, hardware, versions, write_json, write_record
from .regression import active_dimensions, counted_prompts, drawn, errors_on, interleave, ridge, squared_errors
from .text import save_model
from .training import Population, Training, fit, warmup_cosine

FRESH_SEED = 2**40  # of the prompts for evaluation: no run trains on them
RIDGE_PENALTY = 0.1


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
    def config(self) -> GPTConfig:
        scorer, preset = SCORERS[self.method], self.preset
        return GPTConfig(
            n_layers=preset.layers,
            n_heads=scorer.heads,
            d_model=self.width,
            context=2 * preset.pairs,
            d_in=preset.d,
            d_out=1,
            attention=scorer.attention,
            attention_options=scorer.options(self.width) | {"qk_norm": preset.qk_norm},
        )

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
        """Refuse to go on with what was begun in another setting."""
        own = json.loads(json.dumps(self.preset.setting))
        if wrong := [name for name in own if setting.get(name) != own[name]]:
            told = ", ".join(f"{name} = {setting.get(name)} and not {own[name]}" for name in wrong)
            raise ValueError(f"{path} is of another setting, {told}: name its preset, or choose another --out")


def runs(preset: Comparison, folder: Path) -> list[Run]:
    """Narrow models first: they cost least."""
    return [Run(preset, method, width, folder) for width in preset.widths for method in preset.methods]


# One run


def build(run: Run, rates: list[float], seeds: list[int], device: torch.device, compile: bool = True) -> Training:
    """The models of one population, one for each rate and seed, and their training."""
    preset, gpu = run.preset, device.type == "cuda"
    models = [drawn(run.config, seed) for seed in seeds]
    factors = rate_factors(models[0], preset.base_width)
    population = Population(models, rates, factors, device=device, bf16=gpu and preset.precision == "bf16")
    steps, rank, size = range(preset.steps), distributed.rank(), distributed.size()
    grown = [active_dimensions(step, preset.steps, preset.d, preset.curriculum) for step in steps]
    active = torch.tensor(grown, device=device)

    def draw(seeds, step):
        x, y = counted_prompts(
            seeds, step, preset.batch, pairs=preset.pairs, d=preset.d, active=active.index_select(0, step)
        )
        x, y = x[:, rank::size], y[:, rank::size]
        return interleave(x, y), y

    schedule = [warmup_cosine(step, preset.steps, preset.warmup) for step in steps]
    return Training(population, seeds, draw, squared_errors, schedule, n_curves=2, fast=gpu, compile=compile)


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
    words = {"stage": "sweep", "setting": preset.setting, "swept": None, "wall": 0.0, "seconds": 0.0, "timed_steps": 0}
    tensors = None
    if run.checkpoint.exists() or run.checkpoint.with_name(f"{run.checkpoint.name}.previous").exists():
        tensors, words, damaged = load_checkpoint(run.checkpoint)
        run.check(words["setting"], run.checkpoint)
        if damaged:
            progress.say(f"{damaged}. Going on from the checkpoint before it")
    set_precision(preset.precision, device)
    wall, training = words["wall"], None

    def stage(rates: list[float], seeds: list[int]) -> list[dict] | None:
        nonlocal training, tensors
        fresh = build(run, rates, seeds, device, compile)
        if training is not None and len(rates) == len(training.population):
            training.load(fresh.state)  # what is compiled and captured serves again
        else:
            if training is not None:
                release(training)
            training = fresh
            training.seconds, training.timed_steps = words["seconds"], words["timed_steps"]
        if tensors is not None:
            training.load(tensors)
            tensors = None

        def save(training: Training) -> None:
            words.update(seconds=training.seconds, timed_steps=training.timed_steps, wall=wall + perf_counter() - began)
            if distributed.rank() == 0:
                save_checkpoint(run.checkpoint, training.state, words)

        progress.begin(f"{run.name} {words['stage']}", training)
        done = fit(training, until=until, report=progress.report, save=save, every=every)
        return summaries(training, rates, seeds, fresh_prompts(preset, device)) if done else None

    if words["stage"] == "sweep" and len(preset.rates) == 1 and preset.seeds:
        words |= {"stage": "seeds", "swept": []}
    elif words["stage"] == "sweep":
        swept = stage(list(preset.rates), [preset.sweep_seed] * len(preset.rates))
        if swept is None:
            return None
        words |= {"stage": "seeds", "swept": swept}
    rate = best_rate(words["swept"], preset)
    seeds = []
    if preset.seeds and rate is not None:
        seeds = stage([rate] * len(preset.seeds), list(preset.seeds))
        if seeds is None:
            return None
        if distributed.rank() == 0:
            save_model(training.population.model(0), run.model)
    results = describe(run, device) | outcome(words["swept"], seeds, preset) | timing(training)
    results["wall_seconds"] = round(wall + perf_counter() - began, 1)
    release(training)
    return results


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


def fresh_prompts(preset: Comparison, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Batches of prompts that no model was trained on, the same for all of them and on every machine."""
    seeds, size = torch.tensor([FRESH_SEED], device=device), min(128, preset.fresh)
    steps = (torch.tensor([step], device=device) for step in range(-(-preset.fresh // size)))
    batches = (counted_prompts(seeds, step, size, pairs=preset.pairs, d=preset.d) for step in steps)
    return [(x[0], y[0]) for x, y in batches]


def baselines(preset: Comparison, device: torch.device | str = "cpu") -> dict[str, float]:
    """The error at the last point of least squares and of ridge regression, on the prompts that the models answer."""
    answers = {"least_squares": 0.0, "ridge": RIDGE_PENALTY}
    batches = fresh_prompts(preset, torch.device(device))
    errors = {
        name: torch.stack([(ridge(x, y, penalty) - y[:, -1]).square().mean() for x, y in batches]).mean().item()
        for name, penalty in answers.items()
    }
    return {name: float(f"{error:.3g}") for name, error in errors.items()} | {"ridge_penalty": RIDGE_PENALTY}


def summaries(
    training: Training, rates: list[float], seeds: list[int], prompts: list[tuple[Tensor, Tensor]]
) -> list[dict]:
    """For each model: rate, seed, errors on fresh prompts, where it diverged, and its curves."""
    errors = errors_on(training.population, prompts).cpu().tolist()
    curves, diverged = training.curves.cpu(), training.diverged()
    return [
        {
            "rate": rate,
            "seed": seed,
            "diverged_at": diverged[i],
            "last": number(errors[i][-1]) if diverged[i] is None else None,
            "by_position": [number(error) for error in errors[i]],
            "curve": thinned(curves[:, :, i]),
        }
        for i, (rate, seed) in enumerate(zip(rates, seeds, strict=True))
    ]


def thinned(curves: Tensor, points: int = 100) -> dict[str, list]:
    """(steps, 2) as means over stretches of equal length; a stretch in which the model diverged has none."""
    stretch = max(1, len(curves) // points)
    means = curves[: len(curves) // stretch * stretch].unflatten(0, (-1, stretch)).mean(1)
    loss, last = ([number(value) for value in column.tolist()] for column in means.T)
    return {"steps": list(range(stretch, len(curves) + 1, stretch)), "loss": loss, "last": last}


def number(value: float) -> float | None:
    """With four digits; None, which JSON can hold, for what is no finite number."""
    return float(f"{value:.4g}") if isfinite(value) else None


def best_rate(swept: list[dict], preset: Comparison) -> float | None:
    """The rate with the lowest error on fresh prompts; None if all diverged."""
    if not swept:
        return preset.rates[0]
    whole = [model for model in swept if model["last"] is not None]
    return min(whole, key=lambda model: model["last"])["rate"] if whole else None


def outcome(swept: list[dict], seeds: list[dict], preset: Comparison) -> dict:
    rate, last = best_rate(swept, preset), [model["last"] for model in seeds if model["last"] is not None]
    return {
        "status": "finished",
        "best_rate": rate,
        "best_rate_is_at_the_edge": len(preset.rates) > 1 and rate in (preset.rates[0], preset.rates[-1]),
        "swept": swept,
        "by_seed": seeds,
        "diverged": sum(model["diverged_at"] is not None for model in swept + seeds),
        "last": number(sum(last) / len(last)) if last else None,
        "lowest": min(last, default=None),
        "highest": max(last, default=None),
    }


def describe(run: Run, device: torch.device) -> dict:
    """What was run, what it costs, and where."""
    scorer = SCORERS[run.method]
    with torch.device("meta"):
        model = GPT(run.config)
    macs, tokens = macs_a_token(model), 2 * run.preset.pairs * run.preset.batch
    where = {"commit": commit(), "hardware": hardware(), "versions": versions(), "device": device.type}
    return {
        "setting": run.preset.setting,
        "method": run.method,
        "label": scorer.label,
        "width": run.width,
        "heads": scorer.heads,
        "head_dimension": run.width // scorer.heads,
        "ranks": scorer.options(run.width).get("ranks"),
        "params": sum(weight.numel() for weight in model.parameters()),
        "query_key_params_a_layer": model.blocks[0].attention.query_key_params(),
        "macs_a_token": macs,
        "training_macs_a_model": 3 * macs["all"] * tokens * run.preset.steps,  # backward: twice the forward
    } | where


def macs_a_token(model: GPT) -> dict[str, int]:
    """Multiply-accumulates of the forward pass, a token of a full prompt; attention by `attention_cost`."""
    config, seq_len = model.config, model.config.context
    attention, width = attention_cost(model.blocks[0].attention, seq_len), config.d_model
    parts = {
        "attention_projections": config.n_layers * attention.projection_macs // seq_len,
        "scores": config.n_layers * attention.score_macs // seq_len,
        "values": config.n_layers * attention.value_macs // seq_len,
        "feed_forward": config.n_layers * 2 * config.expansion * width**2,
        "ends": width * (config.d_in + config.d_out),
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
    shard: tuple[int, int] = (0, 1),
    say: Callable[[str], None] = print,
) -> bool:
    """Run what is not finished, one after the other; whether all is finished.

    A run that fails is recorded, and the next one begins.

    only: of the runs, those whose name contains it. shard: (i, n), each n-th run from the i-th.
    Raises `ValueError` before any work if `folder` holds another comparison, or holds runs and `resume` is not asked;
    `OSError` if nothing more can be saved.
    """
    device, folder = torch.device(device), Path(folder)
    own = [run for run in runs(preset, folder)[shard[0] :: shard[1]] if only in run.name]
    if not own:
        names = [run.name for run in runs(preset, folder)]
        raise ValueError(f"only must be part of the name of a run of this shard, got {only!r}: {names}")
    begun = [run for run in own if run.results.exists() or run.checkpoint.exists()]
    if begun and not resume:
        raise ValueError(f"{folder} holds {begun[0].name} already: --resume goes on with it, or choose another --out")
    complete = True
    for run in own:
        if run.finished():
            continue
        if distributed.agree(int(perf_counter() >= until))[0]:
            return False
        progress = Progress(say)
        if device.type == "cuda":
            torch.compiler.reset()  # it remembers only a few shapes
        try:
            results = execute(run, device=device, until=until, every=every, compile=compile, progress=progress)
        except (OSError, ValueError):  # the disk, or a checkpoint: for the user to mend
            raise
        except Exception as error:
            results = describe(run, device) | {"status": "failed", "error": f"{type(error).__name__}: {error}"[:1000]}
            say(f"{run.name} failed: {results['error']}")
        finally:
            progress.end()
        if results is None:
            return False
        complete = complete and results["status"] == "finished"
        if distributed.rank() == 0:
            write_json(run.results, results)
            if results["status"] == "finished":
                delete_checkpoint(run.checkpoint)
                say(
                    f"{run.name}: last-point error {results['last']} at rate {results['best_rate']}; "
                    f"{results['seconds_a_step']} s a step of {results['models_at_once']} models ({results['step']}), "
                    f"{results['setup_seconds']} s to set up, {results['wall_seconds']} s in all"
                )
                for note in results["notes"]:
                    say(note)
    return complete


def collect(preset: Comparison, name: str, folder: str | Path, out: str | Path, command: str) -> dict:
    """All results in `folder` as one record at `out`, and the error of least squares and ridge on the same prompts."""
    found, missing = {}, []
    for run in runs(preset, Path(folder)):
        run.finished()  # refuses what is of another setting
        if run.results.exists():
            found[run.name] = json.loads(run.results.read_text(encoding="utf-8"))
        else:
            missing.append(run.name)
    if not found:
        raise ValueError(f"{folder} holds no results of {name}")
    origin = {key: joined(run[key] for run in found.values()) for key in ("commit", "hardware")}
    origin["versions"] = next(iter(found.values()))["versions"]
    origin["wall_seconds"] = round(sum(run.get("wall_seconds", 0) for run in found.values()), 1)
    for run in found.values():
        for key in ("commit", "hardware", "versions", "setting"):
            del run[key]
    results = {
        "preset": name,
        "setting": preset.setting | {"widths": list(preset.widths), "methods": list(preset.methods)},
        "baselines": baselines(preset),
        "runs": found,
        "missing": missing,
    }
    seeds = [preset.sweep_seed, *preset.seeds]
    write_record(out, results, command=command, seeds=seeds, origin=origin)
    return results


def joined(values) -> str:
    return "; ".join(dict.fromkeys(values))
