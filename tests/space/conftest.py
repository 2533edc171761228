from __future__ import annotations

from hypothesis import HealthCheck, settings

# The machine may be busy, so nothing here depends on how long an example takes, nor on chance.
settings.register_profile("space", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("space")
