"""Runs a program as ``runcompss`` does: ``runcompss.py [--resources=FILE] [--project=FILE] PROGRAM ARGUMENTS``.

The program is loaded twice: as a module before the runtime starts, then by `exec` inside this file, as ``__main__``.
"""

import os
import sys
import tempfile
from importlib.machinery import SourceFileLoader
from xml.etree import ElementTree

options = {}
while sys.argv[1].startswith("--"):
    key, _, stated = sys.argv.pop(1)[2:].partition("=")
    options[key] = stated
program = os.path.abspath(sys.argv[1])
sys.argv = [program, *" ".join(sys.argv[2:]).split()]
sys.path.insert(1, os.path.dirname(program))

declared = None
if "resources" in options:
    declared = []
    for element in ElementTree.parse(options["resources"]).iter("ComputeNode"):
        units = {
            (each.findtext("Type") or "CPU"): int(each.findtext("ComputingUnits")) for each in element.iter("Processor")
        }
        declared.append({"name": element.get("Name"), "cpu": units["CPU"], "gpu": units.get("GPU", 0)})
    with tempfile.NamedTemporaryFile("w", suffix=".options", delete=False) as file:
        file.writelines(f"-Dcompss.{key}.file={options[key]}\n" for key in ("resources", "project") if key in options)
        file.write(f"-Dcompss.worker.gpu_affinity={options.get('gpu_affinity', 'automatic')}\n")
    os.environ["JVM_OPTIONS_FILE"] = file.name

SourceFileLoader(os.path.basename(program).split(".")[0], program).load_module()

from pycompss import _master  # noqa: E402

_master.start(declared, options.get("gpu_affinity", "automatic"))
status = 0
try:
    with open(program) as source:
        exec(compile(source.read(), program, "exec"), globals())
except SystemExit as ending:
    status = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
finally:
    _master.stop()
sys.stdout.flush()
sys.exit(status)
