from __future__ import annotations

from tests.keras_jobs import fit_epochs, keras, keras_cache

__all__ = ["fit_epochs", "keras", "keras_cache"]
