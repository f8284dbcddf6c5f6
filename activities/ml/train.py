"""Training: rows out of the warehouse once, a fitted model and honest scores into the lake and the catalog."""

from __future__ import annotations

import functools
import importlib.metadata
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ibis
import numpy as np
import pyarrow as pa

from entrepot.activities.catalog.details import ModelDetails, ModelFile
from entrepot.activities.catalog.version import Version
from entrepot.activities.ml import models
from entrepot.activities.ml.translation import frame
from entrepot.activities.runtime.activity import Activities, implements
from entrepot.activities.runtime.context import ActivityContext, attribute_errors, check_planned, create_once
from entrepot.activities.runtime.isolation.builder import Builder
from entrepot.activities.runtime.isolation.call import Call
from entrepot.activities.runtime.isolation.processes import StepProcesses
from entrepot.activities.runtime.tenant import Tenants
from entrepot.backends import Session
from entrepot.backends.base import physical
from entrepot.errors import StepFailed, listed
from entrepot.identity.expression import nodes_of, schema_from
from entrepot.language.model import Model
from entrepot.language.split import TEST_COLUMN, Where, order_of
from entrepot.language.step import TrainStep
from entrepot.planning.expressions.built import Built
from entrepot.planning.resolve import Computed, Inputs, arguments, dividing_columns, feature_columns, resolve_step
from entrepot.protocol import activities
from entrepot.protocol.messages import StepRef, StepResult

if TYPE_CHECKING:
    import pandas as pd

LIBRARIES = ("scikit-learn", "numpy", "pandas", "skops")


class TrainActivities(Activities):
    """The activity `train`."""

    @implements(activities.TRAIN)
    def train(self, work: ActivityContext, request: StepRef) -> StepResult:
        """Fits, scores and keeps one model, unless its version is there already."""
        return create_once(self._tenants, work, request, TrainStep, functools.partial(_train, self._tenants))


@dataclass(frozen=True)
class Fitted:
    """A model that was fitted, scored and kept."""

    file: ModelFile
    learned_from: int
    scored_on: int
    floats: tuple[str, ...]
    """The features that are floating-point numbers."""
    classes: tuple[str, ...]
    estimator: str
    scores: dict[str, float]
    baseline: dict[str, float]


def _train(
    tenants: Tenants,
    work: ActivityContext,
    session: Session,
    step: TrainStep,
    ref: StepRef,
    versions: dict[str, Version],
    parameters: dict[str, Any],
) -> StepResult:
    features = versions[step.features]
    with Builder(work, tenants, ref.context.pipeline) as builder:
        made = ask(builder, step, features, parameters)
    return fit(made, StepProcesses(work, tenants, ref.context.pipeline, step), session, ref, versions, parameters)


def ask(
    builder: Builder, step: TrainStep, features: Version, parameters: Mapping[str, Any]
) -> tuple[Computed, ibis.Table]:
    """What a step fits, and the rows that it fits on."""
    known = arguments(step, {step.features: schema_from(features.inferred)}, parameters)
    computed, built = builder.ask(step, _asked, known, features)
    return computed, built.read()


def fit(
    asked: tuple[Computed, ibis.Table],
    processes: StepProcesses,
    session: Session,
    ref: StepRef,
    versions: Mapping[str, Version],
    parameters: Mapping[str, Any],
) -> StepResult:
    """Fits a model, and keeps it as a version.

    Args:
        asked: What `ask` has found.
        processes: Where the step's code runs.
    """
    started = time.monotonic()
    work, step, (computed, rows) = processes.work, processes.step, asked
    assert isinstance(step, TrainStep)
    identity, model, features = computed.identity, computed.made, versions[step.features]
    assert isinstance(model, Model)
    check_planned(identity, ref.identities.get(step.name))
    columns = feature_columns(step, schema_from(features.inferred))
    work.check_limits(session, rows)
    folder = work.tenant.lake_path(step.folder, ref.context.pipeline, step.name, ref.versions[step.name])
    given = {name: parameters[name] for name in step.inputs}
    fitted: Fitted = processes.run(_fit, given, columns, folder, feeds={"rows": session.read(rows)})
    seconds = time.monotonic() - started
    details = ModelDetails(
        file=fitted.file,
        features=tuple(columns),
        types={name: features.columns[name] for name in columns},
        floats=fitted.floats,
        target=step.target,
        dtype=str(model.dtype),
        classifier=model.has_probabilities,
        classes=fitted.classes,
        estimator=fitted.estimator,
        split=repr(step.split),
        rows={"learned_from": fitted.learned_from, "scored_on": fitted.scored_on},
        scores=fitted.scores,
        baseline=fitted.baseline,
        libraries={name: importlib.metadata.version(name) for name in LIBRARIES},
    )
    made = Version(
        name=step.name,
        version=ref.versions[step.name],
        kind=step.kind,
        identity=identity,
        table=None,
        columns={},
        inferred={},
        rows=fitted.learned_from,
        details=details,
        run=ref.context.run,
        bytes=fitted.file.bytes,
        scanned=session.usage.bytes,
        inputs={step.features: ref.versions[step.features]},
        seconds=seconds,
    )
    work.catalog(session).pipeline(ref.context.pipeline).add_version(made, before=versions.get(step.name))
    scores, baseline = fitted.scores, fitted.baseline
    scored = ", ".join(f"{name} {scores[name]:.3f} (baseline {baseline[name]:.3f})" for name in scores)
    worse = [name for name in scores if scores[name] < baseline[name]]
    below = f"; below the baseline in {listed(worse)}: a guess that ignores the features is better" if worse else ""
    return StepResult(
        name=step.name,
        rows=fitted.learned_from,
        bytes=fitted.file.bytes,
        seconds=seconds,
        note=f"{scored} on {fitted.scored_on:,} rows{below}",
        warned=bool(worse),
        details={"scores": scores, "baseline": baseline},
    )


