"""What PostgreSQL's errors mean to Entrepot."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import ibis.expr.datatypes as dt
import psycopg
from entrepot.backends.sql.session import Exists
from entrepot.errors import BadInput, Contended, EntrepotError, StepFailed, Unavailable

# By SQLSTATE, or by the class that it begins with.
_KINDS: Mapping[str, type[EntrepotError]] = {
    "08": Unavailable,  # the connection
    "23505": Contended,
    "28": BadInput,  # who it is
    "3D": BadInput,  # no such database
    "3F": BadInput,  # no such schema
    "40": Contended,  # the transaction cannot be serialised, or a deadlock
    "42501": BadInput,  # a grant is missing
    "42710": Exists,
    "42P06": Exists,
    "42P07": Exists,
    "53": Unavailable,  # disk, memory or connections are used up
    "55006": Contended,
    "55P03": Contended,  # another session holds the lock for too long
    "57": Unavailable,  # cancelled by somebody, shut down, starting up
    "58": Unavailable,
    "XX000": Contended,  # "tuple concurrently updated": two change one view
}
# A failed login has no SQLSTATE, since the client passes on its text alone.
_NEVER = re.compile(
    r"authentication failed|does not exist|no password supplied|pg_hba\.conf|permission denied|not permitted to log in"
    r"|invalid (sslmode|port)"
)


@contextmanager
def translated(place: str, host: str = "") -> Iterator[None]:
    """Turns the client's errors into Entrepot's; `place` says where. `host`: of the server that is logged in to."""
    try:
        yield
    except psycopg.Error as error:
        text = " ".join(str(error).split())
        sentence = f"{place}: {text} ({error.sqlstate})" if error.sqlstate else f"{place}: {text}"
        raise (_login(error, host) if host else _kind(error))(sentence) from error


def _kind(error: psycopg.Error) -> type[EntrepotError]:
    state = error.sqlstate
    if state is None:
        is_ours = isinstance(error, psycopg.DataError | psycopg.ProgrammingError | psycopg.NotSupportedError)
        return StepFailed if is_ours else Unavailable
    if state == "23505" and error.diag.schema_name == "pg_catalog":  # made by two at the same moment
        return Exists
    return _KINDS.get(state) or _KINDS.get(state[:2]) or StepFailed


def _login(error: psycopg.Error, host: str) -> type[EntrepotError]:
    try:
        socket.getaddrinfo(host, None)
    except socket.gaierror as problem:
        return BadInput if problem.errno == socket.EAI_NONAME else Unavailable
    return BadInput if _NEVER.search(str(error)) else Unavailable


def refused(name: str, dtype: dt.DataType, place: str) -> dt.DataType:
    """The type of a column, unless PostgreSQL has none for it.

    Raises:
        BadInput: if it has none.
    """
    inner = dtype.value_type if dtype.is_array() else dtype
    if inner.is_nested() or inner.is_interval() or inner.is_geospatial():
        raise BadInput(f"{place}: column {name!r} cannot be loaded: there is no type for {dtype}")
    return dtype
