"""How the Databricks client is opened, how it proves who it is, and what its errors mean."""

from __future__ import annotations

import base64
import json
import re
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from entrepot.backends.base import QueryTag
from entrepot.backends.settings import Secret
from entrepot.backends.sql.session import Exists
from entrepot.errors import BadInput, Contended, EntrepotError, StepFailed, Unavailable
from entrepot.secrets import register
from entrepot.tracebacks import NOT_WRITABLE

_RETRIES = {
    # The client's own retries, of what is refused, lost, throttled or down. Left to itself it goes on for 15 minutes;
    # here it gives up after half a minute, and Temporal tries again, which others can see.
    "_retry_stop_after_attempts_count": 5,
    "_retry_stop_after_attempts_duration": 30.0,
    "_retry_delay_min": 1.0,
    "_retry_delay_max": 5.0,
    # Of one answer. Statements that run longer are asked about again and again.
    "_socket_timeout": 120.0,
}

_TAG_LENGTH = 128
_REFRESH_SECONDS = 300.0


@dataclass(frozen=True)
class Endpoint:
    """Where a tenant's Databricks is, and as whom it is used."""

    host: str
    http_path: str
    catalog: str
    token: Secret | None = None
    client_id: str | None = None
    client_secret: Secret | None = None
    uri: str | None = None

    @property
    def is_warehouse(self) -> bool:
        """A SQL warehouse has configuration parameters and query tags of its own; a cluster has Spark's."""
        return re.search(r"/(warehouses|endpoints)/", self.http_path) is not None

    def connect(self) -> Any:
        """An open connection: in UTC, and an error where a value does not fit.

        Raises:
            BadInput: if there will never be one: a wrong token, path or catalog, a missing grant.
            Unavailable: if there is none now.
        """
        import databricks.sql

        utc, ansi = ("TIMEZONE", "ANSI_MODE") if self.is_warehouse else _SPARK_CONFIGURATION
        options: dict[str, Any] = {**_RETRIES}
        if self.token is not None:
            options["access_token"] = self.token.read()
        elif self.client_id is not None and self.client_secret is not None:
            options["credentials_provider"] = ServicePrincipal(self.host, self.client_id, self.client_secret)
        if self.uri is not None:
            # The results of a stand-in come with its answers; there is no cloud to fetch them from.
            options |= {"_connection_uri": self.uri, "use_cloud_fetch": False}
        with translated(self.host):
            return databricks.sql.connect(
                server_hostname=self.host,
                http_path=self.http_path,
                catalog=self.catalog,
                session_configuration={utc: "UTC", ansi: "true"},
                staging_allowed_local_path=tempfile.gettempdir(),  # where ibis puts rows that a user brings along
                user_agent_entry="entrepot",
                enable_telemetry=False,  # without the internet, it holds up every connection
                **options,
            )

    def tags(self, tag: QueryTag) -> dict[str, str | None] | None:
        """The query tags of a statement, which only warehouses know."""
        if not self.is_warehouse:
            return None
        return {f"entrepot_{key}": value[:_TAG_LENGTH] for key, value in asdict(tag).items()}


def has_handle(cursor: Any) -> bool:
    """Whether the warehouse has answered to a cursor's statement, so that it can be cancelled."""
    return cursor.active_command_id is not None


_SPARK_CONFIGURATION = ("spark.sql.session.timeZone", "spark.sql.ansi.enabled")


