"""The ibis operations that people use, each with what it must give, computed by Python and never by a warehouse.

TPC-H's queries alone are held against plain SQL.
"""

from tests.conformance.cases import Case
from tests.conformance.operations.aggregates import AGGREGATES
from tests.conformance.operations.conditionals import CONDITIONALS, NESTED
from tests.conformance.operations.hard_numbers import HARD_NUMBERS
from tests.conformance.operations.hard_texts import HARD_TEXTS
from tests.conformance.operations.hard_times import HARD_TIMES
from tests.conformance.operations.joins import JOINS, SETS
from tests.conformance.operations.numbers import CASTS, NUMBERS_CASES
from tests.conformance.operations.strings import STRINGS
from tests.conformance.operations.times import TIMES_CASES, ZONES
from tests.conformance.operations.tpch import TPCH
from tests.conformance.operations.windows import ORDER, RESHAPING, WINDOWS

CASES: list[Case] = [
    *JOINS,
    *SETS,
    *WINDOWS,
    *ORDER,
    *RESHAPING,
    *AGGREGATES,
    *STRINGS,
    *NUMBERS_CASES,
    *CASTS,
    *TIMES_CASES,
    *ZONES,
    *CONDITIONALS,
    *NESTED,
    *HARD_NUMBERS,
    *HARD_TEXTS,
    *HARD_TIMES,
    *TPCH,
]

__all__ = ["CASES"]
