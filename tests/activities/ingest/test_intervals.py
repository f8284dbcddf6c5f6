"""An interval that is loaded again, where the cursor has not come to its end, and where a run loads meanwhile."""

from __future__ import annotations

import asyncio
import json

import pytest
from temporalio.exceptions import ApplicationError

from entrepot.protocol.messages import Backfill, Context, ExtractRequest, Load, LoadRequest
from tests.activities.ingest.loading import ENVIRONMENT, Warehouse, warehouse


def give(its: Warehouse, ids: range, name: str) -> None:
    rows = [{"id": n, "name": name} for n in ids]
    (its.folder / "counted.rows").write_text(json.dumps(rows))


def context(its: Warehouse, run: str) -> Context:
    return Context(
        tenant="acme",
        pipeline="ingested",
        environment="prod",
        run=run,
        started_at="2026-01-01T00:00:00",
        parameters={"folder": str(its.folder), "options": {}},
    )


def read(its: Warehouse, run: str, start: int, end: int) -> Load:
    interval = Backfill(start=start, end=end)
    asked = ExtractRequest(context=context(its, run), step="counted", backfill=interval, is_all=True)
    return asyncio.run(ENVIRONMENT.run(its.activities.extract, asked))


def load(its: Warehouse, run: str, load: Load) -> None:
    asked = LoadRequest(context=context(its, run), load=load, may_follow=True)
    asyncio.run(ENVIRONMENT.run(its.activities.load, asked))


def shown(its: Warehouse) -> list[tuple[int, str]]:
    return sorted((row["id"], row["name"]) for row in its.rows("counted"))


def test_rows_beyond_the_watermark_come_with_the_next_load_and_not_twice() -> None:
    with warehouse() as its:
        give(its, range(1, 11), "a")
        its.load("counted", {})
        give(its, range(1, 21), "b")
        for start in (5, 8, 15):
            its.load("counted", {}, backfill=Backfill(start=start, end=100))
            assert shown(its) == [(n, "a" if n < 5 else "b") for n in range(1, 11)]
        its.load("counted", {})
        assert shown(its) == [(n, "a" if n < 5 else "b") for n in range(1, 21)]


def test_an_interval_of_which_a_run_has_loaded_more_is_read_anew() -> None:
    with warehouse() as its:
        give(its, range(1, 11), "a")
        its.load("counted", {})
        give(its, range(1, 13), "b")
        low, high = read(its, "low", 2, 4), read(its, "high", 8, 100)
        its.load("counted", {})
        load(its, "low", low)  # the run brought nothing of it
        with pytest.raises(ApplicationError, match="Conflict"):
            load(its, "high", high)
        load(its, "anew", read(its, "anew", 8, 100))
        assert shown(its) == [(n, "b" if n in (2, 3) or n >= 8 else "a") for n in range(1, 13)]
