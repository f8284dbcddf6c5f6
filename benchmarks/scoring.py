"""Scoring a table in DuckDB with a fitted StandardScaler + LogisticRegression: seconds and peak memory of processes.

Every contender is a Python process that opens the same DuckDB file and the same model file, scores every row and writes
a table of id, prediction and probability. Ours does what the activity `transform` does, without Temporal: tenant,
catalog, model from the lake, verification on a sample, table and catalog row in one transaction. It is held against
what a user would write by hand: orbital's SQL, a loop over Arrow batches, and pandas with `predict` and `predict_proba`
(where it says "one pass", pandas takes the labels from the probabilities, as ours does). All have the same memory limit
and keep no order of rows.

For the path that streams, ours has a model with a private subclass of StandardScaler, for which orbital has no SQL.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
from rich.console import Console
from rich.table import Table

from benchmarks.timing import Row, finish, table, timed

ROWS = (5_000_000, 20_000_000)
FEATURES = [f"f{number}" for number in range(10)]
MEMORY_LIMIT = "1GB"
BATCH_ROWS = 50_000
_LEARN_ROWS = 20_000
_LABEL = "CASE WHEN f0 - f1 + f2 / 2 + random() > 0.5 THEN 'yes' ELSE 'no' END"
_SOURCE = "scoring__v.rows__0"
"""The table to score: the version `0` of the raw table `rows`."""
_RESULT = "bench.scored"

SQL, STREAMED = "entrepot, SQL", "entrepot, streamed"
ORBITAL, LOOP, PANDAS, PANDAS_ONCE = "bare orbital", "bare Arrow loop", "pandas", "pandas, one pass"
WANTED: dict[tuple[str, str], float | None] = {
    (SQL, ORBITAL): 1.15,
    (SQL, PANDAS): 0.67,
    (SQL, PANDAS_ONCE): None,
    (STREAMED, LOOP): 1.15,
    (STREAMED, PANDAS): 0.67,
    (STREAMED, PANDAS_ONCE): None,
}
"""At most 1.15 of the bare path, and at least 1.5 times as fast as pandas."""
_SECONDS = "seconds after imports: "

_PIPELINE = '''
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from entrepot import Files, Model, Pipeline, Table

scoring = Pipeline("scoring")


class PrivateScaler(StandardScaler):
    """Orbital knows StandardScaler, and not this."""


@scoring.ingest(tables=["rows", "labelled"])
def source():
    return {"rows": Files("rows.parquet"), "labelled": Files("labelled.parquet")}


@scoring.train(features="labelled", target="label", score=["roc_auc"])
def model():
    return make_pipeline(StandardScaler(), LogisticRegression())


@scoring.train(features="labelled", target="label", score=["roc_auc"])
def private_model():
    return make_pipeline(PrivateScaler(), LogisticRegression())


@scoring.transform
def by_sql(rows: Table, model: Model) -> Table:
    return model.predict(rows, keep=["id"], classes=["yes"])


@scoring.transform
def streamed(rows: Table, private_model: Model) -> Table:
    return private_model.predict(rows, keep=["id"], classes=["yes"])
'''


def prepare(rows: int) -> None:
    """In the current folder: a tenant's warehouse and lake, with the table to score and two fitted models."""
    from entrepot import backends
    from entrepot.activities import plan
    from entrepot.activities.catalog.details import TableDetails
    from entrepot.activities.catalog.version import Version
    from entrepot.activities.ml import models, train
    from entrepot.activities.runtime.context import ActivityContext
    from entrepot.activities.runtime.isolation.builder import Builder
    from entrepot.backends import TableName
    from entrepot.identity.expression import schema_to
    from entrepot.protocol.messages import PlanRequest, StepRef

    Path("scored_pipeline.py").write_text(_PIPELINE)
    tenants, context = _tenants(), _context()
    graph = tenants.pipeline(context.tenant, context.pipeline).graph
    work = ActivityContext(tenants.get(context.tenant), context.run, "prepare")
    drawn = ", ".join(f"random() * 4 - 2 AS {name}" for name in FEATURES)
    with work.session() as session:
        work.catalog(session).ensure()
        catalog = work.catalog(session).pipeline(context.pipeline)
        for schema in ("scoring__v", "bench"):
            session.create_schema(schema)
        some = f"SELECT * EXCLUDE id, {_LABEL} AS label FROM (SELECT range AS id, {drawn} FROM range({_LEARN_ROWS}))"
        for name, query in {"rows": f"SELECT range AS id, {drawn} FROM range({rows})", "labelled": some}.items():
            target = TableName("scoring__v", f"{name}__0")
            session.execute(f"CREATE TABLE {target} AS {query}")
            columns = schema_to(session.describe(target))
            made = Version(
                name, "0", "ingest", "", target, columns, columns, rows, TableDetails(), context.run, "source"
            )
            catalog.add_version(made)
        raw = {"rows": "0", "labelled": "0"}
        request = PlanRequest(context=context, selected=tuple(graph.steps), raw=raw, ingested={})
        with Builder(work, tenants, context.pipeline) as builder:
            values = dict(graph.parameters)
            planned = plan._make_plan(catalog, backends.dialect("duckdb"), graph, values, request, builder)
        for name in ("model", "private_model"):
            step: Any = graph.steps[name]
            ref = StepRef(context=context, step=name, versions=planned.versions)
            train._train(tenants, work, session, step, ref, catalog.versions(raw), {})
        fitted = catalog.versions(planned.versions)["model"]
        Path("model.path").write_text(models.details_of(fitted).file.path)
    Path("versions.json").write_text(json.dumps(planned.versions))


