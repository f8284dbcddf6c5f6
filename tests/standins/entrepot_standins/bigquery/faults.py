"""Faults that a test asks for: an expired token, a missing grant, a used-up quota, a service that is down.

    POST /standin/faults    {"fault": "quota", "matching": "orders", "times": 1}
    DELETE /standin/faults

`fault` is a name of `FAULTS`. `matching` is a regular expression, looked for in the job's configuration as JSON (the
text of the query, its labels, its tables), so that tests which share the server leave each other alone; without it, any
job matches. `times` is how often the fault happens, once unless given. Codes, reasons and texts are BigQuery's own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from local_bigquery.errors import BigQueryError


@dataclass(frozen=True)
class Fault:
    """What BigQuery answers to the request that would start the job."""

    code: int
    reason: str
    status: str
    text: str


FAULTS = {
    "token-expired": Fault(
        401,
        "authError",
        "UNAUTHENTICATED",
        "Request had invalid authentication credentials. Expected OAuth 2 access token.",
    ),
    "denied": Fault(
        403,
        "accessDenied",
        "PERMISSION_DENIED",
        "Access Denied: User does not have permission to query table, or perhaps it does not exist in location US.",
    ),
    "quota": Fault(
        403,
        "quotaExceeded",
        "PERMISSION_DENIED",
        "Quota exceeded: Your project exceeded quota for free query bytes scanned.",
    ),
    # The client tries these again by itself.
    "rate-limit": Fault(403, "rateLimitExceeded", "PERMISSION_DENIED", "Exceeded rate limits: too many jobs."),
    "too-many-requests": Fault(429, "rateLimitExceeded", "RESOURCE_EXHAUSTED", "Too many requests."),
    "unavailable": Fault(503, "backendError", "UNAVAILABLE", "Error encountered during execution. Retrying may help."),
}


class FaultError(BigQueryError):
    """A fault, in the form in which local-bigquery answers errors."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.reason, fault.text)
        self._fault = fault

    @property
    def code(self) -> int:
        return self._fault.code

    def response(self) -> dict[str, Any]:
        error = {"code": self.code, "message": self.message, "status": self._fault.status}
        return {"error": {**error, "errors": [{**self.proto(), "domain": "global"}]}}


@dataclass
class Armed:
    """A fault that waits for a job that it matches."""

    fault: Fault
    matching: re.Pattern[str]
    times: int


class Faults:
    """The faults that are armed now."""

    def __init__(self) -> None:
        self._armed: list[Armed] = []

    def arm(self, request: dict[str, Any]) -> None:
        """Raises KeyError or re.error for a fault or an expression that is none."""
        matching = re.compile(request.get("matching", ""), re.I)
        self._armed.append(Armed(FAULTS[request["fault"]], matching, int(request.get("times", 1))))

    def clear(self) -> None:
        self._armed.clear()

    def check(self, text: str) -> None:
        """Raises FaultError if a fault happens now."""
        for armed in self._armed:
            if armed.times > 0 and armed.matching.search(text):
                armed.times -= 1
                raise FaultError(armed.fault)
