"""Numbers in the prose come from records: {result}`nearest.standard.r4.error|.2f`.

The name before the first dot is a file in `book/results/`, the rest are keys (or positions in a list), and what follows
`|` is a format of Python's. A number without a format gets three significant digits, an integer all of its own.
"""

import json
from functools import cache
from pathlib import Path

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxRole

RECORDS = Path(__file__).resolve().parents[2] / "results"

logger = logging.getLogger(__name__)


class MissingResult(LookupError):
    """A record, or a key in it, that the prose asks for and `book/results/` lacks."""


@cache
def _parse(path: Path, modified: float) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def read_record(name: str, records: Path = RECORDS) -> dict:
    """The record `name`.json. Raises `MissingResult` when there is none, or it is no JSON."""
    path = records / f"{name}.json"
    if not path.is_file():
        raise MissingResult(f"there is no record {records.name}/{name}.json")
    try:
        return _parse(path, path.stat().st_mtime)
    except json.JSONDecodeError as error:
        raise MissingResult(f"the record {records.name}/{name}.json is not JSON: {error}") from error


def _step(value: object, key: str, walked: str) -> object:
    if isinstance(value, dict) and key in value:
        return value[key]
    if isinstance(value, list) and key.lstrip("-").isdigit() and -len(value) <= int(key) < len(value):
        return value[int(key)]
    has = ", ".join(map(str, value)) if isinstance(value, dict) else f"a {type(value).__name__}"
    raise MissingResult(f"the record has no {key!r} in {walked} (there is: {has})")


def lookup(expression: str, records: Path = RECORDS) -> str:
    """The text of one number: `lookup("nearest.standard.r4.error|.2f")`. Raises `MissingResult`."""
    path, _, spec = expression.strip().partition("|")
    name, *keys = path.strip().split(".")
    value, walked = read_record(name, records), name
    for key in keys:
        value, walked = _step(value, key, walked), f"{walked}.{key}"
    if isinstance(value, (dict, list)):
        raise MissingResult(f"{walked} is not one number but a {type(value).__name__}")
    try:
        return format(value, spec.strip() or (".3g" if isinstance(value, float) else ""))
    except ValueError as error:
        raise MissingResult(f"{walked} = {value!r} does not take the format {spec.strip()!r}") from error


class ResultRole(SphinxRole):
    """Writes the number, or warns, which fails the build."""

    def run(self):
        try:
            text = lookup(self.text, Path(self.env.srcdir) / self.config.structattn_records)
        except MissingResult as error:
            logger.warning("{result}`%s`: %s", self.text, error, location=self.get_location())
            return [nodes.inline("", "missing result")], []
        return [nodes.inline(self.rawtext, text, classes=["result"])], []


def setup(app):
    app.add_config_value("structattn_records", "book/results", "env", str)
    app.add_role("result", ResultRole())
