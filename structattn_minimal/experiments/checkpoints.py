"""Checkpoints: tensors and words in one safetensors file, which is there whole or not at all, and proves that it is.

A new file is written beside the old one and takes its name when it is complete; the old one is kept as the previous.
So whenever a run is killed, a good checkpoint stays. A checksum finds what a disk or a copy has damaged since. Nothing
is run when a checkpoint is read.
"""

import errno
import json
import os
from contextlib import suppress
from pathlib import Path
from zlib import crc32

import torch
from torch import Tensor


def previous(path: Path) -> Path:
    """Where the checkpoint before the one at `path` is kept."""
    return path.with_name(f"{path.name}.previous")


def save_checkpoint(path: str | Path, tensors: dict[str, Tensor], words: dict) -> None:
    """Write tensors, and words that JSON can hold, to `path`.

    Raises `OSError`, naming the file and what to do, if the disk is full or the file cannot be written. What was saved
    before is then still there.
    """
    from safetensors.torch import save

    path = Path(path)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"words": json.dumps(words), "checksum": checksum(tensors)}
    unfinished = path.with_name(f"{path.name}.unfinished")
    write_whole(unfinished, save(tensors, metadata), kept=f"the checkpoint before it, {path.name}, is kept")
    if path.exists():
        path.replace(previous(path))
    unfinished.replace(path)


def load_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict, str | None]:
    """Tensors, words, and why it is not the latest checkpoint but the one before, if so.

    Raises `FileNotFoundError` if there is neither, `ValueError` with the reason and advice if neither can be read.
    """
    path = Path(path)
    found = [candidate for candidate in (path, previous(path)) if candidate.exists()]
    if not found:
        raise FileNotFoundError(f"no checkpoint at {path}")
    reasons = []
    for candidate in found:
        try:
            tensors, words = read(candidate)
        except ValueError as error:
            reasons.append(str(error))
        else:
            return tensors, words, "; ".join(reasons) or None
    raise ValueError(f"{'; '.join(reasons)}: delete {' and '.join(map(str, found))} to begin this run again")


def read(path: Path) -> tuple[dict[str, Tensor], dict]:
    """The content of one file. Raises `ValueError` if it is broken or no checkpoint."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is broken, or no safetensors file ({error})") from None
    if not {"words", "checksum"} <= metadata.keys():
        raise ValueError(f"{path} is no checkpoint of this book")
    if checksum(tensors) != metadata["checksum"]:
        raise ValueError(f"{path} is damaged: its checksum does not match")
    return tensors, json.loads(metadata["words"])


def delete_checkpoint(path: str | Path) -> None:
    """Remove a checkpoint and the one before it; no complaint if there is none."""
    for file in (Path(path), previous(Path(path))):
        file.unlink(missing_ok=True)


def checksum(tensors: dict[str, Tensor]) -> str:
    """Of names and bytes, in the order of the names."""
    total = 0
    for name in sorted(tensors):
        total = crc32(tensors[name].reshape(-1).view(torch.uint8).numpy(), crc32(name.encode(), total))
    return f"{total:08x}"


def write_whole(path: Path, content: bytes, *, kept: str = "nothing else was changed") -> None:
    """Write and force to the disk; no part of a file is left if that fails. Raises `OSError` with advice."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        why = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
        need = f"{len(content) / 2**20:.1f} MiB"
        message = f"cannot write {path} ({need}): {why}; {kept}. Make room and run again with --resume"
        raise OSError(error.errno, message) from error
