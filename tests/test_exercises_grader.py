"""The grader: honest submissions earn their points, and a hostile one costs nobody anything but itself."""

import csv
import importlib
import inspect
import json
import os
import re
from pathlib import Path

import pytest

from exercises import cells, grader, sandbox
from exercises.__main__ import main
from exercises.registry import HERE, exercises
from exercises.traces import told

fenced = pytest.mark.skipif(sandbox.missing() is not None, reason=f"no fences here: {sandbox.missing()}")
HONEST = (HERE / "ch01" / "solutions.py").read_text()
RIGHT_11 = "import torch\ndef bilinear_scores(x, m):\n    return x @ m @ x.mT\n"
RIGHT_12 = "def right(s):\n    return s.masked_fill(torch.ones_like(s).triu(1).bool(), -torch.inf).softmax(-1)\n"

# ### name: what the message about 1.2 must contain, and the code. 1.1 is answered rightly before, and keeps its point.
HOSTILE_TEXT = r"""
### endless: no answer within
def causal_softmax(s):
    while True:
        pass

### endless_loading: did not finish loading
import time

def causal_softmax(s):
    return s
while True:
    time.sleep(1)

### stopped: no answer within
import os, signal

def causal_softmax(s):
    os.kill(os.getpid(), signal.SIGSTOP)

### os_exit: process ended
import os

def causal_softmax(s):
    os._exit(0)

### sys_exit: SystemExit: 0
import sys

def causal_softmax(s):
    sys.exit(0)

### exit_loading: process ended
import os

def causal_softmax(s):
    return s
os._exit(0)

### segfault: process ended
import ctypes

def causal_softmax(s):
    ctypes.string_at(0)

### abort: process ended
import os

def causal_softmax(s):
    os.abort()

### memory: memory
def causal_softmax(s):
    return [torch.empty(10 ** 8) for _ in range(10 ** 4)]

### recursion: RecursionError
def causal_softmax(s):
    return causal_softmax(s)

### fork: PermissionError
import os

def causal_softmax(s):
    while True:
        os.fork()

### shell: PermissionError
import os

def causal_softmax(s):
    return os.execv('/bin/true', ['true'])

### subprocess: PermissionError
import subprocess

def causal_softmax(s):
    subprocess.run(['true'])

### network: PermissionError
import socket

def causal_softmax(s):
    socket.create_connection(('127.0.0.1', 9))

### flood: not right yet
import sys

def causal_softmax(s):
    for _ in range(10 ** 5):
        print('right ' * 100)
        sys.stderr.write('x')
    return s * 0

### forged_lines: should be a tensor
import os, struct, json
verdict = json.dumps({'value': {'is': 'plain', 'value': True}, 'right': True}).encode()

def causal_softmax(s):
    for fd in range(64):
        try:
            os.write(fd, struct.pack('>II', len(verdict), 0) + verdict)
        except OSError:
            pass
    return s * 0

### noise: no answer
import os

def causal_softmax(s):
    os.write(3, b'\xff' * 1000)
    return s * 0

### huge_frame: more than 32 MB
def causal_softmax(s):
    return torch.zeros(3 * 10 ** 7)

### deep: made of tensors
def causal_softmax(s):
    a = []
    for _ in range(10 ** 5):
        a = [a]
    return a

### evil_eq: holds a Yes
class Yes:

    def __eq__(self, other):
        return True

    def __bool__(self):
        return True

    def __lt__(self, other):
        return True

    def all(self):
        return True

def causal_softmax(s):
    return Yes()

### evil_tensor: holds a Yes
class Yes(torch.Tensor):

    @classmethod
    def __torch_function__(cls, *a, **k):
        return True

def causal_softmax(s):
    return torch.zeros_like(s).as_subclass(Yes)

### evil_pickle: holds a Evil
import os

class Evil:

    def __reduce__(self):
        return (os.system, ('touch MARK',))

def causal_softmax(s):
    return [Evil()]

### not_the_function: No function called
causal_softmax = 'right'

### patched_torch: not right yet
import builtins, sys
torch.equal = torch.allclose = torch.testing.assert_close = lambda *a, **k: True
torch.Tensor.__eq__ = torch.Tensor.all = torch.Tensor.__le__ = lambda *a, **k: True
builtins.bool = lambda x: True

def causal_softmax(s):
    return s

### patched_grader: not right yet
import sys, gc
for name in ('grader', 'verdict', 'registry', 'case', 'ch01.tests', 'wire', 'learner'):
    try:
        module = __import__('exercises.' + name, fromlist=['x'])
        for key in vars(module):
            setattr(module, key, lambda *a, **k: None)
    except Exception:
        pass
import pytest
pytest.fail = lambda *a, **k: None

def causal_softmax(s):
    return s

### patched_wire: should be a tensor
import gc, types
for f in gc.get_objects():
    if isinstance(f, types.FunctionType) and 'exercises' in (f.__module__ or '') and (f.__name__ == 'encode'):
        f.__code__ = (lambda value, callables=None: ({'is': 'plain', 'value': True}, b'')).__code__

def causal_softmax(s):
    return s

### kill_parent: nobody killed
import os, signal

def causal_softmax(s):
    for pid in [os.getppid(), PID, -1, -PID, 1]:
        try:
            os.kill(pid, signal.SIGKILL)
        except PermissionError:
            continue
        return s
    raise OSError('nobody killed')

### limit_parent: PermissionError
import resource

def causal_softmax(s):
    resource.prlimit(PID, resource.RLIMIT_CPU, (0, 0))

### peek: seen: []
import os, sys

def causal_softmax(s):
    seen = [name for name in sys.modules if name.startswith('exercises.')] + list(os.environ.get('SECRET', ''))
    frame = sys._getframe()
    while frame:
        seen += [n for n in frame.f_locals if n in ('want', 'seed', 'case', 'exercise')]
        frame = frame.f_back
    process, parent = f'/proc/{PID}', f'/proc/{os.getppid()}'
    files = [process + '/cmdline', process + '/mem', process + '/environ', parent + '/mem']
    for path in [*files, '/etc/passwd', 'TESTS', 'NEIGHBOUR']:
        try:
            open(path, 'rb')
            seen.append(path)
        except OSError:
            pass
    raise ValueError('seen: ' + repr(seen))

### write_outside: done: []
import os

def causal_softmax(s):
    done = []
    for path in ['MARK', 'TESTS', 'NEIGHBOUR', '/tmp/MARK', os.path.expanduser('~/../MARK')]:
        for act in [
            lambda: open(path, 'a'),
            lambda: os.remove(path),
            lambda: os.chmod(path, 0),
            lambda: os.chown(path, 1, 1),
            lambda: os.truncate(path, 0),
            lambda: os.utime(path),
            lambda: os.rename(path, path + '2'),
            lambda: os.link(path, 'mine'),
            lambda: os.symlink('x', path),
            lambda: os.mkdir(path),
        ]:
            try:
                act()
                done.append(path)
            except OSError:
                pass
    open('here', 'w').write('inside is fine')
    raise ValueError('done: ' + repr(done))

### large_header: no answer
import os, struct

def causal_softmax(s):
    text = b'[' + b'[],' * 2 * 10 ** 7 + b'0]'
    os.write(3, struct.pack('>II', len(text), 0) + text)

### many_parts: very many parts
def causal_softmax(s):
    return [[0.0] * 1000] * 1000

### fill_folder: wrote more
def causal_softmax(s):
    k = 0
    while True:
        k += 1
        try:
            open(f'{k}', 'wb').write(b'x' * 10 ** 7)
        except OSError:
            pass

### deep_folders: wrote more
import os

def causal_softmax(s):
    for _ in range(3000):
        os.mkdir('a')
        os.chdir('a')
    while True:
        pass

### threads: 1.2
import threading, os

def shout():
    while True:
        try:
            os.write(3, b'\x00' * 8)
        except OSError:
            pass
for _ in range(4):
    threading.Thread(target=shout, daemon=True).start()

def causal_softmax(s):
    return s

### closed: process ended
import os

def causal_softmax(s):
    os.close(3)
    while True:
        pass

### formula: ValueError: =1+1?[31m
def causal_softmax(s):
    raise ValueError('=1+1\x1b[31m')
"""
HOSTILE = {
    name: (code, says)
    for name, says, code in re.findall(r"^### (\w+): ?(.*)\n((?:(?!###).*\n)*)", HOSTILE_TEXT, flags=re.MULTILINE)
}


