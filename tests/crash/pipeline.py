"""What the crash matrix runs: a source that brings a second batch, and a step of each kind after it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import ibis
from ibis import _

from entrepot import ByKey, Copy, Dashboard, Export, Model, Panel, Pipeline, Product, Table, split
from tests.crash.boundaries import point

SOURCE = Path("source")
"""In the folder of a case, which is the current folder of its worker."""
TABLES = {"orders": "replace", "visits": "append", "customers": "merge", "prices": "scd2"}
"""Each table, and what becomes of its rows of before. `append` and `merge` have the cursor `updated`."""
BATCHES = 2
ROWS = 60


def bring(folder: Path, batch: int) -> None:
    """Writes a batch, counted from 1, for each table. Half of the ids of a second one are there already."""
    for table in TABLES:
        path = folder / SOURCE / table / f"{batch}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows_of(batch)))


def rows_of(batch: int) -> list[dict[str, Any]]:
    """The rows that a batch has for each table."""
    first = (batch - 1) * ROWS // 2
    return [_row(number, batch) for number in range(first, first + ROWS)]


def _row(number: int, batch: int) -> dict[str, Any]:
    x, y = (number * 37 + batch) % 101, (number * 53 + batch * 7) % 97
    return {"id": number, "updated": batch * 1000 + number, "x": x, "y": y, "likes": x + y > 100, "price": number % 9}


crash = Pipeline("crash", description="Everything that may be interrupted")


@crash.ingest(tables=list(TABLES))
def shop() -> Any:
    """One source with all tables, which are loaded together or not at all."""
    return resources(TABLES)


def resources(tables: Iterable[str]) -> list[Any]:
    """A dlt resource for each of some tables."""
    import dlt

    cursor = dlt.sources.incremental("updated", initial_value=0)

    def newer(table: str, updated: Any = cursor) -> Iterator[Any]:
        yield from _rows(table, updated.last_value)

    def whole(table: str) -> Iterator[Any]:
        yield from _rows(table, 0)

    made = []
    for table in tables:
        disposition = TABLES[table]
        read = newer if disposition in ("append", "merge") else whole
        how: Any = {"disposition": "merge", "strategy": "scd2"} if disposition == "scd2" else disposition
        # A load may bring a key twice, when there were two batches since the last one: the newer row counts.
        newest: Any = {"updated": {"dedup_sort": "desc"}} if disposition == "merge" else None
        made.append(dlt.resource(read, name=table, write_disposition=how, primary_key="id", columns=newest)(table))
    return made


def _rows(table: str, least: int) -> Iterator[list[dict[str, Any]]]:
    """A piece for each batch. A snapshot (`scd2`) has the newest one alone."""
    paths = sorted((SOURCE / table).iterdir())
    for path in paths[-1:] if TABLES[table] == "scd2" else paths:
        with point(f"source {table}"):
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            chosen = [row for row in rows if row["updated"] >= least]
        if chosen:
            yield chosen


@crash.transform
def paid(orders: Table) -> Table:
    return orders.filter(_.price > 0)


@crash.transform(engine="python", schema={"id": "int64", "label": "string"})
def labels(visits: Any) -> Iterator[list[dict[str, Any]]]:
    for batch in visits:
        yield [{"id": number, "label": f"n{number}"} for number in batch.column("id").to_pylist()]


@crash.transform
def totals(paid: Table, labels: Table) -> Table:
    return paid.join(labels, "id").group_by("price").agg(rows=_.count(), total=_.x.sum())


@crash.transform(incremental=ByKey("price"), product=Product("1.0.0", owner="ops", consumers=["finance"]))
def spent(customers: Table) -> Table:
    return customers.group_by("price").agg(rows=_.count(), total=_.y.sum())


@crash.check(totals)
def none_empty(totals: Table) -> Table:
    return totals.filter(_.rows == 0)


@crash.train(
    features=paid, target="likes", columns=["x", "y"], split=split.Where(lambda t: t.id % 4 == 0), score="accuracy"
)
def taste() -> Any:
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(max_depth=3, random_state=1)


@crash.transform
def liked(paid: Table, taste: Model) -> Table:
    return taste.predict(paid, keep=["id"])


@crash.publish
def file(liked: Table) -> Export:
    return Export(liked.order_by(ibis.asc("id")), "csv")


@crash.publish
def shared(totals: Table) -> Copy:
    return Copy(totals, schema="reporting")


@crash.publish
def page(totals: Table) -> Dashboard:
    return Dashboard("Totals", [Panel("Totals", totals)])
