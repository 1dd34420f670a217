"""What stands on the status page: the pages that ran, the records behind the prose, the machine that built it all."""

import json
import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from docutils import nodes
from myst_nb.sphinx_ import NbMetadataCollector
from sphinx.util.docutils import SphinxDirective

FIELDS = ("commit", "command", "seeds", "hardware", "versions")
PACKAGES = ("torch", "numpy", "jaxtyping", "matplotlib", "plotly", "anywidget", "Sphinx", "myst-nb", "jupyter-book")


def table(head: list[str], rows: list[list[str | nodes.Node]]) -> nodes.table:
    """A docutils table; a cell is text or an inline node."""

    def row(cells: list[str | nodes.Node]) -> nodes.row:
        inline = [nodes.Text(cell) if isinstance(cell, str) else cell for cell in cells]
        return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", cell)) for cell in inline))

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


class pages_that_ran(nodes.General, nodes.Element):
    """Stands for a table that can be written once every page has been read."""


class PagesTable(SphinxDirective):
    """Every page with code: when it ran, and for how long."""

    def run(self):
        return [pages_that_ran()]


def fill_pages_table(app, doctree, docname):
    for place in list(doctree.findall(pages_that_ran)):
        rows = []
        for page in sorted(app.env.found_docs):
            ran = NbMetadataCollector.get_exec_data(app.env, page)
            if ran:
                title = app.env.titles[page].astext()
                address = app.builder.get_relative_uri(docname, page)
                when = datetime.fromtimestamp(ran["mtime"], UTC).strftime("%Y-%m-%d %H:%M UTC")
                rows.append([nodes.reference("", title, refuri=address), when, seconds(ran["runtime"])])
        place.replace_self(table(["page", "ran", "took"], rows) if rows else [])


class RecordsTable(SphinxDirective):
    """Every record in `book/results/`: where its numbers came from."""

    def run(self):
        records = Path(self.env.srcdir) / self.config.structattn_records
        tables = [self.described(path) for path in sorted(records.glob("*.json"))]
        return tables or [nodes.paragraph("", "No run is recorded yet: each number was computed on its page.")]

    def described(self, path: Path) -> nodes.table:
        record = json.loads(path.read_text(encoding="utf-8"))
        known = {field: plain(record.get(field, "not recorded")) for field in FIELDS}
        rows = [[field, known[field]] for field in ("seeds", "hardware", "versions")]
        return table(
            ["record", nodes.literal("", path.stem)],
            [
                ["commit", nodes.literal("", shortened(known["commit"]))],
                ["command", nodes.literal("", known["command"])],
                *rows,
                ["wall time", seconds(record.get("wall_seconds", "not recorded"))],
            ],
        )


def shortened(commits: str) -> str:
    """Each of the commits at which the parts of a record were made, in ten digits; "-dirty" after it stays."""
    return re.sub(r"\b([0-9a-f]{10})[0-9a-f]+", r"\1", commits)


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
            ["system", f"{platform.system()} {platform.release()}, {platform.machine()}, {os.cpu_count()} cores"],
            ["Python", platform.python_version()],
            *([package, installed(package)] for package in PACKAGES),
        ]
        return [table(["what", "which"], rows)]


def setup(app):
    app.add_node(pages_that_ran)
    app.add_directive("pages-table", PagesTable)
    app.connect("doctree-resolved", fill_pages_table)
    app.add_directive("records-table", RecordsTable)
    app.add_directive("build-table", BuildTable)
