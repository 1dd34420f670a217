"""Texts for the language models, behind one loader: `load("tiny-shakespeare")`.

python-docs        1.0 M characters   docstrings of the standard library: at hand wherever Python is
tiny-shakespeare   1.1 M characters   Karpathy's selection from the plays, the usual small text
classic-books      156 M characters   320 books published up to 1900, see `classic_books`

Or the path of a text file of your own. The first of these differs a little from version to version of Python, the
others are the same bytes everywhere: each file is looked for in the folder that the environment variable
STRUCTATTN_DATA names, then in the cache folder, and is otherwise downloaded; its SHA-256 is checked in any case.
"""

import ast
import platform
import sysconfig
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from os.path import isfile as is_file  # False, too, where one may not look
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from . import classic_books, files
from .alphabet import as_tensor, decode, encode, encode_bytes, spell
from .files import DataFile

MOST_DROPPED = 0.1  # of the reader's own text: more, and what is left is another text
SHORTEST_TEXT = 20_000  # characters of the reader's own text: a tenth of them is held out


@dataclass(frozen=True)
class Corpus:
    """A text as tokens, a byte each; what of it is held out; and where it comes from, as a record would have it.

    provenance: "source", in words, and "sha256", of each file by name.
    """

    name: str
    train: UInt8[Tensor, " train"]
    held_out: UInt8[Tensor, " held_out"]
    provenance: dict

    def to(self, device: torch.device | str) -> "Corpus":
        """The same corpus with its tokens on `device`."""
        return replace(self, train=self.train.to(device), held_out=self.held_out.to(device))


def load(name: str | Path = "python-docs") -> Corpus:
    """The corpus of that name, or that of the text file at that path.

    The tokens of downloaded corpora are written to the cache folder once, and memory-mapped from there.

    Raises `ValueError` if there is neither; if STRUCTATTN_DATA names no folder; if a file is empty, truncated or
    altered; and if a text of your own is too short, is not UTF-8, or has too little of the alphabet. Raises
    `FileNotFoundError` if a file has to be downloaded and cannot be, `PermissionError` if there is nowhere to put it.
    Each names the file, or the folder, and says what to do.
    """
    if name in CORPORA:
        return CORPORA[name]()
    if not Path(name).is_file():
        raise ValueError(f"corpus must be one of {tuple(CORPORA)} or the path of a text file, got {str(name)!r}")
    return own_text(Path(name))


# --- python-docs


