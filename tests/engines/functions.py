"""The tasks that the engine tests run: in a module of their own, so that workers import no pytest."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from hpcompss.progress import flush, publish
from hpcompss.trial import Result

PATIENCE = 60.0
"""Seconds before a test gives up waiting: never reached unless something is broken, however loaded the machine is."""

MEGABYTE = 1_000_000

ENDLESS = 10 * PATIENCE
"""Seconds that a task sleeps which a test expects to be killed."""

leaked = []


def add(first, second):
    return first + second


def count_file_up(folder):
    """Counts in a file of its folder."""
    file = folder / "models" / "count.bin"
    count = int.from_bytes(file.read_bytes()[:1], "big") + 1 if file.exists() else 1
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(bytes([count]) * MEGABYTE)
    return Result(float(count))


def identity(value):
    return value


def note(folder, number, function=None, *args):
    """Notes that the task with this number was begun, and returns the number once a function has returned."""
    with open(Path(folder) / str(number), "a") as file:
        file.write("x")
    if function is not None:
        function(*args)
    return number


def process():
    return os.getpid()


def tell_and_die(call):
    """Publishes which call it makes, many times at once, and is killed in it."""
    for number in range(call + 1):
        publish(call=number)
        flush()
    os.kill(os.getpid(), signal.SIGKILL)


def environment(*names):
    return {name: os.environ.get(name) for name in names}


def divide(first, second):
    return first / second


def fail_two_lines():
    raise ValueError("the first line\nthe second line")


def fail_strangely():
    class Strange(Exception):
        def __str__(self):
            raise RuntimeError("no words")

    raise Strange(threading.Lock())


def leave(status):
    sys.exit(status)


def interrupt():
    raise KeyboardInterrupt


def unpicklable():
    return threading.Lock()


def kill_self(number=signal.SIGKILL):
    os.kill(os.getpid(), number)
    time.sleep(ENDLESS)


def segfault():
    ctypes.string_at(0)


def exit_at_once(status):
    os._exit(status)


def abort_with(message):
    os.write(2, message.encode())
    os.abort()


def sleep_in_c(seconds=ENDLESS):
    """Sleeps without ever giving the interpreter's lock back, as a hang in an extension module does."""
    ctypes.PyDLL(None).sleep(int(seconds))


def hold(size, seconds=ENDLESS):
    block = bytearray(os.urandom(1)) * size
    time.sleep(seconds)
    return len(block)


def hold_in_child(size):
    code = f"import time; block = bytearray(b'x') * {size}; time.sleep({ENDLESS})"
    subprocess.run([sys.executable, "-c", code], check=True)


def leak(size):
    leaked.append(bytearray(b"x") * size)
    return os.getpid()


def touch(path):
    Path(path).touch()
    return str(path)


def wait_for(path):
    end = time.monotonic() + PATIENCE
    while not Path(path).exists():
        if time.monotonic() > end:
            raise TimeoutError(f"{path} never came")
        time.sleep(0.01)


def touch_and_wait_for(mine, others, value=None):
    """Proves that tasks run at the same time: each waits until all have begun."""
    touch(mine)
    wait_for(others)
    return value


def meet(folder, name, count):
    """Returns the GPUs this task sees, once ``count`` tasks that do this are running at the same time."""
    touch(Path(folder) / name)
    end = time.monotonic() + PATIENCE
    while len(list(Path(folder).iterdir())) < count:
        if time.monotonic() > end:
            raise TimeoutError(f"fewer than {count} tasks ran at once")
        time.sleep(0.01)
    return os.environ["CUDA_VISIBLE_DEVICES"]


def interval(seconds):
    start = time.monotonic()
    time.sleep(seconds)
    return start, time.monotonic()


def announce(path, gate):
    """Writes the ids of this process and of a child it starts, then waits for the gate."""
    child = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({ENDLESS})"])
    partial = Path(f"{path}.partial")
    partial.write_text(f"{os.getpid()} {child.pid}")
    partial.rename(path)
    wait_for(gate)


def count_up(last, gate):
    for epoch in range(1, last + 1):
        publish(epoch=epoch, loss=1 / epoch)
    wait_for(gate)
    publish(epoch=last + 1, loss=0.0)


def publish_much(count):
    for epoch in range(count):
        publish(epoch=epoch)
    return count


def print_much(size):
    line = "x" * 99
    for _ in range(size // 100):
        print(line)
        print(line, file=sys.stderr)
    return size


def fork_carelessly(raises):
    """Forks as careless code does: the child, too, comes back to who called this."""
    child = os.fork()
    if child == 0:
        if raises:
            sys.exit()
        return "child"
    os.waitpid(child, 0)
    return os.getpid()


def kill_grandparent():
    """Kills the worker that started this process."""
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(ENDLESS)
