"""Every operation is computed inside the warehouse, into a table, and read back from there."""

from __future__ import annotations

import ibis
import pytest

from backends import Name, Session
from backends.base import physical
from entrepot.errors import BadInput, Unavailable
from tests.conformance.cases import Case, Outcome
from tests.conformance.operations import CASES
from tests.conformance.target import Inputs, Target
from tests.conformance.values import check_rows, rows_of


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_operation(case: Case, target: Target, session: Session) -> None:
    expression = case.build(Inputs(target))
    name = target.new_name()
    if case.expected is Outcome.FAILS:
        assert is_refused(session, name, expression), "it gave rows"
        return
    made = session.create_as(name, expression)
    found = rows_of(session.read(physical(name, made.columns)))
    assert made.columns.names == expression.columns
    assert made.rows == len(found)
    if callable(case.expected):
        case.expected(found)
    else:
        check_rows(found, case.expected, tolerance=case.tolerance)


def is_refused(session: Session, name: Name, expression: ibis.Table) -> bool:
    """Whether the warehouse refuses to compute it, by an error that means nothing else."""
    try:
        session.create_as(name, expression)
    except (BadInput, Unavailable):
        raise
    except Exception:
        return True
    return False
