"""The frame: commands that say what they do and why they fail; records, equations and figures that cannot rot."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text())
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text())
PAGES = [TOC["root"], *(chapter["file"] for part in TOC["parts"] for chapter in part["chapters"])]

sys.path.insert(0, str(ROOT / "book" / "sphinx_ext"))
from structattn_book import computed_by, explorable, html, plotly_figure, results, status  # noqa: E402


def run(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run a command as a reader would, outside of any make or pytest that runs already."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS", "PYTEST", "PIP_"))}
    return subprocess.run(
        command,
        cwd=cwd,
        env=kept | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )


def last_line(done: subprocess.CompletedProcess) -> str:
    return done.stdout.strip().splitlines()[-1]


def executable(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


# What the repository says about itself


MARKER = r'\w+ [<>=]+ "[\w.]+"'
PIN = re.compile(rf"(?P<name>[A-Za-z0-9._-]+)==[\w.]+(; {MARKER}( and {MARKER})*)?")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> list[str]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [line.partition("#")[0].strip() for line in lines if line.partition("#")[0].strip()]


def test_requirements_are_exact():
    assert not [line for line in pins() if not PIN.fullmatch(line)]
    assert "torch==2.13.0" in pins()


def test_requirements_are_complete():
    """What a pinned package needs is pinned too, but for the libraries that torch brings to machines with a GPU."""
    pinned = {normal(PIN.fullmatch(line)["name"]) for line in pins()}
    of_a_gpu = re.compile(r"nvidia|cuda|triton")
    for package in sorted(pinned):
        try:
            needs = [Requirement(text) for text in requires(package) or []]
        except PackageNotFoundError:  # for another Python
            continue
        here = [normal(need.name) for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
        missing = [name for name in here if name not in pinned and not of_a_gpu.match(name)]
        assert not missing, f"{package} needs {missing}"


def test_contents_and_files_agree():
    assert not [page for page in PAGES if not (ROOT / f"{page}.md").is_file()]
    sources = [*ROOT.glob("chapters/[0-9]*.md"), *ROOT.glob("exercises/[0-9]*.md")]
    assert {path.relative_to(ROOT).with_suffix("").as_posix() for path in sources} <= set(PAGES)


@pytest.mark.parametrize("file", ["README.md", "CITATION.cff", "pyproject.toml"])
def test_one_address_of_the_repository(file):
    """Every mention of a repository of this organisation is the one that `_config.yml` names."""
    address = CONFIG["repository"]["url"]
    owner = address.removeprefix("https://github.com/").split("/")[0]
    text = (ROOT / file).read_text()
    mentions = re.findall(rf"github(?:\.com)?/({owner}/[\w.-]+)", text)
    assert mentions
    assert {mention.removesuffix(".git") for mention in mentions} == {address.removeprefix("https://github.com/")}


def test_readme_opens_every_notebook_in_colab():
    repository = CONFIG["repository"]["url"].removeprefix("https://github.com/")
    address = f"colab.research.google.com/github/{repository}/blob/main/"
    readme = (ROOT / "README.md").read_text()
    for page in PAGES:
        if page.startswith(("chapters/", "exercises/")):
            assert f"{address}{page}.ipynb" in readme


def test_readme_code_runs():
    codes = re.findall(r"```python\n(import torch.*?)```", (ROOT / "README.md").read_text(), flags=re.S)
    assert codes
    for code in codes:
        exec(compile(code, "README.md", "exec"), {})


def test_workflows_and_citation_are_valid():
    tools = Path(sys.executable).parent
    workflows = sorted(map(str, (ROOT / ".github" / "workflows").glob("*.yml")))
    checks = [
        [tools / "yamllint", "--strict", *workflows, "_config.yml", "_toc.yml", "CITATION.cff"],
        [tools / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows],
        [tools / "check-jsonschema", "--builtin-schema", "vendor.citation-file-format", "CITATION.cff"],
    ]
    if shutil.which("actionlint"):
        checks.append(["actionlint", *workflows])
    for check in checks:
        done = run(*map(str, check), cwd=ROOT)
        assert done.returncode == 0, done.stdout


def test_code_is_tidy():
    done = run(sys.executable, "-m", "ruff", "check", ".", cwd=ROOT)
    assert done.returncode == 0, done.stdout


# Records


@pytest.fixture
def records(tmp_path):
    record = {"standard": {"r4": {"error": 0.12345}}, "errors": [1, 2.5], "steps": 1200, "hardware": "2 cores"}
    (tmp_path / "nearest.json").write_text(json.dumps(record))
    (tmp_path / "broken.json").write_text("{")
    return tmp_path


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("nearest.standard.r4.error", "0.123"),
        ("nearest.standard.r4.error|.2f", "0.12"),
        ("nearest.standard.r4.error | .1%", "12.3%"),
        ("nearest.errors.1", "2.5"),
        ("nearest.errors.-2", "1"),
        ("nearest.steps|,", "1,200"),
        ("nearest.hardware", "2 cores"),
    ],
)
def test_lookup_finds(records, expression, text):
    assert results.lookup(expression, records) == text


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("absent.error", r"no record .*absent\.json"),
        ("nearest.standard.r8.error", r"no 'r8' in nearest\.standard \(there is: r4\)"),
        ("nearest.errors.2", r"no '2' in nearest\.errors"),
        ("nearest.standard", "not one number"),
        ("nearest.hardware|.2f", "does not take the format"),
        ("broken.error", "not JSON"),
    ],
)
def test_lookup_names_what_is_missing(records, expression, message):
    with pytest.raises(results.MissingResult, match=message):
        results.lookup(expression, records)


# Equations and the code that computes them


def test_found_objects_and_tests():
    assert computed_by.find_object("json.JSONDecoder.decode") is json.JSONDecoder.decode
    here = "tests/test_frame.py"
    assert computed_by.find_test(f"{here}::test_found_objects_and_tests", ROOT) == ROOT / here


@pytest.mark.parametrize("name", ["json.JSONDecoder.no_such", "json.no_such", "no_such_module.thing"])
def test_unknown_objects_are_named(name):
    with pytest.raises(LookupError, match=r"does not exist.*no_such"):
        computed_by.find_object(name)


@pytest.mark.parametrize("test", ["tests/no_such.py::test_a", "tests/test_frame.py::no_such", "tests/test_frame.py"])
def test_unknown_tests_are_named(test):
    with pytest.raises(LookupError):
        computed_by.find_test(test, ROOT)


# What cells show


def test_json_cannot_close_its_script():
    island = html.json_script({"text": "</script><script>alert(1)</script>"})
    assert island.count("</script") == 1
    assert html.script("a = '</script>'; // <!--", type="text/plain").count("</script") == 1


def test_plotly_figure_keeps_height_and_alt_and_drops_width():
    figure = {"data": [{"y": [1]}], "layout": {"width": 900, "height": 300, "meta": {"alt": 'A "rising" line'}}}
    written = plotly_figure.figure_html(figure)
    assert 'aria-label="A &quot;rising&quot; line"' in written
    assert "height:300px" in written
    assert '"width"' not in written


def test_explorable_carries_state_and_label():
    written = explorable.explorable_html("BilinearForm", {"m": [1, 2]}, "Four entries & a row")
    assert 'aria-label="Four entries &amp; a row"' in written
    assert '{"m": [1, 2]}' in written


def test_tables_of_the_status_page_are_plain():
    assert status.plain({"torch": "2.13.0", "seeds": [0, 1]}) == "torch 2.13.0, seeds 0, 1"
    assert status.seconds(1234.4) == "1,234 s"
    assert status.shortened("14cdc551d4953896-dirty; 6f49a39") == "14cdc551d4-dirty; 6f49a39"


# The two commands, where something is missing


@pytest.fixture
def bare_repository(tmp_path):
    """What `make` needs before it has an environment."""
    environment = ("book/environment.sh", "book/environment.py", "book/sphinx_ext/pyproject.toml")
    for name in ("Makefile", "pyproject.toml", *environment):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "requirements.txt").write_text("jaxtyping==0.3.11\n")
    return tmp_path


@pytest.mark.parametrize("target", ["book", "test"])
def test_old_python_is_named_last(bare_repository, target):
    tools = bare_repository / "tools"
    tools.mkdir()
    for name in ("make", "sh", "cat", "mkdir", "rm", "test", "echo", "head"):
        (tools / name).symlink_to(shutil.which(name))
    executable(tools / "python3", 'test "$1" = --version && echo "Python 3.9.2" && exit 0; exit 1')
    done = run("make", target, cwd=bare_repository, PATH=str(tools))
    assert done.returncode != 0
    assert "Python 3.11 or newer is needed" in last_line(done)
    assert "Python 3.9.2" in last_line(done)


def test_missing_venv_module_is_named_last(bare_repository):
    python = bare_repository / "python3"
    executable(python, f'case "$2" in *ensurepip*) exit 1;; esac; exec "{sys.executable}" "$@"')
    done = run("make", "book", f"PYTHON={python}", cwd=bare_repository)
    assert done.returncode != 0
    assert "apt install python3-venv" in last_line(done)


def test_missing_network_is_named_last(bare_repository):
    done = run(
        "make",
        "book",
        f"PYTHON={sys.executable}",
        cwd=bare_repository,
        PIP_INDEX_URL="http://127.0.0.1:9",
        PIP_RETRIES="0",
        PIP_CONFIG_FILE=os.devnull,
        PIP_NO_CACHE_DIR="1",
    )
    assert done.returncode != 0
    assert "==> Making .venv" in done.stdout
    assert "no network" in last_line(done)


# A small book, built for real

HEAD = "---\nfile_format: mystnb\nkernelspec: {name: python3, display_name: Python 3}\n---\n# A page\n\n"
GOOD = (
    HEAD
    + """Number {result}`nearest.error|.2f`.

