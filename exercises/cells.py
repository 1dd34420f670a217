"""Submissions as cells of code: read from a notebook or a script, and run one after the other."""

import json
import linecache
import re
import sys
import types
from dataclasses import dataclass
from pathlib import Path

from .traces import told

LARGEST_FILE, LARGEST_CODE = 20 << 20, 2 << 20  # bytes; a notebook holds pictures as well


class Unreadable(ValueError):
    """A file that is no notebook or script; the message says why."""


@dataclass(frozen=True)
class Source:
    """One file: its name, and its cells as (label, code)."""

    name: str
    cells: tuple[tuple[str, str], ...]

    def defines(self, function: str) -> bool:
        """Whether some line binds that name, as far as a look at the text can tell."""
        return any(binds(code, function) for _, code in self.cells)


def binds(code: str, name: str) -> bool:
    return bool(re.search(rf"^\s*def {name}\b|^{name}\s*[=:]|^\s*(from\s.*)?\bimport\b.*\b{name}\b", code, re.M))


def read(path: Path) -> Source:
    """The cells of a notebook or a script. Raises `Unreadable`."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise Unreadable(f"{path.name} is larger than {LARGEST_FILE >> 20} MB")
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".ipynb":
            codes = [joined(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        else:
            codes = [text]
        if sum(map(len, codes)) > LARGEST_CODE:
            raise Unreadable(f"{path.name} holds more than {LARGEST_CODE >> 20} MB of code")
    except UnicodeDecodeError:
        raise Unreadable(f"{path.name} is not text (UTF-8)") from None
    except (OSError, MemoryError) as error:
        raise Unreadable(f"{path.name} cannot be read: {error}") from None
    except Unreadable:
        raise
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Unreadable(f"{path.name} is not a Jupyter notebook (format 4)") from None
    if path.suffix != ".ipynb":
        return Source(path.name, ((path.name, codes[0]),))
    return Source(path.name, tuple((f"{path.name}, cell {k}", code) for k, code in enumerate(codes, 1)))


def joined(source: str | list[str]) -> str:
    if not isinstance(source, str | list):
        raise TypeError
    return source if isinstance(source, str) else "".join(source)


def run(source: Source) -> tuple[dict, dict[str, str]]:
    """The names that the cells define, and the errors of those that raised; the cells after them still run."""
    module = types.ModuleType("submission")
    sys.modules["submission"] = module
    errors = {}
    for label, code in source.cells:
        linecache.cache[label] = (len(code), None, code.splitlines(keepends=True), label)
        try:
            exec(compiled(code, label), module.__dict__)
        except BaseException as error:  # SystemExit too: it ends a cell, not the grading
            errors[label] = told(error)
    return module.__dict__, errors


def relevant(source: Source, errors: dict[str, str], function: str) -> str:
    """Of the errors, the one that explains best why the function is not there; empty if there are none."""
    guilty = [errors[label] for label, code in source.cells if label in errors and binds(code, function)]
    return next(iter([*guilty, *errors.values()]), "")


def compiled(code: str, label: str):
    """The code of a cell; where it is no Python, without the lines that speak to IPython or a shell."""
    try:
        return compile(code, label, "exec")
    except SyntaxError as error:
        plain = (
            "" if re.match(r"\s*%%(?!time|capture)", code) else re.sub(r"^(\s*)[%!?].*$", r"\1pass", code, flags=re.M)
        )
        try:
            return compile(plain, label, "exec")
        except SyntaxError:
            raise error from None
