"""Every engine of these tests, those of servers they start included, checks its invariants at every step."""

import os

from hypothesis import HealthCheck, settings

os.environ["ROOST_DEBUG"] = "1"
# How long an example takes says something of the machine and its load, nothing of the code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
