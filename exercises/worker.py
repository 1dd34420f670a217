"""The process that a submission runs in, and the nursery that such processes are forked from.

The nursery imports torch once and never runs a line of a submission. For each exercise of each submission it forks a
worker, which puts up its fences, runs the submission, and answers calls. It knows neither tests nor solutions nor
seeds; its answers are data (`wire`), and the judge that asks for them sits in another process.
"""

import contextlib
import importlib
import json
import os
import random
import signal
import socket
import sys
import types
import warnings
from pathlib import Path

import torch

from . import cells, sandbox
from .sizes import Largest
from .traces import HERE, told
from .wire import Closed, NotData, decode, encode, receive, send

PRELOADED = ("numpy", "jaxtyping", "structattn_minimal")  # a submission may import others from site-packages as well
PACKAGES = ("site-packages", "dist-packages")
LONGEST_TEXT = 2000


def nursery(control: int) -> None:
    """Fork workers and end them, as the judge says, until it closes the control channel."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # among them one about forking
    for name in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    judge = socket.socket(fileno=control)
    while True:
        message, descriptors, _, _ = socket.recv_fds(judge, 1 << 16, 1)
        if not message:
            return
        order = json.loads(message)
        if order["do"] == "end":
            end(order["worker"])
            reply = {}
        else:
            pid = os.fork()
            if pid == 0:
                try:
                    live(descriptors[0], order)
                finally:
                    os._exit(1)
            os.close(descriptors[0])
            reply = {"worker": pid}
        judge.sendall(json.dumps(reply).encode() + b"\n")


def end(worker: int) -> None:
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)


def live(channel: int, order: dict) -> None:
    """A worker's whole life, from the fork to the last call."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    channel = os.dup2(channel, 3)
    os.closerange(4, 65536)
    folder = Path(order["folder"])
    os.chdir(folder)
    os.environ.update(HOME=str(folder), TMPDIR=str(folder))
    sys.path.insert(0, str(folder))
    random.seed()
    torch.seed()
    readable = python_files()
    forget_exercises()
    sandbox.limit(order["memory"], order["seconds"])
    if order["fenced"]:
        sandbox.fence(folder, readable)
    with contextlib.suppress(Closed):
        serve(socket.socket(fileno=channel))


def python_files() -> list[Path]:
    """Where Python and its packages live."""
    packages = [Path(path) for path in sys.path if Path(path).name in PACKAGES]
    loaded = [Path(sys.modules[name].__file__).parent for name in PRELOADED if name in sys.modules]
    standard = Path(os.__file__).parent
    return [Path(sys.base_prefix), Path(sys.prefix), standard, *packages, *loaded]


def forget_exercises() -> None:
    """Leave nothing of this package for the submission to import but a `check` that does nothing."""
    for name in [name for name in sys.modules if name.split(".")[0] == "exercises"]:
        del sys.modules[name]
    stand_in = types.ModuleType("exercises")
    stand_in.check = lambda *_, **__: None
    sys.modules["exercises"] = stand_in
    if HERE.parent.name not in PACKAGES:  # a checkout: nothing else in it is a submission's business
        sys.path[:] = [path for path in sys.path if Path(path) != HERE.parent]


def serve(judge: socket.socket) -> None:
    """Run the submission that the first frame holds, then answer one call after the other."""
    order, code = receive(judge)
    source = cells.Source(order["name"], tuple(map(tuple, json.loads(code))))
    names, errors = cells.run(source)
    function = names.get(order["function"])
    send(
        judge, {"defined": callable(function), "said": cells.relevant(source, errors, order["function"])[:LONGEST_TEXT]}
    )
    while True:
        request, payload = receive(judge)
        send(judge, *answer(judge, function, request, payload))


def answer(judge: socket.socket, function, request: dict, payload: bytes) -> tuple[dict, bytes]:
    """The reply to one call: a value, or why there is none."""

    def ask(number: int, arguments: tuple):
        tree, bytes_ = encode(arguments)
        send(judge, {"ask": number, "arguments": tree}, bytes_)
        reply, bytes_ = receive(judge)
        if "refused" in reply:
            raise TypeError(reply["refused"])
        return decode(reply["value"], bytes_)

    arguments = decode(request["arguments"], payload, ask)
    try:
        with Largest() as largest:
            value = function(*arguments)
    except NotImplementedError:
        return {"todo": True}, b""
    except BaseException as error:
        return {"raised": told(error)[:LONGEST_TEXT]}, b""
    try:
        tree, bytes_ = encode(value)
        return {"value": tree, "largest": largest.elements}, bytes_
    except NotData as error:
        return {"not data": str(error)[:200]}, b""
    except Exception as error:
        return {"not data": f"{type(value).__name__} ({type(error).__name__})"}, b""
