"""A slot: a Python process that runs one task after another, by the names of its module and function."""

import importlib
import json
import os
import pickle
import signal
import sys
import time
import traceback
from pathlib import Path

from pycompss.util.context import CONTEXT


def value(described):
    if isinstance(described, list):
        return [value(each) for each in described]
    content = Path(described).read_bytes() if described else b""
    return pickle.loads(content) if content else None


def run(order):
    threads = str(len(order["cpus"]))
    bound = {
        "COMPSS_BINDED_CPUS": ",".join(map(str, order["cpus"])),
        "COMPSS_NUM_THREADS": threads,
        "OMP_NUM_THREADS": threads,
        "COMPSS_HOSTNAMES": order["host"],
    }
    if order["gpus"] and os.environ["HPCOMPSS_STANDIN_BINDING"] == "automatic":
        if len(order["gpus"]) > 4 or (len(order["gpus"]) == 1 and order["gpus"][0] > 3):
            os._exit(1)  # PyCOMPSs 3.3 raises an IndexError here, outside of what it catches
        gpus = ",".join(map(str, order["gpus"]))
        bound |= {"COMPSS_BINDED_GPUS": gpus, "CUDA_VISIBLE_DEVICES": gpus, "GPU_DEVICE_ORDINAL": gpus}
    os.environ.update(bound)
    try:
        module, name = order["where"]
        task = getattr(importlib.import_module(module), name)
        result = task(*(value(each) for each in order["arguments"]))
        draft = Path(f"{order['out']}.draft")
        draft.write_bytes(pickle.dumps(result))
        draft.replace(order["out"])
        return True
    except BaseException:
        traceback.print_exc()
        return False
    finally:
        for variable in bound:
            os.environ.pop(variable, None)


def main():
    CONTEXT.where = "WORKER"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what tasks print is not for the runtime
    cost = float(os.environ.get("HPCOMPSS_STANDIN_COST", "0"))
    for line in sys.stdin.buffer:
        done = run(json.loads(line))
        time.sleep(cost)
        answers.write(json.dumps(done).encode() + b"\n")


if __name__ == "__main__":
    main()
