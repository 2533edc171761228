"""The runtime: a process that schedules tasks over the slots of its nodes. A dead slot is never started again."""

import json
import os
import random
import selectors
import signal
import struct
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path

ATTEMPTS = 4


class Slot:
    def __init__(self, node):
        self.node = node
        self.task = None
        self.dead = False
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pycompss._worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )


class Node:
    def __init__(self, described, selector):
        self.name = described["name"]
        self.cpus = set(range(described["cpu"]))
        self.gpus = set(range(described.get("gpu", 0)))
        self.memory = described.get("memory", 1e9)
        self.size = len(self.cpus)
        self.selector = selector
        self.random = random.Random(0)
        self.open()

    def open(self):
        self.slots = [Slot(self) for _ in range(self.size)]
        for slot in self.slots:
            self.selector.register(slot.process.stdout, selectors.EVENT_READ, slot)

    def free(self):
        slots = [slot for slot in self.slots if slot.task is None]
        return self.random.choice(slots) if slots else None  # a dead one takes tasks like any other


class Task:
    def __init__(self, number, where, parts, cpu, gpu, memory, on_failure):
        self.number, self.where, self.parts = number, where, parts
        self.cpu, self.gpu, self.memory, self.on_failure = cpu, gpu, memory, on_failure
        self.failures = 0
        self.held = None
        members = [each for part in parts for each in (part[1] if part[0] == "list" else [part])]
        self.files = [each[1] for each in members if each[0] == "file"]
        self.needs = [each[1] for each in members if each[0] == "result"]


class Runtime:
    def __init__(self, connection, answers, folder, master):
        self.connection, self.answers, self.folder, self.master = connection, answers, Path(folder), master
        self.selector = selectors.DefaultSelector()
        self.selector.register(connection.fileno(), selectors.EVENT_READ, "master")
        self.nodes = []
        self.tasks, self.waiting, self.results = {}, [], {}
        self.readers, self.doomed = {}, set()
        self.asked, self.barrier = None, False

    def serve(self):
        while True:
            for key, _ in self.selector.select():
                if key.data == "master":
                    try:
                        while self.connection.poll():
                            self.take(self.connection.recv())
                    except (EOFError, OSError):
                        self.end()
                        return
                else:
                    self.hear(key.data)
            self.schedule()
            self.reply()

    def end(self):
        for node in self.nodes:
            for slot in node.slots:
                slot.process.kill()
                slot.process.wait()

    def take(self, message):
        kind, *rest = message
        if kind == "nodes":
            self.nodes = [Node(described, self.selector) for described in rest[0]]
        elif kind == "task":
            task = Task(*rest)
            self.tasks[task.number] = task
            self.waiting.append(task)
            for needed in task.needs:
                self.readers[needed] = self.readers.get(needed, 0) + 1
        elif kind == "wait":
            self.asked = rest[0]
        elif kind == "barrier":
            self.barrier = True
        elif kind == "delete":
            self.doomed.add(rest[0])
            self.clean(rest[0])
        elif kind == "kill":
            self.kill(rest[0])

    def reply(self):
        if self.asked is not None and self.asked in self.results:
            self.answer(self.results[self.asked] or "")
            self.asked = None
        if self.barrier and not self.waiting and not any(s.task for n in self.nodes for s in n.slots):
            self.answer("")
            self.barrier = False

    def answer(self, text):
        os.write(self.answers, struct.pack("!I", len(text)) + text.encode())

    def schedule(self):
        """Gives ready tasks to free slots, in the order of submission."""
        while True:
            task = next((each for each in self.waiting if all(need in self.results for need in each.needs)), None)
            if task is None:
                return
            slot = self.place(task)
            if slot is None:
                return
            self.waiting.remove(task)
            self.give(slot, task)

    def place(self, task):
        for node in self.nodes:
            fits = len(node.cpus) >= task.cpu and len(node.gpus) >= task.gpu and node.memory >= task.memory
            slot = node.free() if fits else None
            if slot is not None:
                return slot
        return None

    def give(self, slot, task):
        node = slot.node
        cpus, gpus = sorted(node.cpus)[: task.cpu], sorted(node.gpus)[: task.gpu]
        node.cpus -= set(cpus)
        node.gpus -= set(gpus)
        node.memory -= task.memory
        task.held, slot.task = (cpus, gpus), task
        out = str(self.folder / f"out-{task.number}")

        def described(part):
            if part[0] == "list":
                return [described(each) for each in part[1]]
            return self.results[part[1]] if part[0] == "result" else part[1]

        order = {
            "where": task.where,
            "arguments": [described(part) for part in task.parts],
            "cpus": cpus,
            "gpus": gpus,
            "host": node.name,
            "out": out,
        }
        try:
            slot.process.stdin.write(json.dumps(order).encode() + b"\n")
            slot.process.stdin.flush()
        except OSError:
            print(f"[ERROR] cannot write in pipe of a worker of {node.name}", file=sys.stderr)
            slot.dead = True
            self.failed(slot, None)

    def hear(self, slot):
        line = slot.process.stdout.readline()
        if not line:
            self.selector.unregister(slot.process.stdout)
            slot.dead = True
            if slot.task is not None:
                empty = self.folder / f"out-{slot.task.number}"
                empty.write_bytes(b"")
                self.failed(slot, str(empty))
        elif json.loads(line):
            task = self.release(slot)
            self.finish(task, str(self.folder / f"out-{task.number}"))
        else:
            self.failed(slot, None)

    def release(self, slot):
        task, slot.task = slot.task, None
        node = slot.node
        node.cpus |= set(task.held[0])
        node.gpus |= set(task.held[1])
        node.memory += task.memory
        return task

    def failed(self, slot, result):
        task = self.release(slot)
        if task.on_failure == "IGNORE":
            self.finish(task, result)
            return
        task.failures += 1
        if task.failures == ATTEMPTS:
            print(f"[ERROR] task {task.where[1]} failed {ATTEMPTS} times: the application ends", file=sys.stderr)
            os.kill(self.master, signal.SIGKILL)
        self.waiting.insert(0, task)

    def finish(self, task, result):
        self.results[task.number] = result
        for path in task.files:
            os.unlink(path)
        for needed in task.needs:
            self.readers[needed] -= 1
            self.clean(needed)

    def clean(self, number):
        """Removes a result that was deleted and is read by nobody any more."""
        if number in self.doomed and number in self.results and not self.readers.get(number):
            path = self.results[number]
            if path is not None and os.path.exists(path):
                os.unlink(path)

    def kill(self, name):
        """Kills a node: what ran there is run again, and the node comes back."""
        (node,) = [node for node in self.nodes if node.name == name]
        for slot in node.slots:
            if not slot.dead:
                self.selector.unregister(slot.process.stdout)
            slot.process.kill()
            slot.process.wait()
            if slot.task is not None:
                self.waiting.insert(0, self.release(slot))
        self.waiting.sort(key=lambda task: task.number)
        node.open()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection, answers, folder, master = sys.argv[1:]
    Runtime(Connection(int(connection)), int(answers), folder, int(master)).serve()
