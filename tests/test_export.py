"""The notebooks that Colab opens: everything that a page says, in plain Markdown, with the page's numbers.

Three books are exported here: a sample that uses every construct once, a faulty one in which every page has one
mistake, and the real one, whose notebooks are held against its sources and against its built pages.
"""

import gc
import re
import shutil
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "book"))

import export as exporter  # noqa: E402

SAMPLE = Path(__file__).with_name("sample_book")
HTML = ROOT / "_build" / "html"


def frame(folder: Path) -> Path:
    """The parts of a book that samples share with the real one: its configuration and its static files."""
    shutil.copy(ROOT / "_config.yml", folder)
    shutil.copytree(ROOT / "book" / "_static", folder / "book" / "_static")
    (folder / "tests").mkdir()
    (folder / "tests" / "test_sample.py").write_text("def test_sample(): ...\n")
    return folder


def text_of(notebook: nbformat.NotebookNode, kind: str = "markdown") -> str:
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == kind)


# the sample: every construct, once


@pytest.fixture(scope="module", autouse=True)
def others_are_out_of_sight():
    """sphinx-external-toc looks at every live object, and stumbles over what a compiled function has left behind."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def sample_root(tmp_path_factory) -> Path:
    return frame(Path(shutil.copytree(SAMPLE, tmp_path_factory.mktemp("sample") / "book")))


@pytest.fixture(scope="module")
def sample(sample_root) -> dict[str, nbformat.NotebookNode]:
    exported = exporter.export(sample_root)
    return {str(path.relative_to(sample_root)): nbformat.reads(text, 4) for path, text in exported.items()}


CHAPTER, OTHER, EXERCISES = "chapters/01_everything.ipynb", "chapters/02_another.ipynb", "exercises/01_everything.ipynb"
COLAB = "https://colab.research.google.com/github/structured-attention/book/blob/main"
SITE = "https://structured-attention.github.io/book"

WRITTEN = {
    "title": (CHAPTER, "# Every *construct* of a chapter"),
    "where else to read": (
        CHAPTER,
        f"[Open in Colab]({COLAB}/{CHAPTER}) · [Read as a page of the book]({SITE}/chapters/01_everything.html)",
    ),
    "words": (CHAPTER, "**Strong**, *emphasis*, `code_span`, ``a ` tick``, a_name_with_underscores, *emphasis* too"),
    "signs of Markdown in prose": (CHAPTER, r"a star \*, 2 &lt; 3 & 4, 5 <span>$</span> or 6 <span>$</span>,"),
    "links": (CHAPTER, "[a link](<https://example.org/a_(b)?x=1&y=2>), [https://example.org](https://example.org)"),
    "inline mathematics that is no tag": (CHAPTER, r"inline mathematics $a\lt b$"),
    "footnote": (CHAPTER, "a footnote<sup>1</sup>."),
    "footnote's text": (CHAPTER, "## Notes\n\n<sup>1</sup> An aside with *style*."),
    "broken line": (CHAPTER, "A line.<br>After a hard break."),
    "recorded results": (CHAPTER, "Recorded: 0.12 and 7."),
    "citations": (CHAPTER, "As Vaswani *et al.* [2017] showed [Luong and Pham, 2015]."),
    "bibliography": (CHAPTER, "## References\n\n- Thang Luong and Hieu Pham. Effective approaches"),
    "references on the page": (CHAPTER, "Here: (1), Lists, some lists, Theorem 1, Fig. 1, Table 1,"),
    "reference to a chapter": (CHAPTER, f"[Another chapter]({COLAB}/{OTHER})"),
    "reference to exercises": (CHAPTER, f"[the exercises]({COLAB}/{EXERCISES})"),
    "reference to an equation elsewhere": (CHAPTER, f"[(3)]({COLAB}/{OTHER})"),
    "reference to a theorem elsewhere": (OTHER, f"[Theorem 1]({COLAB}/{CHAPTER})"),
    "reference to a page without notebook": (CHAPTER, f"[References]({SITE}/book/references.html)"),
    "numbered equation": (CHAPTER, "$$\ns_{ij} = x_i^\\top M x_j \\tag{1}\n$$"),
    "equation in dollars": (CHAPTER, "$$\ne = m c^2 \\tag{2}\n$$"),
    "aligned equation": (CHAPTER, "$$\n\\begin{aligned}\na &= b \\\\\nc &= d\n\\end{aligned}\n$$"),
    "equation of several lines": (OTHER, "$$\n\\begin{split}\na = 1 \\\\ b = \\begin{pmatrix}"),
    "computed by": (
        CHAPTER,
        "<small>Computed by `structattn_minimal.LowRank.forward`, held to [`tests/test_sample.py::test_sample`](",
    ),
    "equation in a list": (CHAPTER, "1. a list with\n\n   $$y = x$$\n\n   - and a nested one\n\n2. an item"),
    "definition list": (CHAPTER, "**Term**\n\n> Its definition."),
    "quotation": (CHAPTER, "> A quotation with *emphasis*."),
    "table": (CHAPTER, "| left | right |\n|:---|---:|\n| $\\lvert x \\rvert$ and"),
    "recorded result in a table": (CHAPTER, "| recorded | 0.1 |"),
    "table with a caption": (CHAPTER, "**Table 1.** A caption with $x$\n\n| a | b |\n|---|---|\n| 1 | 2 |"),
    "theorem": (
        CHAPTER,
        "> **Theorem 1 (Rank of $M$).** If $r < d$ then\n>\n> $$\\operatorname{rank} M \\le r .$$",
    ),
    "proof": (CHAPTER, "> *Proof.* By *counting*, see (1).\n>\n> Two paragraphs."),
    "definition": (CHAPTER, "> **Definition 1 (Form).** A map."),
    "theorem without title": (CHAPTER, "> **Theorem 2.** No title, but a number."),
    "lemma that begins with a list": (CHAPTER, "> **Lemma 1 (A list first).**\n>\n> - item"),
    "remark without number": (CHAPTER, "> **Remark.** Without a number."),
    "numbers go on in the next chapter": (OTHER, "> **Theorem 3 (In another chapter).**"),
    "prediction": (CHAPTER, "> **Predict: what *happens*?** How large?\n>\n> ```python\n> x = 1\n> ```"),
    "dropdown": (
        CHAPTER,
        "<details>\n<summary><b>What happens</b></summary>\n\nIt **grows**.\n\n$$\nz = 1\n$$\n\n</details>",
    ),
    "folded admonition": (CHAPTER, "<details>\n<summary><b>More to know</b></summary>\n\nHidden.\n\n</details>"),
    "note": (CHAPTER, "> **Note.** A note.\n\n> **Tip.** A tip.\n\n> **Warning.** A warning."),
    "note in colons": (CHAPTER, "> **Note.** With colons."),
    "figure": (CHAPTER, "![A green \\[dot\\]](data:image/png;base64,"),
    "caption": (CHAPTER, "**Fig. 1.** The caption with $x$ and Vaswani *et al.* [2017]."),
    "drawing": (
        CHAPTER,
        "![A curve](https://raw.githubusercontent.com/structured-attention/book/main/chapters/images/curve.svg)",
    ),
    "code that is only shown": (CHAPTER, "```python\ndef only_shown(): ...\n```\n\n---\n\nThe end."),
    "hint": (EXERCISES, "<summary><b>Hint 1: for &amp; against, a &lt; b</b></summary>\n\nWhat is $x + x$?"),
    "solution": (
        EXERCISES,
        '<summary><b>Solution</b></summary>\n\nAs simple as that.\n\n```python\ndef twice(x):\n    """Two times x."""\n'
        "    return 2 * x\n```\n\n</details>",
    ),
}


@pytest.mark.parametrize("construct", WRITTEN)
def test_construct_is_written(sample, construct):
    notebook, wanted = WRITTEN[construct]
    assert wanted in text_of(sample[notebook])


def test_labels_comments_and_other_code_are_gone(sample):
    everything = "\n".join(text_of(notebook) for notebook in sample.values())
    for gone in ("sec-lists)=", "comment of the author", "% the score", "eq-score", "not_wanted", "Nobody"):
        assert gone not in everything


def test_cells_of_the_sample(sample):
    """Title, set-up, then the page; a heading begins a cell; a hidden input is a folded form."""
    cells = sample[CHAPTER].cells
    assert [cell.cell_type for cell in cells[:4]] == ["markdown", "code", "markdown", "code"]
    assert cells[3].source == "import math\n\nprint(math.pi)"
    assert all(len(re.findall(r"^#+ ", cell.source, re.M)) <= 1 for cell in cells if cell.cell_type == "markdown")
    folded = [cell.source for cell in cells if cell.metadata.get("cellView") == "form"]
    assert folded[1:] == [
        '# @title Draw the curve\n# Draw the curve.\nprint("drawn")',
        '# @title Run this cell to draw\nprint("drawn again")',
    ]


def test_notebook_metadata(sample):
    notebook = sample[CHAPTER]
    assert notebook.metadata.colab == {"name": "01_everything.ipynb", "provenance": [], "toc_visible": True}
    assert notebook.metadata.kernelspec.name == "python3"
    assert "accelerator" not in notebook.metadata
    identities = [cell.id for cell in notebook.cells]
    assert len(set(identities)) == len(identities)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)


def test_set_up_knows_the_one_address_and_the_pins(sample):
    code = sample[CHAPTER].cells[1].source
    address = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
    assert f'os.environ.get("STRUCTATTN_SOURCE", "git+{address}")' in code
    for package in ("jaxtyping", "wadler-lindig", "anywidget", "psygnal"):
        pin = re.search(rf"(?m)^{package}==\S+", (ROOT / "requirements.txt").read_text())[0]
        assert f'"{pin}"' in code
    assert "PIN" not in code
    compile(code, "set-up", "exec")


def test_export_is_the_same_every_time(sample_root, sample):
    again = exporter.export(sample_root)
    assert {str(path.relative_to(sample_root)): nbformat.reads(text, 4) for path, text in again.items()} == sample


def test_check_names_what_differs(tmp_path, monkeypatch, capsys):
    """Nothing to say, then a missing, a changed and an orphaned notebook, each by name and with exit status 1."""
    (tmp_path / "chapters").mkdir()
    fresh = {tmp_path / "chapters" / f"{name}.ipynb": "{}\n" for name in ("01_a", "02_b")}
    monkeypatch.setattr(exporter, "export", lambda root: fresh)
    monkeypatch.setattr(sys, "argv", ["export.py"])
    assert exporter.main(tmp_path) == 0
    monkeypatch.setattr(sys, "argv", ["export.py", "--check"])
    assert exporter.main(tmp_path) == 0
    assert capsys.readouterr().out.endswith("All notebooks are up to date.\n")
    (tmp_path / "chapters" / "01_a.ipynb").unlink()
    (tmp_path / "chapters" / "02_b.ipynb").write_text("changed")
    (tmp_path / "chapters" / "03_c.ipynb").write_text("{}\n")
    assert exporter.main(tmp_path) == 1
    said = capsys.readouterr().out
    assert "chapters/01_a.ipynb is missing" in said
    assert "chapters/02_b.ipynb is not up to date" in said
    assert "chapters/03_c.ipynb has no page in _toc.yml" in said
    assert (tmp_path / "chapters" / "02_b.ipynb").read_text() == "changed"


# the faulty book: one mistake a page, on line 5 of its text

PIXEL = "images/dot.png"
FAULTS = {
    "unknown_role": ("{nonsense}`x`", "nonsense"),
    "unknown_directive": ("```{nonsense}\n```", "nonsense"),
    "directive_read_as_text": ("```{dropdown} With `a tick`\nlost\n```", "'```' in the text"),
    "directive_read_as_code": ("````\n```{note}\n```\n````", "'```{' in a code block"),
    "role_cut_by_a_table": ("| a |\n|---|\n| {result}`sample.heads.r4.0|.2f` |", "'{result}' in the text"),
    "unresolved_citation": ("{cite:t}`nobody1900`", "nobody1900"),
    "missing_equation": ("{eq}`eq-nowhere`", "eq-nowhere"),
    "missing_label": ("{ref}`sec-nowhere`", "sec-nowhere"),
    "missing_theorem": ("{prf:ref}`thm-nowhere`", "thm-nowhere"),
    "missing_page": ("{doc}`nowhere`", "nowhere"),
    "missing_record": ("{result}`nosuch.number`", "nosuch"),
    "missing_number": ("{result}`sample.heads.r5`", "r5"),
    "missing_function": ("```{computed-by} structattn_minimal.NoSuch\n```", "NoSuch"),
    "missing_test": ("```{computed-by} structattn_minimal.MLR\n:test: tests/test_sample.py::test_no\n```", "test_no"),
    "missing_solution": ("```{literalinclude} ../exercises/ch01/solutions.py\n:pyobject: nosuch\n```", "nosuch"),
    "missing_image": ("![A picture](images/nosuch.png)", "images/nosuch.png"),
    "image_without_words": (f"![]({PIXEL})", PIXEL),
    "raw_html": ("Text <b>bold</b>", "raw HTML: '<b>'"),
    "unknown_tag": ("```{code-cell} ipython3\n:tags: [hide-nothing]\nx = 1\n```", "hide-nothing"),
    "unknown_box": ("::::{grid}\n:::{grid-item}\nText\n:::\n::::", "container"),
    "equation_environment": ("\\begin{align}\na &= b\n\\end{align}", "an equation"),
    "cell_with_two_paragraphs": ("```{list-table}\n* - a\n\n    b\n```", "table cell"),
}


@pytest.fixture(scope="module")
def complaints(tmp_path_factory) -> list[str]:
    root = frame(Path(shutil.copytree(SAMPLE, tmp_path_factory.mktemp("faulty") / "book")))
    header = (SAMPLE / CHAPTER).with_suffix(".md").read_text().split("---\n")[1]
    for name, (text, _) in FAULTS.items():
        (root / "chapters" / f"{name}.md").write_text(f"---\n{header}---\n# Title\n\n{text}\n")
    contents = yaml.safe_load((root / "_toc.yml").read_text())
    contents["chapters"] += [{"file": f"chapters/{name}"} for name in FAULTS]
    (root / "_toc.yml").write_text(yaml.safe_dump(contents))
    with pytest.raises(exporter.ExportError) as error:
        exporter.export(root)
    return str(error.value).splitlines()


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_named(complaints, fault):
    """File, line (where Sphinx knows it) and construct."""
    mine = [line for line in complaints if re.match(rf"chapters/{fault}\b", line)]
    assert any(FAULTS[fault][1] in line for line in mine), "\n".join(complaints)
    if fault not in ("missing_theorem", "image_without_words", "role_cut_by_a_table"):  # Sphinx knows no line here
        assert all(re.match(rf"chapters/{fault}\.md:\d+: ", line) for line in mine)


def test_only_faults_are_named(complaints):
    assert {re.match(r"chapters/(\w+)|", line)[1] for line in complaints} == set(FAULTS)


# the book itself


def pages() -> list[str]:
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    files = [chapter["file"] for part in contents["parts"] for chapter in part["chapters"]]
    return [file for file in files if file.startswith(("chapters/", "exercises/"))]


@pytest.fixture(scope="module")
def fresh() -> dict[Path, str]:
    return exporter.export(ROOT)


def source(page: str) -> str:
    return (ROOT / f"{page}.md").read_text(encoding="utf-8")


def notebook(page: str) -> nbformat.NotebookNode:
    return nbformat.read(ROOT / f"{page}.ipynb", 4)


def without_code(markdown: str) -> str:
    """Markdown without code blocks, and with a backtick for each code span."""
    blocks = re.sub(r"(?m)^[> ]*(`{3,})[\w ]*\n(.*\n)*?[> ]*\1$", "", markdown)
    return re.sub(r"(`+).+?\1", "`", blocks)


def test_notebooks_are_up_to_date(fresh):
    assert exporter.differences(fresh, ROOT) == [], "run: python book/export.py"
    assert {path.relative_to(ROOT).with_suffix("").as_posix() for path in fresh} == set(pages())


@pytest.mark.parametrize("page", pages())
def test_no_myst_is_left(page):
    text = without_code(text_of(notebook(page)))
    assert not re.findall(r"```.*|:::|\{[a-z][\w:-]*\}`|^\([\w-]+\)=$|\[\^\w+\]|:label:", text, re.M)


@pytest.mark.parametrize("page", pages())
def test_code_cells_are_the_pages(page):
    """The set-up, and then every code cell of the page, in order; a folded one has one line more."""
    cells = re.findall(r"(?ms)^```\{code-cell\}[^\n]*\n(.*?)^```$", source(page))
    options = r"\A(?:---\n.*?---\n|(?::[^\n]*\n)+\n?)"
    wanted = [re.sub(options, "", code, flags=re.S).strip("\n") for code in cells]
    set_up, *others = [cell for cell in notebook(page).cells if cell.cell_type == "code"]
    assert "def set_up" in set_up.source
    assert [re.sub(r"\A# @title .*\n", "", cell.source) for cell in others] == wanted
    folded = [":tags: [hide-input" in code or "tags: [hide-input" in code for code in cells]
    assert [cell.metadata.get("cellView") == "form" for cell in others] == folded


@pytest.mark.parametrize("page", pages())
def test_nothing_is_lost(page):
    """As many theorems, proofs, folded parts, figures, exercises and numbered equations as in the source."""
    written, text = source(page), text_of(notebook(page))
    statements = re.findall(r"(?m)^`{3,}\{prf:(?!proof)(\w+)\}", written)
    for kind in set(statements):
        assert len(re.findall(rf"(?m)^> \*\*{kind.title()}\b", text)) == statements.count(kind)
    assert text.count("> *Proof.* ") == len(re.findall(r"(?m)^`{3,}\{prf:proof\}", written))
    folded = re.findall(r"(?m)^[`:]{3,}\{dropdown\} (.+)$", written)
    assert len(re.findall(r"(?m)^<details>$", text)) >= len(folded)
    assert len(re.findall(r"(?m)^<details>$", text)) == len(re.findall(r"(?m)^</details>$", text))
    assert text.count("![") == len(re.findall(r"(?m)^`{3,}\{figure\}|!\[", written))
    assert len(re.findall(r"\\tag\{", text)) == len(re.findall(r"(?m)^:label: eq-|^\$\$.*\$\$ \(eq-", written))
    prose = re.sub(r"(?ms)^(`{3,}).*?^\1$", "", written)
    assert len(re.findall(r"(?m)^#+ (?!Notes$|References$)", text)) == len(re.findall(r"(?m)^#+ ", prose))


# the book as built, where it is built


def plain(text: str) -> str:
    """Words and signs only, so that two ways of writing the same thing compare equal."""
    text = re.sub(r"\\(?:begin|end)\{split\}|\\tag\{[\d.]+\}|\\[()\[\]]|\\lt\b", "", text)
    return re.sub(r"[\s$#<>]", "", text)


@pytest.fixture
def built(page) -> BeautifulSoup:
    path = HTML / f"{page}.html"
    if not path.is_file():
        pytest.skip("the book is not built here: make book")
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser").find("article")


@pytest.mark.site
@pytest.mark.parametrize("page", pages())
def test_numbers_are_the_sites(page, built):
    text = text_of(notebook(page))
    on_page = [re.search(r"\(([\d.]+)\)", number.get_text())[1] for number in built.select(".eqno")]
    assert re.findall(r"\\tag\{([\d.]+)\}", text) == on_page
    statements = [" ".join(title.get_text().split()) for title in built.select(".proof .caption-number")]
    for statement in statements:
        assert f"> **{statement}" in text


@pytest.mark.site
@pytest.mark.parametrize("page", pages())
def test_every_paragraph_of_the_page_is_there(page, built):
    """Whatever a reader of the page can read, outside what cells print, a reader of the notebook can read too."""
    for aside in built.select(".cell_output, .explorable, .headerlink, .copybtn, .eqno"):
        aside.decompose()
    for mark in built.select(".footnote-reference"):
        mark.string = mark.get_text().strip("[]")
    markdown = MarkdownIt("gfm-like", {"linkify": False}).use(dollarmath_plugin)
    there = plain(BeautifulSoup(markdown.render(text_of(notebook(page))), "html.parser").get_text())
    parts = built.select("p:not(.admonition-title), h1, h2, h3, div.math, .sd-summary-text, td, th")
    assert len(parts) > 10
    assert not [part.get_text() for part in parts if plain(part.get_text()) not in there]