def _tenants() -> Any:
    from entrepot.activities.runtime.tenant import PipelineSettings, Tenant, Tenants
    from entrepot.registry import Registry

    settings = {"type": "duckdb", "path": "warehouse.duckdb", "memory_limit": MEMORY_LIMIT}
    tenant = Tenant("bench", settings, "lake", {"scoring": PipelineSettings("scoring")})
    return Tenants({tenant.name: tenant}, Registry({"scoring": "scored_pipeline:scoring"}))


def _context() -> Any:
    from entrepot.protocol.messages import Context

    return Context(tenant="bench", pipeline="scoring", run="benchmark")


def entrepot(step: str) -> str:
    """What the activity `transform` does. Returns how it says that it scored."""
    from entrepot.activities.runtime.context import ActivityContext
    from entrepot.activities.runtime.isolation.builder import Builder
    from entrepot.activities.runtime.isolation.processes import PROCESSES, load_with
    from entrepot.activities.transform.transform import Computation
    from entrepot.protocol.messages import Batch
    from entrepot.worker import process

    process.warm_up()  # as a worker, which has planned the run, too
    PROCESSES.fork_here()
    tenants, context = _tenants(), _context()
    load_with(tenants)
    tenants.pipeline(context.tenant, context.pipeline)
    with _clock():
        versions = json.loads(Path("versions.json").read_text())
        work = ActivityContext(tenants.get(context.tenant), context.run, step)
        with work.session() as session, Builder(work, tenants, context.pipeline) as builder:
            batch = Batch(context=context, steps=(step,), versions=versions)
            said = Computation(tenants, work, session, batch, builder).run(step).note
        work.tenant.backend.close()  # a worker closes the file a moment later
    return said


def orbital() -> str:
    """The fitted pipeline as an ibis expression by orbital, compiled as orbital compiles for DuckDB."""
    import ibis
    import orbital as library
    import skops.io  # noqa: F401
    from orbital import sql, types

    with _clock():
        estimator = _estimator()
        parsed = library.parse_pipeline(estimator, features={name: types.DoubleColumnType() for name in FEATURES})
        schema, name = _SOURCE.split(".")
        source = ibis.table({"id": "int64", **dict.fromkeys(FEATURES, "float64")}, name=name, database=schema)
        scores = library.translate(source, parsed, projection=library.ResultsProjection(["id"]))
        chosen = scores.select("id", prediction="output_label", probability_yes="output_probability.yes")
        query = sql._OrbitalDuckDBCompiler().to_sqlglot(chosen).sql("duckdb")
        with _connection() as connection:
            connection.execute(f"CREATE TABLE {_RESULT} AS {query}")
    return ""


