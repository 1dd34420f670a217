"""The recipe of classic-books, rule by rule on books made up here, and against the real ones where they are at hand."""

import io
import json
import os
import tarfile
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from structattn_minimal.experiments import classic_books, files
from structattn_minimal.experiments.files import DataFile

DATA = os.environ.get("STRUCTATTN_DATA")
needs_books = pytest.mark.skipif(
    not (DATA and (Path(DATA) / "classic-books/books.json").is_file()), reason="needs the books in STRUCTATTN_DATA"
)


def markdown(text, year="1850"):
    return f"# Title: T\n\n## Author: A\n\n## Year: {year}\n\n-------\n{text}"


def prose(size):
    """So many characters, none of which the recipe would touch."""
    return ("It was a dark and stormy night; the rain fell in torrents.\n" * (size // 59 + 1))[: size - 1] + "."


def cleaned(text):
    """What the recipe makes of `text` within a book that is long enough."""
    made = classic_books.book(markdown(f"{prose(30_000)}|{text}|{prose(100)}"))
    return made.split("|")[1]


# --- which books


@pytest.mark.parametrize(("year", "kept"), [("1900", True), ("1901", False), ("8", True), ("2020", False), ("", False)])
def test_books_up_to_1900_are_kept(year, kept):
    assert (classic_books.book(markdown(prose(30_000), year)) is not None) == kept


def test_the_year_stands_on_a_line_of_its_own_and_the_first_counts():
    text = prose(30_000)
    assert classic_books.book(f"Of the ## Year: 1850\n-------\n{text}") is None
    assert classic_books.book(f"# Title\n-------\n{text}") is None
    assert classic_books.book(markdown(f"{text}\n## Year: 1950\n")) is not None
    assert classic_books.book(markdown(f"{text}\n## Year: 1850\n", "1950")) is None


def test_the_text_is_what_follows_the_first_rule():
    text = f"{prose(30_000)}\n-------\nPART TWO"
    assert classic_books.book(markdown(text)) == text + "\n\n"
    assert classic_books.book(markdown(text).replace("-------", "***")) is None


@pytest.mark.parametrize(("size", "kept"), [(20_000, True), (19_999, False)])
def test_books_of_20_000_characters_are_kept(size, kept):
    assert (classic_books.book(markdown("")[:-1] + prose(size)) is not None) == kept


@pytest.mark.parametrize("size", [30_000, 50_000, 100_050])
@pytest.mark.parametrize("more", [0, 1])
def test_books_that_lose_no_more_than_two_in_a_hundred_are_kept(size, more):
    foreign = size // 50 + more
    text = "\n" + "語" * foreign + prose(size - foreign - 1)
    assert len(text) == size
    assert (classic_books.book(markdown(text).replace("-------\n", "-------", 1)) is None) == bool(more)


def test_an_accent_counts_as_lost_but_typography_does_not():
    assert classic_books.book(markdown(prose(20_000) + "é" * 1000)) is None  # 1000 of 22,000
    assert classic_books.book(markdown(prose(20_000) + "“—”…\r\ufeff" * 1000)) is not None


def test_files_over_4_mebibytes_are_left_out():
    head = markdown("")
    for excess in (0, 1):
        content = (head + prose(4 * 2**20 - len(head) + excess)).encode()
        train, held_out = classic_books.build([("a/b.md", content)])
        assert bool(train or held_out) == (excess == 0)


def test_only_markdown_is_read_and_bytes_that_are_not_utf_8_are_dropped():
    content = markdown(prose(30_000)).encode() + b"caf\xe9 au lait"
    assert classic_books.build([("a/b.txt", content)]) == (b"", b"")
    text = b"".join(classic_books.build([("a/b.md", content)]))
    assert text.endswith(b".caf au lait\n\n")


# --- their text


@pytest.mark.parametrize(
    ("written", "made"),
    [
        ("a—b–c", "a--b-c"),
        ("‘a’ “b”", "'a' \"b\""),
        ("wait…", "wait..."),
        ("a\N{NO-BREAK SPACE}b\N{HAIR SPACE}c\td", "a b c d"),
        ("æther Æneas œuvre £5 ſo", "aether AEneas oeuvre L5 so"),
        ("\ufeffa\r\nb", "a\nb"),
        ("Thérèse Maelström ﬁne Ⅳ ½", "Therese Maelstrom fine IV 12"),  # ½ is 1⁄2, and its stroke is not a slash
        ("Œ € λόγος\x00\x7f", " " * 2),
        ("a  b", "a  b"),
        ("a   \nb \n\nc", "a\nb\n\nc"),
        ("a\n\n\nb\n \n \n\nc", "a\n\nb\n\nc"),
        ("a\n    b", "a\n    b"),
    ],
)
def test_the_text_is_spelled_in_the_alphabet(written, made):
    assert cleaned(written) == made


def test_a_book_ends_in_two_newlines_and_begins_with_its_first_word():
    assert classic_books.book(markdown(f"\n \n  {prose(30_000)} \n\n\n")) == prose(30_000) + "\n\n"


# --- their order


def divided_slowly(sizes, room):
    number = {path: int.from_bytes(sha256(path.encode("utf-8")).digest(), "big") for path in sizes}
    order = sorted((sha256(b"o" + path.encode("utf-8")).hexdigest(), path) for path in sizes)
    train = []
    for _, path in order:
        if number[path] % 40 and sum(sizes[p] for p in [*train, path]) <= room:
            train.append(path)
    return train, sorted(path for path in sizes if number[path] % 40 == 0)


@given(
    st.dictionaries(st.text("abcé /", min_size=1, max_size=8), st.integers(1, 100), max_size=60), st.integers(0, 2000)
)
def test_books_are_divided_by_the_hashes_of_their_paths(sizes, room):
    assert classic_books.divide(sizes, room) == divided_slowly(sizes, room)


def test_a_book_that_does_not_fit_is_passed_over_and_a_later_one_taken():
    first, second, third = classic_books.divide({f"{name}.md": 1 for name in "abc"})[0]
    sizes = {first: 5, second: 6, third: 4}
    assert classic_books.divide(sizes, room=9) == ([first, third], [])
    assert classic_books.divide(sizes, room=15) == ([first, second, third], [])


def held_out_path():
    return next(f"{i}.md" for i in range(1000) if int(sha256(f"{i}.md".encode()).hexdigest(), 16) % 40 == 0)


def test_the_order_of_the_files_does_not_matter():
    names = [f"é/{i}.md" for i in range(5)] + [held_out_path()]
    contents = [(name, markdown(f"{name.encode()} {prose(20_000)}").encode()) for name in names]
    train, held_out = classic_books.build(contents)
    assert classic_books.build(reversed(contents)) == (train, held_out)
    assert (train.count(b"md'"), held_out.count(b"md'")) == (5, 1)
    assert held_out.startswith(str(held_out_path().encode()).encode())


# --- from an archive


@pytest.fixture
def places(tmp_path, monkeypatch):
    """An empty folder of data and an empty cache folder; two books whose texts count as the right ones; no network."""
    contents = {
        name: markdown(f"{name.encode()} {prose(25_000)}").encode() for name in ("Zola/Thérèse.md", held_out_path())
    }
    for name, text in zip(("TRAIN", "HELD_OUT"), classic_books.build(contents.items()), strict=True):
        right = DataFile(getattr(classic_books, name).path, len(text), sha256(text).hexdigest())
        monkeypatch.setattr(classic_books, name, right)
    data, cache = tmp_path / "data", tmp_path / "cache"
    data.mkdir()
    monkeypatch.setenv("STRUCTATTN_DATA", str(data))
    monkeypatch.setattr(files, "cache_folder", lambda: cache)
    monkeypatch.setattr(files, "download", lambda url, path, **_: no_network(url))
    return data, cache, archive(contents)


def no_network(url):
    raise OSError("no route to host")


def archive(contents):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        folder = tarfile.TarInfo("books-9448827")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for path, content in {"README.md": b"# Books", "cover.png": b"\x89PNG", **contents}.items():
            member = tarfile.TarInfo(f"books-9448827/{path}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def right_texts(cache):
    """Whether the two texts, and nothing else, lie in the cache folder."""
    texts = {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()}
    wanted = {cache / file.path: file for file in (classic_books.TRAIN, classic_books.HELD_OUT)}
    return texts.keys() == wanted.keys() and all(files.difference(texts[p], wanted[p]) is None for p in wanted)


def test_an_archive_at_hand_is_unpacked_into_the_cache(places):
    data, cache, content = places
    (data / classic_books.ARCHIVE).write_bytes(content)
    classic_books.get()
    assert right_texts(cache)
    assert [path.name for path in data.iterdir()] == [classic_books.ARCHIVE]


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9])
def test_an_archive_that_is_not_whole_is_refused_by_name(places, share):
    data, cache, content = places
    (data / classic_books.ARCHIVE).write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=classic_books.ARCHIVE):
        classic_books.get()
    assert not any(cache.rglob("*.*"))


