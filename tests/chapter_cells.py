"""What a chapter's cells print, of records that a test has put in place."""

import re
from collections.abc import Iterable

from exercises.registry import CELL
from structattn_minimal.viz import figures, tables


def run_cells(monkeypatch, capsys, source: str, *, without: Iterable[str], **names: object) -> str:
    """Run the cells of a chapter in which none of the words `without` occurs, given `names`; of figures, how many lines
    they have."""
    monkeypatch.setattr(tables, "display", print)
    monkeypatch.setattr(figures, "show", lambda fig, alt: print(f"figure of {len(fig.data)} lines"))
    for cell in CELL.findall(source):
        if not any(word in cell for word in without):
            exec(re.sub(r"^:tags:.*", "", cell), names)
    return capsys.readouterr().out
