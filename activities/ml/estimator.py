"""What fitted estimators say, in processes of their own: they are anybody's classes, and as large as they like.

The worker reads and computes what a warehouse gives; a step's process loads the model, writes it as SQL, holds that
against it, and scores what is streamed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.schema as sch
import pyarrow as pa

from entrepot.activities.catalog.version import Version
from entrepot.activities.ml import models
from entrepot.activities.ml.translation import (
    Agreement,
    NotTranslatable,
    check_classes,
    compare,
    frame,
    labels_of,
    score_batches,
    translate,
)
from entrepot.activities.runtime.isolation.call import Call
from entrepot.errors import StepFailed
from entrepot.identity.expression import bind, input_table, nodes_of
from entrepot.language.model import PREDICTION, probability_column
from entrepot.language.step import Step
from entrepot.planning.expressions.built import Built
from entrepot.tracebacks import describe

_ROWS = "rows"


@dataclass(frozen=True)
class AsSql:
    """A model as SQL: over a table that is put in its place."""

    scores: Built
    """What is wanted of it."""
    compared: Built
    """The features and all that the model says of them."""

    def scores_of(self, table: ibis.Table) -> ibis.Table:
        """What is wanted, for the rows of a table."""
        return bind(self.scores.read(), {_ROWS: table.op()})

    def compared_on(self, features: ibis.Table) -> ibis.Table:
        """What can be held against the model, for rows of features."""
        return bind(self.compared.read(), {_ROWS: features.op()})


def as_sql(
    call: Call,
    step: Step,
    version: Version,
    schema: sch.Schema,
    keep: Sequence[str],
    classes: Sequence[Any],
    dtype: dt.DataType,
) -> AsSql:
    """Writes a model as SQL.

    Args:
        schema: Of the table that is to be scored.

    Raises:
        NotTranslatable: if that cannot be done, or could not be verified.
        BadInput: if the model does not know one of the classes.
    """
    estimator = models.load(version)
    check_classes(estimator, classes)
    features, labels = list(models.details_of(version).features), labels_of(estimator)
    table = input_table(_ROWS, schema)
    scores = translate(estimator, table, features, keep, classes, dtype)
    if clash := {PREDICTION, *map(probability_column, labels)} & set(features):
        raise NotTranslatable(f"its feature {min(clash)!r} is called as a column of the scores")
    rows = input_table(_ROWS, sch.Schema({name: schema[name] for name in features}))
    compared = translate(estimator, rows, features, features, labels, dtype)
    return AsSql(Built(nodes_of(scores)), Built(nodes_of(compared)))


def agreement(call: Call, step: Step, version: Version, rows: pa.Buffer) -> Agreement:
    """Holds what the warehouse made of `AsSql.compared` against the model.

    Raises:
        StepFailed: if the model refuses the rows.
    """
    estimator, details = models.load(version), models.details_of(version)
    by_sql = pa.ipc.open_stream(rows).read_all()
    try:
        return compare(by_sql, estimator, frame(by_sql, details.features, details.floats), labels_of(estimator))
    except Exception as error:
        raise _refusal(version, error) from error


def scored(call: Call, version: Version, keep: Sequence[str], classes: Sequence[Any], schema: pa.Schema) -> None:
    """Gives the scores of the rows that the worker reads.

    Raises:
        StepFailed: if the model refuses the rows.
    """
    estimator, details = models.load(version), models.details_of(version)
    batches = score_batches(estimator, call.feed(_ROWS), details.features, keep, classes, schema, details.floats)
    try:
        for batch in batches:
            call.give(batch)
    except (ValueError, TypeError) as error:
        raise _refusal(version, error) from error


def _refusal(version: Version, error: Exception) -> StepFailed:
    return StepFailed(f"model {version.name!r} refuses these rows: {describe(error).splitlines()[0]}")
