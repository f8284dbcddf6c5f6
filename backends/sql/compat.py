"""What is used of ibis that is not public. Each name has a test in `tests/unit/backends/test_private_names.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ibis
    import ibis.expr.schema as sch


def prepare(backend: Any, expression: ibis.Table) -> None:
    """Makes the rows and functions of an expression that live in Python known to the connection of ibis's backend."""
    backend._run_pre_execute_hooks(expression)


def databricks_over(connection: Any, compiler: Any, volume: str, describe: Callable[[str, str], sch.Schema]) -> Any:
    """ibis's backend for Databricks over a connection. It brings rows through a volume that is there, and makes none.

    `describe`: the columns of a table, from its schema's name and its own.
    """
    from ibis.backends.databricks import Backend

    class OverConnection(Backend):  # type: ignore[misc]
        _memtable_volume_path = volume

        def _post_connect(self, **_: Any) -> None:
            pass

        def get_schema(self, table_name: str, *, catalog: str | None = None, database: str | None = None) -> sch.Schema:
            return describe(database or "default", table_name)

    OverConnection.compiler = compiler
    return OverConnection.from_connection(connection)
