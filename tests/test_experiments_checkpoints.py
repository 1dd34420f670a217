"""Checkpoints: whole or not there, proof against full disks and damage, and the one before is kept."""

import os

import pytest
import torch

from structattn_minimal.experiments import checkpoints
from structattn_minimal.experiments.checkpoints import (
    delete_checkpoint,
    load_checkpoint,
    previous,
    save_checkpoint,
    write_whole,
)


def state(step):
    return {
        "theta": torch.full((3, 50), float(step)),
        "steps": torch.tensor([step]),
        "alive": torch.tensor([True, False]),
    }


@pytest.fixture
def path(tmp_path):
    """Checkpoints of steps 1 and 2."""
    path = tmp_path / "run.safetensors"
    for step in (1, 2):
        save_checkpoint(path, state(step), {"stage": "sweep", "step": step})
    return path


def loaded_step(path):
    tensors, words, damaged = load_checkpoint(path)
    step = words["step"]
    assert all(torch.equal(tensors[name], tensor) for name, tensor in state(step).items())
    return step, damaged


def test_there_and_back(path):
    assert loaded_step(path) == (2, None)
    assert sorted(file.name for file in path.parent.iterdir()) == ["run.safetensors", "run.safetensors.previous"]
    delete_checkpoint(path)
    assert not list(path.parent.iterdir())
    with pytest.raises(FileNotFoundError, match=r"run\.safetensors"):
        load_checkpoint(path)


@pytest.mark.parametrize("damage", ["empty", "truncated", "header", "bit", "words", "another"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_serves(path, damage):
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-5] ^= 1
    path.write_bytes(
        {
            "empty": b"",
            "truncated": whole[:-7],
            "header": b"\xff" * 40 + whole[40:],
            "bit": bytes(flipped),
            "words": whole.replace(b"checksum", b"checksun"),
            "another": b"{}",
        }[damage]
    )
    step, damaged = loaded_step(path)
    assert step == 1
    assert "run.safetensors is " in damaged
    previous(path).write_bytes(b"")
    with pytest.raises(ValueError, match=r"run\.safetensors is .*run\.safetensors\.previous is .*: delete .* begin"):
        load_checkpoint(path)


def test_only_the_one_before_is_there(path):
    """Killed between the two renames."""
    path.unlink()
    assert loaded_step(path) == (1, None)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a full disk is simulated by /dev/full")
def test_a_full_disk_leaves_the_checkpoints_as_they_were(path):
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    path.with_name("run.safetensors.unfinished").symlink_to("/dev/full")
    with pytest.raises(
        OSError, match=r"cannot write .*run\.safetensors.*MiB.*the disk is full.*is kept.*--resume"
    ) as told:
        save_checkpoint(path, state(3), {"step": 3})
    assert told.value.errno == 28
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before
    save_checkpoint(path, state(3), {"step": 3})
    assert loaded_step(path) == (3, None)


def test_a_failing_fsync_is_an_error_too(path, monkeypatch):
    def fail(descriptor):
        raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr(checkpoints.os, "fsync", fail)
    with pytest.raises(OSError, match="the disk is full"):
        save_checkpoint(path, state(3), {"step": 3})
    assert loaded_step(path) == (2, None)


def test_a_folder_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write .*file/x\.json"):
        write_whole(tmp_path / "file" / "x.json", b"content")


def test_the_checksum_sees_names_values_and_types():
    one = {"a": torch.ones(2), "b": torch.zeros(2)}
    others = [
        {"b": torch.ones(2), "a": torch.zeros(2)},
        {"a": torch.ones(2), "b": -torch.zeros(2)},
        {"a": torch.ones(2)},
    ]
    sums = {checkpoints.checksum(tensors) for tensors in (one, *others)}
    assert len(sums) == 4
    assert checkpoints.checksum(dict(reversed(one.items()))) == checkpoints.checksum(one)
