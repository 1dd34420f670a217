"""The exercises: what each is called, where its page is, and how one random case of it is tested."""

import ast
import functools
import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CHAPTERS = tuple(sorted(folder.name for folder in HERE.glob("ch[0-9][0-9]")))
HEADING = re.compile(r"^#+ Exercise (\d+\.\d+) +(.+?)\s*$", re.MULTILINE)
EFFORT = re.compile(r"Difficulty (\d) of 5, importance (\d) of 5, (\d+) minutes")
CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)


class UnknownExercise(KeyError):
    """No exercise has that number."""

    def __str__(self) -> str:
        return self.args[0]


@dataclass(frozen=True)
class Exercise:
    """One exercise. `test(answer, case)` raises a `Mistake` unless the callable `answer` is right on that case."""

    number: str
    function: str
    cases: int
    test: Callable

    @property
    def chapter(self) -> str:
        return f"ch{int(self.number.split('.')[0]):02d}"

    @property
    def title(self) -> str:
        return self.page.title

    @property
    def page(self) -> "Page":
        return pages()[self.number]


@dataclass(frozen=True)
class Page:
    """What the exercise's page says about it."""

    title: str
    difficulty: int
    importance: int
    minutes: int
    stub: str
    parameters: tuple[str, ...]
    source: Path


_exercises: dict[str, Exercise] = {}


def exercise(number: str, function: str, cases: int = 20) -> Callable:
    """Register the decorated test of one random case."""

    def register(test: Callable) -> Callable:
        if number in _exercises:
            raise ValueError(f"exercise {number} has two tests")
        _exercises[number] = Exercise(number, function, cases, test)
        return test

    return register


@functools.cache
def exercises() -> dict[str, Exercise]:
    """All exercises by number, in order."""
    for chapter in CHAPTERS:
        importlib.import_module(f".{chapter}.tests", __package__)
    return dict(sorted(_exercises.items(), key=lambda item: [int(part) for part in item[0].split(".")]))


def find(number: str) -> Exercise:
    """The exercise of that number. Raises `UnknownExercise`, which lists those there are."""
    known = exercises()
    if str(number) not in known:
        raise UnknownExercise(f"there is no exercise {number!r}; there are {', '.join(known)}")
    return known[str(number)]


@functools.cache
def pages() -> dict[str, Page]:
    """What the pages say, by number. Raises `ValueError` for a page that lacks a part."""
    found = {}
    for source in sorted(HERE.glob("[0-9][0-9]_*.md")):
        parts = HEADING.split(source.read_text(encoding="utf-8"))
        for number, title, body in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
            effort = EFFORT.search(body)
            stub = next((cell for cell in CELL.findall(body) if "NotImplementedError" in cell), None)
            if effort is None or stub is None:
                raise ValueError(f"{source.name}: exercise {number} lacks its effort line or its stub")
            function = next(node for node in ast.parse(stub).body if isinstance(node, ast.FunctionDef))
            parameters = tuple(argument.arg for argument in function.args.args)
            found[number] = Page(title, *map(int, effort.groups()), stub, parameters, source)
    return found
