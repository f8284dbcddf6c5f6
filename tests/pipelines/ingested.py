"""Sources of every kind: what each reads, a test has written, and how it reads it, a run's parameters say."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dlt

from entrepot import Files, Pipeline, PostgresTable, Table
from entrepot.activities.ingest import landing
from entrepot.activities.ingest.sources.files import text
from entrepot.errors import Unavailable
from entrepot.language.step import Contract
from tests.servers import elsewhere

__all__ = ["elsewhere", "ingested"]
"""The first, so that processes that import the pipeline know of such lakes."""

ingested = Pipeline("ingested", description="Every kind of source", parameters={"folder": "", "options": {}})

FORMULA1 = [
    "circuits",
    "constructor_results",
    "constructor_standings",
    "constructors",
    "driver_standings",
    "drivers",
    "fatal_accidents_drivers",
    "fatal_accidents_marshalls",
    "lap_times",
    "pit_stops",
    "qualifying",
    "races",
    "red_flags",
    "results",
    "safety_cars",
    "seasons",
    "sprint_results",
    "status",
]


def rows(folder: str, name: str) -> list[dict[str, Any]]:
    """What a source has now."""
    path = Path(folder, f"{name}.rows")
    return json.loads(path.read_text()) if path.exists() else []


def resource(folder: str, name: str, options: dict[str, Any]) -> Any:
    """The rows as a resource of dlt, with whatever dlt is told of them."""
    given = {"write_disposition": "append", **options}
    return dlt.resource(lambda: iter([rows(folder, name)]), name=name, **given)


@ingested.ingest
def sql(options: dict[str, Any]) -> PostgresTable:
    """A table of the database."""
    return PostgresTable(**{"url": "env:SHOP", **options})


@ingested.ingest
def texts(folder: str, options: dict[str, Any]) -> Files:
    """Files, of which bad rows fail. `bounds` are those of texts, in the process that reads them."""
    for name, value in options.get("bounds", {}).items():
        setattr(text, name, value)
    return Files(**{**{n: v for n, v in options.items() if n != "bounds"}, "path": f"{folder}/{options['path']}"})


@ingested.ingest(tables=["sorted", "sorted__rejected"])
def sorting(folder: str, options: dict[str, Any]) -> dict[str, Files]:
    """Files, of which bad rows are set aside."""
    return {"sorted": Files(**{**options, "path": f"{folder}/{options['path']}"}, bad_rows="reject")}


@ingested.ingest
def plain(folder: str) -> list[dict[str, Any]]:
    """Rows without dlt's words."""
    return rows(folder, "plain")


@ingested.ingest(tables=["from_files", "from_database", "from_python"])
def mixed(folder: str, options: dict[str, Any]) -> dict[str, Any]:
    """A table of each kind."""
    return {
        "from_files": Files(f"{folder}/*.csv", disposition="append"),
        "from_database": PostgresTable("env:SHOP", options["table"], cursor="id"),
        "from_python": (row for row in rows(folder, "mixed")),
    }


@ingested.ingest
def keyed(folder: str, options: dict[str, Any]) -> Any:
    """Whatever dlt is told."""
    return resource(folder, "keyed", options)


@ingested.ingest(tables=["nested", "nested__items", "nested__items__sub"])
def nested(folder: str, options: dict[str, Any]) -> Any:
    """Documents with lists in lists."""
    return resource(folder, "nested", options)


@ingested.ingest(min_rows=2, max_shrink=0.5)
def guarded(folder: str, options: dict[str, Any]) -> Any:
    """Not with fewer rows than two, or than half of those of before."""
    return resource(folder, "guarded", {"write_disposition": "replace", **options})


@ingested.ingest(tables={"declared": {"id": "int64", "name": "string"}})
def declared(folder: str, options: dict[str, Any]) -> Any:
    """With columns that are known before."""
    return resource(folder, "declared", options)


@ingested.ingest
def counted(folder: str, options: dict[str, Any]) -> Any:
    """Grows at its end, as its cursor `id` tells. Notes that it was asked, and breaks off while it is told to."""
    if Path(folder, "dies").exists():
        die_when_all_is_read(Path(folder, "dies"))

    @dlt.resource(name="counted", **{"write_disposition": "append", "primary_key": "id", **options})
    def read(at: Any = dlt.sources.incremental("id", initial_value=0)) -> Iterator[Any]:  # noqa: B008
        with Path(folder, "asked").open("a") as asked:
            asked.write("x")
        if at.last_value in json.loads(
            Path(folder, "refused").read_text() if Path(folder, "refused").exists() else "[]"
        ):
            raise LookupError("the source does not say what it has there")
        while Path(folder, "waits").exists():
            time.sleep(0.02)
        for row in rows(folder, "counted"):
            if row["id"] is None or row["id"] >= at.last_value:
                yield row
        if Path(folder, "breaks").exists():
            raise ConnectionError("the source hung up")

    return read


def die_when_all_is_read(mark: Path) -> None:
    """Fails this attempt when everything is in the lake, and takes the mark away."""
    finish = landing.Landing.finish

    def finished(self: landing.Landing, *given: Any) -> None:
        finish(self, *given)
        mark.unlink()
        raise Unavailable("the process died, as it were")

    landing.Landing.finish = finished  # type: ignore[method-assign]


def with_contract(name: str, contract: Contract) -> None:
    """Adds a step whose table has a contract."""

    @ingested.ingest(name=name, schema_contract={name: contract})
    def read(folder: str, options: dict[str, Any]) -> Any:
        return resource(folder, name, options)


with_contract("frozen", "freeze")
with_contract("discarding", "discard")


@ingested.transform
def ids(counted: Table) -> Table:
    return counted.group_by("id").agg(n=counted.count())


formula1 = Pipeline("formula1", description="Ergast's files", parameters={"folder": ""})


@formula1.ingest(tables=FORMULA1)
def ergast(folder: str) -> dict[str, Files]:
    """All of them, with `\\N` for NULL, and the ragged end of races.csv."""

    def files(name: str) -> Files:
        (path,) = Path(folder).glob(f"{name}.csv*")
        return Files(str(path), nulls=["\\N", ""], short_rows="nulls" if name == "races" else "bad")

    return {name: files(name) for name in FORMULA1}


github = Pipeline("github", description="GitHub's events", parameters={"file": "", "most": 0})


@github.ingest(
    tables=["events", "events__payload__commits", "events__payload__issue__labels", "events__payload__pages"]
)
def hour(file: str, most: int) -> Any:
    """The events of an hour, with what is nested in them as tables of its own."""

    @dlt.resource(name="events", write_disposition="merge", primary_key="id")
    def events() -> Iterator[list[dict[str, Any]]]:
        with gzip.open(file, "rt") as lines:
            yield [json.loads(line) for line, _ in zip(lines, range(most), strict=False)]

    return events
