"""DuckDB in memory: for tests of pipelines, and gone with what opened it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from entrepot.backends.base import QueryTag, Session
from entrepot.backends.duckdb.backend import DuckDB, DuckDBSession
from entrepot.backends.duckdb.client import connect

_PATH = ":memory:"


class InMemory(DuckDB):
    """A database in memory. It does what one in a file does, and nobody has to wait for it."""

    def __init__(self) -> None:
        self.path = _PATH
        self.options = {}
        self._database = connect(_PATH, self.options)

    @contextmanager
    def session(self, tag: QueryTag, opened: Callable[[Session], None] | None = None) -> Iterator[Session]:
        session = DuckDBSession(tag, self.path)
        if opened is not None:
            opened(session)
        try:
            session.open(self._database)
            yield session
        finally:
            session.close()

    @property
    def place(self) -> str:
        return "memory of this process"

    def compact(self, check: Callable[[], None]) -> int:
        return 0

    def close(self) -> None:
        self._database.close()
