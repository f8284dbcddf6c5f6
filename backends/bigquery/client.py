"""Clients of BigQuery: signing in, patience with calls, and what errors mean, told by the client's own types."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from entrepot.backends.settings import Secret
from entrepot.backends.sql.session import Exists
from entrepot.errors import BadInput, Contended, EntrepotError, StepFailed, Unavailable

if TYPE_CHECKING:
    from google.api_core.retry import Retry
    from google.auth.credentials import Credentials
    from google.cloud.bigquery import Client
    from google.cloud.bigquery_storage import BigQueryReadClient

HOST = "https://bigquery.googleapis.com"

PATIENCE_SECONDS = 30.0
"""How long a call to the API is tried again. Then the activity fails, and is tried again."""

CALL_SECONDS = 20.0
"""How long one call may take; a job itself takes as long as it takes."""

_QUOTA = frozenset({"quotaExceeded", "rateLimitExceeded", "jobRateLimitExceeded"})
_LATER = _QUOTA | {
    "backendError", "blocked", "internalError", "jobBackendError", "jobInternalError", "resourceInUse",
    "tableUnavailable", "timeout",
}  # fmt: skip
_FAILED = frozenset({"bytesBilledLimitExceeded", "responseTooLarge"})
"""The client makes errors of the server and of missing grants out of these."""
_MEANWHILE = re.compile(r"could not serialize access|concurrent update|too many dml statements outstanding", re.I)


@dataclass(frozen=True)
class Clients:
    """What all sessions of one backend share: the clients are safe to use from several threads."""

    project: str
    location: str | None
    where: str
    """For sentences: the project, and the host that serves it."""
    secret: str | None
    """What they signed in with."""
    make: Callable[..., Client]
    """Makes another client that signs in the same way."""
    client: Client
    storage: BigQueryReadClient

    def close(self) -> None:
        """Closes their connections."""
        self.client.close()
        self.storage.transport.close()


def connect(project: str, location: str | None, key: Secret | None, emulator: tuple[str, str] | None) -> Clients:
    """Clients of a project. `emulator`: the addresses of its API and of its Storage Read API, if it is one.

    Raises:
        BadInput: for credentials that are missing or broken.
        Unavailable: if Google's sign-in cannot be reached.
    """
    from google.cloud.bigquery import Client
    from google.cloud.bigquery_storage import BigQueryReadClient

    host = emulator[0] if emulator else HOST
    where = f"BigQuery project {project!r} ({host})"
    secret = key.read() if key else None
    with translated(where):
        credentials = _anonymous() if emulator else _credentials(key, secret)
        options = {"api_endpoint": host} if emulator else None
        make = functools.partial(Client, project, credentials, location=location, client_options=options)
        storage = _local_storage(emulator[1]) if emulator else BigQueryReadClient(credentials=credentials)
        return Clients(project, location, where, secret, make, make(), storage)


def _anonymous() -> Credentials:
    from google.auth.credentials import AnonymousCredentials

    return AnonymousCredentials()


def _credentials(key: Secret | None, secret: str | None) -> Credentials:
    import google.auth
    from google.oauth2.service_account import Credentials

    scopes = ["https://www.googleapis.com/auth/cloud-platform"]
    if key is None or secret is None:
        return google.auth.default(scopes=scopes)[0]
    try:
        return Credentials.from_service_account_info(json.loads(secret), scopes=scopes)
    except (ValueError, TypeError, AttributeError):
        # What is wrong is not repeated, nor chained: it may hold the secret.
        raise BadInput(f"{key.where} is not the JSON of a service account's key") from None


def _local_storage(address: str) -> BigQueryReadClient:
    import grpc
    from google.cloud.bigquery_storage import BigQueryReadClient
    from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport

    channel = grpc.insecure_channel(address, [("grpc.max_receive_message_length", -1)])
    return BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=channel))


def retry() -> Retry:
    """The client's own judgement of what is worth another try, for a shorter time than its ten minutes."""
    from google.cloud.bigquery import DEFAULT_RETRY

    return DEFAULT_RETRY.with_timeout(PATIENCE_SECONDS)


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Errors of the client, of its transport and of Google's sign-in as Entrepot's; `where` names the project."""
    import requests
    from google.api_core import exceptions
    from google.auth import exceptions as auth

    try:
        yield
    except (exceptions.GoogleAPIError, auth.GoogleAuthError, requests.RequestException, TimeoutError) as error:
        raise _meaning(error, where) from error


def _meaning(error: Exception, where: str) -> EntrepotError:
    from google.api_core import exceptions
    from google.auth import exceptions as auth

    if isinstance(error, exceptions.RetryError) and error.cause is not None:
        return _meaning(error.cause, where)
    if isinstance(error, auth.TransportError | OSError):
        return Unavailable(f"{where} cannot be reached: {_transport(error)}")
    if isinstance(error, auth.GoogleAuthError):
        kind = Unavailable if error.retryable else BadInput
        return kind(f"{where}: the credentials are not accepted: {_line(str(error.args[0] if error.args else error))}")
    reason, text = _said(error)
    if reason in _FAILED:
        return StepFailed(f"BigQuery: {text}")
    if _MEANWHILE.search(text):
        return Contended(f"{where}: another run writes the same: {text}")
    if reason == "duplicate" or isinstance(error, exceptions.Conflict) or text.startswith("Already Exists"):
        return Exists(f"{where}: {text}")
    if reason in _QUOTA or isinstance(error, exceptions.TooManyRequests):
        return Unavailable(f"{where}: a quota is used up: {text}")
    if reason in _LATER or (
        isinstance(error, exceptions.ServerError) and not isinstance(error, exceptions.MethodNotImplemented)
    ):
        return Unavailable(f"{where}: {text}")
    if isinstance(error, exceptions.NotFound | exceptions.Unauthorized | exceptions.Forbidden):
        return BadInput(f"{where}: {text}")
    return StepFailed(f"BigQuery: {text}")


def _said(error: Exception) -> tuple[str | None, str]:
    """The API's reason, if it gives one, and its own sentence without what the client adds to it."""
    errors: Any = getattr(error, "errors", None)
    first = errors[0] if errors and isinstance(errors[0], dict) else {}
    return first.get("reason"), _line(first.get("message") or getattr(error, "message", None) or str(error))


def _transport(error: BaseException) -> str:
    text = str(error)
    found = re.search(r"\[Errno -?\d+\] ([^'\")]+)", text)
    return found[1] if found else _line(text) or type(error).__name__


def _line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else ""
