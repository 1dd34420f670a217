"""Resolved Sphinx document trees as the Markdown that Colab, JupyterLab and GitHub all show.

By the time a tree comes here, Sphinx has put in every number, citation and title, the same as for the site. What is
left is to write each kind of node in plain Markdown and TeX: one `on_...` method a kind. A kind without a method stops
the export.
"""

import base64
import html
import mimetypes
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from docutils import nodes
from sphinx.locale import admonitionlabels

RAW = re.compile(r"`{3}|:{3}|\{[a-z][\w:-]*\}")  # what an unread directive or role leaves in the text
ENVIRONMENT = re.compile(r"\\begin\{(\w+\*?)\}.*?\\end\{\1\}", re.DOTALL)


class Unsupported(Exception):
    """A construct that has no form in a notebook yet: what it is, and the line it stands on or near."""

    def __init__(self, node: nodes.Node, what: str):
        super().__init__(what)
        while node.line is None and node.parent is not None:
            node = node.parent
        self.line = node.line


def escape(text: str) -> str:
    """Plain text in which Markdown and TeX find nothing of theirs. Intraword underscores are safe as they are."""
    text = re.sub(r"([\\`*])", r"\\\1", text)
    text = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)
    text = re.sub(r"&(?=#?\w+;)", "&amp;", text).replace("<", "&lt;")
    text = text.replace("](", r"]\(")
    return text.replace("$", "<span>$</span>")  # after a backslash it would still open TeX in JupyterLab


def escape_line_starts(paragraph: str) -> str:
    """A line of prose that begins like a list, a heading, a quotation or an underline, made to stay prose."""
    marked = re.sub(r"(?m)^(?=(?:[-+] |#{1,6} |>|=+$|-+$))", r"\\", paragraph)
    return re.sub(r"(?m)^(\d+)(?=[.)] )", r"\1\\", marked)


def prefix(text: str, first: str, rest: str) -> str:
    """`text` with `first` before its first line and `rest` before the others, no blanks at the ends of lines."""
    start, *others = text.split("\n")
    return "\n".join(line.rstrip() for line in (first + start, *(rest + line for line in others)))


def quote(text: str) -> str:
    return prefix(text, "> ", "> ")


def fold(summary: nodes.Node, body: str) -> str:
    """A part that opens with a click. Its summary is HTML; the blank lines let the Markdown of the body be Markdown."""
    return f"<details>\n<summary><b>{html.escape(summary.astext())}</b></summary>\n\n{body}\n\n</details>"


def fence(code: str, language: str = "") -> str:
    """A code block whose fence is longer than any inside it."""
    ticks = "`" * max([3, *(len(run) + 1 for run in re.findall(r"`{3,}", code))])
    return f"{ticks}{language}\n{code}\n{ticks}"


def code_span(code: str) -> str:
    ticks = "`" * (1 + max(map(len, re.findall(r"`+", code)), default=0))
    padding = " " if code.startswith("`") or code.endswith("`") else ""
    return f"{ticks}{padding}{code}{padding}{ticks}"


def tex(source: str) -> str:
    """TeX without comments, in which a `<` cannot be taken for the beginning of an HTML tag."""
    lines = [re.sub(r"(?<!\\)%.*", "", line).rstrip() for line in source.strip().split("\n")]
    return re.sub(r"<(?=[A-Za-z/!])", r"\\lt ", "\n".join(line for line in lines if line))


