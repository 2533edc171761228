from __future__ import annotations

from tests.keras_jobs import keras, keras_cache

__all__ = ["keras", "keras_cache"]
