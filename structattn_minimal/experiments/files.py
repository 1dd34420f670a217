"""Data files: looked for nearby, fetched where they are public, and never used unless their SHA-256 is right."""

import lzma
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile, mkstemp

BY_HAND = (
    "Download it by hand, as {}, into any folder, and set STRUCTATTN_DATA to that folder. Or choose python-docs, which "
    "needs no download."
)
BIG = 10_000_000  # bytes: from here on, reading shows how far it has come


@dataclass(frozen=True)
class DataFile:
    """A file that is the same everywhere: its place in a folder of data, and its bytes, unpacked."""

    path: str
    size: int
    sha256: str


def folders() -> list[Path]:
    """Where files are looked for: the folder that STRUCTATTN_DATA names, then the cache folder.

    Raises `ValueError` if STRUCTATTN_DATA names no folder.
    """
    named = os.environ.get("STRUCTATTN_DATA")
    if named and not Path(named).is_dir():
        raise ValueError(f"STRUCTATTN_DATA must name a folder, got {named!r}; without it, files are downloaded")
    return [Path(named), cache_folder()] if named else [cache_folder()]


def cache_folder() -> Path:
    """This user's folder for what can be had again; what `pooch.os_cache("structattn")` says, without pooch."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData/Local")) / "structattn/structattn/Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/structattn"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "structattn"


def writable_cache() -> Path:
    """The cache folder, made if need be. Raises `PermissionError` if it cannot be written."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise PermissionError(
            f"the cache folder {folder} cannot be written ({error}): mend that, or put the files into another folder "
            "and set STRUCTATTN_DATA to it"
        ) from None
    return folder


def find(path: str) -> Path | None:
    """The first file at `path` in one of the `folders`, plain or packed (.xz)."""
    places = (folder / name for folder in folders() for name in (path, f"{path}.xz"))
    return next(filter(os.path.isfile, places), None)  # False, too, where one may not look


def read(path: Path, file: DataFile) -> bytes:
    """The content of `path`, unpacked.

    Raises `ValueError` that names the path, if this is not `file`: empty, truncated, broken or altered.
    """
    advice = "delete it and run again, and it is downloaded"
    try:
        content = read_all(path, file.size)
    except EOFError:
        raise ValueError(f"{path} is {'truncated' if path.stat().st_size else 'empty'}: {advice}") from None
    except lzma.LZMAError as error:
        raise ValueError(f"{path} is broken ({error}): {advice}") from None
    if reason := difference(content, file):
        raise ValueError(f"{path} is {reason}: {advice}")
    return content


def difference(content: bytes, file: DataFile) -> str | None:
    """How `content` differs from that of `file`, or None if it does not."""
    if not content:
        return "empty"
    if len(content) < file.size:
        return f"truncated ({len(content):,} bytes, should have {file.size:,})"
    found = sha256(content).hexdigest()
    return None if found == file.sha256 else f"altered (SHA-256 {found[:12]}..., should be {file.sha256[:12]}...)"


def read_all(path: Path, size: int) -> bytes:
    """The content of `path`, unpacked; progress towards `size` is shown where that is big."""
    content = bytearray()
    with lzma.open(path) if path.suffix == ".xz" else path.open("rb") as stream, progress(path.name, size) as advance:
        while chunk := stream.read(2**22):
            content += chunk
            advance(len(chunk))
    return bytes(content)


@contextmanager
def progress(name: str, size: int | None) -> Iterator[Callable[[int], object]]:
    """A bar that counts bytes, of how many if that is known, as the function that advances it.

    Nothing is shown for small files, and where tqdm is missing.
    """
    if (size is not None and size < BIG) or find_spec("tqdm") is None:
        yield lambda count: None
        return
    from tqdm import tqdm

    with tqdm(total=size, desc=name, unit="B", unit_scale=True, mininterval=0.5, leave=False) as bar:
        yield bar.update


def write(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all, also when two write it at once, or one of them is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, unfinished = mkstemp(dir=path.parent, prefix=f"{path.name}.", suffix=".unfinished")
    try:
        with open(handle, "wb") as stream:
            stream.write(content)
        os.replace(unfinished, path)
    except BaseException:
        os.unlink(unfinished)
        raise


def first_that_works(urls: Sequence[str], get: Callable[[str], object], *, what: str, by_hand: str) -> None:
    """get(url) with the first of `urls` for which it succeeds.

    Raises `FileNotFoundError` if none does: why not, and what to do by hand.
    """
    failures = []
    for url in urls:
        try:
            get(url)
            return
        except ImportError as error:  # no other source would help
            failures.append(f"  {error}")
            break
        except (OSError, ValueError) as error:  # no network, no room on the disk, wrong bytes
            failures.append(f"  {url}: {error}")
    raise FileNotFoundError("\n".join([f"{what} is not at hand, and could not be downloaded:", *failures, by_hand]))


def download(url: str, path: Path, *, sha256: str | None = None, big: bool = False) -> None:
    """Download one file; it is there only if the SHA-256, where one is given, is right. Needs pooch."""
    try:
        import pooch
    except ImportError:
        raise ImportError("downloads need pooch: pip install pooch tqdm") from None
    bar = big and find_spec("tqdm") is not None
    known = sha256 and f"sha256:{sha256}"
    pooch.retrieve(url, known_hash=known, fname=path.name, path=path.parent, progressbar=bar)
