"""An expression that has been bytes is the same, and its author's functions are asked for where they are."""

from __future__ import annotations

import pickle

import ibis
import pyarrow as pa
from ibis import _

from entrepot.backends.duckdb.dialect import DIALECT
from entrepot.planning.built import Built, elsewhere

TABLE = ibis.table({"n": "int64", "word": "string", "x": "float64"}, name="t")


@ibis.udf.scalar.builtin
def soundex(word: str) -> str: ...


@ibis.udf.scalar.python
def doubled(n: int) -> int:
    return 2 * n


@ibis.udf.scalar.pyarrow
def added(n: int, m: int) -> int:
    return n


MADE = (
    TABLE.mutate(sound=soundex(_.word), two=doubled(_.n), four=doubled(doubled(_.n)), more=added(_.n, _.n))
    .join(TABLE.view(), "n")
    .filter(_.two > 1)
)


def test_it_compiles_to_the_same() -> None:
    again = pickle.loads(pickle.dumps(Built(MADE)))
    assert DIALECT.compile(again.read()) == DIALECT.compile(MADE)
    assert pickle.dumps(pickle.loads(pickle.dumps(again))) == pickle.dumps(again)


def test_each_function_is_found_by_its_number() -> None:
    numbers = {each.number for each in elsewhere(pickle.loads(pickle.dumps(Built(MADE))).read())}
    found = [Built(MADE).function(number) for number in sorted(numbers)]
    assert {(function.__name__, str(dtype), arrays) for function, dtype, arrays in found} == {
        ("doubled", str(pa.int64()), False),
        ("added", str(pa.int64()), True),
    }