@fenced
def test_a_hostile_submission_costs_itself_its_points_and_nobody_else_anything(tmp_path, monkeypatch):
    """All of them are graded together, with honest submissions before, among and after them."""
    folder, mark, tests = tmp_path / "handed in", tmp_path / "mark", HERE / "ch01" / "tests.py"
    folder.mkdir()
    for name in ("aaa", "mmm", "zzz"):
        (folder / f"{name}.py").write_text(HONEST)
    places = {"MARK": mark, "PID": os.getpid(), "TESTS": tests, "NEIGHBOUR": folder / "aaa.py"}
    for name, (code, _) in HOSTILE.items():
        for word, place in places.items():
            code = code.replace(word, str(place))
        (folder / f"{name}.py").write_text(RIGHT_11 + RIGHT_12 + code)
    state = [tests.read_bytes(), tests.stat().st_mode, tests.stat().st_mtime_ns]
    monkeypatch.setenv("SECRET", "s")
    limits = ["--seconds", "10", "--jobs", "4"]  # four at once on a busy machine: honest ones need seconds as well
    assert main(["grade", str(folder), "--out", str(tmp_path / "grades.csv"), *limits]) == 0

    assert state == [tests.read_bytes(), tests.stat().st_mode, tests.stat().st_mtime_ns]
    assert (folder / "aaa.py").read_text() == HONEST
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grades.csv", "handed in"]
    rows = table(tmp_path / "grades.csv")
    assert len(rows) == len(HOSTILE) + 3
    for name in ("aaa", "mmm", "zzz"):
        for number in exercises():
            expected = "1" if number.startswith("1.") else "0"
            assert rows[f"{name}.py"][number] == expected, rows[f"{name}.py"][f"{number} message"]
    for name, (_, says) in HOSTILE.items():
        row = rows[f"{name}.py"]
        assert row["1.2"] == "0", f"{name}: {row['1.2 message']}"
        assert says in row["1.2 message"], name
        if name not in (
            "endless_loading",
            "exit_loading",
            "threads",
            "patched_wire",
            "patched_torch",
        ):  # these spoil 1.1 as well
            assert row["1.1"] == "1", f"{name}: {row['1.1 message']}"


