"""Tables and lists of cells: HTML where there is a page, lines of text where there is none."""

import re
from html.parser import HTMLParser

import nbformat
import pytest
from nbclient import NotebookClient

from structattn_minimal.viz import tables
from structattn_minimal.viz.tables import Listing, Table, listed, table

GROUPED = Table(
    ("method", "loss", "verdict"),
    [("D = 256",), ("standard", "1.203", "holds"), ("MLR", "12.1", ""), ("D = 512",), ("MLR", "", "not decided")],
    "nats < bits",
    "* at an edge",
)


def test_as_text_the_columns_stand_below_each_other():
    assert repr(GROUPED).splitlines() == [
        "nats < bits",
        "method       loss  verdict",
        "D = 256",
        "  standard  1.203  holds",
        "  MLR        12.1",
        "D = 512",
        "  MLR              not decided",
        "* at an edge",
    ]
    assert (
        repr(Table(("a", "b"), [("long name", "+1"), ("x", "-10")])) == "a            b\nlong name   +1\nx          -10"
    )


class Read(HTMLParser):
    """Elements with their attributes and the text directly in them; every tag is closed in its turn."""

    def __init__(self, html: str):
        super().__init__()
        self.open, self.found = [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.found.append([tag, dict(attrs), ""])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.found[-1][2] += data

    def texts(self, tag: str, **attributes: str) -> list[str]:
        return [text for t, attrs, text in self.found if t == tag and attributes.items() <= attrs.items()]


def test_as_html_rows_and_columns_have_names_and_numbers_are_to_the_right():
    read = Read(GROUPED._repr_html_())
    assert read.texts("caption") == ["nats < bits"]
    assert read.texts("th", scope="col") == ["method", "loss", "verdict"]
    assert len(read.texts("th", scope="rowgroup", colspan="3")) == 2
    assert read.texts("span") == ["D = 256", "D = 512"]
    assert read.texts("th", scope="row") == ["standard", "MLR", "MLR"]
    assert read.texts("td", style="text-align: right") == ["1.203", "12.1", ""]
    assert read.texts("td", style="text-align: left") == ["holds", "", "not decided"]
    assert read.texts("p") == ["* at an edge"]
    assert sum(tag == "tbody" for tag, *_ in read.found) == 2


def test_nothing_in_a_text_is_markup():
    evil = "<b>&amp;"
    assert Read(Table((evil, evil), [(evil,), (evil, evil)], evil, evil)._repr_html_()).texts("b") == []
    assert Read(Listing([evil])._repr_html_()).texts("li") == [evil]


def test_ranges_and_short_names_are_not_broken():
    rows = [("D = 256", "1.20 (1.16 to 1.22)"), ("four levels, gain 8", "1.3")]
    read = Read(Table(("width", "loss"), rows)._repr_html_())
    assert read.texts("span", style="white-space: nowrap") == ["(1.16 to\u00a01.22)"]
    assert read.texts("th", style="text-align: left; white-space: nowrap") == ["D\u00a0=\u00a0256"]
    assert read.texts("th", style="text-align: left; min-width: 7em") == ["four levels, gain\u00a08"]


def test_words_that_begin_with_a_number_are_no_number():
    assert Table(("a", "b", "c"), [("x", "2 words", "1 to 2")]).to_the_right == [False, False, True]
    assert Table(("a", "b", "c"), [("x", "-", "-"), ("y", "0.5", "-")]).to_the_right == [False, True, False]


def test_cells_are_written_as_they_print_and_none_is_empty(capsys):
    table(["rank", 8, "loss"], [[4, 7, None], [16, 2, 1.5]])
    assert capsys.readouterr().out == "rank  8  loss\n4     7\n16    2   1.5\n"


@pytest.mark.parametrize("rows", [[], [("D = 256",)]])
def test_a_table_without_rows_says_so(capsys, rows):
    table(("method", "loss"), rows, "losses")
    assert capsys.readouterr().out == f"- losses: {tables.NOTHING}\n"
    table(("method", "loss"), rows)
    assert capsys.readouterr().out == f"- {tables.NOTHING}\n"


def test_a_list_has_a_point_for_each_item_and_nothing_for_none(capsys):
    listed(item for item in ("a", 2))
    assert capsys.readouterr().out == "- a\n- 2\n"
    assert Read(Listing(["a", "2"])._repr_html_()).texts("li") == ["a", "2"]
    listed([])
    assert capsys.readouterr().out == ""


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match=re.escape("1 or 2 texts, got ('a', 'b', 'c')")):
        table(("x", "y"), [("a", "b", "c")])


CELL = """
from structattn_minimal.viz.tables import listed, table
table(("method", "loss"), [("standard", "1.2")])
listed(["holds"])
"""


def test_a_notebook_gets_html_and_what_cannot_show_it_gets_text():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    NotebookClient(notebook, kernel_name="python3", timeout=120).execute()
    of_table, of_list = (output.data for output in notebook.cells[0].outputs)
    assert of_table["text/plain"] == "method    loss\nstandard   1.2"
    assert of_table["text/html"].startswith('<div class="said"><table>')
    assert of_list["text/plain"] == "- holds"
    assert "<li>holds</li>" in of_list["text/html"]
