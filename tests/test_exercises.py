"""The exercises: right answers pass, stubs fail politely, planted wrong answers are refused by name."""

import importlib
import inspect
import random

import pytest
import torch

from exercises.case import Case, Mistake
from exercises.learner import verdict_on
from exercises.registry import CELL, UnknownExercise, exercises, find, pages
from exercises.verdict import judge, local
from exercises.wrong import wrong_answers

NUMBERS = list(exercises())
FRESH = "fresh"  # a seed of this run's own; drawn late, since parallel runs must collect the same tests
SEEDS = [7_000_000, 7_001_000, FRESH]


def drawn(seed) -> int:
    return random.SystemRandom().randrange(10**6) if seed == FRESH else seed


def solutions(number):
    return importlib.import_module(f"exercises.{find(number).chapter}.solutions")


def stub(number):
    """The stub of the page, as its reader would define it: after the page's first cell."""
    page, names = find(number).page, {}
    exec(CELL.findall(page.source.read_text())[0] + page.stub, names)
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
    assert inspect.getdoc(theirs).split() == inspect.getdoc(ours).split()  # the page's lines are shorter


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("number", NUMBERS)
def test_solution_is_right(number, seed):
    verdict = judge(find(number), local(getattr(solutions(number), find(number).function)), drawn(seed))
    assert verdict.state == "right", str(verdict)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("number", NUMBERS)
def test_another_right_answer_is_right(number, seed):
    verdict = judge(find(number), local(getattr(solutions(number), find(number).function + "_another")), drawn(seed))
    assert verdict.state == "right", str(verdict)


def rounded(value):
    """The value, in float32 wherever it is in float64."""
    if isinstance(value, list | tuple):
        return type(value)(map(rounded, value))
    return value.float() if isinstance(value, torch.Tensor) and value.dtype == torch.float64 else value


@pytest.mark.parametrize("number", NUMBERS)
def test_a_float32_answer_is_right(number):
    function = getattr(solutions(number), find(number).function)
    verdict = judge(find(number), local(lambda *given: rounded(function(*given))), SEEDS[0])
    assert verdict.state == "right", str(verdict)


def test_a_right_answer_is_right_however_near_a_mistake_comes():
    right, wrong = torch.ones(2), torch.full((2,), 1.22)
    near = {"a fifth too much": wrong}
    with pytest.raises(Mistake, match="a fifth too much"):
        Case(0).same(wrong, right, near, loose=1000)
    Case(0).same(right, right, near, loose=1000)


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
    """By chance the numbers of a fresh case can make one mistake look like another; not twice in a row."""
    for seed in SEEDS:
        message = refusal(wrong, drawn(seed))
        if seed == FRESH and wrong.says not in message:
            message = refusal(wrong, drawn(FRESH))
        assert wrong.says in message, f"seed {seed}: {message}"


def refusal(wrong, seed) -> str:
    verdict = judge(find(wrong.number), local(wrong.function), seed)
    assert verdict.state in ("wrong", "raised"), f"seed {seed}: {verdict}"
    assert f"check({wrong.number!r}, seed=".replace('"', "'") in verdict.message
    return verdict.message


@pytest.mark.parametrize("number", NUMBERS)
def test_a_constant_is_no_answer(number):
    for constant in (None, 0.0, "text", [], {}):
        verdict = judge(find(number), local(lambda *_, constant=constant: constant), 0)
        assert verdict.state == "wrong", str(verdict)


def test_an_unknown_number_lists_the_known_ones():
    with pytest.raises(UnknownExercise, match=r"no exercise '9\.9'; there are 1\.1, 1\.2"):
        find("9.9")


def test_what_is_no_answer_is_told_apart():
    def stopped(*_):
        raise KeyboardInterrupt

    def left(*_):
        raise SystemExit(3)

    for function, state, says in [
        (None, "missing", "no function called bilinear_scores"),
        (3, "missing", "is a int"),
        (stopped, "stopped", "You stopped it"),
        (left, "raised", "SystemExit: 3"),
        (lambda x: x, "raised", "takes 1 positional argument but 2 were given"),
        (lambda x, m: x.undefined, "raised", "undefined"),
        (lambda x, m: (x @ m @ x.mT).half(), "wrong", "holds float16"),
        (lambda x, m: (x @ m @ x.mT).tolist(), "wrong", "The answer should be a tensor, and is a list"),
        (lambda x, m: x @ m, "wrong", "The answer should have shape"),
        (lambda x, m: x @ m @ x.mT - torch.inf, "wrong", "The answer holds -inf at [0, 0, 0]"),
        (lambda x, m: object(), "wrong", "holds a object"),
        (lambda x, m: x.mul_(0) @ m @ x.mT, "wrong", "everything is zero"),
    ]:
        verdict = verdict_on("1.1", function)
        assert (verdict.state, says in verdict.message) == (state, True), str(verdict)


def test_check_finds_the_function_where_it_is_called(capsys):
    names = {}
    exec("from exercises import check\ndef bilinear_scores(x, m):\n    return x @ m @ x.mT\ncheck('1.1')", names)
    assert "right." in capsys.readouterr().out
    exec("from exercises import check\ncheck('1.1')", {})
    assert "not defined" in capsys.readouterr().out
    names["check"]("1.1", lambda x, m: x @ x.mT, seed=5)
    assert "seed=5)" in capsys.readouterr().out


def test_an_answer_may_be_numpy_s_and_cannot_change_its_case():
    def scores(x, m):
        answer = x.numpy() @ m.numpy() @ x.mT.numpy()
        x.zero_()
        return answer

    assert verdict_on("1.1", scores).right


def test_the_verdict_s_html_is_text_alone():
    def scores(x, m):
        raise ValueError("<script>alert(1)</script>")

    page = verdict_on("1.1", scores)._repr_html_()
    assert "&lt;script&gt;" in page
    assert "<script" not in page
