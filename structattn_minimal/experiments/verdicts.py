"""What the chapters on recorded comparisons share: claims that hold, or do not, and the runs that they are about."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    claim: str
    holds: bool | None  # None: this record does not say
    evidence: str

    @property
    def word(self) -> str:
        return {True: "holds", False: "does not hold", None: "not decided"}[self.holds]

    def __str__(self) -> str:
        return f"{self.claim}: {self.word}. {self.evidence}"


def existing(read: Callable, names: Iterable) -> dict:
    """What `read` finds, by name."""
    found = {}
    for name in names:
        with suppress(FileNotFoundError):
            found[name] = read(name)
    return found


def finished_runs(record: dict, method: str, metric: str) -> dict[int, dict]:
    """The finished runs of a method by width, narrow ones first; a run of which every seed diverged is none."""
    runs = [run for run in record["runs"].values() if run["method"] == method and run.get(metric) is not None]
    return {run["width"]: run for run in sorted(runs, key=lambda run: run["width"])}


def apart(a: dict, b: dict) -> bool:
    """Whether every seed of `a` is better, that is lower, than every seed of `b`."""
    return a["highest"] < b["lowest"]
