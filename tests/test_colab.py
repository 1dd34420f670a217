"""Every notebook runs in Colab: alone, in an empty folder, with torch and the like installed and without the package.

Colab is imitated by an interpreter of its own whose import path holds two folders: a link to each distribution that
Colab has (those of COLAB and all they need, as this environment has them), and an empty folder into which the set-up
installs. Links instead of a second installation: that would be the same files again, a gigabyte and minutes of them.
That the set-up changes none of them is tested; nor could it, since pip finds here nothing but what it asks for.
"""

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from pathlib import Path

import nbformat
import pytest
import yaml
from filelock import FileLock
from nbclient import NotebookClient
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / "_build" / "colab-wheels"
COLAB = ("torch", "numpy", "scipy", "safetensors", "matplotlib", "plotly", "ipywidgets", "ipykernel", "pip")
INSTALLED = {"jaxtyping", "wadler_lindig", "anywidget", "psygnal", "structattn_minimal"}
FIGURES = {
    "image/svg+xml",
    "image/png",
    "application/vnd.plotly.v1+json",
    "application/vnd.structattn.explorable+json",
}
# Trainings that the built page has run in full: here a few steps show that they run, and no error has fallen yet.
SHORTER = {
    "chapters/03_in_context_regression": {
        "replace(regression.CHAPTER, seeds=(0,))": "replace(regression.CHAPTER, seeds=(0,), steps=100)",
        "assert last < 0.5": "assert last < 2",
    },
    "chapters/11_end_to_end": {
        'live"], precision="float32")': 'live"], precision="float32", steps=100)',
        'assert ends["btt"] < ends["standard"] < 1': "assert max(ends.values()) < 2",
    },
    "chapters/12_language_models": {
        'live"], precision="float32")': 'live"], precision="float32", steps=100)',
        "assert loss < unigram - 0.5": "assert loss < unigram + 1",
    },
}
DRAWS = re.compile(r"figures\.show\(|^(?:\w+\.)?(?:BilinearForm|RankSphere|PromptReader)\(|LiveCurve\(", re.MULTILINE)


def closure(names: tuple[str, ...]) -> list[Distribution]:
    """The distributions of these names and all that they require."""
    found: dict[str, Distribution] = {}
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name not in found:
            found[name] = distribution(name)
            needs = map(Requirement, found[name].requires or [])
            waiting += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return list(found.values())


def link(distributions: list[Distribution], folder: Path) -> Path:
    """A folder with a link to each module, package and metadata folder of the distributions."""
    folder.mkdir()
    for one in distributions:
        tops = {file.parts[0] for file in one.files if file.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            target = folder / top
            if not target.exists() and not top.endswith(".pth"):
                target.symlink_to(one.locate_file(top))
    return folder


def pinned(name: str) -> str:
    pin = re.search(rf"(?m)^{name}==\S+", (ROOT / "requirements.txt").read_text(encoding="utf-8"))
    return pin[0]


@pytest.fixture(scope="session")
def wheels() -> Path:
    """The wheels that a set-up asks for, downloaded once, so that notebooks run without network and without chance."""
    wanted = [pinned(name) for name in ("jaxtyping", "wadler-lindig", "anywidget", "psygnal")]
    wanted += [f"{one.name}=={one.version}" for one in closure(("hatchling",))]  # pip builds the package with it
    CACHE.mkdir(parents=True, exist_ok=True)
    stamp = CACHE / "wheels.json"
    with FileLock(CACHE / "lock"):
        if not stamp.is_file() or json.loads(stamp.read_text()) != wanted:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
            done = subprocess.run([*pip, "--dest", str(CACHE), *wanted], capture_output=True, text=True)
            if done.returncode:
                pytest.fail(f"could not download what the notebooks' set-up installs: {done.stderr}")
            stamp.write_text(json.dumps(wanted))
    return CACHE


@pytest.fixture(scope="session")
def colab_packages(tmp_path_factory) -> Path:
    return link(closure(COLAB), tmp_path_factory.mktemp("colab") / "packages")


@dataclass
class Colab:
    """An interpreter, its own empty package folder, an empty working folder."""

    python: Path
    packages: Path
    folder: Path
    environment: dict[str, str]

    def run(self, code: str, **environment: str) -> subprocess.CompletedProcess:
        command = [str(self.python), "-c", code]
        both = self.environment | environment
        return subprocess.run(command, cwd=self.folder, env=both, capture_output=True, text=True, timeout=300)

    def versions(self) -> dict[str, str]:
        """Every distribution that the interpreter finds, with its version."""
        code = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
        return json.loads(self.run(code).stdout)

    def installed(self) -> set[str]:
        """What was installed into the interpreter's own folder."""
        return {path.name.split("-")[0] for path in self.packages.glob("*.dist-info")}


@pytest.fixture
def colab(tmp_path, colab_packages, wheels) -> Colab:
    home = tmp_path / "python"
    venv.create(home, with_pip=False, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(home), "platbase": str(home)}))
    (packages / "colab.pth").write_text(f"{colab_packages}\n")
    (tmp_path / "content").mkdir()
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    environment = kept | {
        "STRUCTATTN_SOURCE": str(ROOT),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "PIP_CONFIG_FILE": os.devnull,
        "OMP_NUM_THREADS": "1",
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "MPLCONFIGDIR": str(tmp_path / "matplotlib"),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    return Colab(home / "bin" / "python", packages, tmp_path / "content", environment)


def pages() -> list[str]:
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    files = [chapter["file"] for part in contents["parts"] for chapter in part["chapters"]]
    return [file for file in files if file.startswith(("chapters/", "exercises/"))]


def execute(page: str, colab: Colab) -> nbformat.NotebookNode:
    """The notebook with its outputs. A cell that raises is an error that shows the cell and what it raised."""
    text = (ROOT / f"{page}.ipynb").read_text(encoding="utf-8")
    for long, short in SHORTER.get(page, {}).items():
        long, short = (json.dumps(code)[1:-1] for code in (long, short))
        assert long in text, f"{page} has no {long}"
        text = text.replace(long, short)
    notebook = nbformat.reads(text, 4)
    client = NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(colab.folder)}})
    client.create_kernel_manager().kernel_spec.argv[0] = str(colab.python)
    return client.execute(env=colab.environment)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell: nbformat.NotebookNode) -> set[str]:
    return {kind for output in cell.outputs for kind in output.get("data", {})}


