"""The recipe of classic-books: 320 English and translated books, published up to 1900, as two long texts.

The books are in the public domain, and those of the public repository named below. Whoever follows the recipe gets
the same bytes.
"""

import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from gzip import BadGzipFile
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from . import files
from .alphabet import spell
from .files import DataFile

TRAIN = DataFile(
    "classic-books/train.txt", 149_999_588, "bba47df4d7f09f83f9dc26ce7082276c3c99250d802e573ea985a8214aa011d0"
)
HELD_OUT = DataFile(
    "classic-books/val.txt", 6_042_527, "6591f3d883c3da0f31f756a38fa14903e0ce7453ce7a60a49f0fbb2e864a8e3a"
)

REPOSITORY = "https://github.com/mlschmitt/classic-books-markdown"
COMMIT = "944882722e9a96fa6cf2739dc2ea757e101f412f"
ARCHIVE = f"classic-books-markdown-{COMMIT}.tar.gz"  # what browsers call it
SOURCES = (
    f"{REPOSITORY}/archive/{COMMIT}.tar.gz",
    f"https://codeload.github.com/mlschmitt/classic-books-markdown/tar.gz/{COMMIT}",
)

LARGEST_FILE = 4 * 2**20  # bytes
LATEST_YEAR = 1900
KEPT_FOR_DROPPED = 49  # characters: a book that loses more than one in 50 is not English prose
SHORTEST_BOOK = 20_000  # characters
TRAIN_ROOM = 150_000_000  # characters
YEAR = re.compile(r"^## Year: *(\d+)", re.MULTILINE)


def build(contents: Iterable[tuple[str, bytes]], *, room: int = TRAIN_ROOM) -> tuple[bytes, bytes]:
    """The text to train on and the text to validate on, of a repository's files: pairs of path and content.

    room: the most characters of the training text.
    """
    books = {}
    for path, content in contents:
        if path.endswith(".md") and len(content) <= LARGEST_FILE and (text := book(content.decode("utf-8", "replace"))):
            books[path] = text
    train, held_out = divide({path: len(text) for path, text in books.items()}, room)
    return tuple("".join(books[path] for path in paths).encode("ascii") for paths in (train, held_out))


def book(markdown: str) -> str | None:
    """The text of one book, or None if it does not belong: too new, too short, or too far from the alphabet."""
    year = YEAR.search(markdown)
    if not year or int(year[1]) > LATEST_YEAR:
        return None
    text, dropped = spell(markdown.partition("-------")[2])
    if len(text) < KEPT_FOR_DROPPED * dropped or len(text) < SHORTEST_BOOK:
        return None
    text = re.sub(" +\n", "\n", text)
    return re.sub("\n{3,}", "\n\n", text).strip() + "\n\n"


def divide(sizes: dict[str, int], room: int = TRAIN_ROOM) -> tuple[list[str], list[str]]:
    """The books to train on and those to validate on, in order, from the characters of each.

    One book in 40, more or less, validates: which ones, and the order of the others, is drawn by hashing their paths,
    so that it depends on nothing else. A book that would take the training text beyond `room` is passed over.
    """
    held_out = [path for path in sorted(sizes) if digest(path) % 40 == 0]
    train, total = [], 0
    for path in sorted(sizes.keys() - set(held_out), key=lambda path: digest("o" + path)):
        if total + sizes[path] <= room:
            train.append(path)
            total += sizes[path]
    return train, held_out


def digest(words: str) -> int:
    return int(sha256(words.encode()).hexdigest(), 16)


# --- from the archive of the repository


def get() -> None:
    """Write the two texts to the cache folder, from the archive: one at hand, or one that is downloaded, and not kept.

    Raises `FileNotFoundError` if it cannot be had, `ValueError` if one at hand is not the right one.
    """
    cache = files.writable_cache()
    if archive := files.find(ARCHIVE):
        return unpack(archive)
    with TemporaryDirectory(dir=cache, prefix="download.") as folder:
        archive = Path(folder) / ARCHIVE

        def attempt(url: str) -> None:
            archive.unlink(missing_ok=True)
            files.download(url, archive, big=True)  # no SHA-256: archives are packed anew now and then
            unpack(archive)

        files.first_that_works(
            SOURCES,
            attempt,
            what="classic-books",
            by_hand=files.BY_HAND.format(ARCHIVE),
        )


def unpack(archive: Path) -> None:
    """Write the texts that the archive gives. Raises `ValueError` that names it if they are not the right ones."""
    texts = build(archived(archive))
    for file, text in zip((TRAIN, HELD_OUT), texts, strict=True):
        if reason := files.difference(text, file):
            raise ValueError(f"{archive} does not give the right {file.path}: the text is {reason}")
    for file, text in zip((TRAIN, HELD_OUT), texts, strict=True):
        files.write(files.cache_folder() / file.path, text)


def archived(archive: Path) -> Iterator[tuple[str, bytes]]:
    """The Markdown files of the repository's archive (.tar.gz): path below the repository's folder, and content.

    Raises `ValueError` that names the archive, if it is not whole.
    """
    try:
        with tarfile.open(archive, encoding="utf-8") as tar, files.progress(archive.name, None) as advance:
            for member in tar:
                advance(member.size)
                path = member.name.partition("/")[2]
                if member.isfile() and path.endswith(".md") and member.size <= LARGEST_FILE:
                    yield path, tar.extractfile(member).read()
    except (tarfile.TarError, EOFError, BadGzipFile, zlib.error) as error:
        raise ValueError(f"{archive} is truncated, or no archive: {error}") from None
