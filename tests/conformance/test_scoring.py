"""Models as SQL: every warehouse gives the numbers that the fitted estimator gives."""

from __future__ import annotations

from collections.abc import Iterator

import ibis
import pytest

from backends import Name, Session
from backends.base import physical
from entrepot.scoring import compare, frame, labels_of, translate
from tests.conformance import models
from tests.conformance.models import CASES, ModelCase
from tests.conformance.target import Target, parquet
from tests.conformance.values import rows_of


@pytest.fixture(scope="session")
def unseen(target: Target) -> Iterator[ibis.Table]:
    """Rows in the warehouse that no model was fitted on."""
    name = Name(target.schema, "unseen")
    with parquet(models.rows(seed=1)) as path, target.session() as session:
        yield physical(name, session.load(name, [path], models.SCHEMA).columns)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_scoring(case: ModelCase, target: Target, session: Session, unseen: ibis.Table) -> None:
    seen = models.rows(seed=0)
    estimator = case.make().fit(frame(seen, case.features), models.target(seen, case.target))
    labels = labels_of(estimator)
    dtype = models.DTYPES[case.target]
    scored = translate(estimator, unseen, case.features, ["id"], labels, dtype)
    name = target.new_name()
    made = session.create_as(name, scored)
    found = session.read(physical(name, made.columns)).read_all().sort_by("id")
    assert [row[0] for row in rows_of(found)] == list(range(models.ROWS))
    agreement = compare(found, estimator, frame(models.rows(seed=1), list(case.features)), labels)
    assert agreement.agrees, agreement
