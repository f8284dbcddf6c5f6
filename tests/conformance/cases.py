"""What a case is: something that has to come out the same on every backend."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ibis

from tests.conformance.values import Row


class Outcome(enum.Enum):
    """What may be expected of a case, if not rows."""

    FAILS = enum.auto()
    """The warehouse must refuse to compute it: no result is better than a wrong one."""


@dataclass(frozen=True)
class Case:
    """One expression over the input tables, and what it must give."""

    id: str
    build: Callable[[Any], ibis.Table]
    """Makes the expression; is given the input tables as attributes, see `operations.tables`."""
    expected: Sequence[Row] | Callable[[list[Row]], None] | Outcome
    """The rows in any order, or what checks them."""
    tolerance: float = 1e-9
    group: str = ""


def group(prefix: str, title: str, cases: Iterable[Case]) -> list[Case]:
    """Cases of one kind: their ids get a prefix, and the matrix shows them under the title."""
    return [replace(case, id=f"{prefix}-{case.id}", group=title) for case in cases]
