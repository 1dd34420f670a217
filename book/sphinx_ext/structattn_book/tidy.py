"""Mends what other extensions write into pages and validators of HTML and of accessibility refuse."""

import re

MENDS = (
    (re.compile(r' id="proof(?:-content)?"'), ""),  # sphinx-proof gives each proof of a page the same id
    (re.compile(r' role="list"(?= class="citation-list")'), ""),  # a list without list items
    (re.compile(r' role="doc-biblioentry"'), ""),  # withdrawn from the standard
)


def tidy(app, pagename, templatename, context, doctree):
    for pattern, better in MENDS:
        if context.get("body"):
            context["body"] = pattern.sub(better, context["body"])


def setup(app):
    app.connect("html-page-context", tidy)