def table(path: Path) -> dict[str, dict[str, str]]:
    """The rows of a table of grades, by submission; its columns are what they should be."""
    with path.open(newline="") as file:
        rows = {row["submission"]: row for row in csv.DictReader(file)}
    numbers = list(exercises())
    for row in rows.values():
        assert list(row) == ["submission", *numbers, "total", *(f"{number} message" for number in numbers)]
        assert int(row["total"]) == sum(int(row[number]) for number in numbers)
    return rows


def notebook(*codes: str) -> str:
    return json.dumps({"nbformat": 4, "cells": [{"cell_type": "code", "source": [code]} for code in codes]})


@fenced
def test_notebooks_folders_and_unreadable_files(tmp_path, capfd):
    tmp_path = tmp_path / ".hidden"  # where the folder lies is nobody's fault
    tmp_path.mkdir()
    (tmp_path / "ana").mkdir()
    (tmp_path / "ana" / "01_form.ipynb").write_text(
        notebook(
            "!pip install something\nfrom exercises import check\nimport torch",
            "%matplotlib inline\nfrom mine import product",
            "%%bash\necho no",
            "def bilinear_scores(x, m):\n    return product(product(x, m), x.mT)\ncheck('1.1')",
            "raise ValueError('an accident in another cell')",
            RIGHT_12 + "causal_softmax = right",
            "def head_matrices(w_q, w_k, heads):\n    raise NotImplementedError",
            "def find_gauge(w_q, w_k, g)\n    return 1",
        )
    )
    (tmp_path / "ana" / "mine.py").write_text("import torch\nproduct = torch.matmul\n")
    (tmp_path / "ben.ipynb").write_text("{not a notebook")
    (tmp_path / "cyd.ipynb").write_text("[" * 100_000)
    (tmp_path / "dan").mkdir()
    (tmp_path / "dan" / ".venv").mkdir()
    (tmp_path / "dan" / ".venv" / "theirs.py").write_text(RIGHT_11)
    (tmp_path / "gus.py").write_text("# " + "long " * 10**6 + "\n" + RIGHT_11)
    (tmp_path / "hal.py").write_text("# " + "é" * 10**6 + "\n" + RIGHT_11)
    (tmp_path / "eve.py").symlink_to("/etc/hostname")
    (tmp_path / "notes.txt").write_text("not a submission")
    assert main(["grade", str(tmp_path), "--out", str(tmp_path / "out.csv"), "--jobs", "1", "--seed", "5"]) == 0
    assert "[6/6] hal.py: 1 of" in capfd.readouterr().err
    rows = table(tmp_path / "out.csv")
    assert list(rows) == ["ana", "ben.ipynb", "cyd.ipynb", "dan", "gus.py", "hal.py"]
    ana = rows["ana"]
    assert (ana["1.1"], ana["1.2"], ana["1.3"], ana["1.4"], ana["total"]) == ("1", "1", "0", "0", "2"), ana
    assert "not done yet" in ana["1.3 message"]
    assert "SyntaxError" in ana["1.4 message"]
    assert "No function called recover" in ana["1.5 message"]
    assert "ben.ipynb is not a Jupyter notebook" in rows["ben.ipynb"]["1.1 message"]
    assert "not a Jupyter notebook" in rows["cyd.ipynb"]["1.1 message"]
    assert "no notebook" in rows["dan"]["1.1 message"]
    assert "more than 2 MB of code" in rows["gus.py"]["1.1 message"]


