"""Values as data: how arguments and answers travel between a judge and the code that it judges.

A frame is a JSON header and raw bytes. Nothing is ever unpickled, so what a hostile sender can produce is a plain
tensor, number, string, list or dictionary, or a `WireError`. The notebook's `check` sends its values through the same
two functions, so that an answer means the same there and in the grader.
"""

import ctypes
import json
import math
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

LARGEST_FRAME = 64 << 20  # bytes of tensors
LARGEST_HEADER = 1 << 20  # bytes
MOST_PARTS = 5000  # of one value: tensors, numbers, lists ...
PREFIX = struct.Struct(">II")  # lengths of header and payload
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128,
        torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
    )
}  # fmt: skip


class WireError(Exception):
    """The bytes are no frame, or the frame holds no value."""


class NotData(TypeError):
    """A value that is no data: it cannot be an answer. The message names its type."""


class Closed(Exception):
    """The other side has gone."""


class Late(Exception):
    """The other side did not answer in time."""


@dataclass(frozen=True)
class Seeded:
    """Stands for `torch.Generator().manual_seed(seed)`, which the receiver builds."""

    seed: int


def encode(value, callables: list[Callable] | None = None) -> tuple[object, bytes]:
    """A JSON tree and the bytes of its tensors; callables are numbered and collected in `callables`, if given."""
    payload = bytearray()
    parts = 0

    def tree(value):
        nonlocal parts
        parts += 1
        if parts > MOST_PARTS:
            raise NotData("list of very many parts; put numbers into one tensor")
        if hasattr(value, "__array__") and not isinstance(value, Tensor):
            value = torch.as_tensor(value)  # numpy's arrays and numbers
        if isinstance(value, Tensor):
            return tensor(value.detach())
        if value is None or isinstance(value, bool | str):
            return {"is": "plain", "value": value}
        if isinstance(value, int):
            return {"is": "int", "value": str(int(value))}
        if isinstance(value, float):
            return {"is": "float", "value": float(value).hex()}
        if isinstance(value, list | tuple):
            return {"is": "tuple" if isinstance(value, tuple) else "list", "items": [tree(v) for v in value]}
        if isinstance(value, dict) and all(isinstance(k, str) for k in value):
            return {"is": "dict", "keys": list(value), "items": [tree(v) for v in value.values()]}
        if isinstance(value, Seeded):
            return {"is": "generator", "seed": value.seed}
        if callables is not None and callable(value):
            callables.append(value)
            return {"is": "callable", "number": len(callables) - 1}
        raise NotData(type(value).__name__)

    def tensor(value: Tensor):
        name = str(value.dtype).removeprefix("torch.")
        if name not in DTYPES or value.layout != torch.strided:
            raise NotData(f"Tensor of {name}, {value.layout}")
        value = value.cpu().resolve_conj().resolve_neg().contiguous()
        start = len(payload)
        payload.extend(
            ctypes.string_at(value.data_ptr(), value.numel() * value.element_size()) if value.numel() else b""
        )
        return {"is": "tensor", "dtype": name, "shape": list(value.shape), "start": start}

    described = tree(value)
    if len(payload) > LARGEST_FRAME // 2:
        raise NotData(f"tensor of more than {LARGEST_FRAME >> 21} MB")
    return described, bytes(payload)


def decode(tree: object, payload: bytes, ask: Callable[[int, tuple], object] | None = None):
    """The value that `encode` described. A callable becomes a function that calls `ask(number, arguments)`."""
    try:
        return _decode(tree, payload, ask)
    except (KeyError, TypeError, ValueError, RuntimeError, RecursionError, OverflowError, AttributeError) as error:
        raise WireError(f"not a value: {type(error).__name__}") from None


def _decode(tree, payload, ask):
    kind = tree["is"]
    if kind == "tensor":
        return _tensor(DTYPES[tree["dtype"]], tree["shape"], tree["start"], payload)
    if kind == "plain":
        if tree["value"] is None or isinstance(tree["value"], bool | str):
            return tree["value"]
    elif kind == "int":
        return int(tree["value"])
    elif kind == "float":
        return float.fromhex(tree["value"])
    elif kind in ("list", "tuple", "dict"):
        items = [_decode(item, payload, ask) for item in tree["items"]]
        if kind == "dict":
            return {str(key): item for key, item in zip(tree["keys"], items, strict=True)}
        return items if kind == "list" else tuple(items)
    elif kind == "generator":
        return torch.Generator().manual_seed(int(tree["seed"]))
    elif kind == "callable" and ask is not None:
        number = int(tree["number"])
        return lambda *arguments: ask(number, arguments)
    raise WireError(f"not a value: {str(kind)[:40]}")


def _tensor(dtype: torch.dtype, shape: list[int], start: int, payload: bytes) -> Tensor:
    if len(shape) > 8 or not all(type(n) is int and 0 <= n < 2**31 for n in shape) or type(start) is not int:
        raise WireError("not a tensor's shape")
    numel = math.prod(shape)
    size = numel * dtype.itemsize
    if start < 0 or start + size > len(payload):
        raise WireError("fewer bytes than the shape asks for")
    if numel == 0:
        return torch.empty(shape, dtype=dtype)
    if dtype == torch.bool and max(payload[start : start + size]) > 1:
        raise WireError("neither true nor false")
    return torch.frombuffer(bytearray(payload[start : start + size]), dtype=dtype).reshape(shape)


def copied(value):
    """What the other side would receive: a copy, made of plain data."""
    return decode(*encode(value))


def send(channel: socket.socket, header: dict, payload: bytes = b"") -> None:
    """One frame out. Raises `Closed` when nobody listens, and `Late` when the channel's time is over."""
    text = json.dumps(header).encode()
    if len(text) > LARGEST_HEADER or len(payload) > LARGEST_FRAME:
        raise WireError("too large")
    try:
        channel.sendall(PREFIX.pack(len(text), len(payload)) + text + payload)
    except TimeoutError:
        raise Late from None
    except OSError:
        raise Closed from None


def receive(channel: socket.socket, deadline: float | None = None, tick: Callable[[], None] = lambda: None):
    """One frame in, as (header, payload); `tick` is called now and then while waiting, and may raise."""
    sizes = PREFIX.unpack(_exactly(channel, PREFIX.size, deadline, tick))
    if sizes[0] > LARGEST_HEADER or sizes[1] > LARGEST_FRAME:
        raise WireError("too large")
    text, payload = (_exactly(channel, size, deadline, tick) for size in sizes)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        raise WireError("not JSON") from None
    if not isinstance(header, dict):
        raise WireError("not a header")
    return header, payload


def _exactly(channel: socket.socket, size: int, deadline: float | None, tick: Callable[[], None]) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        tick()
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Late
            channel.settimeout(min(left, 0.1))
        try:
            part = channel.recv(min(size - len(parts), 1 << 20))
        except TimeoutError:
            continue
        except OSError:
            raise Closed from None
        if not part:
            raise Closed
        parts += part
    return bytes(parts)
