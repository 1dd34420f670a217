"""Pictures have alternative text, or the build fails.

A cell gives it as output metadata, {"image/svg+xml": {"alt": "..."}}, which myst-nb itself does not read.
"""

from docutils import nodes
from myst_nb.core.render import MimeRenderPlugin
from sphinx.util import logging

logger = logging.getLogger(__name__)

IMAGES = ("image/svg+xml", "image/png", "image/jpeg")


class ImageRenderer(MimeRenderPlugin):
    """An image of a cell's output, with the alternative text of its metadata."""

    mime_priority_overrides = ()

    @staticmethod
    def handle_mime(renderer, data, inline):
        alt = data.output_metadata.get(data.mime_type, {}).get("alt")
        if inline or data.mime_type not in IMAGES or not alt:
            return None
        rendered = renderer.render_image(data)
        for image in rendered:
            image["alt"] = alt
        return rendered


def require_alt(app, doctree, docname):
    """Warn about each image that says nothing to a reader who does not see it."""
    for image in doctree.findall(nodes.image):
        if not image.get("alt", "").strip():
            where = image.get("uri", "an image")
            logger.warning("no alternative text: %s", where, location=image if image.line else docname)


def setup(app):
    app.connect("doctree-resolved", require_alt)
