"""A stand-in for PyCOMPSs that behaves as the real one was seen to: real worker processes, blocking waits, dead slots.

`start` and `stop` make this very process its master; ``runcompss.py`` beside this file runs a program as its namesake
does.
"""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = str(Path(__file__).parent)


def start(nodes=None, gpu_affinity="automatic"):
    """Starts the runtime on nodes such as ``[{"name": "node1", "cpu": 4, "gpu": 2}]``; returns PyCOMPSs' functions."""
    sys.path.insert(0, FOLDER)
    from pycompss import _master
    from pycompss.api import api

    _master.start(nodes, gpu_affinity)
    return api


def stop():
    """Ends the runtime and its workers, and forgets the package."""
    from pycompss import _master

    _master.stop()
    sys.path.remove(FOLDER)
    for name in list(sys.modules):
        if name == "pycompss" or name.startswith("pycompss.") or name == "hpcompss.engines.compss_tasks":
            del sys.modules[name]


def kill_node(name):
    """Kills all processes of a node, as a power cut would."""
    from pycompss import _master

    _master.send(("kill", name))
