"""The book's Sphinx extension: recorded results, equations tied to code, figures that need no network."""

from . import browser_files, computed_by, explorable, images, results, status, tidy

PARTS = (browser_files, computed_by, explorable, images, results, status, tidy)


def setup(app):
    """Register every part; what cells show registers through the entry points of `pyproject.toml`."""
    for part in PARTS:
        part.setup(app)
    return {"version": "0.1.0", "parallel_read_safe": True, "parallel_write_safe": True}
