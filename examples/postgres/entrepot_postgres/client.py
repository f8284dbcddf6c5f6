"""How PostgreSQL's client is opened, and what its errors mean."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from entrepot.backends.sql.session import Exists
from entrepot.errors import BadInput, Contended, EntrepotError, StepFailed, Unavailable

LOGIN_SECONDS = 20
"""How long the client tries to log in. Then the activity fails, and is tried again."""

LOCK_SECONDS = 20
"""How long a statement waits for another session that has locked what it needs."""


def connect(settings: Mapping[str, Any], place: str) -> psycopg.Connection[Any]:
    """An open connection. `place`: the database, for sentences.

    Raises:
        BadInput: if there will never be one: a wrong password, a missing database or grant.
        Unavailable: if there is none now.
    """
    given = {key: value for key, value in settings.items() if key not in ("database", "password")}
    with translated(place, settings["host"]):
        connection = psycopg.connect(
            **given,
            dbname=settings["database"],
            password=settings["password"].read() if "password" in settings else None,
            autocommit=True,
            connect_timeout=LOGIN_SECONDS,
            application_name="entrepot",
            client_encoding="utf8",
            # A prepared statement fails as soon as a view that it reads has other columns.
            prepare_threshold=None,
        )
        connection.execute(f"SET TimeZone = 'UTC'; SET lock_timeout = '{LOCK_SECONDS}s'")
        return connection


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
