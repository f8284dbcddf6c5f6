"""What is no function of a step's inputs: the clock, chance, and rows of which any would do.

What a step makes of these is never up to date, so it is computed at every run, and the plan says why.
"""

from __future__ import annotations

import random
import sys
import types
from collections.abc import Iterable
from typing import Any

CLOCK = "it reads the clock"
CHANCE = "it draws at random"
ANY_ROWS = "it takes some rows of a table in no order"

_WAREHOUSE = {
    CLOCK: {
        *("now", "today", "getdate", "sysdate", "systimestamp", "localtime", "localtimestamp", "clock_timestamp"),
        *("current_date", "current_time", "current_timestamp", "current_datetime", "current_localtime"),
        *("current_localtimestamp", "get_current_time", "get_current_timestamp", "transaction_timestamp"),
        *("statement_timestamp", "unix_timestamp", "txid_current"),
    },
    CHANCE: {
        *("random", "rand", "randn", "randstr", "uniform", "normal", "setseed", "shuffle", "seq1", "seq2", "seq4"),
        *("seq8", "nextval", "monotonically_increasing_id", "uuid", "uuidv4", "uuidv7", "gen_random_uuid"),
        *("generate_uuid", "uuid_string"),
    },
}
"""Functions of warehouses, which an expression calls by their names."""

_PYTHON = {
    CLOCK: {
        *("datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today"),
        *("time.time", "time.time_ns", "time.localtime", "time.gmtime", "time.ctime", "time.asctime"),
        *("pandas.Timestamp.now", "pandas.Timestamp.today", "pandas.Timestamp.utcnow"),
        *("ibis.now", "ibis.today", "ibis.expr.api.now", "ibis.expr.api.today"),
    },
    CHANCE: {
        *(f"random.{name}" for name in dir(random) if isinstance(getattr(random, name), types.MethodType)),
        *("random.random", "random.getrandbits", "random.randbytes", "random.SystemRandom"),
        *("os.urandom", "posix.urandom", "uuid.uuid1", "uuid.uuid4", "secrets"),
        *(f"numpy.random.{n}" for n in ("rand", "randn", "randint", "random", "choice", "normal", "uniform")),
        *(f"numpy.random.{n}" for n in ("random_sample", "shuffle", "permutation", "standard_normal", "poisson")),
        *("ibis.random", "ibis.uuid", "ibis.expr.api.random", "ibis.expr.api.uuid"),
    },
}
"""What Python code reads, by the names of modules and classes."""
_SEEDED = {"random.seed", "numpy.random.seed"}


def of_function(name: str) -> str:
    """Why the value of a warehouse's function is no function of its inputs; empty, if it is one."""
    return next((why for why, names in _WAREHOUSE.items() if name.lower() in names), "")


def of_names(names: Iterable[str]) -> str:
    """Why what Python code computes is no function of its inputs, by the dotted names that it reads."""
    read = {*names}
    for why, known in _PYTHON.items():
        if why == CHANCE and read & _SEEDED:
            continue
        if any(name in known or name.partition(".")[0] in known for name in read):
            return why
    return ""


def dotted(value: Any, path: tuple[str, ...] = ()) -> str:
    """The name of a module, class or function of another package, and of what is read from it."""
    owner = getattr(value, "__self__", None)
    if isinstance(value, types.ModuleType):
        root = value.__name__
    elif isinstance(owner, types.ModuleType | type):
        root = f"{dotted(owner)}.{value.__name__}"
    elif owner is not None and (generator := _generator(owner)):
        root = f"{generator}.{value.__name__}"
    else:
        root = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"
    if isinstance(value, type) and value.__module__.partition(".")[0] == "pandas":
        root = f"pandas.{value.__qualname__}"
    return ".".join([root, *path])


def _generator(value: Any) -> str:
    """The module whose hidden generator of random numbers a value is."""
    of_numpy = getattr(sys.modules.get("numpy.random.mtrand"), "_rand", None)
    return "random" if value is getattr(random, "_inst", None) else "numpy.random" if value is of_numpy else ""