def test_an_archive_of_other_books_is_refused_by_name(places):
    data, cache, _ = places
    (data / classic_books.ARCHIVE).write_bytes(archive({"a.md": markdown(prose(25_100)).encode()}))
    with pytest.raises(
        ValueError, match=rf"{classic_books.ARCHIVE} does not give the right classic-books/train.txt: .*alter"
    ):
        classic_books.get()
    assert not any(cache.rglob("*.*"))


def test_the_archive_is_downloaded_from_the_second_source_if_the_first_fails_or_gives_a_wrong_one(places, monkeypatch):
    _, cache, content = places
    for first in (None, b"", content[:500], archive({})):
        asked = []

        def download(url, path, first=first, asked=asked, **_):
            asked.append(url)
            if len(asked) == 1 and first is None:
                no_network(url)
            if not path.exists():  # pooch, too, would leave it as it is
                path.write_bytes(first if len(asked) == 1 else content)

        monkeypatch.setattr(files, "download", download)
        classic_books.get()
        assert asked == list(classic_books.SOURCES)
        assert right_texts(cache)
        for path in cache.rglob("*.txt"):
            path.unlink()


def test_without_a_network_the_message_says_what_to_put_where(places):
    _, cache, _ = places
    with pytest.raises(FileNotFoundError) as failure:
        classic_books.get()
    for said in ("classic-books", *classic_books.SOURCES, "no route to host", classic_books.ARCHIVE, "STRUCTATTN_DATA"):
        assert said in str(failure.value)
    assert not any(cache.iterdir())


# --- against the real ones


@needs_books
def test_the_real_books_are_divided_by_the_rules():
    books = json.loads((Path(DATA) / "classic-books/books.json").read_text(encoding="utf-8"))
    sizes = {path: size for part in books.values() for path, _, size in part}
    train, held_out = classic_books.divide(sizes)
    assert train == [path for path, _, _ in books["train"]]
    assert held_out == [path for path, _, _ in books["val"]]
    assert sum(sizes[path] for path in train) == classic_books.TRAIN.size
    assert sum(sizes[path] for path in held_out) == classic_books.HELD_OUT.size


@needs_books
def test_the_recipe_leaves_the_real_books_as_they_are():
    books = json.loads((Path(DATA) / "classic-books/books.json").read_text(encoding="utf-8"))
    text = files.read(files.find(classic_books.HELD_OUT.path), classic_books.HELD_OUT).decode("ascii")
    for _, year, size in books["val"]:
        own, text = text[:size], text[size:]
        assert classic_books.book(markdown(own, year)) == own
    assert text == ""