```{math}
:label: eq-a
y = M x
```
```{computed-by} json.dumps
:test: tests/test_small.py::test_a
```

```{code-cell} ipython3
from IPython.display import display
display({"application/vnd.plotly.v1+json": {"data": [{"y": [1, 2]}], "layout": {"meta": {"alt": "Up"}}}}, raw=True)
picture = "<svg xmlns='http://www.w3.org/2000/svg' width='10' height='10'></svg>"
display({"image/svg+xml": picture}, raw=True, metadata={"image/svg+xml": {"alt": "A drawing"}})
```
"""
)


def cell(code: str) -> str:
    return f"```{{code-cell}} ipython3\n{code}\n```"


EMPTY_FIGURE = "display({'application/vnd.plotly.v1+json': {'data': [], 'layout': {}}}, raw=True)"
PLANTED = {
    "missing record": ("{result}`gone.error`", "no record results/gone.json"),
    "unknown function": ("```{computed-by} json.no_such\n```", "json.no_such does not exist"),
    "unknown test": ("```{computed-by} json.dumps\n:test: tests/test_small.py::test_b\n```", "has no test 'test_b'"),
    "broken reference": ("{eq}`eq-nowhere`", "eq-nowhere"),
    "missing citation": ("{cite:t}`nobody1900`", "nobody1900"),
    "silent picture": (cell("display({'image/svg+xml': picture}, raw=True)"), "no alternative text"),
    "silent figure": (cell(EMPTY_FIGURE), "no alternative text"),
    "warning in a cell": (cell("import warnings\nwarnings.warn('odd', stacklevel=1)"), "stderr"),
}


def build(book: Path) -> subprocess.CompletedProcess:
    return run(sys.executable, "book/build.py", cwd=book)


def write_small_book(book: Path) -> Path:
    """One page, one record, and the true frame around them."""
    shutil.copytree(ROOT / "book", book / "book", ignore=shutil.ignore_patterns("*.md", "results", "__pycache__"))
    shutil.copy(ROOT / "_config.yml", book)
    for folder in ("chapters", "book/results", "tests", "structattn_minimal"):
        (book / folder).mkdir()
    (book / "_toc.yml").write_text("format: jb-book\nroot: book/index\nchapters:\n  - file: chapters/01_page\n")
    (book / "book/index.md").write_text("# A small book\n")
    (book / "book/results/nearest.json").write_text('{"error": 0.1234}')
    (book / "tests/test_small.py").write_text("def test_a():\n    pass\n")
    (book / "structattn_minimal/code.py").write_text("A = 1\n")
    (book / "chapters/01_page.md").write_text(GOOD)
    return book


@pytest.fixture(scope="module")
def small_book(tmp_path_factory):
    """Shared by the planted problems: each writes the page anew."""
    return write_small_book(tmp_path_factory.mktemp("small"))


def test_small_book_is_built_and_remembered(tmp_path):
    small_book = write_small_book(tmp_path)
    page = small_book / "chapters/01_page.md"
    first = build(small_book)
    assert first.returncode == 0, first.stdout
    assert "running chapters/01_page" in first.stdout
    assert last_line(first).startswith("Open file://")
    assert last_line(first).endswith("_build/html/index.html")

    built = (small_book / "_build/html/chapters/01_page.html").read_text()
    assert 'Number <span class="result">0.12</span>' in built
    assert 'alt="A drawing"' in built
    assert 'aria-label="Up"' in built
    assert "plotly-figures.js" in built
    assert "explorable-host.js" not in built
    assert not re.findall(r'(?:src|href)="(?:https?:)?//(?!github\.com|colab\.research)[^"]*\.(?:js|css|woff2?)', built)
    assert (small_book / "_build/html/_static/vendor/plotly.min.js").stat().st_size > 1e6

    assert "Nothing changed" in build(small_book).stdout

    page.write_text(GOOD + "\nMore prose.\n")
    prose = build(small_book)
    assert prose.returncode == 0, prose.stdout
    assert "running" not in prose.stdout
    assert "More prose" in (small_book / "_build/html/chapters/01_page.html").read_text()

    (small_book / "structattn_minimal/code.py").write_text("A = 2\n")
    assert "running chapters/01_page" in build(small_book).stdout


@pytest.mark.parametrize("problem", PLANTED)
def test_planted_problem_fails_with_its_reason_last(small_book, problem):
    planted, reason = PLANTED[problem]
    (small_book / "chapters/01_page.md").write_text(f"{GOOD}\n{planted}\n")
    done = build(small_book)
    assert done.returncode != 0
    assert reason in last_line(done), done.stdout
    assert "chapters/01_page" in last_line(done)


def test_chapter_that_raises_fails_with_its_reason_last(small_book):
    raising = cell("raise ValueError('the matrix is singular')")
    (small_book / "chapters/01_page.md").write_text(f"{GOOD}\n{raising}\n")
    done = build(small_book)
    assert done.returncode != 0
    assert last_line(done) == "The book was not built: chapters/01_page raised ValueError: the matrix is singular"
