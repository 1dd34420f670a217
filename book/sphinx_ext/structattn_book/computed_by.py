"""Ties an equation to the function that computes it and to the test that holds the function to the equation.

    ```{computed-by} structattn_minimal.LowRank.forward
    :test: tests/test_matrices.py::test_forward_equals_dense
    ```

A name that cannot be imported, or a test that is not in its file, is a warning, and so fails the build.
"""

import ast
import importlib
import inspect
from functools import cache
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

logger = logging.getLogger(__name__)


def find_object(dotted: str) -> object:
    """The object of a dotted name. Raises `LookupError` that says which part is missing."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        module = ".".join(parts[:cut])
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise LookupError(f"importing {module} failed: {error}") from error
            continue
        for attribute in parts[cut:]:
            if not hasattr(found, attribute):
                raise LookupError(f"{dotted} does not exist: {getattr(found, '__name__', found)} has no {attribute}")
            found = getattr(found, attribute)
        return found
    raise LookupError(f"{dotted} does not exist: there is no module {parts[0]}")


@cache
def _names(path: Path, modified: float) -> frozenset[str]:
    """`test_a` and `TestClass::test_b` of a test file, read without running it."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    body = ast.parse(path.read_text(encoding="utf-8")).body
    top = {node.name for node in body if isinstance(node, functions)}
    classes = [node for node in body if isinstance(node, ast.ClassDef)]
    return frozenset(top | {f"{c.name}::{f.name}" for c in classes for f in c.body if isinstance(f, functions)})


def find_test(test: str, root: Path) -> Path:
    """The file of `tests/test_x.py::test_y`. Raises `LookupError` when the file or the test is not there."""
    file, _, name = test.partition("::")
    path = root / file
    if not path.is_file():
        raise LookupError(f"there is no test file {file}")
    if name.partition("[")[0] not in _names(path, path.stat().st_mtime):
        raise LookupError(f"{file} has no test {name!r}")
    return path


def source_file(found: object, root: Path) -> str | None:
    """Where the object is written, relative to the repository."""
    try:
        path = Path(inspect.getsourcefile(inspect.unwrap(found)) or "").resolve()
    except TypeError:
        return None
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else None


class ComputedBy(SphinxDirective):
    """A small line under an equation: computed by this function, held to that test."""

    required_arguments = 1
    final_argument_whitespace = True
    option_spec = {"test": directives.unchanged_required}

    def run(self):
        root = Path(self.env.srcdir).resolve()
        line = nodes.paragraph(classes=["computed-by"])
        line += nodes.Text("Computed by ")
        line += self.listed(self.arguments[0], lambda name: source_file(find_object(name), root))
        if "test" in self.options:
            line += nodes.Text(", held to ")
            line += self.listed(self.options["test"], lambda test: find_test(test, root).relative_to(root).as_posix())
        line += nodes.Text(".")
        return [line]

    def listed(self, names: str, find_file) -> list[nodes.Node]:
        """The names, which may be several with commas between them, each a link to its file."""
        written: list[nodes.Node] = []
        for name in (name.strip() for name in names.split(",")):
            try:
                file = find_file(name)
            except LookupError as error:
                logger.warning("computed-by: %s", error, location=self.get_location())
                file = None
            written += [nodes.Text(", ")] if written else []
            written.append(self.link(name, file))
        return written

    def link(self, name: str, file: str | None) -> nodes.Node:
        literal = nodes.literal(name, name)
        theme = self.config.html_theme_options
        if file is None or not theme.get("repository_url"):
            return literal
        branch = theme.get("repository_branch", "main")
        return nodes.reference("", "", literal, refuri=f"{theme['repository_url']}/blob/{branch}/{file}")


def setup(app):
    app.add_directive("computed-by", ComputedBy)