@fenced
def test_the_book_s_own_notebooks_with_their_solutions_earn_every_point(tmp_path):
    """The way of a student who copies each folded solution over its stub: a name that a page lacks would show here."""
    (tmp_path / "fay").mkdir()
    for page in {exercise.page.source for exercise in exercises().values()}:
        content = json.loads(page.with_suffix(".ipynb").read_text())
        for exercise in exercises().values():
            if exercise.page.source == page:
                solutions = importlib.import_module(f"exercises.{exercise.chapter}.solutions")
                code = inspect.getsource(getattr(solutions, exercise.function))
                (stub,) = [c for c in content["cells"] if f"def {exercise.function}(" in joined(c) and stubbed(c)]
                stub["source"] = code
        (tmp_path / "fay" / page.with_suffix(".ipynb").name).write_text(json.dumps(content))
    assert main(["grade", str(tmp_path), "--out", str(tmp_path / "out.csv"), "--jobs", "1"]) == 0
    row = table(tmp_path / "out.csv")["fay"]
    assert row["total"] == str(len(exercises())), row


def joined(cell: dict) -> str:
    return cells.joined(cell["source"])


def stubbed(cell: dict) -> bool:
    return cell["cell_type"] == "code" and "NotImplementedError" in joined(cell)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: folder / "missing", "is missing"),
        (lambda folder: folder, "holds no notebook"),
        (lambda folder: (folder / "file").write_text("") * 0 or folder / "file", "is not a folder"),
    ],
)
def test_a_folder_that_cannot_be_graded_is_named(tmp_path, capsys, make, says):
    assert main(["grade", str(make(tmp_path)), "--out", str(tmp_path / "grades.csv")]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "grades.csv").exists()


def test_grading_starts_outside_the_submissions(tmp_path, capsys, monkeypatch):
    (tmp_path / "torch.py").write_text("")
    monkeypatch.chdir(tmp_path)
    assert main(["grade", ".", "--out", "grades.csv"]) == 2
    assert "start from another folder" in capsys.readouterr().err


