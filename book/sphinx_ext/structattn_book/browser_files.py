"""Scripts that a page needs come from this site, and only to the pages that need them."""

from importlib import resources
from pathlib import Path
from shutil import copyfile

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


def setup(app):
    app.connect("html-page-context", add_needed_scripts)
    app.connect("build-finished", copy_plotly)
