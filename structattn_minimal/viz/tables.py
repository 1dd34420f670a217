"""What cells say in rows and in sentences: HTML on a page and in a notebook, plain text in a terminal.

    table(("method", "loss", "steps"), [("standard", "1.203", "4,000"), ("MLR", "1.138", "4,000")], caption="D = 256")
    listed(verdicts)

On the book's pages a table that is wider than a phone scrolls, and its first column stays.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

from IPython.display import display

NOTHING = "not recorded yet"
NUMBER = re.compile(r"[+-]?\.?\d(?!.*[a-z]{3})")  # not the beginning of a sentence
RANGE = re.compile(r"\([^()]{,20}\)")  # (1.16 to 1.22)
TIED = re.compile(r" (?==)|(?<==) |(?<=[a-z]) (?=\d)")  # D = 256, gain 8
SHORT_NAME = 12  # characters


def cell(tag: str, text: str, side: str, style: str = "", **attributes: object) -> str:
    """An element of a row. Its text may be broken between words, and not at "=", before a number or in a range."""
    text = RANGE.sub(r'<span style="white-space: nowrap">\g<0></span>', TIED.sub("&nbsp;", escape(text)))
    written = "".join(f' {name}="{value}"' for name, value in attributes.items())
    return f'<{tag}{written} style="text-align: {side}{style}">{text}</{tag}>'


def name_width(name: str) -> str:
    """Short names of rows stay on one line, long ones get room enough for their words."""
    return "; white-space: nowrap" if len(name) <= SHORT_NAME else "; min-width: 7em"


def told(text: str) -> bool:
    return text not in ("", "-")


@dataclass(frozen=True)
class Table:
    """head: the names of the columns.  rows: the row's name and then a text for each other column; a row of one text
    is a heading over those that follow.  caption, note: a line above and one below.

    Columns of numbers are set to the right. Raises `ValueError` for a row of another length.
    """

    head: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    caption: str = ""
    note: str = ""

    def __post_init__(self):
        for row in self.rows:
            if len(row) not in (1, len(self.head)):
                raise ValueError(f"each row must have 1 or {len(self.head)} texts, got {row}")

    @property
    def to_the_right(self) -> list[bool]:
        """Of each column, whether its first text is a number; "-" is none."""
        columns = zip(*(row for row in self.rows if len(row) == len(self.head)), strict=True)
        first = [next(filter(told, column), "") for column in columns] or [""] * len(self.head)
        return [False, *(NUMBER.match(text) is not None for text in first[1:])]

    def __repr__(self) -> str:
        grouped = any(len(row) == 1 for row in self.rows)
        whole = [self.head, *((f"  {row[0]}" if grouped else row[0], *row[1:]) for row in self.rows if len(row) > 1)]
        widths = [max(map(len, column)) for column in zip(*whole, strict=True)]

        def line(row: Sequence[str]) -> str:
            cells = zip(row, widths, self.to_the_right, strict=True)
            return "  ".join(text.rjust(width) if right else text.ljust(width) for text, width, right in cells).rstrip()

        rest = iter(whole)
        lines = [line(next(rest)), *(row[0] if len(row) == 1 else line(next(rest)) for row in self.rows)]
        return "\n".join(filter(None, [self.caption, *lines, self.note]))

    def _repr_html_(self) -> str:
        sides = ["right" if right else "left" for right in self.to_the_right]

        def line(row: Sequence[str]) -> str:
            if len(row) == 1:
                attributes = f'scope="rowgroup" colspan="{len(self.head)}" style="text-align: left"'
                return (
                    f"<tr><th {attributes}><span>{escape(row[0])}</span></th></tr>"  # the span stays while rows scroll
                )
            rest = (cell("td", text, side) for text, side in zip(row[1:], sides[1:], strict=True))
            return f"<tr>{cell('th', row[0], 'left', name_width(row[0]), scope='row')}{''.join(rest)}</tr>"

        bodies: list[list[str]] = [[]]
        for row in self.rows:
            if len(row) == 1 and bodies[-1]:
                bodies.append([])
            bodies[-1].append(line(row))
        head = "".join(cell("th", text, side, scope="col") for text, side in zip(self.head, sides, strict=True))
        caption = f'<caption style="text-align: left">{escape(self.caption)}</caption>' if self.caption else ""
        body = "".join(f"<tbody>{''.join(lines)}</tbody>" for lines in bodies)
        note = f"<p>{escape(self.note)}</p>" if self.note else ""
        return f'<div class="said"><table>{caption}<thead><tr>{head}</tr></thead>{body}</table>{note}</div>'


@dataclass(frozen=True)
class Listing:
    """Sentences, one below the other."""

    items: list[str]

    def __repr__(self) -> str:
        return "\n".join(f"- {item}" for item in self.items)

    def _repr_html_(self) -> str:
        return f'<ul class="said">{"".join(f"<li>{escape(item)}</li>" for item in self.items)}</ul>'


def table(head: Iterable[object], rows: Iterable[Iterable[object]], caption: str = "", note: str = "") -> None:
    """Show a `Table`; nothing is written for `None`. A table without rows is the caption and that nothing is there."""
    rows = [tuple("" if one is None else str(one) for one in row) for row in rows]
    if any(len(row) > 1 for row in rows):
        display(Table(tuple(map(str, head)), rows, caption, note))
    else:
        listed([f"{caption}: {NOTHING}" if caption else NOTHING])


def listed(items: Iterable[object]) -> None:
    """Show each of `items`, such as a verdict, as a point of a list; nothing if there is none."""
    if items := [str(item) for item in items]:
        display(Listing(items))
