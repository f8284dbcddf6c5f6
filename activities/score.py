"""Scoring inside the warehouse, verified: `predict` in an expression becomes SQL where SQL agrees with the model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import reduce
from operator import or_
from typing import Any

import ibis
import ibis.expr.operations as ops

from activities import models
from activities.catalog import Version
from activities.work import Work, own_errors
from backends import Made, Name, Session
from backends.base import count, physical
from entrepot.errors import StepFailed
from entrepot.model import PREDICTION, Predict, probability_column
from entrepot.raised import said
from entrepot.scoring import (
    TOLERANCE,
    Agreement,
    NotTranslatable,
    check_classes,
    compare,
    frame,
    labels_of,
    score_batches,
    translate,
)

SAMPLE_ROWS = 2_000
"""Rows on which SQL is held against the estimator: at random, and some of those with a NULL feature."""
LARGE_TABLE = 1_000_000
BLOCK_ROWS = 100_000
"""Rows of the blocks that the sample of a large table comes from: about fifty blocks of DuckDB's."""


class Scorer:
    """Replaces every `predict` of one expression by what computes it."""

    def __init__(self, work: Work, session: Session, versions: Mapping[str, Version]) -> None:
        self._work = work
        self._session = session
        self._versions = versions
        self._evidence: list[dict[str, Any]] = []
        self._temporary: list[Name] = []

    def create(self, target: Name, expression: ibis.Table) -> tuple[Made, dict[str, Any]]:
        """Makes a table of an expression. For the catalog: how its rows were scored."""
        if not any(version.kind == "train" for version in self._versions.values()):
            return self._create_as(target, expression), {}
        node = expression.op()
        if isinstance(node, Predict) and not node.parent.find(Predict):
            by_sql = self._by_sql(node)
            # Streamed, the rows go straight into the table, without a copy.
            made = self._stream(node, target) if by_sql is None else self._create_as(target, by_sql)
        else:
            made = self._create_as(target, self.replaced(expression))
            self.drop_temporary()
        said = "; ".join(e["said"] for e in self._evidence)
        return made, {"scoring": {"said": said, "models": self._evidence}} if said else {}

    def _create_as(self, target: Name, expression: ibis.Table) -> Made:
        self._work.allow(self._session, expression)
        return self._session.create_as(target, expression)

    def replaced(self, expression: ibis.Table) -> ibis.Table:
        """The expression with each `predict` as SQL, or as a table that was scored by the estimator itself."""
        while predicts := expression.op().find(Predict, ordered=True):
            node = predicts[0]  # the innermost one first
            made = self._by_sql(node)
            if made is None:
                where = next(v.table for v in self._versions.values() if v.table is not None)
                name = Name(where.schema, f"scored__{self._work.label.run[:8]}_{len(self._temporary)}_{time.time_ns()}")
                self._stream(node, name)
                self._temporary.append(name)
                made = physical(name, node.schema)
            expression = expression.op().replace({node: made.op()}).to_expr()
        return expression

    def drop_temporary(self) -> None:
        """Removes the tables of scores that `replaced` needed, when its expression has been computed."""
        while self._temporary:
            self._session.drop_table(self._temporary.pop())

    def _by_sql(self, node: Predict) -> ibis.Table | None:
        version = self._versions[node.model]
        estimator = models.load(version)
        check_classes(estimator, node.classes)
        features = version.details["features"]
        parent = node.parent.to_expr()
        try:
            made = translate(estimator, parent, features, node.keep, node.classes, node.dtype)
            agreement = self._verify(estimator, parent, features, node)
        except NotTranslatable as error:
            self._record(version, "streamed", f"the model cannot be SQL: {error}", None)
            return None
        if agreement.rows == 0:
            self._record(version, "streamed", "there is no row to verify SQL on", agreement)
            return None
        if not agreement.agrees:
            reason = (
                f"SQL differs from the estimator by up to {agreement.largest:.2g} "
                f"on {agreement.beyond or agreement.labels:,} of {agreement.rows:,} sampled rows"
            )
            self._record(version, "streamed", reason, agreement)
            return None
        reason = f"within {agreement.largest:.1g} of the estimator on {agreement.rows:,} sampled rows"
        self._record(version, "sql", reason, agreement)
        return made

    def _record(self, version: Version, path: str, why: str, agreement: Agreement | None) -> None:
        how = "in the warehouse as SQL" if path == "sql" else "streamed through the estimator"
        self._evidence.append(
            {
                "model": version.name,
                "version": version.version,
                "path": path,
                "why": why,
                "tolerance": TOLERANCE,
                "agreement": asdict(agreement) if agreement else None,
                "said": f"scored {how}: {why}",
            }
        )

    def _verify(self, estimator: Any, parent: ibis.Table, features: Sequence[str], node: Predict) -> Agreement:
        """Scores a sample both ways. One query gives its features and its scores by SQL."""
        labels = labels_of(estimator)
        if clash := {PREDICTION, *map(probability_column, labels)} & set(features):
            raise NotTranslatable(f"its feature {min(clash)!r} is called as a column of the scores")
        columns = parent.select(*features)
        some = self._at_random(parent, count(self._session, columns)).select(*features).limit(SAMPLE_ROWS)
        with_nulls = columns.filter(reduce(or_, (columns[name].isnull() for name in features))).limit(SAMPLE_ROWS // 4)
        by_sql = self._session.fetch(
            translate(estimator, some.union(with_nulls), features, features, labels, node.dtype)
        )
        try:
            return compare(by_sql, estimator, frame(by_sql, list(features)), labels)
        except Exception as error:
            raise self._refusal(node, error) from error

    def _at_random(self, table: ibis.Table, total: int) -> ibis.Table:
        """More rows than the sample needs, of so many in total."""
        share = 2 * SAMPLE_ROWS / max(total, 1)
        if share >= 1:
            return table
        # To read all of a large table would take as long as to score it: its blocks are chosen at random first.
        is_table = isinstance(table.op(), ops.UnboundTable)
        if total >= LARGE_TABLE and is_table and self._work.tenant.backend.capabilities.block_sample:
            blocks = BLOCK_ROWS / total
            table, share = table.sample(blocks, method="block"), share / blocks
        return table.filter(ibis.random() < share)

    def _stream(self, node: Predict, target: Name) -> Made:
        version = self._versions[node.model]
        estimator = models.load(version)
        features = [str(name) for name in version.details["features"]]
        needed = list(dict.fromkeys((*features, *node.keep)))
        rows = node.parent.to_expr().select(*needed)
        self._work.allow(self._session, rows)
        reader = self._session.read(rows)
        schema = node.schema.to_pyarrow()
        kept = {name: reader.schema.field(name).type for name in node.keep}
        for name, kind in kept.items():
            schema = schema.set(schema.get_field_index(name), schema.field(name).with_type(kind))
        scored = score_batches(estimator, reader, features, node.keep, node.classes, schema)
        try:
            with own_errors(scored) as batches:
                return self._session.write(target, node.schema, self._checked(batches), schema)
        except (ValueError, TypeError) as error:
            raise self._refusal(node, error) from error

    def _checked(self, batches: Any) -> Any:
        for batch in batches:
            self._work.check()
            yield batch

    @staticmethod
    def _refusal(node: Predict, error: Exception) -> StepFailed:
        return StepFailed(f"model {node.model!r} refuses these rows: {said(error).splitlines()[0]}")
