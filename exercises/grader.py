"""Grade a folder of submissions: the tests run here, and the submissions in processes that this one never trusts."""

import contextlib
import csv
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch

from . import sandbox
from .case import Mistake
from .cells import Source, Unreadable, read
from .registry import HERE, Exercise, exercises
from .verdict import Gone, Raised, Todo, Verdict, judge, not_data
from .wire import Closed, Late, WireError, decode, encode, receive, send

MEMORY = 1 << 30  # bytes that a submission may use beyond Python and torch
FOLDER_BYTES, FOLDER_ENTRIES = 64 << 20, 2000  # what it may leave in its folder
KINDS = (".ipynb", ".py")
MOST_FILES = 100  # of one submission


class GradingError(RuntimeError):
    """Grading cannot begin; the message says why."""


@dataclass(frozen=True)
class Submission:
    """What one person handed in: the files that can be read, in order, and what was wrong with the others."""

    name: str
    sources: tuple[Source, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass
class Grades:
    """One row of the table."""

    name: str
    verdicts: dict[str, Verdict] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(verdict.right for verdict in self.verdicts.values())


def submissions(folder: Path) -> list[Submission]:
    """Every notebook, script and folder in `folder`, one submission each. Raises `GradingError`."""
    if not folder.is_dir():
        raise GradingError(f"{folder} is {'not a folder' if folder.exists() else 'missing'}")
    if Path.cwd().is_relative_to(folder.resolve()):
        raise GradingError(
            "start from another folder: where Python is started it also looks for modules, so that a submission called "
            "torch.py would be run in place of torch, and not in a process of its own"
        )
    found = [
        submission(entry)
        for entry in sorted(folder.iterdir())
        if not hidden(entry.name) and not entry.is_symlink() and (entry.is_dir() or entry.suffix in KINDS)
    ]
    if not found:
        raise GradingError(f"{folder} holds no notebook (.ipynb), no script (.py) and no folder of them")
    return found


def submission(entry: Path) -> Submission:
    paths = [
        path
        for path in (sorted(entry.rglob("*")) if entry.is_dir() else [entry])
        if path.suffix in KINDS and path.is_file() and not path.is_symlink()
        if not any(map(hidden, path.relative_to(entry.parent).parts))
    ]
    sources, problems = [], []
    for path in paths[:MOST_FILES]:
        try:
            sources.append(read(path))
        except Unreadable as error:
            problems.append(str(error))
    if not paths:
        problems.append("There is no notebook (.ipynb) and no script (.py) in this folder.")
    if len(paths) > MOST_FILES:
        problems.append(
            f"This folder holds {len(paths)} notebooks and scripts, of which the first {MOST_FILES} were read."
        )
    return Submission(entry.name, tuple(sources), tuple(problems))


def hidden(name: str) -> bool:
    return name.startswith(".") or name == "__pycache__"


class Nursery:
    """The process from which workers are forked."""

    def __init__(self, fenced: bool = True, seconds: float = 10):
        self.fenced, self.seconds = fenced, seconds
        self.lock = threading.Lock()
        self.control, theirs = socket.socketpair()
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
        places = [str(HERE.parent), *(path for path in sys.path if path not in ("", os.getcwd()))]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", f"from exercises.worker import nursery; nursery({theirs.fileno()})"],
            env={**kept, **threads, "PYTHONPATH": os.pathsep.join(places), "CUDA_VISIBLE_DEVICES": ""},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            cwd="/",
        )
        theirs.close()

    def __enter__(self) -> "Nursery":
        return self

    def __exit__(self, *_) -> None:
        self.control.close()
        self.process.wait()

    def order(self, order: dict, descriptors: tuple[int, ...] = ()) -> dict:
        with self.lock:
            socket.send_fds(self.control, [json.dumps(order).encode()], descriptors)
            reply = b""
            while not reply.endswith(b"\n"):
                part = self.control.recv(1 << 16)
                if not part:
                    raise GradingError("the process from which workers are forked has ended (out of memory?)")
                reply += part
        return json.loads(reply)

    @contextlib.contextmanager
    def worker(self, helpers: tuple[Source, ...] = ()) -> Iterator["Worker"]:
        """A fresh process in a fresh folder, which holds the submission's own modules and goes with the process."""
        folder = os.path.realpath(tempfile.mkdtemp(prefix="submission-"))
        ours, theirs = socket.socketpair()
        pid = None
        try:
            for helper in helpers:
                Path(folder, helper.name).write_text(helper.cells[0][1], encoding="utf-8", errors="replace")
            order = {"do": "fork", "folder": folder, "memory": MEMORY, "fenced": self.fenced}
            pid = self.order({**order, "seconds": int(2 * self.seconds) + 5}, (theirs.fileno(),))["worker"]
            theirs.close()
            yield Worker(ours, Path(folder), self.seconds)
        finally:
            ours.close()
            theirs.close()
            if pid is not None:
                self.order({"do": "end", "worker": pid})
            subprocess.run(["rm", "-rf", "--", folder], stderr=subprocess.DEVNULL)  # however deep it is