class Markdown:
    """Writes nodes as Markdown; `inline` joins what stands in a line, `blocks` what stands on lines of its own.

    number: gives a numbered node's number as text, None where it has none.  image: gives the address of an image file.
    Footnotes met on the way are kept in `notes`.
    """

    def __init__(self, number: Callable[[nodes.Element], str | None], image: Callable[[str], str]):
        self.number, self.image = number, image
        self.notes: list[str] = []

    # dispatch

    def write(self, node: nodes.Node) -> str:
        """The Markdown of one node. Raises `Unsupported` for a kind that has no method here."""
        for kind in type(node).__mro__:
            method = getattr(self, f"on_{kind.__name__}", None)
            if method is not None:
                return method(node)
        raise Unsupported(node, f"a {node.tagname!r} node, which book/colab/markdown.py cannot write")

    def inline(self, children: Iterable[nodes.Node]) -> str:
        return "".join(map(self.write, children))

    def blocks(self, children: Iterable[nodes.Node]) -> str:
        return "\n\n".join(filter(None, map(self.write, children)))

    # in a line

    def on_Text(self, node: nodes.Text) -> str:
        if raw := RAW.search(node.astext()):
            text = " ".join(node.astext().split())[:60]
            raise Unsupported(node, f"{raw[0]!r} in the text, a directive or role that was not read as one: {text!r}")
        return escape(node.astext())

    def on_emphasis(self, node: nodes.Element) -> str:
        return f"*{self.inline(node)}*"

    def on_strong(self, node: nodes.Element) -> str:
        return f"**{self.inline(node)}**"

    def on_subscript(self, node: nodes.Element) -> str:
        return f"<sub>{self.inline(node)}</sub>"

    def on_superscript(self, node: nodes.Element) -> str:
        return f"<sup>{self.inline(node)}</sup>"

    def on_literal(self, node: nodes.Element) -> str:
        return code_span(node.astext())

    def on_math(self, node: nodes.Element) -> str:
        return f"${' '.join(tex(node.astext()).split())}$"

    def on_inline(self, node: nodes.Element) -> str:
        if "bibtex-citation" in node["classes"]:  # the entry itself stands at the end of the notebook
            for link in list(node.findall(nodes.reference)):
                link.parent.replace(link, link.children)
        return self.inline(node)

    def on_reference(self, node: nodes.Element) -> str:
        """A link, or its text alone: places inside a notebook have no address that every program knows."""
        text, address = self.inline(node), re.sub(r"(\.ipynb)#.*", r"\1", html.unescape(node.get("refuri", "")))
        if not address:
            return text
        return f"[{text}](<{address}>)" if re.search(r"[()\s]", address) else f"[{text}]({address})"

    on_number_reference = on_reference

    def on_footnote_reference(self, node: nodes.Element) -> str:
        return f"<sup>{node.astext()}</sup>"

    def on_image(self, node: nodes.Element) -> str:
        if not node.get("alt", "").strip():
            raise Unsupported(node, f"an image without alternative text: {node['uri']}")
        alt = re.sub(r"([\[\]\\])", r"\\\1", " ".join(node["alt"].split()))
        return f"![{alt}]({self.image(node['uri'])})"

    def on_raw(self, node: nodes.Element) -> str:
        if "html" not in node["format"]:
            return ""
        if node.astext().strip() == "<br />":
            return "<br>"
        raise Unsupported(node, f"raw HTML: {node.astext().strip()[:60]!r}")

    # blocks

    def on_paragraph(self, node: nodes.Element) -> str:
        text = escape_line_starts(self.inline(node))
        return f"<small>{text}</small>" if "computed-by" in node["classes"] else text

    def on_rubric(self, node: nodes.Element) -> str:
        return f"**{self.inline(node)}**"

    def on_math_block(self, node: nodes.Element) -> str:
        """A displayed equation with its number; on one line where a prefix (`> `) would get into the TeX."""
        if node.get("nowrap") or re.search(r"\n\s*\n", node.astext().strip()):
            raise Unsupported(node, "an equation with empty lines, or in an environment of its own: use aligned")
        written, number = tex(node.astext()), self.number(node)
        if r"\\" in ENVIRONMENT.sub("", written):  # lines that no environment holds: as Sphinx does for the page
            written = f"\\begin{{split}}\n{written}\n\\end{{split}}"
        if number:
            written += f" \\tag{{{number}}}"
        return f"$${' '.join(written.split())}$$" if self.is_prefixed(node) else f"$$\n{written}\n$$"

    @staticmethod
    def is_prefixed(node: nodes.Node) -> bool:
        """Whether the lines of this node will stand behind the mark of a list or of a quotation."""
        while (node := node.parent) is not None:
            if isinstance(node, (nodes.list_item, nodes.block_quote, nodes.Admonition)):
                return True
        return False

    def on_literal_block(self, node: nodes.Element) -> str:
        language = node.get("language", "")
        if "```{" in node.astext():
            raise Unsupported(node, "'```{' in a code block: a directive that was not read as one")
        return fence(node.astext().rstrip("\n"), "" if language in ("default", "none") else language)

    def on_block_quote(self, node: nodes.Element) -> str:
        return quote(self.blocks(node))

    def on_attribution(self, node: nodes.Element) -> str:
        return f"({self.inline(node)})"

    def on_transition(self, node: nodes.Element) -> str:
        return "" if "footnotes" in node["classes"] else "---"

    def on_bullet_list(self, node: nodes.Element) -> str:
        return self.listed(node, lambda at: "- ")

    def on_enumerated_list(self, node: nodes.Element) -> str:
        return self.listed(node, lambda at: f"{at + node.get('start', 1)}. ")

    def listed(self, node: nodes.Element, mark: Callable[[int], str]) -> str:
        items = [(mark(at), self.blocks(item)) for at, item in enumerate(node)]
        apart = "\n\n" if any("\n\n" in text for _, text in items) else "\n"
        return apart.join(prefix(text, before, " " * len(before)) for before, text in items)

    def on_definition_list(self, node: nodes.Element) -> str:
        return "\n\n".join(f"**{self.inline(item[0])}**\n\n{quote(self.blocks(item[-1]))}" for item in node)

    def on_footnote(self, node: nodes.Element) -> str:
        self.notes.append(f"<sup>{node[0].astext()}</sup> {self.blocks(node[1:])}")
        return ""

    def on_target(self, node: nodes.Element) -> str:
        return ""

    on_comment = on_target

    # boxes

    def box(self, title: str, body: list[nodes.Node]) -> str:
        """A quotation that begins with a bold title, which ends like a sentence; prose goes on in the title's line."""
        end = "" if title.endswith((".", "?", "!", ":")) else "."
        apart = " " if body and isinstance(body[0], nodes.paragraph) else "\n\n"
        return quote(f"**{title}{end}**{apart}{self.blocks(body)}")

    def on_admonition(self, node: nodes.Element) -> str:
        if not isinstance(node[0], nodes.title):
            return quote(self.blocks(node))
        if "dropdown" in node["classes"]:
            return fold(node[0], self.blocks(node[1:]))
        return self.box(self.inline(node[0]), node[1:])

    def on_Admonition(self, node: nodes.Element) -> str:
        """Note, tip, warning and their like; numbered statements of sphinx-proof."""
        if node.tagname in admonitionlabels:
            return self.box(str(admonitionlabels[node.tagname]), node.children)
        if "realtype" in node:
            return self.statement(node)
        raise Unsupported(node, f"a box of the kind {node.tagname!r}, which book/colab/markdown.py cannot write")

    def statement(self, node: nodes.Element) -> str:
        """Theorem 2 (Title). and what it says."""
        name = [node["realtype"].title(), self.number(node), self.inline(node[0]).strip()]
        return self.box(" ".join(filter(None, name)), node[1].children)

    def on_proof_node(self, node: nodes.Element) -> str:
        return quote(self.blocks(node[0]).replace("Proof. ", "*Proof.* ", 1))

    def on_container(self, node: nodes.Element) -> str:
        if node.get("design_component") != "dropdown" or not node["has_title"]:
            raise Unsupported(node, f"a container {node.get('design_component') or ' '.join(node['classes'])!r}")
        return fold(node[0], self.blocks(node[1:]))

    # figures and tables

    def caption(self, name: str, node: nodes.Element, caption: nodes.Element) -> str:
        number = self.number(node)
        return f"**{name} {number}.** {self.inline(caption)}" if number else self.inline(caption)

    def on_figure(self, node: nodes.Element) -> str:
        captions = [self.caption("Fig.", node, part) for part in node if isinstance(part, nodes.caption)]
        others = [part for part in node if not isinstance(part, nodes.caption)]
        return "\n\n".join([self.blocks(others), *captions])

    def on_legend(self, node: nodes.Element) -> str:
        return self.blocks(node)

    def on_table(self, node: nodes.Element) -> str:
        head, *body = list(node.findall(nodes.row))
        if any("morecols" in entry or "morerows" in entry for entry in node.findall(nodes.entry)):
            raise Unsupported(node, "a table with joined cells")
        lines = [self.row(head), "|".join(["", *(self.alignment(entry) for entry in head), ""]), *map(self.row, body)]
        captions = [self.caption("Table", node, part) for part in node if isinstance(part, nodes.title)]
        return "\n\n".join([*captions, "\n".join(lines)])

    def row(self, node: nodes.Element) -> str:
        return "".join(f"| {self.cell(entry)} " for entry in node) + "|"

    def cell(self, node: nodes.Element) -> str:
        """One cell. A bar would end it, so that bars are escaped, in mathematics by their names."""
        if any(not isinstance(child, nodes.paragraph) for child in node) or len(node) > 1:
            raise Unsupported(node, "a table cell that is not one paragraph")
        for math in list(node.findall(nodes.math)):
            named = math.astext().replace(r"\|", r"\Vert ").replace("|", r"\vert ")
            math.replace_self(nodes.math(named, named))
        return " ".join(self.blocks(node).split()).replace("|", r"\|")

    @staticmethod
    def alignment(node: nodes.Element) -> str:
        marks = {"text-left": ":---", "text-right": "---:", "text-center": ":---:"}
        return next((marks[name] for name in node["classes"] if name in marks), "---")


def image_address(path: Path, published: str) -> str:
    """Pixels travel inside the notebook. Drawings (SVG), which some programs refuse there, come from `published`."""
    kind, _ = mimetypes.guess_type(path.name)
    if kind == "image/svg+xml" or not path.is_file():  # of a missing file, Sphinx has complained
        return published
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
