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
    """A run made again.

    found, recorded, lowest, highest: of its metric, the mean and the recorded range over seeds. rates: which the sweep
    chose this time, and for the record.
    """

    name: str
    found: float | None  # None: it failed, or every seed diverged
    recorded: float
    lowest: float
    highest: float
    rates: tuple[float | None, float | None] = (None, None)

    @property
    def margin(self) -> float:
        return max(MARGIN * (self.highest - self.lowest), LEAST_MARGIN * abs(self.recorded))

    @property
    def agrees(self) -> bool:
        return self.found is not None and self.lowest - self.margin <= self.found <= self.highest + self.margin

    def __str__(self) -> str:
        word, found = "agrees" if self.agrees else "DIFFERS", "nothing" if self.found is None else f"{self.found:.4g}"
        ours, theirs = self.rates
        rates = "" if ours is None or ours == theirs else f", at rate {ours:g} and not {theirs:g}"
        return (
            f"{self.name}: {found} against {self.recorded:.4g} ({self.lowest:.4g} to {self.highest:.4g}){rates}: {word}"
        )


def repetitions(preset: Comparison, folder: str | Path, record: str | Path, only: str = "") -> list[Repetition]:
    """Of the runs in `folder`, those that `record` holds too.

    only: those whose name contains it. Raises `ValueError` if the two are of different settings, or have no run in
    common; `FileNotFoundError` if there is no record.
    """
    if not Path(record).exists():
        raise FileNotFoundError(f"no record at {record}")
    every = runs(preset, Path(folder))
    recorded = recorded_runs(every[0], Path(record))
    again = {run.name: results for run in every if only in run.name if (results := results_of(run)) is not None}
    found = compared(again, recorded, every[0].task.METRIC)
    if not found:
        raise ValueError(f"{folder} and {record} must have a finished run in common, got none")
    return found


def results_of(run: Run) -> dict | None:
    run.finished()  # refuses what is of another setting
    return json.loads(run.results.read_text(encoding="utf-8")) if run.results.exists() else None


def compared(again: dict[str, dict], recorded: dict[str, dict], metric: str) -> list[Repetition]:
    """What two sets of results say of each run, by name, that was made again and of which the record has a mean."""
    return [
        Repetition(name, run.get(metric), then[metric], then["lowest"], then["highest"], rates)
        for name, run in again.items()
        if (then := recorded.get(name, {})).get(metric) is not None
        for rates in [(run.get("best_rate"), then.get("best_rate"))]
    ]
