"""How the Snowflake client is opened, how it proves who it is, and what its errors mean."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from entrepot.backends.sql.session import Exists
from entrepot.errors import BadInput, Contended, EntrepotError, StepFailed, Unavailable

LOGIN_SECONDS = 20
"""How long the client tries to log in. Then the activity fails, and is tried again."""
REQUEST_SECONDS = 900
"""How long one request is tried again while nothing answers. A statement takes as long as it takes: it is asked for."""

_PARAMETERS = {
    "TIMEZONE": "UTC",
    # What an account may have set otherwise, and what SQL means by it.
    "AUTOCOMMIT": True,
    "QUOTED_IDENTIFIERS_IGNORE_CASE": False,
    "TIMESTAMP_TYPE_MAPPING": "TIMESTAMP_NTZ",
    "WEEK_START": 0,
    "WEEK_OF_YEAR_POLICY": 0,
    "JSON_INDENT": 0,
    "STRICT_JSON_OUTPUT": True,
}


def connect(settings: Mapping[str, Any], where: str, place: str) -> Any:
    """An open connection. `place`: the account, for sentences.

    Raises:
        BadInput: if there will never be one: a wrong account, user, key, database or warehouse.
        Unavailable: if there is none now.
    """
    import snowflake.connector

    known = ("account", "user", "database", "warehouse", "role", "host", "port", "protocol")
    try:
        with translated(place):
            return snowflake.connector.connect(
                **{key: settings[key] for key in known if key in settings},
                **_credentials(settings, where),
                application="entrepot",
                session_parameters=_PARAMETERS,
                # Or else a database or warehouse that is not there would be missed by the first statement only.
                validate_default_parameters=True,
                login_timeout=LOGIN_SECONDS,
                network_timeout=REQUEST_SECONDS,
                # A session outlives the four hours that its token is valid.
                client_session_keep_alive=True,
                # Or else decimals come as floats.
                arrow_number_to_decimal=True,
                # The pool closes them, and nothing runs in them then.
                auto_cleanup=False,
                enable_server_session_keep_alive_auto_detection=False,
            )
    except Unavailable as error:
        host = settings.get("host") or f"{settings['account']}.snowflakecomputing.com"
        raise _unreachable(error, host, place) from error


def execute(cursor: Any, sql: str, tag: str) -> None:
    """Runs a statement with its QUERY_TAG, without a statement of its own to set that."""
    cursor.execute(sql, _statement_params={"QUERY_TAG": tag})


def type_name(column: Any) -> str:
    """What Snowflake calls the type of a result's column."""
    from snowflake.connector.constants import FIELD_ID_TO_NAME  # type: ignore[attr-defined]

    return str(FIELD_ID_TO_NAME[column.type_code])


def _unreachable(error: Unavailable, host: str, place: str) -> EntrepotError:
    """What a failed login means, by what becomes of the host's name."""
    try:
        socket.getaddrinfo(host, None)
    except socket.gaierror as problem:
        if problem.errno == socket.EAI_NONAME:
            return BadInput(f"{place}: there is no host {host!r}; is the account's name right?")
    if re.search(r"\b40[34]\b", str(error)):
        return BadInput(f"{error}; does {host!r} have this account?")
    return Unavailable(f"{error} (host {host!r})")


def _credentials(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    if "password" in settings:
        return {"password": settings["password"].read()}
    from cryptography.hazmat.primitives import serialization

    passphrase = settings.get("private_key_passphrase")
    try:
        key = serialization.load_pem_private_key(
            settings["private_key"].read().encode(), passphrase.read().encode() if passphrase else None
        )
    except (TypeError, ValueError) as error:
        raise BadInput(
            f"{where}: `private_key` is not a PEM private key that "
            + ("`private_key_passphrase` opens" if passphrase else "opens without `private_key_passphrase`")
        ) from error
    der = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return {"authenticator": "SNOWFLAKE_JWT", "private_key": der}


# By Snowflake's error numbers.
_KINDS: Mapping[int, type[EntrepotError]] = {
    603: Unavailable,  # an internal error
    604: Unavailable,  # cancelled by somebody
    606: Unavailable,  # the warehouse is suspended and does not resume by itself
    625: Contended,  # another transaction holds the lock for too long
    630: Unavailable,  # longer than the statement timeout of the account
    2002: Exists,
    2003: BadInput,  # there is no such database, schema or table, or no grant
    2043: BadInput,
    3001: BadInput,  # a grant is missing
    90073: Unavailable,  # the quota of the warehouse's resource monitor is used up
    90105: BadInput,  # no current database
    90106: BadInput,
}
# Tokens that expired: a new login gets new ones.
_EXPIRED = {390104, *range(390110, 390116), 390195, 390318}


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Turns the client's errors into Entrepot's; `place` says where."""
    from snowflake.connector import errors

    try:
        yield
    except errors.Error as error:
        number = error.errno if isinstance(error.errno, int) else -1
        raise _kind(error, number)(f"{place}: {_sentence(error, number)}") from error


def _kind(error: Exception, number: int) -> type[EntrepotError]:
    from snowflake.connector import errors

    if number in _KINDS:
        return _KINDS[number]
    if number in _EXPIRED or 300_000 <= number < 301_000:
        return Unavailable
    if 390_000 <= number < 400_000:  # of the login
        return BadInput
    refused = (errors.ProgrammingError, errors.DataError, errors.IntegrityError, errors.NotSupportedError)
    # The client's own numbers, from 250000 on, are of the network and of files.
    if isinstance(error, refused) and 0 < number < 250_000:
        return StepFailed
    return Unavailable


def _sentence(error: Any, number: int) -> str:
    text = " ".join((error.raw_msg or str(error)).split())
    text = text.removeprefix("Failed to login: ").removeprefix("Login error: ")
    text = re.sub(rf"^{number:06} \(\w+\): |,? code: {number}$", "", text)
    return f"{text} ({number:06})" if number > 0 else text