def loop() -> str:
    """Batches out of one cursor, through the estimator, into another."""
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    import skops.io  # noqa: F401

    def scored(batches: Any) -> Iterator[Any]:
        for batch in batches:
            columns = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in FEATURES}
            chances = estimator.predict_proba(pd.DataFrame(columns, copy=False))
            predicted = labels.take(pa.array(chances.argmax(axis=1)))
            yes = pa.array(np.ascontiguousarray(chances[:, position]))
            yield pa.record_batch([batch.column("id"), predicted, yes], schema=schema)

    with _clock():
        estimator = _estimator()
        labels = pa.array(estimator.classes_.astype(str))
        position = list(estimator.classes_).index("yes")
        schema = pa.schema({"id": pa.int64(), "prediction": pa.string(), "probability_yes": pa.float64()})
        with _connection() as connection:
            batches = connection.cursor().sql(f"FROM {_SOURCE}").to_arrow_reader(BATCH_ROWS)
            connection.register("scores", pa.RecordBatchReader.from_batches(schema, scored(batches)))
            connection.execute(f"CREATE TABLE {_RESULT} AS FROM scores")
    return ""


def pandas(*, one_pass: bool = False) -> str:
    """Everything into one data frame, predicted, and written back."""
    import pandas as pd
    import skops.io  # noqa: F401

    with _clock():
        estimator = _estimator()
        with _connection() as connection:
            rows = connection.sql(f"FROM {_SOURCE}").df()
            chances = estimator.predict_proba(rows[FEATURES])
            labels = estimator.classes_[chances.argmax(axis=1)] if one_pass else estimator.predict(rows[FEATURES])
            yes = chances[:, list(estimator.classes_).index("yes")]
            scores = pd.DataFrame({"id": rows["id"], "prediction": labels, "probability_yes": yes})
            connection.register("scores", scores)
            connection.execute(f"CREATE TABLE {_RESULT} AS FROM scores")
    return ""


@contextmanager
def _clock() -> Iterator[None]:
    """Says how long a contender took after its imports."""
    before = time.perf_counter()
    yield
    print(f"{_SECONDS}{time.perf_counter() - before}")


def _estimator() -> Any:
    """The model file that training wrote to the lake, for everybody."""
    import skops.io

    path = Path("model.path").read_text()
    return skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))


def _connection() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect("warehouse.duckdb", config={"memory_limit": MEMORY_LIMIT})
    connection.execute("SET preserve_insertion_order = false")
    return connection


CONTENDERS: dict[str, Callable[[], str]] = {
    SQL: lambda: entrepot("by_sql"),
    ORBITAL: orbital,
    STREAMED: lambda: entrepot("streamed"),
    LOOP: loop,
    PANDAS: pandas,
    PANDAS_ONCE: lambda: pandas(one_pass=True),
}


def reset(folder: Path) -> None:
    """Takes away what a contender has made, so that the next one finds the same file."""
    with duckdb.connect(str(folder / "warehouse.duckdb")) as connection:
        made = connection.execute("SELECT physical_table FROM entrepot.versions WHERE kind = 'transform'").fetchall()
        for (name,) in made:
            connection.execute(f"DROP TABLE scoring__v.{name}")
        connection.execute(f"DELETE FROM entrepot.versions WHERE kind = 'transform'; DROP TABLE IF EXISTS {_RESULT}")


def found(folder: Path) -> tuple[float, ...]:
    """Rows, rows that are `yes`, and the sum of the probabilities, of what a contender has made."""
    with duckdb.connect(str(folder / "warehouse.duckdb"), read_only=True) as connection:
        made = connection.execute("SELECT physical_table FROM entrepot.versions WHERE kind = 'transform'").fetchone()
        name = f"scoring__v.{made[0]}" if made else _RESULT
        query = f"SELECT count(*), count(*) FILTER (prediction = 'yes'), sum(probability_yes) FROM {name}"
        return tuple(map(float, connection.execute(query).fetchone() or ()))


