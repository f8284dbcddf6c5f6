"""Who may log in, and what a session remembers."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import re
import secrets
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from fakesnow.conn import FakeSnowflakeConnection
from fakesnow.instance import FakeSnow

PASSWORDS = {"FAKE": "snow"}
SERVICE = secrets.token_urlsafe(24)

REFUSED = ("390100", "Incorrect username or password was specified.")
BAD_JWT = ("390144", "JWT token is invalid.")
NO_DATABASE = ("390201", "The requested database does not exist or not authorized.")
LOGIN_AGAIN = ("390104", "User must login again to access the service.")
NO_TOKEN = ("390103", "Session token not found in the request data.")


class Refused(Exception):
    """A login, or a request without a session, that Snowflake answers with this code and text."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


@dataclass
class Session:
    """One login: a DuckDB connection of its own, and what was set with ALTER SESSION."""

    number: int
    user: str
    connection: FakeSnowflakeConnection
    parameters: dict[str, str]
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """A DuckDB connection runs one statement at a time; Snowflake's sessions need not, but clients rarely notice."""
    in_transaction: bool = False
    last_select: str | None = None


class Sessions:
    """The open sessions by token, and the users' public keys."""

    def __init__(self, engine: FakeSnow) -> None:
        self._engine = engine
        self._numbers = itertools.count(1)
        self._by_token: dict[str, Session] = {}
        self._by_master: dict[str, str] = {}
        self._keys: dict[str, str] = {}

    def login(self, data: dict[str, Any], database: str | None, schema: str | None) -> tuple[str, str, Session]:
        """Opens a session. Returns its token, the master token that renews it, and the session.

        Raises:
            Refused: as Snowflake refuses.
        """
        user = self._authenticated(data)
        parameters = {k.upper(): str(v) for k, v in (data.get("SESSION_PARAMETERS") or {}).items()}
        connection = self._engine.connect(
            database, schema, autocommit=parameters.get("AUTOCOMMIT", "true").lower() != "false"
        )
        # Snowflake lets a session begin in a database that is not there, unless it is told to look.
        if database and not connection.database_set and "CLIENT_VALIDATE_DEFAULT_PARAMETERS" in parameters:
            raise Refused(*NO_DATABASE)
        session = Session(next(self._numbers), user, connection, parameters)
        connection.facts = {
            "CURRENT_SESSION": str(session.number),
            "CURRENT_USER": user,
            "CURRENT_ROLE": "PUBLIC",
            "CURRENT_WAREHOUSE": "ENTREPOT",
        }
        token, master = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        self._by_token[token] = session
        self._by_master[master] = token
        return token, master, session

    def _authenticated(self, data: dict[str, Any]) -> str:
        user = str(data.get("LOGIN_NAME", "")).upper()
        if str(data.get("AUTHENTICATOR", "")).upper() == "SNOWFLAKE_JWT":
            self._check_jwt(user, str(data.get("TOKEN", "")))
        elif not (user in PASSWORDS and PASSWORDS[user] == data.get("PASSWORD")):
            raise Refused(*REFUSED)
        return user

    def _check_jwt(self, user: str, token: str) -> None:
        """A key-pair login: signed with the user's key, in the name of the user and of the key's fingerprint."""
        try:
            key = serialization.load_der_public_key(base64.b64decode(self._keys[user]))
            claims = jwt.decode(token, key, algorithms=["RS256"], options={"verify_aud": False})
        except (KeyError, ValueError, jwt.PyJWTError):
            raise Refused(*BAD_JWT) from None
        fingerprint = base64.b64encode(hashlib.sha256(base64.b64decode(self._keys[user])).digest()).decode()
        if not str(claims.get("iss", "")).upper().endswith(f"{user}.SHA256:{fingerprint}".upper()):
            raise Refused(*BAD_JWT)

    def set_key(self, user: str, key: str) -> None:
        """ALTER USER ... SET RSA_PUBLIC_KEY: the body of a PEM file, or the whole of it."""
        self._keys[user.upper()] = re.sub(r"-----[^-]+-----|\s", "", key)

    def renew(self, token: str) -> tuple[str, Session]:
        """A new session token for the same session; raises Refused if the master token is unknown."""
        old = self._by_master.get(token)
        if old is None or old not in self._by_token:
            raise Refused(*LOGIN_AGAIN)
        new = secrets.token_urlsafe(24)
        self._by_token[new] = self._by_token.pop(old)
        self._by_master[token] = new
        return new, self._by_token[new]

    def of(self, authorization: str | None) -> Session:
        """The session of a request, by its header; raises Refused without one."""
        if not authorization:
            raise Refused(*NO_TOKEN)
        session = self._by_token.get(token_in(authorization))
        if session is None:
            raise Refused(*LOGIN_AGAIN)
        return session

    def close(self, authorization: str) -> None:
        """Ends the session. What its transaction did is undone."""
        session = self._by_token.pop(token_in(authorization), None)
        if session is not None:
            session.connection.close()

    def service(self) -> str:
        """The token of a session of the server's own."""
        if SERVICE not in self._by_token:
            self._by_token[SERVICE] = Session(0, "SERVICE", self._engine.connect(), {})
        return SERVICE


def token_in(authorization: str) -> str:
    """The token in `Snowflake Token="..."`."""
    return authorization.removeprefix('Snowflake Token="').removesuffix('"')
