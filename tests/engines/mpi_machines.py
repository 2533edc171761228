"""A user's script, of ranks that say they are on two machines: ``mpiexec -n 5``, with the project on ``PYTHONPATH``."""

from __future__ import annotations

import sys
from pathlib import Path

import hpcompss
from hpcompss.engines import mpi_rank, remote_worker
from hpcompss.trial import Resources
from tests.engines import functions as tasks
from tests.engines.conformance import gather

machine = "first" if mpi_rank() < 3 else "second"
remote_worker.machine = lambda: machine

with hpcompss.engines.Mpi(cores=2, gpus=["0"]) as engine:
    assert [engine.capacity(Resources(cpu=cpu)) for cpu in (1, 2, 3)] == [4, 2, 0]
    assert [engine.capacity(Resources(gpu=gpu)) for gpu in (1, 2)] == [2, 0]
    folder = Path(sys.argv[1])
    one_each = [engine.submit(tasks.meet, folder, str(n), 2, resources=Resources(cpu=2, gpu=1)) for n in range(2)]
    assert gather(engine, one_each) == ["0", "0"]
    count = engine.submit(tasks.count_up, 3, folder / "0")
    gather(engine, [count])
    assert count.progress["epoch"] == 4
with hpcompss.engines.Mpi(workers=1) as engine:
    assert gather(engine, [engine.submit(tasks.add, 1, 2)]) == [3]
    assert engine.about["machines"]
print("only the first rank comes here")