def test_a_machine_without_fences_is_told_so(tmp_path, capsys, monkeypatch):
    (tmp_path / "a.py").write_text("def bilinear_scores(x, m):\n    return x @ m @ x.mT\n")
    monkeypatch.setattr(sandbox, "missing", lambda: "there is nothing here")
    assert main(["grade", str(tmp_path), "--out", str(tmp_path / "grades.csv")]) == 2
    assert "nothing here" in capsys.readouterr().err
    assert main(["grade", str(tmp_path), "--out", str(tmp_path / "grades.csv"), "--unfenced"]) == 0
    assert "a.py: 1 of" in capsys.readouterr().err


def test_fences_that_fail_are_not_the_students_fault(tmp_path, capsys, monkeypatch):
    (tmp_path / "a.py").write_text(RIGHT_11)
    monkeypatch.setattr(sandbox, "missing", lambda: None)
    monkeypatch.setattr(grader, "MEMORY", "no number")  # any error before a worker listens
    assert main(["grade", str(tmp_path), "--out", str(tmp_path / "grades.csv")]) == 2
    assert "cannot be started behind its fences" in capsys.readouterr().err


def test_a_worker_s_bytes_cannot_be_more_than_data():
    from exercises.wire import WireError, decode

    tensor = {"is": "tensor", "dtype": "float32", "shape": [2], "start": 0}
    for tree, payload in [
        ({}, b""),
        ([], b""),
        ({"is": "callable", "number": 0}, b""),
        ({"is": "pickle", "value": "x"}, b""),
        ({"is": "plain", "value": {"a": 1}}, b""),
        ({"is": "int", "value": "9" * 10_000}, b""),
        ({"is": "float", "value": 1.0}, b""),
        (tensor, b"1234567"),
        ({**tensor, "shape": [2**40]}, b""),
        ({**tensor, "shape": [-1]}, b""),
        ({**tensor, "shape": [1.0]}, b"1234"),
        ({**tensor, "shape": [1] * 40}, b"1234"),
        ({**tensor, "start": -8}, b"12345678"),
        ({**tensor, "dtype": "object"}, b"12345678"),
        ({**tensor, "dtype": "bool"}, b"\x02\x00"),
    ]:
        with pytest.raises(WireError):
            decode(tree, payload)


def test_seeds_differ_from_run_to_run_and_can_be_repeated(tmp_path, capsys):
    (tmp_path / "mine.py").write_text("import torch\ndef bilinear_scores(x, m):\n    return x @ x.mT\n")
    said = []
    for _ in range(2):
        assert main(["check", "1.1", str(tmp_path / "mine.py")]) == 1
        said.append(capsys.readouterr().out)
    assert said[0] != said[1]
    seed = said[0].split("seed=")[1].split(")")[0]
    assert main(["check", "1.1", str(tmp_path / "mine.py"), "--seed", seed]) == 1
    assert capsys.readouterr().out == said[0]


def test_commands(tmp_path, capsys):
    assert main(["list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(exercises())
    (tmp_path / "mine.py").write_text(HONEST + "\nfrom exercises import check\ncheck('1.2')\n")
    assert main(["check", "1.2", str(tmp_path / "mine.py")]) == 0
    assert capsys.readouterr().out.count("right.") == 1
    assert main(["check", "7.7", str(tmp_path / "mine.py")]) == 2
    assert "there are 1.1, 1.2" in capsys.readouterr().err
    assert main(["check", "1.2", str(tmp_path / "absent.py")]) == 2
    assert "absent.py cannot be read" in capsys.readouterr().err


def test_an_error_shows_the_learner_s_lines_alone():
    source = cells.Source("mine", (("mine, cell 1", "import torch\ndef f(x):\n    return x @ torch.ones(7, 7)\n"),))
    names, errors = cells.run(source)
    assert not errors
    try:
        names["f"](names["torch"].ones(2, 3))
    except RuntimeError as error:
        text = told(error)
    assert "in mine, cell 1, f, line 3: return x @ torch.ones(7, 7)" in text
    assert "test_exercises" not in text.replace(Path(__file__).name + ", test", "")
