"""Every operation is computed inside the warehouse, into a table, and read back from there."""

from __future__ import annotations

from functools import partial

import ibis
import pytest

from entrepot.backends import Session, TableName
from entrepot.backends.base import physical
from entrepot.errors import BadInput, Unavailable
from tests.conformance.cases import Case, Outcome
from tests.conformance.operations import CASES
from tests.conformance.target import Inputs, Target
from tests.conformance.together import Together, asked_for, holds
from tests.conformance.values import Row, check_rows, rows_of


@pytest.fixture(scope="session")
def together(request: pytest.FixtureRequest, target: Target) -> Together:
    """What is to give rows, of everything that is asked for."""
    cases = asked_for(request.session.items, "test_operation", target.backend.name)
    builds = {case.id: partial(case.build, Inputs(target)) for case in cases if case.expected is not Outcome.FAILS}
    return Together(target, builds)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_operation(case: Case, target: Target, session: Session, together: Together) -> None:
    found = together.table(case.id)
    if found is None or not holds(partial(check, case, rows_of(found))):
        alone(case, target, session)


def check(case: Case, found: list[Row]) -> None:
    """Raises AssertionError unless these are the rows that a case must give."""
    if callable(case.expected):
        case.expected(found)
    else:
        assert not isinstance(case.expected, Outcome)
        check_rows(found, case.expected, tolerance=case.tolerance)


def alone(case: Case, target: Target, session: Session) -> None:
    """A case by itself, in a table of its own."""
    expression = case.build(Inputs(target))
    name = target.new_name()
    if case.expected is Outcome.FAILS:
        assert is_refused(session, name, expression), "it gave rows"
        return
    made = session.create_as(name, expression)
    found = rows_of(session.read(physical(name, made.columns)))
    assert made.columns.names == expression.columns
    assert made.rows == len(found)
    check(case, found)


def is_refused(session: Session, name: TableName, expression: ibis.Table) -> bool:
    """Whether the warehouse refuses to compute it, by an error that means nothing else."""
    try:
        session.create_as(name, expression)
    except (BadInput, Unavailable):
        raise
    except Exception:
        return True
    return False
