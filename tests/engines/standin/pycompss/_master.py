"""The master's side: submits tasks to the runtime, a process of its own, and waits for it as the real one does.

A wait reads the answer through `ctypes.PyDLL`, which keeps the interpreter's lock: no other thread runs meanwhile.
"""

import ctypes
import itertools
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from multiprocessing.connection import Connection
from multiprocessing.connection import Pipe as make_pipe
from pathlib import Path

from pycompss.util.context import CONTEXT

nodes = []
_numbers = itertools.count()
_state = {}
_libc = ctypes.PyDLL(None)


class Future:
    """A result that is not there yet. It has no way to ask whether it is."""

    def __init__(self, number):
        self.number = number


def start(declared=None, gpu_affinity="automatic"):
    nodes[:] = declared or [{"name": "node1", "cpu": 4, "gpu": 2, "memory": 8}]
    folder = tempfile.mkdtemp(prefix="compss-standin-")
    ours, theirs = make_pipe()
    reading, writing = os.pipe()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    environment["HPCOMPSS_STANDIN_BINDING"] = gpu_affinity
    process = subprocess.Popen(
        [sys.executable, "-m", "pycompss._runtime", str(theirs.fileno()), str(writing), folder, str(os.getpid())],
        pass_fds=(theirs.fileno(), writing),
        env=environment,
        stdin=subprocess.DEVNULL,
    )
    theirs.close()
    os.close(writing)
    _state.update(connection=ours, answers=reading, folder=folder, process=process)
    send(("nodes", nodes))
    CONTEXT.where = "MASTER"


def stop():
    CONTEXT.where = "OUT_OF_SCOPE"
    _state["connection"].close()
    _state["process"].wait()
    os.close(_state["answers"])
    shutil.rmtree(_state["folder"], ignore_errors=True)
    _state.clear()


def send(message):
    connection: Connection = _state["connection"]
    connection.send(message)


def submit(where, args, collections, constraints, on_failure):
    number = next(_numbers)
    parts = []
    for index, (argument, is_collection) in enumerate(zip(args, collections, strict=True)):
        members = argument if is_collection else [argument]
        described = [_described(member, f"{number}-{index}-{place}") for place, member in enumerate(members)]
        parts.append(("list", described) if is_collection else described[0])
    units = {"CPU": 1, "GPU": 0}
    for kind, count in re.findall(r"processorType:(\w+),computingUnits:(\d+)", constraints.get("processors", "")):
        units[kind] = int(count)
    memory = float(constraints.get("MemorySize", 0))
    send(("task", number, where, parts, units["CPU"], units["GPU"], memory, on_failure))
    return Future(number)


def _described(value, name):
    if isinstance(value, Future):
        return ("result", value.number)
    path = Path(_state["folder"]) / f"in-{name}"
    path.write_bytes(pickle.dumps(value))
    return ("file", str(path))


def wait(value):
    if not isinstance(value, Future):
        return value
    send(("wait", value.number))
    path = _answer()
    if not path:
        return None
    content = Path(path).read_bytes()
    if not content:
        raise ValueError("the file of the result is empty")
    return pickle.loads(content)


def barrier():
    send(("barrier",))
    _answer()


def delete(value):
    if isinstance(value, Future):
        send(("delete", value.number))


def _answer():
    (length,) = struct.unpack("!I", _read(4))
    return _read(length).decode()


def _read(count):
    content = b""
    while len(content) < count:
        buffer = ctypes.create_string_buffer(count - len(content))
        got = _libc.read(_state["answers"], buffer, count - len(content))
        if got <= 0:
            raise SystemExit("the runtime has ended")
        content += buffer.raw[:got]
    return content
