"""The exercises: right answers pass, stubs fail politely, planted wrong answers are refused by name."""

import importlib
import inspect
import random

import pytest

from exercises.registry import UnknownExercise, exercises, find, pages
from exercises.verdict import judge, local
from exercises.wrong import wrong_answers

NUMBERS = list(exercises())
SEEDS = [7_000_000 + 1000 * k for k in range(3)] + [random.SystemRandom().randrange(10**6)]


def solutions(number):
    return importlib.import_module(f"exercises.{find(number).chapter}.solutions")


def stub(number):
    """The stub of the page, as its reader would define it."""
    names = {}
    exec("import torch\nfrom jaxtyping import *\nfrom torch import Tensor\n" + find(number).page.stub, names)
    return names[find(number).function]


def test_every_exercise_has_its_page_and_every_page_its_exercise():
    assert list(pages()) == NUMBERS
    chapters = [number.split(".")[0] for number in NUMBERS]
    assert all(chapters.count(chapter) >= 4 for chapter in "123")


@pytest.mark.parametrize("number", NUMBERS)
def test_page_is_complete(number):
    page, exercise = find(number).page, find(number)
    body = page.source.read_text().split(f"## Exercise {number} ")[1].split("\n## ")[0]
    assert {page.difficulty, page.importance} <= set(range(1, 6))
    assert page.minutes > 0
    assert f'check("{number}")' in body
    assert "{dropdown} Hint" in body
    assert (
        f"```{{literalinclude}} {exercise.chapter}/solutions.py\n:language: python\n:pyobject: {exercise.function}\n"
        in body
    )


@pytest.mark.parametrize("number", NUMBERS)
def test_stub_has_the_solution_s_signature_and_docstring(number):
    ours, theirs = getattr(solutions(number), find(number).function), stub(number)
    assert str(inspect.signature(theirs)) == str(inspect.signature(ours))
    assert inspect.getdoc(theirs) == inspect.getdoc(ours)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("number", NUMBERS)
def test_solution_is_right(number, seed):
    verdict = judge(find(number), local(getattr(solutions(number), find(number).function)), seed)
    assert verdict.state == "right", str(verdict)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("number", NUMBERS)
def test_another_right_answer_is_right(number, seed):
    verdict = judge(find(number), local(getattr(solutions(number), find(number).function + "_another")), seed)
    assert verdict.state == "right", str(verdict)


@pytest.mark.parametrize("number", NUMBERS)
def test_stub_is_not_done_yet(number):
    verdict = judge(find(number), local(stub(number)), 0)
    assert verdict.state == "todo"
    assert find(number).function in str(verdict)


@pytest.mark.parametrize("number", NUMBERS)
def test_at_least_four_wrong_answers_are_planted(number):
    assert len({wrong.mistake for wrong in wrong_answers() if wrong.number == number}) >= 4


@pytest.mark.parametrize("wrong", wrong_answers(), ids=lambda wrong: f"{wrong.number}-{wrong.function.__name__}")
def test_wrong_answer_is_refused_by_name(wrong):
    for seed in SEEDS:
        verdict = judge(find(wrong.number), local(wrong.function), seed)
        assert verdict.state in ("wrong", "raised"), f"seed {seed}: {verdict}"
        assert wrong.says in verdict.message, f"seed {seed}: {verdict}"
        assert f"check({wrong.number!r}, seed=".replace('"', "'") in verdict.message


@pytest.mark.parametrize("number", NUMBERS)
def test_a_constant_is_no_answer(number):
    for constant in (None, 0.0, "text", [], {}):
        verdict = judge(find(number), local(lambda *_, constant=constant: constant), 0)
        assert verdict.state == "wrong", str(verdict)


def test_an_unknown_number_lists_the_known_ones():
    with pytest.raises(UnknownExercise, match=r"no exercise '9\.9'; there are 1\.1, 1\.2"):
        find("9.9")
