"""Writes beside each page of chapters/ and exercises/ the notebook that Colab opens: the same text in plain Markdown.

    python book/export.py            write them
    python book/export.py --check    write nothing; name those that differ from a fresh export, and fail if any does

Sphinx reads the book as it does for the site, except that it runs no cell. Numbers, citations and titles are therefore
the site's, and an unknown role or directive, a missing label, source or record is a warning of Sphinx's. Each warning
fails the export.
"""

import argparse
import io
import re
import sys
import tempfile
from pathlib import Path

from colab.builder import FOLDERS, NotebookBuilder
from jupyter_book.config import get_final_config
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

ROOT = Path(__file__).resolve().parents[1]


class ExportError(Exception):
    """What is wrong in the sources, a line a complaint: file, line, construct."""


def setup(app: Sphinx) -> None:
    """This file is a Sphinx extension too, with one builder in it."""
    app.add_builder(NotebookBuilder)


def export(root: Path) -> dict[Path, str]:
    """The text of every notebook of the book at `root`, by its path. Raises `ExportError`."""
    config, _ = get_final_config(
        user_yaml=root / "_config.yml", sourcedir=root, cli_config={"latex_individualpages": False}
    )
    config |= {"nb_execution_mode": "off", "nitpicky": True, "extensions": [*config["extensions"], __name__]}
    complaints = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, patch_docutils(), docutils_namespace():
        app = Sphinx(
            srcdir=root,
            confdir=None,
            outdir=Path(folder, "notebooks"),
            doctreedir=Path(folder, "doctrees"),
            buildername=NotebookBuilder.name,
            confoverrides=config,
            status=None,
            warning=complaints,
        )
        app.build()
    if complaints.getvalue().strip():
        raise ExportError(re.sub(r"\x1b\[[0-9;]*m", "", complaints.getvalue()).strip().replace(f"{root}/", ""))
    return {root / f"{docname}.ipynb": text for docname, text in sorted(app.builder.notebooks.items())}


def differences(fresh: dict[Path, str], root: Path) -> list[str]:
    """What is not as a fresh export would leave it, in words."""
    stale = [path for path in fresh if not path.is_file() or path.read_text(encoding="utf-8") != fresh[path]]
    orphans = [path for folder in FOLDERS for path in sorted((root / folder).glob("*.ipynb")) if path not in fresh]
    return [
        *(f"{path.relative_to(root)} is {'not up to date' if path.is_file() else 'missing'}" for path in stale),
        *(f"{path.relative_to(root)} has no page in _toc.yml: delete it" for path in orphans),
    ]


def main(root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description="Write the notebooks that Colab opens.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail when a notebook differs")
    arguments = parser.parse_args()
    try:
        fresh = export(root)
    except ExportError as error:
        print(f"The notebooks were not made:\n{error}")
        return 1
    differs = differences(fresh, root)
    if arguments.check:
        print("\n".join([*differs, "Run: python book/export.py"] if differs else ["All notebooks are up to date."]))
        return int(bool(differs))
    for path, text in fresh.items():
        path.write_text(text, encoding="utf-8")
    print("\n".join([f"{len(fresh)} notebooks written.", *(line for line in differs if line.endswith("delete it"))]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
