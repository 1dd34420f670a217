"""The exercises on the command line: `python -m exercises --help`."""

import argparse
import random
import sys
from pathlib import Path
from unittest import mock

from . import cells, grader
from .learner import verdict_on
from .registry import UnknownExercise, exercises, find


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 if all went well."""
    parser = argparse.ArgumentParser(prog="python -m exercises", description="The exercises of the book.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="all exercises")
    check = commands.add_parser("check", help="check your answer to one exercise")
    check.add_argument("number", help="the exercise, for example 1.2")
    check.add_argument("file", type=Path, help="your notebook or script")
    check.add_argument("--seed", type=int, help="repeat the cases of an earlier verdict")
    grade = commands.add_parser("grade", help="grade a folder of submissions")
    grade.add_argument("folder", type=Path, help="one notebook, script or folder of them for each submission")
    grade.add_argument("--out", type=Path, default=Path("grades.csv"), help="the table (default: grades.csv)")
    grade.add_argument("--seconds", type=float, default=10, help="time limit of an exercise (default: 10)")
    grade.add_argument("--jobs", type=int, help="submissions graded at a time (default: one for each core)")
    grade.add_argument("--seed", type=int, help="the first seed of the random cases (default: drawn)")
    grade.add_argument("--unfenced", action="store_true", help="go on where strangers' code cannot be fenced in")
    options = parser.parse_args(arguments)
    try:
        return {"list": list_exercises, "check": check_file, "grade": grade_folder}[options.command](options)
    except (UnknownExercise, cells.Unreadable, grader.GradingError) as error:
        print(f"exercises: {error}", file=sys.stderr)
        return 2


def list_exercises(options: argparse.Namespace) -> int:
    for number, exercise in exercises().items():
        page = exercise.page
        effort = f"difficulty {page.difficulty} of 5, importance {page.importance} of 5, {page.minutes:2d} minutes"
        print(f"{number:4s} {page.title:42s} {effort}   {exercise.function}")
    return 0


def check_file(options: argparse.Namespace) -> int:
    exercise = find(options.number)
    source = cells.read(options.file)
    with mock.patch("exercises.check"):  # the file's own calls of `check` stay silent
        names, errors = cells.run(source)
    function = names.get(exercise.function)
    if function is None and errors:
        print("While loading: " + cells.relevant(source, errors, exercise.function), file=sys.stderr)
    verdict = verdict_on(options.number, function, seed=options.seed)
    print(verdict)
    return 0 if verdict.right else 1


def grade_folder(options: argparse.Namespace) -> int:
    if not options.out.parent.is_dir():
        raise grader.GradingError(f"{options.out.parent}, where the table should go, is no folder")
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    grades = grader.grade_folder(
        options.folder,
        seconds=options.seconds,
        jobs=options.jobs,
        seed=seed,
        fenced=not options.unfenced,
        progress=lambda line: print(line, file=sys.stderr, flush=True),
    )
    grader.write_table(grades, options.out)
    print(f"{options.out}: {len(grades)} submissions, seeds from {seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
