"""Scoring inside the warehouse, verified: `predict` in an expression becomes SQL where SQL agrees with the model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Literal

import ibis

from entrepot.activities.catalog.details import ScoredModel, Scoring
from entrepot.activities.catalog.version import Version
from entrepot.activities.ml import models
from entrepot.activities.ml.estimator import AsSql, agreement, as_sql, scored
from entrepot.activities.ml.sample import check_categories, rows_to_compare
from entrepot.activities.ml.translation import TOLERANCE, Agreement, NotTranslatable
from entrepot.activities.runtime.context import keep_python_errors
from entrepot.activities.runtime.isolation.builder import Builder
from entrepot.activities.runtime.isolation.channel import to_buffer
from entrepot.activities.runtime.isolation.processes import StepProcesses
from entrepot.backends import CreatedTable, Session, TableName
from entrepot.backends.base import physical
from entrepot.errors import LimitExceeded, StepFailed, Unavailable
from entrepot.language.model import Predict
from entrepot.language.step import KINDS
from entrepot.tracebacks import message


class Scorer:
    """Replaces every `predict` of one expression by what computes it."""

    def __init__(
        self, session: Session, versions: Mapping[str, Version], builder: Builder, processes: StepProcesses
    ) -> None:
        self._work = processes.work
        self._session = session
        self._versions = versions
        self._builder = builder
        self._processes = processes
        self._evidence: list[ScoredModel] = []
        self._temporary: list[TableName] = []

    def create(self, target: TableName, expression: ibis.Table) -> tuple[CreatedTable, Scoring | None]:
        """Makes a table of an expression. For the catalog: how its rows were scored, if they were."""
        if not any(KINDS[version.kind].produces == "Model" for version in self._versions.values()):
            return self._create_as(target, expression), None
        node = expression.op()
        if isinstance(node, Predict) and not node.parent.find(Predict):
            by_sql = self._by_sql(node)
            # Streamed, the rows go straight into the table, without a copy.
            made = self._stream(node, target) if by_sql is None else self._create_as(target, by_sql)
        else:
            made = self._create_as(target, self.replaced(expression))
            self.drop_temporary()
        evidence = "; ".join(each.said for each in self._evidence)
        return made, Scoring(said=evidence, models=tuple(self._evidence)) if evidence else None

    def _create_as(self, target: TableName, expression: ibis.Table) -> CreatedTable:
        self._work.check_limits(self._session, expression)
        return self._session.create_as(target, expression)

    def replaced(self, expression: ibis.Table) -> ibis.Table:
        """The expression with each `predict` as SQL, or as a table that was scored by the estimator itself."""
        while predicts := expression.op().find(Predict, ordered=True):
            node = predicts[0]  # the innermost one first
            made = self._by_sql(node)
            if made is None:
                where = next(v.table for v in self._versions.values() if v.table is not None)
                name = TableName(
                    where.schema, f"scored__{self._work.tag.run[:8]}_{len(self._temporary)}_{time.time_ns()}"
                )
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
        parent = node.parent.to_expr()
        try:
            sql = self._asked(node, version)
            found = self._verify(sql, parent, version)
        except NotTranslatable as error:
            self._record(version, "streamed", f"the model cannot be SQL: {error}", None)
            return None
        if found.rows == 0:
            self._record(version, "streamed", "there is no row to verify SQL on", found)
            return None
        if not found.agrees:
            reason = (
                f"SQL differs from the estimator by up to {_small(found.largest)} "
                f"on {found.beyond or found.labels:,} of {found.rows:,} sampled rows"
            )
            self._record(version, "streamed", reason, found)
            return None
        reason = f"within {_small(found.largest)} of the estimator on {found.rows:,} sampled rows"
        self._record(version, "sql", reason, found)
        return sql.scores_of(parent)

    def _asked(self, node: Predict, version: Version) -> AsSql:
        schema = node.parent.schema
        try:
            found: AsSql = self._builder.ask(
                self._processes.step, as_sql, version, schema, node.keep, node.classes, node.dtype
            )
        except StepFailed as error:  # it took too long, or ended its process; its scores may still be had
            raise NotTranslatable(str(error)) from error
        return found

    def _record(
        self, version: Version, path: Literal["sql", "streamed"], why: str, agreement: Agreement | None
    ) -> None:
        how = "in the warehouse as SQL" if path == "sql" else "streamed through the estimator"
        self._evidence.append(
            ScoredModel(
                model=version.name,
                version=version.version,
                path=path,
                why=why,
                tolerance=TOLERANCE,
                agreement=asdict(agreement) if agreement else None,
                said=f"scored {how}: {why}",
            )
        )

    def _verify(self, sql: AsSql, parent: ibis.Table, version: Version) -> Agreement:
        """Scores a sample both ways. One query gives its features and its scores by SQL."""
        features = list(models.details_of(version).features)
        encoded = [name for name in features if parent[name].type().is_string()]
        block_sample = self._work.tenant.backend.capabilities.block_sample
        rows = rows_to_compare(self._session, parent, features, encoded, block_sample)
        try:
            by_sql = self._session.fetch(sql.compared_on(rows))
        except (Unavailable, LimitExceeded, InterruptedError, OSError):
            raise
        except Exception as error:  # such as of a number that is too large for a tree; scikit-learn may refuse it, too
            self._work.check()
            why, _, _ = message(error).partition("\n")
            raise NotTranslatable(f"the warehouse refuses its SQL: {why}") from error
        check_categories(by_sql, encoded)
        try:
            found: Agreement = self._builder.ask(self._processes.step, agreement, version, to_buffer(by_sql))
        except StepFailed as error:
            if error.__cause__ is not None:  # the model refuses the rows
                raise
            raise NotTranslatable(f"it could not be held against its SQL: {error}") from error
        return found

    def _stream(self, node: Predict, target: TableName) -> CreatedTable:
        version = self._versions[node.model]
        needed = list(dict.fromkeys((*models.details_of(version).features, *node.keep)))
        rows = node.parent.to_expr().select(*needed)
        self._work.check_limits(self._session, rows)
        reader = self._session.read(rows)
        schema = node.schema.to_pyarrow()
        kept = {name: reader.schema.field(name).type for name in node.keep}
        for name, kind in kept.items():
            schema = schema.set(schema.get_field_index(name), schema.field(name).with_type(kind))
        made = self._processes.stream(scored, version, node.keep, node.classes, schema, feeds={"rows": reader})
        with keep_python_errors(made) as batches:
            return self._session.write(target, node.schema, batches, schema)


def _small(difference: float | None) -> str:
    return "NULL" if difference is None else f"{difference:.1g}"