@dataclass
class Measured:
    """One contender's rounds."""

    whole: list[float] = field(default_factory=list)
    """Seconds of the process, from outside."""
    scoring: list[float] = field(default_factory=list)
    """Seconds after its imports, which a worker has done before."""
    peak: int = 0


def measure(rows: int, rounds: int) -> dict[str, Measured]:
    """Every contender as a process of its own, in turn, so many times."""
    folder = Path(tempfile.mkdtemp(prefix="entrepot-scoring-"))
    measured = {name: Measured() for name in CONTENDERS}
    expected: tuple[float, ...] = ()
    try:
        timed([*_PYTHON, "--prepare", str(rows)], folder, _ENVIRONMENT)
        for number in range(rounds):
            for name, each in measured.items():
                run = timed([*_PYTHON, "--contender", name], folder, _ENVIRONMENT)
                scores = found(folder)
                expected = expected or scores
                if not all(math.isclose(a, b, rel_tol=1e-9) for a, b in zip(scores, expected, strict=True)):
                    raise RuntimeError(f"the contenders do not agree: {name} has {scores}, the first {expected}")
                reset(folder)
                each.whole.append(run.seconds)
                each.scoring.append(scoring_seconds(name, run.output))
                each.peak = max(each.peak, run.peak_bytes)
                print(
                    f"{rows:,} rows, round {number + 1}, {name}: {each.whole[-1]:.2f} s, of which after imports "
                    f"{each.scoring[-1]:.2f} s, {run.peak_bytes / 1e6:.0f} MB",
                    flush=True,
                )
    finally:
        shutil.rmtree(folder)
    return measured


def scoring_seconds(name: str, said: str) -> float:
    """The seconds after imports, as a contender said them.

    Raises:
        RuntimeError: if it is ours and did not score the way that its name says.
    """
    way = {SQL: "scored in the warehouse as SQL", STREAMED: "scored streamed through the estimator"}.get(name, "")
    if way not in said:
        raise RuntimeError(f"{name} was not measured, since it said: {said}")
    return next(float(line.removeprefix(_SECONDS)) for line in said.splitlines() if line.startswith(_SECONDS))


_PYTHON = (sys.executable, "-m", "benchmarks.scoring")
_ENVIRONMENT = {"PYTHONPATH": str(Path(__file__).parent.parent)}


def main(arguments: list[str] | None = None) -> None:
    """Prints a table of seconds, and one of memory."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scoring", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS), help="the sizes to measure")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prepare", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--contender", choices=list(CONTENDERS), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.prepare:
        prepare(options.prepare)
        return
    if options.contender:
        finish(CONTENDERS[options.contender]())
    measured = {}
    for rows in options.rows:
        measured[rows] = measure(rows, options.rounds)
        what = f"{rows:,} rows x {len(FEATURES)} features, StandardScaler + LogisticRegression"
        table(f"{what}: whole processes", rows_of({name: each.whole for name, each in measured[rows].items()}))
        table(f"{what}: after imports", rows_of({name: each.scoring for name, each in measured[rows].items()}))
    memory({rows: {name: each.peak for name, each in found.items()} for rows, found in measured.items()})


def rows_of(seconds: dict[str, list[float]]) -> list[Row]:
    """Ours, and beside each of ours what it is held against."""
    rows = []
    for ours in (SQL, STREAMED):
        mine = Row(ours, ours, seconds[ours], None)
        against = [(other, limit) for (who, other), limit in WANTED.items() if who == ours]
        rows += [mine, *(Row(other, ours, seconds[other], mine.median, limit) for other, limit in against)]
    return rows


def memory(peaks: dict[int, dict[str, int]]) -> None:
    """Prints the peak memory of each contender at every size."""
    shown = Table(title=f"peak memory of the process, DuckDB limited to {MEMORY_LIMIT}", title_justify="left")
    shown.add_column("contender")
    for rows in peaks:
        shown.add_column(f"{rows:,} rows", justify="right")
    for name in CONTENDERS:
        shown.add_row(name, *(f"{found[name] / 1e6:,.0f} MB" for found in peaks.values()))
    Console(width=120).print(shown)


if __name__ == "__main__":
    main()
