"""Mends what other extensions write into every page and a validator refuses."""

import re

REPEATED_IDS = re.compile(r' id="proof(?:-content)?"')  # sphinx-proof gives each proof of a page the same


def tidy(app, pagename, templatename, context, doctree):
    if context.get("body"):
        context["body"] = REPEATED_IDS.sub("", context["body"])


def setup(app):
    app.connect("html-page-context", tidy)
