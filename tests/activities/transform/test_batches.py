"""Tables of parts, written together."""

from __future__ import annotations

import itertools
from pathlib import Path

import ibis

from entrepot.activities.transform.batches import MOST_TOGETHER, written_together
from entrepot.activities.transform.increments import segment
from entrepot.backends import QueryTag, TableName
from entrepot.backends import create as create_backend
from entrepot.backends.base import physical


def test_many_parts_are_written_together_by_and_by(tmp_path: Path) -> None:
    number = 3 * MOST_TOGETHER + 1
    backend = create_backend({"type": "duckdb", "path": str(tmp_path / "parts.duckdb")}, "test")
    numbers = itertools.count()
    with backend.session(QueryTag("acme", "run", "step")) as session:
        session.create_schema("v")
        parts = []
        for n in range(number):
            name = TableName("v", f"part{n}")
            parts.append(segment(name, session.create_as(name, ibis.range(n, n + 1).unnest().name("n").as_table())))
        target = TableName("v", "whole")
        made = written_together(
            session, parts, target, lambda: TableName("v", f"together{next(numbers)}"), lambda: None
        )
        rows = session.fetch(physical(target, made.columns))["n"].to_pylist()
        assert (made.rows, sorted(rows)) == (number, list(range(number)))
        assert sorted(session.tables("v")) == ["whole"]
    backend.close()
