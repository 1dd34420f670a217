"""A comparison run again agrees with its record, or is said to differ; what cannot be compared is refused."""

import json
import re
import shutil

import pytest

from structattn_minimal.experiments import __main__ as command
from structattn_minimal.experiments.presets import COMPARISONS
from structattn_minimal.experiments.reproduction import Repetition, repetitions

MICRO = COMPARISONS["icl-micro"]
NAMES = ["standard_1_D8", "btt_D8", "standard_1_D16", "btt_D16"]


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A folder of icl-micro, and its record."""
    folder = tmp_path_factory.mktemp("first")
    command.main(["regression", "--preset", "icl-micro", "--out", str(folder)])
    return folder


@pytest.fixture
def again(first, tmp_path):
    shutil.copytree(first, tmp_path / "again")
    return tmp_path / "again"


def against(folder, record, *more):
    words = ["regression", "--preset", "icl-micro", "--out", str(folder), "--against", str(record), *more]
    try:
        command.main(words)
    except SystemExit as stop:
        return stop.code
    return 0


def change(path, **new):
    path.write_text(json.dumps(json.loads(path.read_text()) | new))


def test_a_comparison_really_run_again_agrees_to_the_last_digit(first, tmp_path, capsys):
    command.main(["regression", "--preset", "icl-micro", "--out", str(tmp_path / "again"), "--only", "D8"])
    capsys.readouterr()
    assert against(tmp_path / "again", first / "record.json") == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in printed] == ["standard_1_D8", "btt_D8"]
    assert all(line.endswith(": agrees") for line in printed)
    for run in repetitions(MICRO, tmp_path / "again", first / "record.json"):
        assert run.found == run.recorded


def test_one_that_differs_is_named_and_the_exit_status_says_so(first, again, capsys):
    change(again / "btt_D16.json", last=99.0)
    change(again / "standard_1_D8.json", status="failed", last=None)
    change(again / "btt_D8.json", best_rate=0.5)
    assert against(again, first / "record.json") == 1
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in printed] == ["DIFFERS", "agrees", "agrees", "DIFFERS"]
    assert printed[0].startswith("standard_1_D8: nothing against ")
    assert printed[3].startswith("btt_D16: 99 against ")
    assert ["at rate" in line for line in printed] == [False, True, False, False]
    assert re.search(r"at rate 0\.5 and not 0\.0\d+: agrees$", printed[1])  # its mean decides, not its rate
    assert against(again, first / "record.json", "--only", "D16") == 1
    assert against(again, first / "record.json", "--only", "btt_D8") == 0


@pytest.mark.parametrize(
    ("found", "lowest", "highest", "agrees"),
    [
        (1.0, 0.9, 1.1, True),
        (1.19, 0.9, 1.1, True),  # within half the range beyond it
        (0.81, 0.9, 1.1, True),
        (1.21, 0.9, 1.1, False),
        (0.79, 0.9, 1.1, False),  # better is different too
        (1.019, 1.0, 1.0, True),  # one seed: two percent
        (1.021, 1.0, 1.0, False),
        (float("nan"), 0.9, 1.1, False),
        (None, 0.9, 1.1, False),
    ],
)
def test_the_tolerance_is_that_of_another_seed(found, lowest, highest, agrees):
    assert Repetition("one", found, 1.0, lowest, highest).agrees is agrees


def test_what_cannot_be_compared_is_refused(first, again, tmp_path, capsys):
    said = against(again, tmp_path / "nowhere.json")
    assert said.startswith("FileNotFoundError: no record at ")
    assert "must have a finished run in common" in against(tmp_path / "empty", first / "record.json")
    assert "must have a finished run in common" in against(again, first / "record.json", "--only", "D9")
    setting = json.loads((again / "btt_D8.json").read_text())["setting"]
    change(again / "btt_D8.json", setting=setting | {"batch": 9})
    assert "is of another setting, batch = 9 and not 8" in against(again, first / "record.json")
    record = json.loads((first / "record.json").read_text())
    other = tmp_path / "other.json"
    other.write_text(json.dumps(record | {"setting": record["setting"] | {"steps": 21}}))
    assert "is of another setting, steps = 21 and not 20" in against(first, other)
    with pytest.raises(SystemExit):
        command.main(["regression", "--preset", "icl-tiny", "--out", "x.json", "--against", str(other)])
    assert "--against, --retime go with a comparison, not with icl-tiny" in capsys.readouterr().err


def test_what_only_one_of_the_two_holds_is_passed_over(first, again):
    (again / "btt_D8.json").unlink()
    record = json.loads((first / "record.json").read_text())
    del record["runs"]["standard_1_D16"]
    (again / "less.json").write_text(json.dumps(record))
    assert [run.name for run in repetitions(MICRO, again, again / "less.json")] == ["standard_1_D8", "btt_D16"]
