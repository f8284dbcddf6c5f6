"""Models as SQL: every warehouse gives the numbers that the fitted estimator gives."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import ibis
import pyarrow as pa
import pytest

from entrepot.activities.ml.translation import compare, frame, labels_of, translate
from entrepot.backends import Session, TableName
from entrepot.backends.base import physical
from tests.conformance import models
from tests.conformance.models import CASES, ModelCase
from tests.conformance.target import Target, parquet
from tests.conformance.together import Together, asked_for, holds
from tests.conformance.values import rows_of


@pytest.fixture(scope="session")
def unseen(target: Target) -> Iterator[ibis.Table]:
    """Rows in the warehouse that no model was fitted on."""
    name = TableName(target.schema, "unseen")
    with parquet(models.rows(seed=1)) as path, target.session() as session:
        yield physical(name, session.load(name, [path], models.SCHEMA).columns)


@functools.cache
def fitted(case: ModelCase) -> Any:
    seen = models.rows(seed=0)
    return case.make().fit(frame(seen, case.features), models.target(seen, case.target))


def scored(case: ModelCase, unseen: ibis.Table) -> ibis.Table:
    estimator = fitted(case)
    dtype = models.DTYPES[case.target]
    return translate(estimator, unseen, case.features, ["id"], labels_of(estimator), dtype)


@pytest.fixture(scope="session")
def together(request: pytest.FixtureRequest, target: Target, unseen: ibis.Table) -> Together:
    cases = asked_for(request.session.items, "test_scoring", target.backend.name)
    return Together(target, {case.id: functools.partial(scored, case, unseen) for case in cases})


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_scoring(case: ModelCase, target: Target, session: Session, unseen: ibis.Table, together: Together) -> None:
    found = together.table(case.id)
    if found is None or not holds(functools.partial(check, case, found)):
        name = target.new_name()
        made = session.create_as(name, scored(case, unseen))
        check(case, session.read(physical(name, made.columns)).read_all())


def check(case: ModelCase, found: pa.Table) -> None:
    """Raises AssertionError unless these are the scores that the estimator gives."""
    found = found.sort_by("id")
    assert [row[0] for row in rows_of(found)] == list(range(models.ROWS))
    estimator = fitted(case)
    agreement = compare(found, estimator, frame(models.rows(seed=1), list(case.features)), labels_of(estimator))
    assert agreement.agrees, agreement
