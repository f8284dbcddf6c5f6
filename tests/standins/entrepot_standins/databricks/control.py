"""What a test may tell the server: to fail, and to say what it was asked.

    POST /control {"fail": "unavailable", "times": 2, "seconds": 1}   the next 2 statements get HTTP 503, Retry-After: 1
    POST /control {"fail": "denied", "times": 1, "containing": "x"}   the next that has x in it lacks a permission
    POST /control {"fail": "expired", "times": 1}                     the next request has a token that expired
    POST /control {}                                                  no failures any more
    GET  /control                                                     the last statements, with their tags and states

`times` and `seconds` are 1 unless told; `containing` is "" unless told. A failure takes the place of the one before.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

import errors
from sessions import Operation

KINDS = ("unavailable", "denied", "expired")


@dataclass
class Failure:
    """What is to fail, and how often still."""

    kind: str
    times: int = 1
    seconds: int = 1
    containing: str = ""


class Control:
    """The failures that are asked for, and the statements that were run."""

    def __init__(self) -> None:
        self._failure: Failure | None = None
        self._lock = threading.Lock()
        self._statements: deque[tuple[Operation, dict[str, str]]] = deque(maxlen=1000)

    def tell(self, order: dict[str, Any]) -> None:
        """Takes an order, as POST /control has it.

        Raises:
            ValueError: if it asks for what there is not.
        """
        kind = order.pop("fail", None)
        if kind is not None and kind not in KINDS:
            raise ValueError(f"fail is {kind!r}; known: {', '.join(KINDS)}")
        try:
            failure = Failure(kind, **order) if kind else None
        except TypeError as error:
            raise ValueError(str(error)) from None
        with self._lock:
            self._failure = failure

    def failing(self, kind: str, text: str = "") -> Failure | None:
        """The failure that this request meets, which is then counted. `text`: the statement."""
        with self._lock:
            failure = self._failure
            if failure is None or failure.kind != kind or failure.times < 1 or failure.containing not in text:
                return None
            failure.times -= 1
            return failure

    def deny(self, text: str) -> None:
        """Raises what Databricks says to a user who may not, if that was asked for."""
        if self.failing("denied", text):
            privileges = "Insufficient privileges: User does not have permission to do this."
            raise errors.DatabricksError("INSUFFICIENT_PERMISSIONS", privileges)

    def note(self, operation: Operation, tags: dict[str, str]) -> None:
        """Remembers a statement."""
        self._statements.append((operation, tags))

    def statements(self) -> list[dict[str, Any]]:
        """The last statements, the newest at the end."""
        return [
            {
                "statement": operation.text,
                "tags": tags,
                "state": operation.state_name,
                "error": str(operation.error or ""),
            }
            for operation, tags in list(self._statements)
        ]
