"""Corpora: the right text or none, from wherever it lies, whatever happens on the way."""

import json
import lzma
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Barrier, Thread

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from structattn_minimal.experiments import alphabet, classic_books, corpora, files, text
from structattn_minimal.experiments.__main__ import main
from structattn_minimal.experiments.files import DataFile

DATA = os.environ.get("STRUCTATTN_DATA")
PLAY = "".join(f"CITIZEN {i}:\nBefore we proceed any further, hear me speak {i * i} times.\n\n" for i in range(500))
NAME = "tinyshakespeare.txt"
KEPT = f"tokens/{Path(NAME).stem}.txt.u8"


def write_play(path, content=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = PLAY.encode() if content is None else content
    path.write_bytes(lzma.compress(content) if path.suffix == ".xz" else content)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """An empty folder of data, an empty cache folder, a short play in place of the selection, and no network."""
    right = DataFile(NAME, len(PLAY), sha256(PLAY.encode()).hexdigest())
    monkeypatch.setattr(corpora, "SHAKESPEARE", right)
    data, cache = tmp_path / "data", tmp_path / "cache"
    data.mkdir()
    monkeypatch.setenv("STRUCTATTN_DATA", str(data))
    monkeypatch.setattr(files, "cache_folder", lambda: cache)
    monkeypatch.setattr("pooch.retrieve", no_network)
    return data, cache


def no_network(url, **_):
    raise OSError(f"no route to {url.split('/')[2]}")


def is_the_play(corpus):
    return alphabet.decode(torch.cat([corpus.train, corpus.held_out])) == PLAY


# --- the alphabet


def test_characters_go_there_and_back_and_others_are_dropped():
    assert alphabet.VOCAB_SIZE == len(set(alphabet.ALPHABET)) == 96
    assert alphabet.encode(alphabet.ALPHABET).tolist() == list(range(96))
    assert alphabet.decode(alphabet.encode(alphabet.ALPHABET)) == alphabet.ALPHABET
    assert alphabet.decode(alphabet.encode("näïve\tcode\r\n√2\x00\x7f")) == "nvecode\n2"
    assert alphabet.encode("√").shape == (0,)


@given(st.text())
def test_encoding_is_looking_up_each_character(written):
    wanted = [alphabet.ALPHABET.index(c) for c in written if c in alphabet.ALPHABET]
    assert alphabet.encode(written).tolist() == wanted


# --- what is trained on, and what is held out


@given(st.integers(0, 450_000))
def test_a_split_loses_nothing_and_holds_out_a_tenth(length):
    tokens = (torch.arange(length) % 251).to(torch.uint8)
    for divide in (corpora.split, corpora.split_at_the_end):
        train, held_out = divide(tokens)
        assert torch.equal(
            torch.bincount(torch.cat([train, held_out]), minlength=251), torch.bincount(tokens, minlength=251)
        )
        assert 0.05 * length <= len(held_out) <= 0.1 * length + 1


def test_every_tenth_stretch_of_10_000_is_held_out():
    tokens = (torch.arange(250_000) // 10_000).to(torch.uint8)
    train, held_out = corpora.split(tokens)
    assert held_out.unique().tolist() == [9, 19]
    assert train.unique().tolist() == [i for i in range(25) if i not in (9, 19)]
    assert len(held_out) == 20_000


def test_python_docs_are_long_and_the_same_each_time_and_need_no_file(places, monkeypatch):
    monkeypatch.setenv("STRUCTATTN_DATA", "/nowhere")
    corpus, again = corpora.load("python-docs"), corpora.load()
    assert len(corpus.train) + len(corpus.held_out) == len(alphabet.encode(corpora.python_docs())) > 300_000
    assert torch.equal(corpus.train, again.train)
    assert torch.equal(corpus.held_out, again.held_out)
    assert sys.version.split()[0] in corpus.provenance["source"]


# --- where files are looked for


@pytest.mark.parametrize("name", [NAME, f"{NAME}.xz"])
@pytest.mark.parametrize("place", ["data", "cache"])
def test_a_file_at_hand_is_found_plain_or_packed(places, name, place):
    data, cache = places
    folder = data if place == "data" else cache
    write_play(folder / name)
    corpus = corpora.load("tiny-shakespeare")
    assert is_the_play(corpus)
    assert len(corpus.train) == len(PLAY) * 9 // 10
    assert corpus.train.dtype == corpus.held_out.dtype == torch.uint8
    assert corpus.provenance["sha256"] == {NAME: sha256(PLAY.encode()).hexdigest()}
    assert str(folder) not in json.dumps(corpus.provenance)
    assert [path.name for path in data.rglob("*")] == ([name] if place == "data" else [])  # nothing is written there


def test_the_folder_that_is_named_comes_before_the_cache(places):
    data, cache = places
    write_play(data / NAME)
    write_play(cache / NAME, b"broken")
    assert is_the_play(corpora.load("tiny-shakespeare"))
    write_play(data / NAME, b"broken")
    write_play(cache / NAME)
    with pytest.raises(ValueError, match=str(data / NAME)):
        corpora.load("tiny-shakespeare")


@pytest.mark.parametrize("wrong", ["/nowhere/at/all", __file__])
def test_a_wrong_folder_is_refused_by_name(places, monkeypatch, wrong):
    monkeypatch.setenv("STRUCTATTN_DATA", wrong)
    with pytest.raises(ValueError, match=f"STRUCTATTN_DATA must name a folder, got '{wrong}'"):
        corpora.load("tiny-shakespeare")


def test_the_cache_folder_is_that_of_pooch(monkeypatch, tmp_path):
    import pooch

    assert files.cache_folder() == pooch.os_cache("structattn")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert files.cache_folder() == pooch.os_cache("structattn")


# --- files that are not what they should be

ALTERED = PLAY.replace("hear", "Hear", 1).encode()
PACKED = lzma.compress(PLAY.encode())
FAULTS = {
    "empty": (NAME, b"", "is empty"),
    "truncated": (NAME, PLAY.encode()[:-1], f"is truncated .{len(PLAY) - 1:,} bytes"),
    "altered": (NAME, ALTERED, "is altered"),
    "longer": (NAME, PLAY.encode() + b"\n", "is altered"),
    "packed, empty": (f"{NAME}.xz", b"", "is empty"),
    "packed, truncated": (f"{NAME}.xz", PACKED[: len(PACKED) // 2], "is truncated"),
    "packed, without its end": (f"{NAME}.xz", PACKED[:-1], "is truncated"),
    "packed, damaged": (f"{NAME}.xz", PACKED[:100] + bytes(40) + PACKED[140:], "is broken"),
    "packed, the wrong text": (f"{NAME}.xz", lzma.compress(ALTERED), "is altered"),
    "packed, of nothing": (f"{NAME}.xz", lzma.compress(b""), "is empty"),
    "not packed at all": (f"{NAME}.xz", PLAY.encode(), "is broken"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("place", [0, 1], ids=["data", "cache"])
def test_a_wrong_file_is_refused_by_name(places, place, fault):
    name, content, said = FAULTS[fault]
    path = places[place] / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path} {said}"):
        corpora.load("tiny-shakespeare")
    assert not (places[1] / "tokens").exists()


def test_a_file_that_is_altered_later_is_refused_too(places):
    data, _ = places
    write_play(data / NAME)
    corpora.load("tiny-shakespeare")
    write_play(data / NAME, ALTERED)
    with pytest.raises(ValueError, match="is altered"):
        corpora.load("tiny-shakespeare")


# --- tokens that are kept


def test_a_corpus_moves_whole(places):
    write_play(places[0] / NAME)
    corpus = corpora.load("tiny-shakespeare")
    moved = corpus.to("meta")
    assert (moved.train.device.type, moved.held_out.device.type) == ("meta", "meta")
    assert (moved.name, moved.provenance) == (corpus.name, corpus.provenance)


def test_a_file_is_read_and_checked_once(places, monkeypatch):
    data, cache = places
    write_play(data / NAME)
    corpora.load("tiny-shakespeare")
    monkeypatch.setattr(files, "read", lambda *_: pytest.fail("read again"))
    assert is_the_play(corpora.load("tiny-shakespeare"))
    (data / NAME).unlink()
    assert is_the_play(corpora.load("tiny-shakespeare"))  # nor is it missed
    assert {path.suffix for path in (cache / "tokens").iterdir()} == {".u8", ".note"}


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux")
def test_tokens_are_mapped_and_writing_to_them_leaves_the_file_alone(places):
    data, cache = places
    write_play(data / NAME)
    corpus = corpora.load("tiny-shakespeare")
    assert str(cache / KEPT) in Path("/proc/self/maps").read_text()
    corpus.train.zero_()
    assert is_the_play(corpora.load("tiny-shakespeare"))


@pytest.mark.parametrize("content", [b"", b"\x01" * 100, b"\x01" * len(PLAY)])
@pytest.mark.parametrize("harmed", [".u8", ".note"])
def test_damaged_tokens_are_made_anew(places, content, harmed):
    data, cache = places
    write_play(data / NAME)
    corpora.load("tiny-shakespeare")
    (cache / KEPT).with_suffix(harmed).write_bytes(content)
    assert is_the_play(corpora.load("tiny-shakespeare"))


def test_tokens_of_another_edition_are_not_used(places, monkeypatch):
    data, _ = places
    write_play(data / NAME)
    corpora.load("tiny-shakespeare")
    (data / NAME).unlink()
    monkeypatch.setattr(corpora, "SHAKESPEARE", replace(corpora.SHAKESPEARE, sha256=64 * "0"))
    with pytest.raises(FileNotFoundError, match="tiny-shakespeare"):
        corpora.load("tiny-shakespeare")


def test_without_a_cache_the_tokens_stay_in_memory(places):
    data, cache = places
    write_play(data / NAME)
    cache.write_bytes(b"a file where the folder should be")
    for _ in range(2):
        with pytest.warns(UserWarning, match=f"{NAME} stay in memory.*{cache}"):
            assert is_the_play(corpora.load("tiny-shakespeare"))


def test_many_may_write_the_same_tokens_at_once(places, monkeypatch):
    data, cache = places
    write_play(data / NAME)
    together, replace_file, found = Barrier(4), os.replace, []

    def replace_together(*paths):
        together.wait(20)
        replace_file(*paths)

    def load():
        found.append(is_the_play(corpora.load("tiny-shakespeare")))

    monkeypatch.setattr(os, "replace", replace_together)
    threads = [Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    monkeypatch.undo()
    assert found == 4 * [True]
    assert {path.suffix for path in (cache / "tokens").iterdir()} == {".u8", ".note"}


KILLED = """
import os, sys, time
from structattn_minimal.experiments import corpora, files
corpora.SHAKESPEARE = files.DataFile(*eval(sys.argv[1]))

def stall(*_):
    print("stalled", flush=True)
    time.sleep(60)

if sys.argv[2] == "while unpacking":
    files.read_all = stall
else:
    os.replace = stall
corpora.load("tiny-shakespeare")
"""


@pytest.mark.parametrize("moment", ["while unpacking", "while writing"])
def test_nothing_half_done_is_used_after_a_process_was_killed(tmp_path, monkeypatch, moment):
    right = DataFile(NAME, len(PLAY), sha256(PLAY.encode()).hexdigest())
    data, cache = tmp_path / "data", tmp_path / "structattn"
    write_play(data / f"{NAME}.xz")
    for name, value in {"STRUCTATTN_DATA": data, "XDG_CACHE_HOME": tmp_path}.items():
        monkeypatch.setenv(name, str(value))
    words = [sys.executable, "-c", KILLED, repr((right.path, right.size, right.sha256)), moment]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"stalled\n"
        process.send_signal(signal.SIGKILL)
    assert not (cache / KEPT).exists()
    monkeypatch.setattr(corpora, "SHAKESPEARE", right)
    monkeypatch.setattr(files, "cache_folder", lambda: cache)
    assert is_the_play(corpora.load("tiny-shakespeare"))


def test_a_write_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    files.write(tmp_path / "a.txt", b"before")
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        files.write(tmp_path / "a.txt", b"after")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_bytes() == b"before"


# --- downloads


def test_the_second_source_is_asked_when_the_first_fails(places, monkeypatch):
    asked = []

    def retrieve(url, *, known_hash, fname, path, **_):
        asked.append(url)
        if len(asked) == 1:
            no_network(url)
        assert known_hash == f"sha256:{corpora.SHAKESPEARE.sha256}"
        write_play(Path(path) / fname)

    monkeypatch.setattr("pooch.retrieve", retrieve)
    assert is_the_play(corpora.load("tiny-shakespeare"))
    assert asked == list(corpora.SHAKESPEARE_SOURCES)
    assert len({url.split("/")[2] for url in asked}) == 2  # on two machines
    assert is_the_play(corpora.load("tiny-shakespeare"))
    assert len(asked) == 2


def test_without_a_network_the_message_says_what_to_put_where(places):
    with pytest.raises(FileNotFoundError) as failure:
        corpora.load("tiny-shakespeare")
    hosts = [f"no route to {url.split('/')[2]}" for url in corpora.SHAKESPEARE_SOURCES]
    for said in ("tiny-shakespeare", *corpora.SHAKESPEARE_SOURCES, *hosts, f"as {NAME}", "STRUCTATTN_DATA"):
        assert said in str(failure.value)


def test_without_pooch_the_message_says_so_once(places, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(FileNotFoundError, match="pip install pooch") as failure:
        corpora.load("tiny-shakespeare")
    assert str(failure.value).count("pip install") == 1
    assert "STRUCTATTN_DATA" in str(failure.value)


def test_without_a_cache_nothing_is_downloaded(places):
    _, cache = places
    cache.write_bytes(b"a file where the folder should be")
    with pytest.raises(PermissionError, match=f"the cache folder {cache} cannot be written"):
        corpora.load("tiny-shakespeare")


def test_what_comes_over_the_wire_is_checked(tmp_path, monkeypatch):
    """The real pooch, and a server on this machine: lost, empty, truncated, altered, and at last right."""
    answers = {"/lost": None, "/empty": b"", "/cut": PLAY.encode()[:-9], "/altered": ALTERED, "/right": PLAY.encode()}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            content = answers[self.path]
            self.send_response(200 if content is not None else 404)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_):
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    path, right = tmp_path / NAME, sha256(PLAY.encode()).hexdigest()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        urls = [f"http://127.0.0.1:{server.server_port}{name}" for name in answers]
        get = partial(
            files.first_that_works, get=lambda url: files.download(url, path, sha256=right), what="it", by_hand=""
        )
        with pytest.raises(FileNotFoundError) as failure:
            get(urls[:-1])
        assert "404" in str(failure.value)
        assert str(failure.value).count("hash") >= 3
        assert not any(tmp_path.iterdir())
        get(urls)
        server.shutdown()
    assert path.read_bytes() == PLAY.encode()


# --- the reader's own text


def own(folder, content, name="diary.txt"):
    path = folder / name
    path.write_bytes(content)
    return path


def test_a_text_of_ones_own_is_spelled_in_the_alphabet(tmp_path):
    written = "“Très bien,” said she — and went…\n" * 4000
    corpus = corpora.load(str(own(tmp_path, written.encode())))
    assert corpus.name == "diary.txt"
    assert alphabet.decode(corpus.train[:37]) == '"Tres bien," said she -- and went...\n'
    assert 0.05 < len(corpus.held_out) / len(corpus.train) < 0.15
    assert corpus.provenance["sha256"] == {"diary.txt": sha256(written.encode()).hexdigest()}
    assert str(tmp_path) not in json.dumps(corpus.provenance)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "have at least 20,000 characters, got 0: choose a longer text"),
        (b"a" * 19_999, "have at least 20,000 characters, got 19,999"),
        ("Übermut tut selten gut. ".encode("latin-1") * 2000, "be UTF-8 text.*at byte 0: convert it"),
        ("Wide words. ".encode("utf-16") * 2000, "be UTF-8 text"),
        ("Все счастливые семьи похожи друг на друга. ".encode() * 2000, "be text in the alphabet .* are others"),
        (bytes(50_000), "be text in the alphabet .* 50,000 of its 50,000 characters are others"),
    ],
    ids=["empty", "short", "latin-1", "utf-16", "Cyrillic", "zeros"],
)
def test_a_text_of_ones_own_that_will_not_do_is_refused_by_name(tmp_path, content, said):
    path = own(tmp_path, content)
    with pytest.raises(ValueError, match=f"corpus {path} must {said}"):
        corpora.load(path)


@pytest.mark.parametrize("name", ["novels", "/nowhere/novel.txt", "."])
def test_what_is_neither_a_name_nor_a_file_is_refused(name):
    with pytest.raises(
        ValueError, match=f"corpus must be one of .*'tiny-shakespeare'.* path of a text file, got '{name}'"
    ):
        corpora.load(name)


def test_the_command_line_takes_a_text_of_ones_own(tmp_path, monkeypatch, capsys):
    tiny = replace(text.LM_TINY, width=32, heads=2, layers=1, context=32, steps=1, batch=2)
    monkeypatch.setitem(text.PRESETS, "quick", tiny)
    path, out = own(tmp_path, PLAY.encode()), tmp_path / "record.json"
    main(["text", "--preset", "quick", "--corpus", str(path), "--out", str(out)])
    record = json.loads(out.read_text())
    assert record["setting"]["corpus"] == "diary.txt"
    assert record["setting"]["characters"] == len(PLAY)
    assert record["corpus"]["sha256"] == {"diary.txt": sha256(PLAY.encode()).hexdigest()}
    assert f"--corpus {path}" in record["command"]
    for words in (["text", "--preset", "quick", "--corpus", "novels"], ["regression", "--preset", "icl-chapter"]):
        with pytest.raises(SystemExit):
            main([*words, "--corpus", "novels", "--out", str(out)])
    said = capsys.readouterr().err
    assert "corpus must be one of" in said
    assert "--corpus goes with text" in said


# --- the real ones


@pytest.mark.parametrize(
    ("name", "train", "held_out"),
    [("tiny-shakespeare", 1_003_854, 111_540), ("classic-books", 149_999_588, 6_042_527)],
)
def test_the_real_files_are_the_right_ones(tmp_path, monkeypatch, name, train, held_out):
    wanted = [classic_books.TRAIN, classic_books.HELD_OUT] if name == "classic-books" else [corpora.SHAKESPEARE]
    if not DATA or not all(files.find(file.path) for file in wanted):
        pytest.skip("needs the files in STRUCTATTN_DATA")
    monkeypatch.setattr(files, "cache_folder", lambda: tmp_path)
    corpus = corpora.load(name)  # refused if a byte is wrong
    assert (len(corpus.train), len(corpus.held_out)) == (train, held_out)
    assert max(corpus.train.max(), corpus.held_out.max()) < 96
    if name == "tiny-shakespeare":
        assert alphabet.decode(corpus.train[:14]) == "First Citizen:"
    shutil.rmtree(tmp_path)  # pytest would keep it
