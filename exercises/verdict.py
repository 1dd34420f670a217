"""The verdict on one answer: how it is reached, and how it reads."""

import html
import time
from collections.abc import Callable
from dataclasses import dataclass

from .case import Case, Mistake, describe
from .registry import Exercise
from .sizes import Largest
from .traces import told
from .wire import NotData, copied, decode, encode

COLOURS = {"right": "#2e9e5b", "todo": "#7d8796"}  # the others: amber
HEADLINES = {
    "right": "right",
    "todo": "not done yet",
    "wrong": "not right yet",
    "raised": "your function raised an error",
    "missing": "not defined",
    "late": "no answer in time",
    "crashed": "the process ended",
    "stopped": "stopped",
}


@dataclass(frozen=True)
class Verdict:
    """`state` is a key of `HEADLINES`; `message` says why, in words for the learner."""

    number: str
    title: str
    state: str
    message: str

    @property
    def right(self) -> bool:
        return self.state == "right"

    @property
    def headline(self) -> str:
        return f"Exercise {self.number} {self.title}: {HEADLINES[self.state]}."

    def __str__(self) -> str:
        return "\n".join([self.headline, *("  " + line for line in self.message.splitlines())])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        colour = COLOURS.get(self.state, "#c7762b")
        lines = "".join(
            f'<div style="white-space: pre-wrap">{html.escape(line)}</div>' for line in self.message.splitlines()
        )
        style = f"border-left: 4px solid {colour}; padding: 0.2em 0 0.2em 0.8em; line-height: 1.5"
        return f'<div class="verdict" style="{style}"><strong>{html.escape(self.headline)}</strong>{lines}</div>'


class Todo(Exception):
    """The answer is a stub still."""


class Raised(Exception):
    """The answer raised an error, told in the message."""


class Gone(Exception):
    """The answer's process does not answer any more; `state` says how that shows."""

    def __init__(self, state: str, message: str):
        super().__init__(message)
        self.state = state


def judge(exercise: Exercise, call: Callable, seed: int, cases: int | None = None) -> Verdict:
    """Try `call` on random cases, the first from `seed`, the next from `seed + 1` ...; stop at the first that fails.

    call: gives an answer and the elements of the largest tensor that was made on its way.
    """
    start = time.perf_counter()
    count = cases or exercise.cases
    for k in range(count):
        case, given = Case(seed + k), []

        def answer(*arguments, case=case, given=given):
            given[:] = arguments
            case.last, case.largest = call(*arguments)
            return case.last

        def verdict(state: str, message: str) -> Verdict:
            return Verdict(exercise.number, exercise.title, state, message)

        try:
            exercise.test(answer, case)
        except Todo:
            return verdict("todo", f"{exercise.function} still raises NotImplementedError: it is yours to write.")
        except Mistake as mistake:
            return verdict("wrong", f"{sentence(str(mistake))}\n{tried(exercise, case, given)}")
        except Raised as error:
            return verdict("raised", f"{error}\n{tried(exercise, case, given)}")
        except Gone as error:
            return verdict(error.state, str(error))
        except (ArithmeticError, LookupError, TypeError, ValueError, RuntimeError) as error:
            return verdict("wrong", f"The answer cannot be judged: {error}\n{tried(exercise, case, given)}")
    seconds = time.perf_counter() - start
    return verdict("right", f"{count} random cases, {seconds:.2f} s (seeds {seed} to {seed + count - 1}).")


def tried(exercise: Exercise, case: Case, given: list) -> str:
    names = exercise.page.parameters
    values = ", ".join(f"{name}: {describe(value)}" for name, value in zip(names, given, strict=False))
    return f"Tried with {values}. To repeat this case: check({exercise.number!r}, seed={case.seed})"


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def local(function: Callable) -> Callable:
    """A learner's function in this process: it is handed copies, and its answer is data or a mistake.

    A call gives the answer and the elements of the largest tensor on its way, as `judge` wants it.
    """

    def call(*arguments):
        callables: list[Callable] = []
        tree, payload = encode(arguments, callables)
        try:
            with Largest() as largest:
                value = function(*decode(tree, payload, lambda number, given: callables[number](*copied(given))))
        except NotImplementedError:
            raise Todo from None
        except Mistake:
            raise
        except (Exception, SystemExit) as error:
            raise Raised(told(error)) from None
        try:
            return copied(value), largest.elements
        except NotData as error:
            raise Mistake(not_data(error)) from None

    return call


def not_data(kind) -> str:
    return f"the answer should be made of tensors and numbers, and is or holds a {kind}"
