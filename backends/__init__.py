"""The warehouses: a folder each, of the same files, found by entry points of the group `entrepot.backends`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from entrepot.backends.base import Backend, Capabilities, CreatedTable, QueryTag, RelationKind, Session, TableName
from entrepot.backends.dialect import Dialect
from entrepot.errors import BadInput, unknown

__all__ = [
    "Backend",
    "Capabilities",
    "CreatedTable",
    "QueryTag",
    "RelationKind",
    "Session",
    "TableName",
    "capabilities",
    "create",
    "dialect",
    "known",
]

GROUP = "entrepot.backends"


def known() -> list[str]:
    """The names of the backends that are installed."""
    return sorted(entry.name for entry in entry_points(group=GROUP))


def dialect(name: str) -> Dialect:
    """A warehouse's SQL, without a connection and without its client.

    Raises:
        BadInput: for an unknown backend.
    """
    return _driver(name).dialect


def capabilities(name: str) -> Capabilities:
    """What a warehouse can do.

    Raises:
        BadInput: for an unknown backend.
    """
    return _driver(name).capabilities


@cache
def _driver(name: str) -> type[Backend]:
    """Found once: looking through all that is installed takes milliseconds."""
    for entry in entry_points(group=GROUP, name=name):
        cls: type[Backend] = entry.load()
        return cls
    raise BadInput(unknown("backend", name, known()))


def create(settings: Mapping[str, Any], where: str) -> Backend:
    """The backend that a tenant's settings describe; `type` names it.

    Raises:
        BadInput: for an unknown type or settings that it does not take; `where` says whose they are.
    """
    kind = settings.get("type")
    if kind not in known():
        raise BadInput(f"{where}: {unknown('backend type', kind, known())}")
    return _driver(str(kind)).from_settings({k: v for k, v in settings.items() if k != "type"}, where)