def printed(cell: nbformat.NotebookNode) -> str:
    streams = (output.get("text", "") for output in cell.outputs)
    return "".join(streams) + "".join(output.get("data", {}).get("text/plain", "") for output in cell.outputs)


@pytest.mark.timeout(1500)  # for a busy machine
@pytest.mark.parametrize("page", pages())
def test_notebook_runs_in_colab(page, colab):
    before = colab.versions()
    assert not INSTALLED & {name.replace("-", "_") for name in before}
    set_up, *cells = code_cells(execute(page, colab))

    assert printed(set_up).strip() == f"Installed {', '.join(sorted(INSTALLED, key=set_up.source.index))}."
    assert colab.installed() == INSTALLED
    after = colab.versions()
    assert {name: after[name] for name in before} == before  # torch, numpy and everything else are what they were
    complaints = [output.text for cell in cells for output in cell.outputs if output.get("name") == "stderr"]
    assert not complaints
    for cell in cells:
        if DRAWS.search(cell.source) and "def " not in cell.source:
            assert kinds(cell) & FIGURES, f"no figure came from:\n{cell.source}"
        if cell.source.startswith("check("):
            assert "not done yet" in printed(cell)
    if page.startswith("chapters/"):
        assert sum(bool(kinds(cell) & FIGURES) for cell in cells) >= 3
        assert any("application/vnd.jupyter.widget-view+json" in kinds(cell) for cell in cells)  # something to move
    else:
        assert sum(cell.source.startswith("check(") for cell in cells) >= 4


@pytest.fixture
def set_up() -> str:
    return code_cells(nbformat.read(ROOT / f"{pages()[0]}.ipynb", 4))[0].source


def test_set_up_installs_once_and_all_that_is_needed(set_up, colab):
    """Then the package works far from the checkout, with its data files; a second set-up has nothing to do."""
    assert colab.run(set_up).stdout.startswith("Installed ")
    assert colab.run(set_up, PIP_FIND_LINKS=os.devnull).stdout == "Everything is here already.\n"
    checked = colab.run("from exercises import check\ncheck('1.1', lambda x, m: x @ m @ x.mT)")
    assert "Exercise 1.1" in checked.stdout
    assert ": right." in checked.stdout
    explorable = colab.run("from structattn_minimal.viz import explorables as e; print(e.__file__, e.RankSphere().d)")
    assert explorable.stdout.startswith(str(colab.packages))


def test_set_up_leaves_alone_what_is_there(set_up, colab):
    """A jaxtyping that Colab has already stays, whatever its version."""
    (colab.packages / "jaxtyping.py").write_text("from_colab = True\n")
    assert colab.run(set_up).stdout == "Installed wadler_lindig, anywidget, psygnal, structattn_minimal.\n"
    assert colab.run("import jaxtyping; assert jaxtyping.from_colab").returncode == 0


def test_set_up_says_what_to_do_when_pip_fails(set_up, colab):
    offline = colab.run(set_up, PIP_FIND_LINKS=os.devnull)
    assert offline.returncode == 1
    assert "Could not install jaxtyping, wadler_lindig, anywidget, psygnal, structattn_minimal." in offline.stderr
    assert "\nERROR: " in offline.stderr  # pip's own reason
    assert "connect it and run this cell again" in offline.stderr
    assert f"pip install --no-deps {pinned('jaxtyping')} " in offline.stderr
    assert "Traceback" not in offline.stderr


def test_set_up_never_installs_torch(set_up, colab, colab_packages):
    """On a machine without Colab's own packages it names them, and installs the rest all the same."""
    (colab.packages / "colab.pth").unlink()
    (colab.packages / "pip").symlink_to(colab_packages / "pip")
    bare = colab.run(set_up)
    assert colab.installed() == INSTALLED
    assert "they are yours to install: torch numpy scipy safetensors matplotlib plotly ipywidgets" in bare.stdout


def test_wheel_holds_code_and_data(wheels, tmp_path):
    """Every module, every ES module, every page of exercises; no notebook, no test of ours, no chapter."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", f"--find-links={wheels}"]
    subprocess.run([*pip, "--wheel-dir", str(tmp_path), str(ROOT)], check=True)
    names = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    ours = {file for file in tracked if file.startswith(("structattn_minimal/", "exercises/")) and "ipynb" not in file}
    assert ours <= names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"structattn_minimal", "exercises"}
    assert not [name for name in names if name.endswith((".ipynb", ".pyc"))]
