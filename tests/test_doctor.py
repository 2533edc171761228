from __future__ import annotations

import importlib.metadata

import pytest

from hpcompss.report import doctor


@pytest.fixture
def installed(monkeypatch):
    """Makes one distribution of TensorFlow be there, and these GPUs."""

    def install(name, gpus):
        def version(asked):
            if asked.startswith("tensorflow") and asked != name:
                raise importlib.metadata.PackageNotFoundError(asked)
            return "9.9"

        monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda module: object())
        monkeypatch.setattr(doctor.importlib.metadata, "version", version)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
        return next(finding for finding in doctor.examine() if finding.name == "tensorflow")

    return install


def test_a_tensorflow_without_gpus_is_not_fine_where_there_are_gpus(installed):
    finding = installed("tensorflow-cpu", "0,1")
    assert not finding.fine
    assert finding.detail == "9.9 (tensorflow-cpu), which cannot use the GPUs"
    assert "pip install 'hpcompss[tensorflow]' in an environment of its own" in finding.remedy


@pytest.mark.parametrize(("name", "gpus"), [("tensorflow-cpu", ""), ("tensorflow", "0"), ("tensorflow", "")])
def test_a_tensorflow_that_fits_the_machine_is_fine(installed, name, gpus):
    finding = installed(name, gpus)
    assert (finding.fine, finding.detail) == (True, "9.9")
