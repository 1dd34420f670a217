"""Planted wrong answers: each must be refused, with words that name its mistake."""

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass

from .registry import CHAPTERS


@dataclass(frozen=True)
class Wrong:
    """A wrong answer to an exercise; `says` must be in the message that refuses it."""

    number: str
    mistake: str
    says: str
    function: Callable


_wrong: list[Wrong] = []


def wrong(number: str, mistake: str, says: str) -> Callable:
    """Register the decorated wrong answer."""

    def register(function: Callable) -> Callable:
        _wrong.append(Wrong(number, mistake, says, function))
        return function

    return register


@functools.cache
def wrong_answers() -> tuple[Wrong, ...]:
    """All planted wrong answers."""
    for chapter in CHAPTERS:
        importlib.import_module(f".{chapter}.wrong", __package__)
    return tuple(_wrong)