class ServicePrincipal:
    """OAuth from machine to machine, as the client's `credentials_provider`: a token for an hour, then another.

    One request an hour, for which Databricks' whole SDK would be a dependency more.
    """

    def __init__(self, host: str, client_id: str, secret: Secret, scheme: str = "https") -> None:
        self._url = f"{scheme}://{host}/oidc/v1/token"
        self._host = host
        self._client_id = client_id
        self._secret = secret
        self._lock = threading.Lock()
        self._token = ""
        self._good_until = 0.0

    def auth_type(self) -> str:
        """The name that the client asks for."""
        return "entrepot-oauth-m2m"

    def __call__(self, *_: Any) -> Callable[[], dict[str, str]]:
        return self._headers

    def _headers(self) -> dict[str, str]:
        with self._lock:
            if time.monotonic() > self._good_until:
                asked = time.monotonic()
                answer = self._ask()
                self._token = str(answer["access_token"])
                register(self._token, self._url)
                self._good_until = asked + float(answer.get("expires_in", 3600)) - _REFRESH_SECONDS
            return {"Authorization": f"Bearer {self._token}"}

    def _ask(self) -> dict[str, Any]:
        proof = base64.b64encode(f"{self._client_id}:{self._secret.read()}".encode()).decode()
        request = urllib.request.Request(
            self._url,
            urllib.parse.urlencode({"grant_type": "client_credentials", "scope": "all-apis"}).encode(),
            {"Authorization": f"Basic {proof}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                answer: dict[str, Any] = json.load(response)
                return answer
        except urllib.error.HTTPError as error:
            if error.code in _NEVER:
                raise BadInput(
                    f"Databricks at {self._host} does not take the client_id {self._client_id!r} with this "
                    f"client_secret ({error.code})"
                ) from error
            raise Unavailable(f"Databricks at {self._host} gives out no token now: {error}") from error
        except OSError as error:
            raise Unavailable(f"Databricks at {self._host} cannot be reached: {error}") from error


_NEVER = (400, 401, 403, 404)
"""HTTP's codes for what will not work later either."""

_CLASS = re.compile(r"\[([A-Z][A-Z0-9_]+)(?:\.[A-Z0-9_.]+)?\]")
_STATE = re.compile(r"SQLSTATE:?\s*([0-9A-Z]{5})")

_EXISTS = {"TABLE_OR_VIEW_ALREADY_EXISTS", "TABLE_ALREADY_EXISTS", "DELTA_TABLE_ALREADY_EXISTS"}

_CONTENDED = re.compile(
    r"\bDELTA_CONCURRENT_\w+|\bDELTA_(METADATA|PROTOCOL)_CHANGED\b|\bDELTA_TRANSACTION_\w*CONFLICT\w*"
    r"|\bConcurrent(Append|Delete|Write|Transaction|Modification)\w*Exception|\b(Metadata|Protocol)ChangedException"
)

_REFUSED = re.compile(
    r"\b(INSUFFICIENT_PERMISSIONS|PERMISSION_DENIED|UNAUTHORIZED_ACCESS|INSUFFICIENT_PRIVILEGES"
    r"|NO_SUCH_CATALOG_EXCEPTION|CATALOG_NOT_FOUND|CATALOG_DOES_NOT_EXIST|SCHEMA_NOT_FOUND|SCHEMA_DOES_NOT_EXIST"
    r"|RESOURCE_DOES_NOT_EXIST|ENDPOINT_NOT_FOUND|VOLUME_NOT_FOUND|VOLUME_DOES_NOT_EXIST"
    r"|UC_VOLUME_NOT_FOUND|UC_NOT_ENABLED|INVALID_ACCESS_TOKEN)\b"
)

_LATER = re.compile(
    r"\b(TEMPORARILY_UNAVAILABLE|REQUEST_LIMIT_EXCEEDED|RESOURCE_EXHAUSTED|QUOTA_EXCEEDED|DEADLINE_EXCEEDED"
    r"|WORKSPACE_TEMPORARILY_UNAVAILABLE|CLUSTER_TERMINATED|SERVICE_UNDER_MAINTENANCE)\b"
    r"|invalid sessionhandle|session (is |was )?(closed|expired|not found|does not exist)"
    r"|(warehouse|endpoint|cluster)\b.{0,80}\b(stopp(ed|ing)|terminat(ed|ing)|starting|is not running|deleted while)"
    r"|over HTTP was unsuccessful: (408|429|5)"
    r"|\btimed out\b|\btimeout\b|unexpectedly closed server side|too many (requests|queries)|queue (is )?full",
    re.IGNORECASE,
)


@contextmanager
def translated(host: str) -> Iterator[None]:
    """Makes Entrepot's errors of the client's, by their type, their HTTP code, and the class that Databricks names."""
    import databricks.sql.exc as theirs
    import urllib3.exceptions
    from thrift.Thrift import TException  # type: ignore[import-untyped]

    try:
        yield
    except (theirs.Error, urllib3.exceptions.HTTPError, TException, OSError) as error:
        if isinstance(error, InterruptedError) or getattr(error, "errno", None) in NOT_WRITABLE:
            raise  # a disk of this machine is no matter of Databricks
        raise _meaning(error, host) from error


def _meaning(error: Exception, host: str) -> Exception:
    import databricks.sql.exc as theirs

    if own := next((cause for cause in error.args if isinstance(cause, EntrepotError)), None):
        return own  # of ServicePrincipal, which the client asks in the middle of a request
    text = _short(error)
    found = _CLASS.search(text)
    name = found[1] if found else ""
    state = m[1] if (m := _STATE.search(str(error))) else ""
    searched = name or text  # where there is a class, the rest of the text may be a user's own
    if name in _EXISTS or state == "42P07":
        return Exists(f"another run makes the same in Databricks: {text}")
    if _CONTENDED.search(searched) or state == "2D521":
        return Contended(f"another run writes the same in Databricks: {text}")
    code = _http_code(error)
    if code in (401, 403):
        return BadInput(f"Databricks at {host} does not let this tenant in ({code}): {text}")
    if code in _NEVER and getattr(error, "context", {}).get("method") == "OpenSession":
        return BadInput(f"Databricks at {host} does not know this http_path ({code}): {text}")
    if _REFUSED.search(searched) or state in {"42501", "28000"}:
        return BadInput(f"Databricks at {host} refuses this tenant: {text}")
    is_answer = isinstance(error, theirs.DatabaseError) and not isinstance(error, theirs.RequestError)
    if not is_answer or _LATER.search(searched) or state[:2] in {"08", "57"}:
        return Unavailable(f"Databricks at {host} cannot be used now: {text}")
    return StepFailed(f"Databricks: {text}")


def _http_code(error: Exception) -> int | None:
    """The HTTP code that an error is about; the client says it apart, or for files in its text."""
    context: Mapping[str, Any] = getattr(error, "context", None) or {}
    if context.get("http-code") is not None:
        return int(context["http-code"])
    found = re.search(r"over HTTP was unsuccessful: (\d{3})", str(error))
    return int(found[1]) if found else None


def _short(error: Exception) -> str:
    """The first sentence that says what is wrong."""
    context: Mapping[str, Any] = getattr(error, "context", None) or {}
    message = str(context.get("error-message") or "").strip(": ") or context.get("original-exception")
    lines = str(message or getattr(error, "reason", None) or error).strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    return _ADVICE.sub("", text)[:500]


_ADVICE = re.compile(r' If necessary set \S+ to "false" to bypass this error\.')
"""What a step cannot do."""
