"""Many cases in a few statements, and still a verdict for each.

A warehouse takes most of its time for a statement, not for the few rows of a case. So cases are computed together, and
each is told what came of its own part. Only what is right there is settled by it: a case whose part is not as it should
be, and every case where the warehouse refused the whole, is computed alone, and that decides.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import ibis
import ibis.expr.operations as ops
import pyarrow as pa
import pytest

from entrepot.backends import Session
from entrepot.backends.base import physical
from entrepot.backends.sql.session import SqlSession
from tests.conformance.target import Target

AT_ONCE = 10
"""Expressions in one statement: more make plans that take longer than they save."""
WHOSE = "whose"
"""The column that says which expression a row is of."""


def asked_for(items: Iterable[pytest.Item], function: str, target: str) -> list[Any]:
    """The cases that a test function is given in this session for a backend, but for those that are known gaps."""
    return [
        item.callspec.params["case"]
        for item in items
        if isinstance(item, pytest.Function)
        and item.originalname == function
        and item.callspec.params.get("target") == target
        and item.get_closest_marker("xfail") is None
    ]


def holds(check: Callable[[], None]) -> bool:
    """Whether what a check asserts is so."""
    try:
        check()
    except AssertionError:
        return False
    return True


class Together:
    """Expressions that are computed by the warehouse into a few tables, when the first of them is asked for.

    Each is a SELECT as the driver writes it, and `UNION ALL` puts them together: a row says whose it is, and has NULL
    in the columns of all others. A bare NULL has no type, so each column has the type that its own SELECT gives it.
    """

    def __init__(self, target: Target, expressions: Mapping[str, Callable[[], ibis.Table]]) -> None:
        self._target = target
        self._expressions = dict(expressions)
        self._groups = [list(expressions)[n : n + AT_ONCE] for n in range(0, len(expressions), AT_ONCE)]
        self._tables: dict[str, pa.Table] = {}

    def table(self, id: str) -> pa.Table | None:
        """The rows of one of the expressions; None if it has to be computed alone."""
        group = next((group for group in self._groups if id in group), None)
        if group is not None:
            self._groups.remove(group)
            with contextlib.suppress(Exception), self._target.session() as session:
                assert isinstance(session, SqlSession)
                self._tables |= self._computed(session, dict(self._written(session, group)))
        return self._tables.get(id)

    def _written(self, session: SqlSession, group: Sequence[str]) -> Iterator[tuple[str, tuple[ibis.Table, str]]]:
        """Those that can be put together with others. What cannot be built fails where it is computed alone."""
        for id in group:
            with contextlib.suppress(Exception):
                expression = self._expressions[id]()
                if not expression.op().find(ops.InMemoryTable):  # create_as makes a table for these, while it runs
                    yield id, (expression, session._select(expression))

    def _computed(self, session: SqlSession, written: Mapping[str, tuple[ibis.Table, str]]) -> dict[str, pa.Table]:
        expressions = {id: expression for id, (expression, _) in written.items()}
        columns = {
            (id, column): f"c{number}_{position}"
            for number, (id, expression) in enumerate(expressions.items())
            for position, column in enumerate(expression.columns)
        }
        types = {columns[id, name]: t for id, e in expressions.items() for name, t in e.schema().items()}
        selects = [
            self._padded(session, number, select, id, columns)
            for number, (id, (_, select)) in enumerate(written.items())
        ]
        name = self._target.new_name()
        made = session._made(name, "\nUNION ALL\n".join(selects), ibis.schema({WHOSE: "int64", **types}))
        found = session.read(physical(name, made.columns)).read_all()
        assert found.num_rows == made.rows
        whose = found[WHOSE].to_pylist()
        tables: dict[str, pa.Table] = {}
        for number, (id, expression) in enumerate(expressions.items()):
            own = found.select([columns[id, column] for column in expression.columns]).rename_columns(
                expression.columns
            )
            tables[id] = own.take(pa.array([n for n, each in enumerate(whose) if each == number], pa.int64()))
        return tables

    def _padded(
        self, session: Session, number: int, select: str, id: str, columns: Mapping[tuple[str, str], str]
    ) -> str:
        """A SELECT with the columns of all."""
        quoted = session.dialect.identifier
        own = [f"{f'q.{quoted(c)}' if of == id else 'NULL'} AS {quoted(name)}" for (of, c), name in columns.items()]
        return f"SELECT {', '.join([f'{number} AS {quoted(WHOSE)}', *own])} FROM ({select}) AS q"
