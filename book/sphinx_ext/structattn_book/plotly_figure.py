"""Plotly figures on a page without a kernel: the figure's JSON in the page, drawn by one shared `plotly.min.js`."""

from docutils import nodes
from myst_nb.core.render import MimeRenderPlugin
from sphinx.util import logging

from .html import attribute, json_script

logger = logging.getLogger(__name__)

MIME = "application/vnd.plotly.v1+json"
DEFAULT_HEIGHT = 420  # pixels
MENUS_HEIGHT = 48  # of the row of menus that the page puts above a figure


def alternative_text(figure: dict) -> str:
    """`fig.layout.meta = {"alt": ...}`, or nothing."""
    meta = figure.get("layout", {}).get("meta")
    return str(meta.get("alt", "")).strip() if isinstance(meta, dict) else ""


def figure_html(figure: dict) -> str:
    """For `plotly-figures.js` to fill: an element that holds the figure and already has its height, lest text jump."""
    layout = figure.get("layout", {})
    height = int(layout.get("height", DEFAULT_HEIGHT)) + (MENUS_HEIGHT if layout.get("updatemenus") else 0)
    shown = {"data": figure.get("data", []), "layout": {k: v for k, v in layout.items() if k != "width"}}
    return (
        f'<div class="plotly-figure" style="height:{height}px">'
        f'<div class="plotly-canvas" role="img" aria-label="{attribute(alternative_text(figure))}"></div>'
        f"{json_script(shown)}<noscript>This figure needs JavaScript.</noscript></div>"
    )


class PlotlyRenderer(MimeRenderPlugin):
    """Chosen before the text and HTML forms that a plotly figure brings along."""

    mime_priority_overrides = (("*", MIME, 1),)

    @staticmethod
    def handle_mime(renderer, data, inline):
        if inline or data.mime_type != MIME:
            return None
        if not alternative_text(data.content):
            where = (renderer.renderer.document["source"], data.line)
            logger.warning("no alternative text: a plotly figure without layout.meta['alt']", location=where)
        return [nodes.raw("", figure_html(data.content), format="html")]
