"""Does a comparison that is run again say what its record says?

On one processor, with one version of everything, a run repeats itself to the last bit. Elsewhere rounding differs, a
training amplifies it, and what can be expected is what another seed would give. So a run agrees if its mean lies where
the recorded seeds lie.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from .comparison import Run, recorded_runs, runs
from .presets import Comparison

MARGIN, LEAST_MARGIN = 0.5, 0.02  # how far beyond the recorded seeds: a share of their range, but at least of the mean


@dataclass(frozen=True)
class Repetition:
    """A run made again. found, recorded, lowest, highest: of its metric, the mean and the recorded range over seeds."""

    name: str
    found: float | None  # None: it failed, or every seed diverged
    recorded: float
    lowest: float
    highest: float

    @property
    def margin(self) -> float:
        return max(MARGIN * (self.highest - self.lowest), LEAST_MARGIN * abs(self.recorded))

    @property
    def agrees(self) -> bool:
        return self.found is not None and self.lowest - self.margin <= self.found <= self.highest + self.margin

    def __str__(self) -> str:
        word, found = "agrees" if self.agrees else "DIFFERS", "nothing" if self.found is None else f"{self.found:.4g}"
        return f"{self.name}: {found} against {self.recorded:.4g} ({self.lowest:.4g} to {self.highest:.4g}): {word}"


def repetitions(preset: Comparison, folder: str | Path, record: str | Path, only: str = "") -> list[Repetition]:
    """Of the runs in `folder`, those that `record` holds too.

    only: those whose name contains it. Raises `ValueError` if the two are of different settings, or have no run in
    common; `FileNotFoundError` if there is no record.
    """
    if not Path(record).exists():
        raise FileNotFoundError(f"no record at {record}")
    every = runs(preset, Path(folder))
    recorded = recorded_runs(every[0], Path(record))
    found = [repetition(run, recorded[run.name]) for run in every if only in run.name and comparable(run, recorded)]
    if not found:
        raise ValueError(f"{folder} and {record} must have a finished run in common, got none")
    return found


def comparable(run: Run, recorded: dict[str, dict]) -> bool:
    run.finished()  # refuses what is of another setting
    return run.results.exists() and recorded.get(run.name, {}).get(run.task.METRIC) is not None


def repetition(run: Run, recorded: dict) -> Repetition:
    again, metric = json.loads(run.results.read_text(encoding="utf-8")), run.task.METRIC
    return Repetition(run.name, again.get(metric), recorded[metric], recorded["lowest"], recorded["highest"])
