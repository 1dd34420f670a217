"""What stands on the status page: the records behind the prose, and the machine that built this copy of the book."""

import json
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

PACKAGES = ("torch", "numpy", "jaxtyping", "matplotlib", "plotly", "anywidget", "Sphinx", "myst-nb", "jupyter-book")


def table(head: list[str], rows: list[list[str]]) -> nodes.table:
    """A docutils table of plain text cells."""

    def row(cells: list[str]) -> nodes.row:
        return nodes.row("", *(nodes.entry("", nodes.paragraph("", cell)) for cell in cells))

    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in head), cols=len(head))
    group += nodes.thead("", row(head))
    group += nodes.tbody("", *map(row, rows))
    return nodes.table("", group)


def plain(value: object) -> str:
    """A record's field in a cell: lists and dictionaries without their brackets."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(inner)}" for key, inner in value.items())
    return ", ".join(map(plain, value)) if isinstance(value, list) else str(value)


def seconds(value: object) -> str:
    return f"{value:,.0f} s" if isinstance(value, (int, float)) else plain(value)


class RecordsTable(SphinxDirective):
    """Every record in `book/results/`: where its numbers came from."""

    def run(self):
        rows = []
        for path in sorted((Path(self.env.srcdir) / self.config.structattn_records).glob("*.json")):
            self.env.note_dependency(str(path))
            record = json.loads(path.read_text(encoding="utf-8"))
            fields = [plain(record.get(key, "not recorded")) for key in ("command", "seeds", "hardware", "versions")]
            commit = str(record.get("commit", "not recorded"))[:10]
            rows.append([path.stem, commit, *fields, seconds(record.get("wall_seconds", "not recorded"))])
        if not rows:
            return [nodes.paragraph("", "No run is recorded yet: each number was computed on its page.")]
        return [table(["record", "commit", "command", "seeds", "hardware", "versions", "wall time"], rows)]


def git_commit(root: Path) -> str:
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown (no git checkout)"


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


class BuildTable(SphinxDirective):
    """The commit, the machine and the versions that this copy of the book was built with."""

    def run(self):
        rows = [
            ["commit", git_commit(Path(self.env.srcdir))],
            ["system", f"{platform.system()} {platform.release()}, {platform.machine()}"],
            ["Python", platform.python_version()],
            *([package, installed(package)] for package in PACKAGES),
        ]
        return [table(["what", "which"], rows)]


def setup(app):
    app.add_directive("records-table", RecordsTable)
    app.add_directive("build-table", BuildTable)
