"""Settings shared by all tests: how many examples the property tests try.

``default`` repeats the same few examples on every run; ``fuzz`` (``make fuzz``) tries many fresh ones.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Compiling an example takes seconds: no deadline, and no complaint about slow generation.
settings.register_profile(
    "default", max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("fuzz", max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("default")
