"""How DuckDB's client opens a file, and what its errors mean."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import duckdb

from entrepot.backends.sql.session import Exists
from entrepot.errors import Contended, EntrepotError, StepFailed, Unavailable


def connect(path: str, options: Mapping[str, Any]) -> duckdb.DuckDBPyConnection:
    """The open file. `options`: DuckDB's own, such as `threads`.

    Raises:
        Unavailable: if there is no using it now; `Locked` if another process has it.
    """
    with translated(path):
        connection = duckdb.connect(path, config=configuration(options))
        # ibis writes functions over arrays with an arrow, which DuckDB would rather have otherwise.
        # Without GLOBAL, the cursors of the sessions would not have it.
        connection.execute("SET GLOBAL TimeZone = 'UTC'; SET GLOBAL lambda_syntax = 'ENABLE_SINGLE_ARROW'")
        return connection


def configuration(options: Mapping[str, Any], **more: str) -> dict[str, str | bool | int | float | list[str]]:
    """How DuckDB is set up, whoever opens the file."""
    # Rows have no order in a warehouse; not keeping one lets DuckDB stream instead of buffering.
    return {"preserve_insertion_order": "false", **{name: str(value) for name, value in options.items()}, **more}


class Locked(Unavailable):
    """Another process has the file."""


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Says what a failure means: of file, lock or disk, which a retry may cure, or of a statement, which none cures."""
    try:
        yield
    except InterruptedError:
        raise
    except duckdb.InterruptException as error:
        raise InterruptedError("cancelled") from error
    except OSError as error:
        raise Unavailable(f"the DuckDB file {path} cannot be used: {error.strerror or error}") from error
    except RuntimeError as error:
        # What C++ says, and nothing of DuckDB's own.
        if str(error).startswith("std::"):
            raise Unavailable(f"DuckDB failed inside at the file {path}: {error}") from error
        raise
    except duckdb.Error as error:
        raise _meaning(error, path) from error


_REFUSED = (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError)
"""What DuckDB says of a statement that it does not understand, or of values that it cannot compute."""


def _meaning(error: duckdb.Error, path: str) -> EntrepotError:
    text = str(error)
    message = " ".join(text.partition("\nLINE ")[0].split())  # without the statement
    if "Could not set lock" in text:
        holder = re.search(r"held in (.*?) \(PID (\d+)\)", text)
        who = f"process {holder[2]} ({os.path.basename(holder[1])})" if holder else "another process"
        return Locked(
            f"the DuckDB file {path} is locked by {who}; close it there, since one process at a time can write"
        )
    if isinstance(error, duckdb.OutOfMemoryException):
        return _out_of_memory(text, path)
    if not isinstance(error, _REFUSED) and (reason := _OF_A_DISK.search(message)) is not None:
        return Unavailable(f"{_place(message, path)} cannot be {_done(message)}: {reason[0]}")
    if isinstance(error, duckdb.CatalogException) and "already exists" in text:
        return Exists(f"another run writes the same to {path}: {message}")
    if isinstance(error, duckdb.TransactionException | duckdb.ConstraintException):
        return Contended(f"another run writes the same to {path}: {message}")
    if "No files found" in text:
        return StepFailed(f"a file that DuckDB is to read is gone: {message}")
    if isinstance(error, duckdb.IOException | duckdb.ConnectionException):
        return Unavailable(f"{_place(message, path)} cannot be used: {message}")
    if isinstance(error, _REFUSED) and "database has been invalidated" not in text:
        return StepFailed(f"DuckDB cannot compute it: {message}")
    return Unavailable(f"DuckDB failed at the file {path}: {message}")


_OF_A_DISK = re.compile(
    "No space left on device|Disk quota exceeded|File too large|Read-only file system|Permission denied"
    "|Input/output error|Too many open files",
    re.IGNORECASE,
)
"""What the machine says of a file, as DuckDB passes it on."""


def _place(text: str, path: str) -> str:
    """Which file a message is about: the warehouse itself, what does not fit into memory, or a file that is read."""
    named = re.search(r'"(/[^"]+)"', text)
    if named is None or named[1] in (path, f"{path}.wal"):
        return f"the DuckDB file {path}"
    return f"DuckDB's temporary file {named[1]}" if named[1].startswith(f"{path}.tmp") else f"the file {named[1]}"


def _done(text: str) -> str:
    return "read" if re.search("Cannot open file|Could not read|Cannot read", text, re.IGNORECASE) else "written"


def _out_of_memory(text: str, path: str) -> Unavailable:
    used = re.search(r"\(([^()]+ used)\)", text)
    so_much = f" ({used[1]})" if used else ""
    if "max_temp_directory_size" in text:
        return Unavailable(
            f"the disk that holds {path}.tmp is full{so_much}: DuckDB writes there what does not fit into its memory; "
            "make room, or raise the backend's `memory_limit`"
        )
    return Unavailable(
        f"DuckDB has no memory left at the file {path}{so_much}; raise the backend's `memory_limit`, lower its "
        "`threads`, or let the step do less at once"
    )
