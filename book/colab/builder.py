"""A Sphinx builder whose output is notebooks: the pages of chapters and exercises, cell by cell, as text in memory."""

import hashlib
import re
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
from docutils import nodes
from nbformat import v4
from pybtex_docutils import Backend
from sphinx.builders import Builder
from sphinx.util import logging

from .markdown import Markdown, Unsupported, image_address

logger = logging.getLogger(__name__)

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDED = {"cellView": "form", "jupyter": {"source_hidden": True}}  # Colab's word for it, and JupyterLab's
SET_UP = Path(__file__).with_name("set_up.py")
FOLDERS = ("chapters/", "exercises/")
# Tags of cells: does Colab fold the code?
TAGS = {"hide-input": True, "remove-input": True, "hide-output": False, "wrap-output": False}


def set_up_code(repository: str) -> str:
    """The first code cell: where the package comes from, and the versions that requirements.txt pins, filled in."""
    pins = dict(re.findall(r"(?m)^([\w-]+)==([\w.]+)", (REPOSITORY / "requirements.txt").read_text(encoding="utf-8")))
    code = SET_UP.read_text(encoding="utf-8").strip().replace("REPOSITORY", repository)
    return re.sub(r'"([\w-]+)==PIN"', lambda match: f'"{match[1]}=={pins[match[1]]}"', code)


class Addresses:
    """Where a page, its notebook and its files are published; all follow from the one address in _config.yml."""

    def __init__(self, config):
        theme = config.html_theme_options
        self.repository = theme["repository_url"].rstrip("/")
        self.branch = theme.get("repository_branch") or "main"
        self.colab = theme["launch_buttons"]["colab_url"]
        self.owner, self.name = urlsplit(self.repository).path.strip("/").split("/")

    def notebook(self, docname: str) -> str:
        return f"{self.colab}/github/{self.owner}/{self.name}/blob/{self.branch}/{docname}.ipynb"

    def page(self, docname: str) -> str:
        return f"https://{self.owner}.github.io/{self.name}/{docname}.html"

    def file(self, path: str) -> str:
        return f"https://raw.githubusercontent.com/{self.owner}/{self.name}/{self.branch}/{path}"


class NotebookBuilder(Builder):
    """Fills `notebooks`: page name -> the text of its .ipynb."""

    name = "notebook"
    allow_parallel = False
    supported_image_types = ["image/svg+xml", "image/png", "image/jpeg", "image/gif", "image/webp"]
    supported_remote_images = True
    supported_data_uri_images = True

    def init(self):
        self.notebooks: dict[str, str] = {}
        self.addresses = Addresses(self.config)

    def get_outdated_docs(self):
        return self.env.found_docs

    def prepare_writing(self, docnames):
        """Nothing is shared between notebooks."""

    def get_target_uri(self, docname, typ=None):
        return self.addresses.notebook(docname) if docname.startswith(FOLDERS) else self.addresses.page(docname)

    def get_relative_uri(self, from_, to, typ=None):
        return self.get_target_uri(to, typ)

    def write_doc(self, docname, doctree):
        if docname.startswith(FOLDERS):
            try:
                self.notebooks[docname] = Notebook(self, docname, doctree).text()
            except Unsupported as error:
                logger.warning("%s", error, location=(docname, error.line))

    def number(self, docname: str, node: nodes.Element) -> str | None:
        """The number that Sphinx gave to an equation, a theorem, a figure or a table."""
        kinds = (domain.get_enumerable_node_type(node) for domain in self.env.domains.values())
        kind = next((kind for kind in kinds if kind), None)
        numbers = self.env.toc_fignumbers.get(docname, {}).get(kind, {})
        found = next((numbers[label] for label in node["ids"] if label in numbers), None)
        return found and ".".join(map(str, found))

    def image(self, uri: str) -> str:
        if "://" in uri or uri.startswith("data:"):
            return uri
        return image_address(Path(self.srcdir) / uri, self.addresses.file(uri))

    def cited(self, docname: str) -> list:
        """The formatted bibliography entries that a page cites, in the order of the book's bibliography."""
        domain = self.env.get_domain("cite")
        keys = {target.key for ref in domain.citation_refs if ref.docname == docname for target in ref.targets}
        return [citation.formatted_entry.text for citation in domain.citations if citation.key in keys]


