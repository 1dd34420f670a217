"""Builds the book: executes what changed, makes the site, and ends in its address or in the reason why there is none.

Run from the repository's root, in the environment that `make` keeps. What is remembered between two runs, in `_build`:
a digest of every source (nothing to do while it stands), the executed notebooks (jupyter-cache: edited prose runs no
code again), and a digest of the code that notebooks import (a change there forgets the executed notebooks).
The pages themselves are always made anew, so that nothing stale stays.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path.cwd()
BUILD = ROOT / "_build"
INDEX = BUILD / "html" / "index.html"
LOG = BUILD / "build.log"
REASON = BUILD / ".reason"

# What the code cells of a folder can import or read.
PACKAGE = ("structattn_minimal/**/*", "book/results/*", "requirements.txt")
IMPORTED = {"chapters": PACKAGE, "exercises": ("exercises/**/*.py", "exercises/**/*.json", *PACKAGE)}
SOURCES = ("_*.yml", "book/**/*", "chapters/**/*", "exercises/**/*", "tests/*.py", *PACKAGE)

ANSI = re.compile(r"\x1b\[[0-9;]*m")
PROBLEM = re.compile(r"^(?:(?P<where>\S.*?): )?(?P<level>WARNING|ERROR|SEVERE|CRITICAL): (?P<text>.+)$")
RAISED = re.compile(r"^(?P<error>[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Warning)\b(?!.*Traceback \().*)$")
EXECUTION_FAILED = re.compile(r"Executing notebook failed: (\w+)")
STEPS = re.compile(r"^(reading sources|preparing documents|copying assets|writing output|build )")


def files(patterns: Iterable[str]) -> Iterator[Path]:
    """Each file that the patterns find, except what tools leave behind."""
    found = {path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()}
    return iter(sorted(path for path in found if "__pycache__" not in path.parts and not path.name.startswith(".")))


def digest(patterns: Iterable[str]) -> str:
    """One fingerprint of the names and contents of many files."""
    total = hashlib.sha256(sys.version.encode())
    for path in files(patterns):
        total.update(f"{path.relative_to(ROOT)}\0{path.stat().st_size}\0".encode())
        total.update(path.read_bytes())
    return total.hexdigest()


def unchanged(stamp: str, value: str) -> bool:
    """Whether the stamp of this name says `value`."""
    path = BUILD / stamp
    return path.is_file() and path.read_text() == value


def forget_executions() -> None:
    """Drop the executed notebooks of each folder whose imports changed since they were executed."""
    from jupyter_cache import get_cache

    for folder, patterns in IMPORTED.items():
        now = digest(patterns)
        if not unchanged(f".code-{folder}", now):
            cache = get_cache(BUILD / ".jupyter_cache")
            for record in cache.list_cache_records():
                if Path(record.uri).parent.name == folder:
                    cache.remove_cache(record.pk)
            (BUILD / f".code-{folder}").write_text(now)


def execute_ahead() -> None:
    """Let `execute.py` fill the cache. Should it fail, the builder takes its time and executes what is missing."""
    environment = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"} | os.environ  # several run at a time
    with (BUILD / "execute.log").open("w", encoding="utf-8") as log:
        command = [sys.executable, str(Path(__file__).with_name("execute.py"))]
        subprocess.run(command, stderr=log, env=environment, cwd=ROOT, check=False)


def relative(text: str) -> str:
    return text.replace(f"{ROOT}{os.sep}", "").replace(".md:", ".md, line ", 1)


def show(line: str) -> None:
    """Pass on what tells a reader something: chapters that run, the steps, and every complaint."""
    executing = re.match(r"(?P<page>.*?)\.md: Execut(?P<what>ing|ed) notebook (?:in (?P<seconds>[\d.]+))?", line)
    if executing and not executing["seconds"] and executing["what"] == "ing" and "failed" not in line:
        print(f"    running {relative(executing['page'])} ...", flush=True)
    elif executing and executing["seconds"]:
        print(f"      done in {float(executing['seconds']):.0f} s", flush=True)
    elif PROBLEM.match(line) or RAISED.match(line):
        print(f"    {relative(line)}", flush=True)
    elif STEPS.match(line) and ("100%" in line or "..." not in line):
        print(f"    {line.split('...')[0].split(' ... ')[0]}", flush=True)


def run_jupyter_book() -> tuple[int, list[str]]:
    """Build the site; the exit status and every line that was said."""
    jupyter_book = str(Path(sys.executable).with_name("jupyter-book"))
    command = [jupyter_book, "build", str(ROOT), "--all", "-W", "-n", "--keep-going"]
    lines = []
    # Threads of torch that wait do not spin: on a busy machine, spinning makes training many times slower.
    environment = {"PYTHONUNBUFFERED": "1", "OMP_WAIT_POLICY": "PASSIVE"} | os.environ
    with (
        LOG.open("w", encoding="utf-8", buffering=1) as log,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=ROOT
        ) as process,
    ):
        for raw in process.stdout:
            line = ANSI.sub("", raw.rstrip())
            log.write(line + "\n")
            lines.append(line)
            show(line)
    return process.returncode, lines


def raised_by(page: str, kind: str, said: list[str]) -> str:
    """What a page's failing cell raised: the first error of its own, or nbclient's (a cell that took too long)."""
    errors = [match["error"] for match in map(RAISED.match, said) if match]
    if kind == "CellExecutionError":
        errors = [error for error in errors if not error.startswith("nbclient.")]
    else:
        errors = [error.rpartition("exceptions.")[2] for error in errors if kind in error]
    return f"{page} raised {errors[0] if errors else kind}"


def reason(lines: list[str]) -> str:
    """Why the build failed, in one line: the page that raised, else the first warning, else the first error."""
    problems = [(at, match) for at, match in enumerate(map(PROBLEM.match, lines)) if match]
    for at, problem in problems:
        failed = EXECUTION_FAILED.search(problem["text"])
        if failed:
            return raised_by(relative(problem["where"] or "a page").partition(".md")[0], failed[1], lines[at:])
    if problems:
        first = problems[0][1]
        others = f" (and {len(problems) - 1} more, listed above)" if len(problems) > 1 else ""
        return f"{relative(first['where']) if first['where'] else 'the book'}: {first['text']}{others}"
    error = next((match["error"] for match in map(RAISED.match, lines) if match), "jupyter-book stopped")
    return f"{error} (all that was said is in {LOG.relative_to(ROOT)})"


def main() -> int:
    BUILD.mkdir(exist_ok=True)
    sources = digest(SOURCES)
    if INDEX.is_file() and unchanged(".built-from", sources):
        print(f"Nothing changed since the book was built.\nOpen {INDEX.as_uri()}")
        return 0
    print(
        "==> Building the book: each chapter that has not run yet runs now (the first time takes some minutes)",
        flush=True,
    )
    started = time.monotonic()
    (BUILD / ".built-from").unlink(missing_ok=True)
    shutil.rmtree(BUILD / "html", ignore_errors=True)
    shutil.rmtree(BUILD / ".doctrees", ignore_errors=True)
    forget_executions()
    execute_ahead()
    status, lines = run_jupyter_book()
    if status:
        why = f"The book was not built: {reason(lines)}"
        REASON.write_text(why + "\n")
        print(why)
        return 1
    (BUILD / ".built-from").write_text(sources)
    pages = len(list((BUILD / "html").rglob("*.html")))
    print(f"==> Built {pages} pages in {time.monotonic() - started:.0f} s\nOpen {INDEX.as_uri()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
