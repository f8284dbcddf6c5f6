"""Faults that a test asks for: an expired token, a suspended warehouse, a used-up quota, a missing grant.

    POST /standin/faults    {"fault": "suspended", "matching": "orders", "times": 1}
    DELETE /standin/faults

`fault` is a name of `FAULTS`. `matching` is a regular expression, looked for in the statement's text and its query tag
(or in the user's name, for a fault of the login), so that tests which share the server leave each other alone; without
it, anything matches. `times` is how often the fault happens, once unless given. Codes and texts are Snowflake's own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Fault:
    """What Snowflake answers: its error code, SQLSTATE and text, at the login or for a statement."""

    code: str
    state: str
    text: str
    at_login: bool = False


FAULTS = {
    # The client renews its token by itself and sends the statement again.
    "session-expired": Fault("390112", "08001", "Your session has expired. Please login again."),
    # Beyond renewing: the user has to log in anew.
    "token-expired": Fault("390114", "08001", "Authentication token has expired.  The user must authenticate again."),
    "login-token-expired": Fault("390318", "08001", "OAuth access token expired.", at_login=True),
    "login-unavailable": Fault("390189", "08001", "The service is temporarily unavailable.", at_login=True),
    "suspended": Fault(
        "000606",
        "57P03",
        "No active warehouse selected in the current session.  Select an active warehouse with the 'use warehouse' "
        "command.",
    ),
    "quota": Fault(
        "090073",
        "22000",
        "Warehouse 'ENTREPOT' cannot be resumed because resource monitor 'ENTREPOT' has exceeded its quota.",
    ),
    "denied": Fault("003001", "42501", "SQL access control error:\nInsufficient privileges to operate on table."),
    # Of those that pass by themselves: Snowflake's own internal error.
    "internal": Fault("000603", "XX000", "SQL execution internal error:\nProcessing aborted by error 300002:0"),
}


@dataclass
class Armed:
    """A fault that waits for a statement or a login that it matches."""

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

    def take(self, text: str, at_login: bool) -> Fault | None:
        """The fault that happens now, if one does."""
        for armed in self._armed:
            if armed.fault.at_login == at_login and armed.times > 0 and armed.matching.search(text):
                armed.times -= 1
                return armed.fault
        return None
