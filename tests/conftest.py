"""Every engine of these tests, those of servers they start included, checks its invariants at every step."""

import os

os.environ["ROOST_DEBUG"] = "1"
