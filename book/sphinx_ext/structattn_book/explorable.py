"""Explorables on a page without a kernel: the same ES module that anywidget runs, hosted by `explorable-host.js`."""

from importlib import import_module

from docutils import nodes
from myst_nb.core.render import MimeRenderPlugin
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from .html import attribute, json_script, script

logger = logging.getLogger(__name__)

MIME = "application/vnd.structattn.explorable+json"
PACKAGE = "structattn_minimal.viz.explorables"
NEEDS_JAVASCRIPT = "<noscript><p>This explorable needs JavaScript.</p></noscript>"


def explorable_html(name: str, state: dict, alt: str) -> str:
    """The element in which the module draws, and the state that it starts from."""
    return (
        f'<div class="explorable" data-module="{attribute(name)}" role="group" aria-label="{attribute(alt)}">'
        f'<div class="explorable-body"></div>{json_script(state)}{NEEDS_JAVASCRIPT}</div>'
    )


def module_html(name: str) -> str:
    """The module as anywidget gets it, inert until the host imports it."""
    return script(import_module(PACKAGE).module_text(name), type="text/plain", id=f"explorable-module-{name}")


def explorable_node(document: nodes.document, content: dict, line: int | None) -> nodes.raw:
    """The page's part for one explorable; a page carries each module's text once."""
    name, alt = content["module"], content.get("alt", "").strip()
    if not alt:
        logger.warning("no alternative text: explorable %s", name, location=(document["source"], line))
    html = explorable_html(name, content.get("state", {}), alt)
    carried = document.setdefault("explorable_modules", [])
    if name not in carried:
        carried.append(name)
        html = module_html(name) + html
    return nodes.raw("", html, format="html")


class ExplorableRenderer(MimeRenderPlugin):
    """An explorable that a cell shows; chosen before the widget view that an anywidget brings along."""

    mime_priority_overrides = (("*", MIME, 0),)

    @staticmethod
    def handle_mime(renderer, data, inline):
        if inline or data.mime_type != MIME:
            return None
        return [explorable_node(renderer.renderer.document, data.content, data.line)]


class Explorable(SphinxDirective):
    """An explorable on a page that executes nothing: {explorable} BilinearForm, a class of the package's."""

    required_arguments = 1

    def run(self):
        try:
            widget = getattr(import_module(PACKAGE), self.arguments[0])()
        except AttributeError:
            raise self.error(f"there is no explorable {self.arguments[0]}") from None
        bundle = widget._repr_mimebundle_()
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        return [explorable_node(self.state.document, data[MIME], self.lineno)]


def setup(app):
    app.add_directive("explorable", Explorable)
