"""An expression that has been bytes is the same, and its author's functions are asked for where they are."""

from __future__ import annotations

import pickle

import ibis
import pyarrow as pa
import pytest
from ibis import _

from entrepot.backends.duckdb.dialect import DIALECT
from entrepot.identity.expression import described, nodes_of
from entrepot.planning.expressions.built import Built, elsewhere

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
    again = pickle.loads(pickle.dumps(Built(nodes_of(MADE))))
    assert DIALECT.compile(again.read()) == DIALECT.compile(MADE)
    assert pickle.dumps(pickle.loads(pickle.dumps(again))) == pickle.dumps(again)


@pytest.mark.parametrize("depth", [200, 900])
def test_it_may_be_nested_as_deeply_as_python_builds_it(depth: int) -> None:
    value = TABLE.n
    for _number in range(depth):
        value = value + 1
    made = TABLE.mutate(value=value)
    again: Built = pickle.loads(pickle.dumps(Built(nodes_of(made))))
    assert described(nodes_of(again.read())) == described(nodes_of(made))


def test_each_function_is_found_by_its_number() -> None:
    numbers = {each.number for each in elsewhere(pickle.loads(pickle.dumps(Built(nodes_of(MADE)))).read())}
    found = [Built(nodes_of(MADE)).function(number) for number in sorted(numbers)]
    assert {(function.__name__, str(dtype), arrays) for function, dtype, arrays in found} == {
        ("doubled", str(pa.int64()), False),
        ("added", str(pa.int64()), True),
    }