class Worker:
    """The judge's end of the channel to a submission; everything that arrives on it is a stranger's."""

    def __init__(self, channel: socket.socket, folder: Path, seconds: float):
        self.channel, self.folder, self.seconds = channel, folder, seconds
        self.left = seconds
        self.looked = 0.0

    def load(self, source: Source, function: str) -> tuple[bool, str]:
        """Run the submission; whether it then defines the function, and what went wrong."""
        request, code = {"name": source.name, "function": function}, json.dumps(source.cells).encode()
        reply, _ = self.exchange(request, code, self.seconds, "did not finish loading")
        return reply.get("defined") is True, plain(str(reply.get("said", "")))

    def call(self, *arguments):
        """The function's answer, and the elements of the largest tensor on its way. Raises what `judge` understands."""
        start = time.monotonic()
        callables: list[Callable] = []
        tree, payload = encode(arguments, callables)
        reply, payload = self.exchange({"arguments": tree}, payload, self.left, "gave no answer")
        try:
            while "ask" in reply:
                asked = decode(reply["arguments"], payload)
                header, payload = answer_to(callables[reply["ask"]], asked)
                reply, payload = self.exchange(header, payload, self.left - time.monotonic() + start)
            self.left -= time.monotonic() - start
            if "value" in reply:
                largest = reply.get("largest")
                return decode(reply["value"], payload), largest if isinstance(largest, int) else 0
        except (WireError, KeyError, IndexError, TypeError):
            raise Gone("crashed", "Its process sent something that is no answer.") from None
        if reply.get("todo") is True:
            raise Todo
        if isinstance(reply.get("raised"), str):
            raise Raised(plain(reply["raised"]))
        if isinstance(reply.get("not data"), str):
            raise Mistake(not_data(plain(reply["not data"])))
        raise Gone("crashed", "Its process sent something that is no answer.")

    def exchange(
        self, header: dict, payload: bytes, seconds: float, late: str = "gave no answer"
    ) -> tuple[dict, bytes]:
        try:
            self.channel.settimeout(max(seconds, 0.001))
            send(self.channel, header, payload)
            return receive(self.channel, time.monotonic() + seconds, self.look_at_folder)
        except Late:
            raise Gone("late", f"It {late} within {self.seconds:g} s: is there a loop that does not end?") from None
        except Closed:
            raise Gone(
                "crashed", "Its process ended before it answered: a crash, an exit, or more memory than allowed."
            ) from None
        except WireError:
            raise Gone("crashed", "Its process sent something that is no answer.") from None

    def look_at_folder(self) -> None:
        if time.monotonic() - self.looked < 0.1:
            return
        self.looked = time.monotonic()
        size, count, folders = 0, 0, [self.folder]
        while folders:
            with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
                for entry in entries:
                    count += 1
                    if size > FOLDER_BYTES or count > FOLDER_ENTRIES or len(entry.path) > 2000:
                        raise Gone("crashed", "It wrote more into its folder than a submission may.")
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        size += entry.stat(follow_symlinks=False).st_size


def answer_to(function: Callable, arguments: tuple) -> tuple[dict, bytes]:
    """What a submission hears from a function that it was handed: a value, or that it called it wrongly."""
    try:
        tree, payload = encode(function(*arguments))
        return {"value": tree}, payload
    except TypeError as error:
        return {"refused": str(error)}, b""


def plain(text: str) -> str:
    """A stranger's text without control characters, and not too long."""
    return re.sub(r"[^\n\x20-\x7e\xa0-\ud7ff\ue000-\U0010ffff]", "?", text[:2000])


