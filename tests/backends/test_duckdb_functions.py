"""Functions in Python that DuckDB calls: each session has its own, though all names of a file stand in one list."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ibis

from entrepot.backends import QueryTag, Session
from entrepot.backends.duckdb.backend import DuckDB


def calling(change: Callable[[int], int]) -> ibis.Table:
    """An expression over a function that is called as those of all other callers."""

    def changed(n: int) -> int:
        return change(n)

    function = ibis.udf.scalar.python(changed)
    type(function(1).op()).__name__ = "changed_0"  # ibis counts in each process anew
    numbers = ibis.range(3).unnest().name("n").as_table()
    return numbers.mutate(twice=function(function(numbers.n)))


def found(session: Session, expression: ibis.Table) -> list[int]:
    return [row["twice"] for row in session.fetch(expression).to_pylist()]


def test_sessions_call_their_own_functions_and_leave_none(tmp_path: Path) -> None:
    backend = DuckDB(str(tmp_path / "a.duckdb"), {})
    tag = QueryTag("acme", "run", "step")
    with backend.session(tag) as keeps_it_open:
        with backend.session(tag) as one, backend.session(tag) as other:
            rows = one.read(calling(lambda n: n + 1))
            assert found(other, calling(lambda n: n * 10)) == [0, 100, 200]
            assert found(other, calling(lambda n: n - 1)) == [-2, -1, 0]
            assert rows.read_all()["twice"].to_pylist() == [2, 3, 4]
        with backend.session(tag) as later:
            assert found(later, calling(lambda n: n + 5)) == [10, 11, 12]
        left = "SELECT count(*) AS n FROM duckdb_functions() WHERE function_name LIKE 'changed%'"
        assert keeps_it_open.query(left) == [{"n": 0}]
    backend.close()