def _asked(call: Call, step: TrainStep, inputs: Inputs, features: Version) -> tuple[Computed, Built]:
    """What a step fits, and the rows that it fits on; asked of its process."""
    with attribute_errors(step):
        columns = feature_columns(step, schema_from(features.inferred))
        return resolve_step(step, inputs), Built(nodes_of(_rows(step, features, columns)))


def _rows(step: TrainStep, features: Version, columns: tuple[str, ...]) -> ibis.Table:
    """The rows that have a target: the features, what divides them, and the target."""
    assert features.table is not None
    table = physical(features.table, schema_from(features.columns))
    table = table.filter(table[step.target].notnull())
    needed = [*columns, *dividing_columns(step, schema_from(features.inferred)), step.target]
    chosen = {name: table[name] for name in dict.fromkeys(needed)}
    if isinstance(step.split, Where):
        chosen[TEST_COLUMN] = step.split.test(table)
    return table.select(**chosen)


def _fit(call: Call, given: Mapping[str, Any], columns: tuple[str, ...], folder: str) -> Fitted:
    """Fits, scores and keeps a model, in a process of its own."""
    step = call.step
    assert isinstance(step, TrainStep)
    rows, target = _ordered(step, call.feed("rows").read_all())
    held_out = step.split.mask(rows)
    learn, test = rows[~held_out], rows[held_out]
    for part, what in ((learn, "learn from"), (test, "score on")):
        if part.empty:
            raise StepFailed(f"the split {step.split} of {len(rows):,} rows leaves none to {what}")
    estimator = step.function(**given)
    estimator.fit(learn[list(columns)], target[~held_out])
    scores, baseline = _scores(
        step, estimator, learn[list(columns)], target[~held_out], test[list(columns)], target[held_out]
    )
    return Fitted(
        file=models.save(estimator, folder, test[list(columns)]),
        learned_from=len(learn),
        scored_on=len(test),
        floats=tuple(name for name in columns if learn[name].dtype.kind == "f"),
        classes=tuple(str(label) for label in getattr(estimator, "classes_", [])),
        estimator=" ".join(repr(estimator).split()),
        scores=scores,
        baseline=baseline,
    )


def _ordered(step: TrainStep, arrow: pa.Table) -> tuple[pd.DataFrame, np.ndarray[Any, Any]]:
    """The rows without the target, and the target; in an order given by the values alone."""
    if arrow.num_rows == 0:
        raise StepFailed(f"{step.features!r} has no row with a {step.target!r} to learn from")
    rows = frame(arrow, arrow.column_names)
    # A table is read in any order. The target counts, so that rows that are alike in all else have an order, too.
    rows = rows.iloc[order_of(rows)].reset_index(drop=True)
    return rows.drop(columns=step.target), np.asarray(rows[step.target])


def _scores(
    step: TrainStep, estimator: Any, learn: Any, learned: Any, test: Any, truth: Any
) -> tuple[dict[str, float], dict[str, float]]:
    """The model's scores on rows that it never saw, and those of a guess that ignores the features."""
    from sklearn.base import is_classifier
    from sklearn.dummy import DummyClassifier, DummyRegressor

    guess = DummyClassifier(strategy="prior") if is_classifier(estimator) else DummyRegressor()
    guess.fit(learn, learned)
    return (
        {name: _score(name, estimator, test, truth) for name in step.score},
        {name: _score(name, guess, test, truth) for name in step.score},
    )


def _score(name: str, estimator: Any, test: Any, truth: Any) -> float:
    """A number.

    Raises:
        StepFailed: if the score is none on these rows, or cannot be computed.
    """
    from sklearn.metrics import get_scorer

    values = np.unique(truth)
    seen = f"on the {len(test):,} rows that are kept for scoring, whose target has {len(values):,} different values"
    try:
        value = float(get_scorer(name)(estimator, test, truth))
    except (ValueError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise StepFailed(
            f"the score {name!r} of {type(estimator).__name__} cannot be computed {seen}: {reason}"
        ) from error
    if not math.isfinite(value):
        raise StepFailed(f"the score {name!r} of {type(estimator).__name__} is {value} {seen}")
    return value
