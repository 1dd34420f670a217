"""`check`: the verdict on an answer, in the notebook where it was written."""

import random
import sys
from collections.abc import Callable

from .registry import find
from .verdict import Verdict, judge, local


def verdict_on(number: str, function: Callable | None, *, seed: int | None = None) -> Verdict:
    """The verdict on `function`, tried in this process; None stands for a name that is not defined."""
    exercise = find(number)
    if function is None:
        message = f"There is no function called {exercise.function} here: run the cell that defines it, then this one."
        return Verdict(exercise.number, exercise.title, "missing", message)
    if not callable(function):
        message = f"{exercise.function} should be a function, and is a {type(function).__name__}."
        return Verdict(exercise.number, exercise.title, "missing", message)
    try:
        return judge(exercise, local(function), random.SystemRandom().randrange(10**6) if seed is None else int(seed))
    except KeyboardInterrupt:
        return Verdict(exercise.number, exercise.title, "stopped", "You stopped it. If it was slow: is there a loop?")


def check(number: str, function: Callable | None = None, *, seed: int | None = None) -> None:
    """Try your answer to an exercise on fresh random cases, and say what came out.

    `number` is the exercise's, for example "1.2". The function is looked up by its name where `check` is called;
    or hand it over as the second argument. `seed` repeats the cases of an earlier verdict.
    """
    if function is None:
        function = sys._getframe(1).f_globals.get(find(number).function)
    show(verdict_on(number, function, seed=seed))


def show(verdict: Verdict) -> None:
    """Display the verdict in a notebook, print it elsewhere."""
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        print(verdict)
        return
    if getattr(get_ipython(), "kernel", None) is None:
        print(verdict)
    else:
        display(verdict)