@cache
def python_docs() -> str:
    """The docstrings of the standard library: modules in alphabetical order, and in each the order of its source."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    sources = sorted(path for path in folder.glob("*.py")) + sorted(folder.glob("[a-z]*/__init__.py"))
    skipped = {"site-packages", "test", "tests", "idlelib", "lib2to3", "ensurepip", "turtledemo"}
    docs = []
    for source in sources:
        if source.parent.name in skipped:
            continue
        tree = ast.parse(source.read_bytes())
        kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        found = [node for node in ast.walk(tree) if isinstance(node, kinds)]
        found.sort(key=lambda node: getattr(node, "lineno", 0))  # a module has no line
        docs += [doc for node in found if (doc := ast.get_docstring(node)) and len(doc) > 40]
    return "\n\n".join(docs)


def load_python_docs() -> Corpus:
    tokens = encode(python_docs())
    source = f"docstrings of the standard library of Python {platform.python_version()}"
    hashed = sha256(decode(tokens).encode()).hexdigest()
    return Corpus("python-docs", *split(tokens), {"source": source, "sha256": {"python-docs": hashed}})


def split(tokens: UInt8[Tensor, " tokens"]) -> tuple[UInt8[Tensor, " train"], UInt8[Tensor, " held_out"]]:
    """The text to train on, and every tenth stretch of 10,000 characters, which is held out.

    Of a text of less than ten stretches it is the last tenth.
    """
    if len(tokens) < 100_000:
        return split_at_the_end(tokens)
    stretches = tokens.split(10_000)
    return torch.cat([stretch for i, stretch in enumerate(stretches) if i % 10 != 9]), torch.cat(stretches[9::10])


def split_at_the_end(tokens: UInt8[Tensor, " tokens"]) -> tuple[UInt8[Tensor, " train"], UInt8[Tensor, " held_out"]]:
    """The text to train on, and its last tenth, which is held out."""
    cut = len(tokens) * 9 // 10
    return tokens[:cut], tokens[cut:]


# --- tiny-shakespeare

SHAKESPEARE = DataFile(
    "tinyshakespeare.txt", 1_115_394, "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
)
CHAR_RNN_COMMIT = "6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e"
SHAKESPEARE_SOURCES = (
    f"https://raw.githubusercontent.com/karpathy/char-rnn/{CHAR_RNN_COMMIT}/data/tinyshakespeare/input.txt",
    f"https://cdn.jsdelivr.net/gh/karpathy/char-rnn@{CHAR_RNN_COMMIT}/data/tinyshakespeare/input.txt",
)


def load_shakespeare() -> Corpus:
    tokens = tokens_of(SHAKESPEARE, get_shakespeare)
    source = f"https://github.com/karpathy/char-rnn at {CHAR_RNN_COMMIT}"
    hashes = {SHAKESPEARE.path: SHAKESPEARE.sha256}
    return Corpus("tiny-shakespeare", *split_at_the_end(tokens), {"source": source, "sha256": hashes})


def get_shakespeare() -> None:
    path = files.writable_cache() / SHAKESPEARE.path
    files.first_that_works(
        SHAKESPEARE_SOURCES,
        lambda url: files.download(url, path, sha256=SHAKESPEARE.sha256),
        what="tiny-shakespeare",
        by_hand=files.BY_HAND.format(SHAKESPEARE.path),
    )


# --- classic-books


def load_classic_books() -> Corpus:
    train, held_out = (tokens_of(text, classic_books.get) for text in (classic_books.TRAIN, classic_books.HELD_OUT))
    source = f"{classic_books.REPOSITORY} at {classic_books.COMMIT}"
    hashes = {text.path: text.sha256 for text in (classic_books.TRAIN, classic_books.HELD_OUT)}
    return Corpus("classic-books", train, held_out, {"source": source, "sha256": hashes})


CORPORA = {
    "python-docs": load_python_docs,
    "tiny-shakespeare": load_shakespeare,
    "classic-books": load_classic_books,
}


# --- the reader's own


def own_text(path: Path) -> Corpus:
    """A corpus of the reader's own text file, spelled in the alphabet."""
    content = path.read_bytes()
    try:
        text, dropped = spell(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"corpus {path} must be UTF-8 text, but has {error.reason} at byte {error.start}: convert it first, for "
            "example with iconv -f latin1 -t utf-8"
        ) from None
    if dropped > MOST_DROPPED * (len(text) + dropped):
        raise ValueError(
            f"corpus {path} must be text in the alphabet of these models, newline and printable ASCII, but "
            f"{dropped:,} of its {len(text) + dropped:,} characters are others"
        )
    if len(text) < SHORTEST_TEXT:
        raise ValueError(
            f"corpus {path} must have at least {SHORTEST_TEXT:,} characters, got {len(text):,}: choose a longer text"
        )
    provenance = {"source": f"the file {path.name}", "sha256": {path.name: sha256(content).hexdigest()}}
    return Corpus(path.name, *split(encode(text)), provenance)


# --- tokens, once and for all


def tokens_of(file: DataFile, get: Callable[[], None]) -> UInt8[Tensor, " tokens"]:
    """The tokens of `file`, memory-mapped; get() is called to put it into the cache folder if it is nowhere.

    The file is read and checked when its tokens are first made, and again whenever it, or they, have changed since.
    Where the cache folder cannot be written, the tokens stay in memory.
    """
    kept = files.cache_folder() / "tokens" / f"{file.path.replace('/', '-')}.u8"
    source = files.find(file.path)
    if is_kept(kept, file, source):
        return mapped(kept)
    if source is None:
        get()
        source = files.find(file.path)
    origin = stamp(source)  # as it is before it is read
    tokens = encode_bytes(files.read(source, file))
    try:
        files.write(kept, tokens)
        files.write(note_of(kept), "\n".join([file.sha256, stamp(kept), origin]).encode())
    except OSError as error:
        warnings.warn(f"the tokens of {file.path} stay in memory, and are made anew each time: {error}", stacklevel=2)
        return as_tensor(tokens)
    return mapped(kept)


def mapped(path: Path) -> UInt8[Tensor, " tokens"]:
    return torch.from_file(str(path), size=path.stat().st_size, dtype=torch.uint8)  # private: writes stay in memory


def is_kept(kept: Path, file: DataFile, source: Path | None) -> bool:
    """Whether the tokens at `kept` are those of `file`, as the note beside them says, and nothing has changed since."""
    note = note_of(kept)
    if not (is_file(kept) and is_file(note)):
        return False
    of, tokens, origin = (note.read_text(encoding="utf-8").splitlines() + 3 * [""])[:3]
    return of == file.sha256 and tokens == stamp(kept) and (source is None or origin == stamp(source))


def note_of(kept: Path) -> Path:
    return kept.with_suffix(".note")


def stamp(path: Path) -> str:
    """What changes when the file at `path` becomes another."""
    stat = path.stat()
    return f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}"
