"""What steps and tables may be called, and the names that are taken."""

from __future__ import annotations

import re

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
LONGEST_NAME = 40
NESTED = re.compile(rf"{NAME.pattern}(__{NAME.pattern})+")
"""A table of what was nested in another, as dlt names it: `orders__items`."""
LONGEST_NESTED = 80
"""Leaves room for a version's suffix within the 63 characters that the narrowest warehouses allow."""
NOMINAL_TIME = "nominal_time"
"""What every step may take without declaring it: the time for which a run computes, in UTC and without zone."""
RESERVED = frozenset({"entrepot", "information_schema", "main", "public", "tenant", "environment", "run", NOMINAL_TIME})
DEFAULT_ENVIRONMENT = "prod"
"""Where runs publish unless they are told otherwise; its tables stand in the pipeline's own schema."""
CONTRACT_SUFFIX = ".contract"
"""`departures.contract` is the check that the contract of `departures` stands for; users cannot write a dot."""