class Notebook:
    """One page as cells: each heading begins a new one, so that Colab can fold it."""

    def __init__(self, builder: NotebookBuilder, docname: str, doctree: nodes.document):
        self.builder, self.docname = builder, docname
        self.markdown = Markdown(lambda node: builder.number(docname, node), builder.image)
        self.cells: list[nbformat.NotebookNode] = []
        self.waiting: list[str] = []  # blocks of the Markdown cell that is being written
        self.walk(doctree, level=0)
        self.end_matter()

    def walk(self, parent: nodes.Element, level: int) -> None:
        for node in parent:
            if isinstance(node, nodes.section):
                self.flush()
                self.walk(node, level + 1)
            elif isinstance(node, nodes.title):
                self.waiting.append(f"{'#' * level} {self.markdown.inline(node)}")
                if level == 1:
                    self.opening()
            elif node.get("nb_element") == "cell_code":
                self.code(node)
            else:
                self.waiting.append(self.markdown.write(node))

    def opening(self) -> None:
        """Under the title: where else this can be read, and the set-up."""
        addresses = self.builder.addresses
        here, page = addresses.notebook(self.docname), addresses.page(self.docname)
        self.waiting.append(f"[Open in Colab]({here}) · [Read as a page of the book]({page})")
        self.add(v4.new_code_cell, set_up_code(addresses.repository), FOLDED)

    def code(self, node: nodes.Element) -> None:
        tags = node["cell_metadata"].get("tags", [])
        for tag in tags:
            if tag not in TAGS:
                raise Unsupported(node, f"a code cell with the tag {tag!r}")
        code = next(node.findall(nodes.literal_block)).astext()
        if any(TAGS[tag] for tag in tags):
            comment = re.match(r"# *(.+)", code)
            title = comment[1].rstrip(".:") if comment else "Run this cell to draw"
            self.add(v4.new_code_cell, f"# @title {title}\n{code}", FOLDED)
        else:
            self.add(v4.new_code_cell, code, {})

    def end_matter(self) -> None:
        """The footnotes, and what was cited."""
        if self.markdown.notes:
            self.flush()
            self.waiting += ["## Notes", *self.markdown.notes]
        entries = [self.markdown.inline(text.render(Backend())) for text in self.builder.cited(self.docname)]
        if entries:
            self.flush()
            self.waiting += ["## References", "\n".join(f"- {entry}" for entry in entries)]
        self.flush()

    def flush(self) -> None:
        """End the Markdown cell that is being written."""
        blocks = [block for block in self.waiting if block]
        self.waiting = []
        if blocks:
            self.add(v4.new_markdown_cell, "\n\n".join(blocks), {})

    def add(self, make, source: str, metadata: dict) -> None:
        self.flush()
        same = sum(cell.source == source for cell in self.cells)
        identity = hashlib.sha256(f"{self.docname}\n{same}\n{source}".encode()).hexdigest()[:12]
        self.cells.append(make(source=source, metadata=metadata, id=identity))

    def text(self) -> str:
        """The .ipynb: no outputs, nothing that changes from one export to the next."""
        metadata = {
            "colab": {"name": f"{Path(self.docname).name}.ipynb", "provenance": [], "toc_visible": True},
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
        wanted = self.builder.env.metadata[self.docname].get("accelerator")  # front matter of a page that wants a GPU
        if wanted:
            metadata["accelerator"] = wanted
        notebook = v4.new_notebook(cells=self.cells, metadata=metadata)
        nbformat.validate(notebook)
        return nbformat.writes(notebook) + "\n"