def grade(entry: Submission, nursery: Nursery, seed: int) -> Grades:
    """All exercises of one submission, each in a process of its own."""
    grades = Grades(entry.name)
    stuck: dict[str, str] = {}  # files that did not finish loading once will not do so again
    for exercise in exercises().values():
        grades.verdicts[exercise.number] = grade_exercise(entry, exercise, nursery, seed, stuck)
    return grades


def grade_exercise(
    entry: Submission, exercise: Exercise, nursery: Nursery, seed: int, stuck: dict[str, str]
) -> Verdict:
    def verdict(state: str, message: str) -> Verdict:
        return Verdict(exercise.number, exercise.title, state, message)

    defining = [source for source in entry.sources if source.defines(exercise.function)]
    # a folder may hold scratch work as well: prefer the chapter's own notebook
    defining.sort(key=lambda source: not source.name.startswith(exercise.page.source.stem[:2]))
    if not defining:
        problems = "; ".join(entry.problems)
        return verdict("missing", f"No function called {exercise.function}." + (f" {problems}" if problems else ""))
    source = defining[0]
    if source.name in stuck:
        return verdict("late", stuck[source.name])
    helpers = tuple(s for s in entry.sources if s.name.endswith(".py") and s is not source)
    loaded = False
    try:
        with nursery.worker(helpers) as worker:
            defined, said = worker.load(source, exercise.function)
            loaded = True
            if not defined:
                said = f" While loading: {said}" if said else ""
                return verdict("missing", f"No function called {exercise.function} after running {source.name}.{said}")
            return judge(exercise, worker.call, seed)
    except Gone as error:
        if error.state == "late" and not loaded:
            stuck[source.name] = str(error)
        return verdict(error.state, str(error))
    except GradingError:
        raise
    except Exception as error:  # whatever it was, the other submissions are graded
        return verdict("crashed", f"Grading it failed: {type(error).__name__}: {plain(str(error))}")


def grade_folder(
    folder: Path,
    *,
    seconds: float = 10,
    jobs: int | None = None,
    seed: int,
    fenced: bool = True,
    progress: Callable = print,
) -> list[Grades]:
    """Grade everything in `folder`, telling `progress` of each submission. Raises `GradingError`."""
    entries = submissions(folder)
    if fenced and (reason := sandbox.missing()):
        raise GradingError(
            f"strangers' code cannot be fenced in here: {reason}. Grade on Linux, or in a container or virtual machine "
            "that you can lose, with --unfenced: time and memory stay limited, but files and processes stay in reach"
        )
    torch.set_num_threads(1)
    exercises()
    done = 0
    progress(f"{len(entries)} submissions, {len(exercises())} exercises each, {seconds:g} s an exercise")
    with Nursery(fenced, seconds) as nursery, ThreadPoolExecutor(jobs or os.cpu_count()) as pool:
        rehearse(nursery)

        def one(entry: Submission) -> Grades:
            nonlocal done
            start = time.perf_counter()
            grades = grade(entry, nursery, seed)
            with nursery.lock:
                done += 1
                took, right = time.perf_counter() - start, f"{grades.total} of {len(grades.verdicts)} right"
                progress(f"[{done}/{len(entries)}] {entry.name}: {right} ({took:.1f} s)")
            return grades

        return list(pool.map(one, entries))


def rehearse(nursery: Nursery) -> None:
    """Raise `GradingError` if even a worker with nothing to do does not come up: then no grade would mean anything."""
    try:
        with nursery.worker() as worker:
            worker.load(Source("nothing", ()), "nothing")
    except Gone as error:
        raise GradingError(f"a process for submissions cannot be started behind its fences here. {error}") from None


def write_table(grades: list[Grades], path: Path) -> None:
    """The grades as CSV: 1 or 0 for each exercise, the total, then what was said about each."""
    numbers = list(exercises())
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["submission", *numbers, "total", *(f"{number} message" for number in numbers)])
        for row in grades:
            verdicts = [row.verdicts[number] for number in numbers]
            said = [f"{verdict.headline} {' / '.join(verdict.message.splitlines())}" for verdict in verdicts]
            table.writerow([cell(row.name), *(int(verdict.right) for verdict in verdicts), row.total, *map(cell, said)])


def cell(text: str) -> str:
    """Text that a spreadsheet will not take for a formula."""
    text = plain(text)
    return "'" + text if text[:1] in "=+-@\t" else text
