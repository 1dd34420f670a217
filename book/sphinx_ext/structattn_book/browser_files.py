"""What a browser gets besides pages: scripts from this site, only where they are needed, and a front door."""

from html import escape
from importlib import resources
from pathlib import Path
from shutil import copyfile

FRONT_DOOR = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="0; url={first}">
<title>{title}</title>
</head>
<body><main><h1>{title}</h1><p><a href="{first}">Open the book</a></p></main></body>
</html>
"""
NEEDED_BY = {'class="plotly-figure"': "plotly-figures.js", 'class="explorable"': "explorable-host.js"}


def add_needed_scripts(app, pagename, templatename, context, doctree):
    """Called for each page: scripts added here go to this page alone."""
    body = context.get("body") or ""
    for sign, script in NEEDED_BY.items():
        if sign in body:
            app.add_js_file(script, loading_method="defer")


def copy_plotly(app, error):
    """One shared copy of plotly's library, from the pip package that drew the figures."""
    if error or app.builder.format != "html":
        return
    target = Path(app.outdir) / "_static" / "vendor"
    target.mkdir(parents=True, exist_ok=True)
    with resources.as_file(resources.files("plotly") / "package_data" / "plotly.min.js") as source:
        copyfile(source, target / "plotly.min.js")


def open_front_door(app, error):
    """`index.html` at the root leads to the first page, which lies in a folder."""
    index = Path(app.outdir) / "index.html"
    if not error and app.builder.format == "html" and not index.exists():
        first = app.builder.get_target_uri(app.config.root_doc)
        index.write_text(FRONT_DOOR.format(title=escape(app.config.html_title), first=first), encoding="utf-8")


def setup(app):
    app.connect("html-page-context", add_needed_scripts)
    app.connect("build-finished", copy_plotly)
    app.connect("build-finished", open_front_door, priority=400)  # sphinx-external-toc's own has no title
