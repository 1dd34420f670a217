"""Text safely inside attributes and script elements."""

import json
from html import escape


def attribute(text: str) -> str:
    """`text` between double quotes."""
    return escape(str(text), quote=True)


def script(text: str, **attributes: str) -> str:
    """A script element; a `</script` or `<!--` inside the text does not end it."""
    safe = text.replace("</script", r"<\/script").replace("<!--", r"<\!--")
    written = "".join(f' {name}="{attribute(value)}"' for name, value in attributes.items())
    return f"<script{written}>{safe}</script>"


def json_script(value: object) -> str:
    """A JSON island. The `<` is escaped, so no string in it can close the element."""
    return script(json.dumps(value).replace("<", r"\u003c"), type="application/json")
