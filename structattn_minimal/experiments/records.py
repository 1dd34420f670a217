"""Records of runs: numbers, and where they came from. The prose of the book takes its results from them."""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from math import isfinite
from pathlib import Path
from time import perf_counter

import torch

from .checkpoints import write_whole

START = perf_counter()  # this module is imported when a run begins


def write_record(
    path: str | Path, results: dict, *, command: str, seeds: Sequence[int], origin: dict | None = None
) -> None:
    """Write `results` as JSON, with the commit, command, seeds, hardware, versions and wall time of this run.

    origin: what to write of these in place of what is true of this process, where another produced the results. The
    file is there whole or not at all. Raises `ValueError` if a result bears the name of one of those fields, if a
    number is not finite, and if no seed is given.
    """
    if not seeds:
        raise ValueError("seeds must name at least one seed")
    if bad := not_finite(results):
        raise ValueError(f"these results are not finite numbers: {', '.join(bad)}")
    here = {"commit": commit(), "command": command, "seeds": list(seeds), "hardware": hardware()}
    here |= {"versions": versions(), "wall_seconds": round(perf_counter() - START, 1)}
    origin = here | (origin or {})
    if shared := origin.keys() & results.keys():
        raise ValueError(f"results must not be called {sorted(shared)}: the record itself writes these fields")
    write_json(path, origin | results)


def write_json(path: str | Path, content: dict) -> None:
    """Write `content` to a file that is there whole or not at all. Raises `OSError` with advice if it cannot."""
    path = Path(path)
    unfinished = path.with_suffix(f".{os.getpid()}.unfinished")  # two processes may write one record at once
    write_whole(unfinished, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
    unfinished.replace(path)


def recorded(file: str) -> Path:
    """Where a file of `book/results/` lies: inside an installed package, or in the repository."""
    packed = Path(__file__).parent / "results" / file
    return packed if packed.is_file() else Path(__file__).parents[2] / "book" / "results" / file


def read_record(name: str) -> dict:
    """The record of a run that comes with the book, such as "lm_tiny". Raises `FileNotFoundError` if there is none."""
    path = recorded(f"{name}.json")
    if not path.is_file():
        raise FileNotFoundError(f"no record called {name!r} comes with the book: there is no {path}")
    return json.loads(path.read_text(encoding="utf-8"))


def not_finite(results: object, name: str = "") -> list[str]:
    """The paths, such as "btt.errors.3", of numbers that are infinite or no numbers at all."""
    if isinstance(results, float):
        return [] if isfinite(results) else [name]
    items = results.items() if isinstance(results, dict) else ()
    items = enumerate(results) if isinstance(results, list | tuple) else items
    return [bad for key, value in items for bad in not_finite(value, f"{name}.{key}".lstrip("."))]


def commit() -> str:
    """The commit that runs, with "-dirty" where this package differs from it.

    Where the package runs without its history, the environment variable STRUCTATTN_COMMIT says which commit it is.
    """
    if named := os.environ.get("STRUCTATTN_COMMIT"):
        return named
    here = Path(__file__).parents[1]

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "--", str(here)) else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown (no git checkout)"


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), "torch": torch.__version__, "book": book_version()}


def hardware() -> str:
    """The processor, the cores and threads that torch used, and the accelerator if there is one."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.machine()
    cpu = f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads"
    return f"{cpu}, {torch.cuda.get_device_name()}" if torch.cuda.is_available() else cpu


def book_version() -> str:
    try:
        return version("structattn-minimal")
    except PackageNotFoundError:
        return "not installed"
