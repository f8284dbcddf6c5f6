"""An interval that is loaded again, where the cursor has not come to its end, and where a run loads meanwhile."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from entrepot.protocol.messages import Backfill, Context, ExtractRequest, Load, LoadRequest
from tests.activities.ingest.loading import ENVIRONMENT, Warehouse, warehouse


def give(its: Warehouse, ids: range, name: str) -> None:
    rows = [{"id": n, "name": name} for n in ids]
    (its.folder / "counted.rows").write_text(json.dumps(rows))


def context(its: Warehouse, run: str, options: dict[str, Any] | None = None) -> Context:
    return Context(
        tenant="acme",
        pipeline="ingested",
        environment="prod",
        run=run,
        started_at="2026-01-01T00:00:00",
        parameters={"folder": str(its.folder), "options": options or {}},
    )


def read(its: Warehouse, run: str, start: int, end: int) -> Load:
    interval = Backfill(start=start, end=end)
    asked = ExtractRequest(context=context(its, run), step="counted", backfill=interval, is_all=True)
    return asyncio.run(ENVIRONMENT.run(its.activities.extract, asked))


def read_new(its: Warehouse, run: str, options: dict[str, Any]) -> Load:
    asked = ExtractRequest(context=context(its, run, options), step="counted")
    return asyncio.run(ENVIRONMENT.run(its.activities.extract, asked))


def load(its: Warehouse, run: str, load: Load, *, may_follow: bool = True) -> None:
    asked = LoadRequest(context=context(its, run), load=load, may_follow=may_follow)
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


def test_what_a_run_has_read_goes_behind_intervals_that_were_loaded_meanwhile() -> None:
    with warehouse() as its:
        give(its, range(1, 11), "a")
        its.load("counted", {})
        give(its, range(1, 16), "b")
        new, later = read_new(its, "new", {}), read_new(its, "later", {})
        for start in range(1, 9):  # so many that segments are written together meanwhile
            load(its, f"interval{start}", read(its, f"interval{start}", start, start + 1))
        assert shown(its) == [(n, "b" if n < 9 else "a") for n in range(1, 11)]
        load(its, "new", new, may_follow=False)
        assert shown(its) == [(n, "b" if n < 9 or n > 10 else "a") for n in range(1, 16)]
        with pytest.raises(ApplicationError, match="Conflict"):  # another run has loaded
            load(its, "later", later, may_follow=False)
        give(its, range(1, 18), "c")
        load(its, "next", read_new(its, "next", {}), may_follow=False)
        assert shown(its)[-2:] == [(16, "c"), (17, "c")]


def test_where_the_order_counts_what_a_run_has_read_does_not_go_behind() -> None:
    merge = {"write_disposition": "merge"}
    with warehouse() as its:
        give(its, range(1, 11), "a")
        its.load("counted", merge)
        give(its, range(1, 16), "b")
        new = read_new(its, "new", merge)
        its.load("counted", merge, backfill=Backfill(start=8, end=10))
        with pytest.raises(ApplicationError, match="Conflict"):
            load(its, "new", new, may_follow=False)
        its.load("counted", merge)
        assert dict(shown(its))[8] == "b"
        assert [id for id, _ in shown(its)] == [*range(1, 16)]


def test_no_row_is_lost_or_there_twice_in_whatever_order_runs_and_intervals_are_read_and_loaded() -> None:
    chance, ended = random.Random(3), Counter[str | None]()
    with warehouse() as its:
        last = 6
        give(its, range(1, last + 1), "a")
        its.load("counted", {})
        pending: list[tuple[Load, bool]] = []
        for step in range(30):
            last += chance.choice([0, 0, 1, 3])
            give(its, range(1, last + 1), f"step {step}")
            if len(pending) < 2 or chance.random() < 0.5:
                start = chance.randint(1, last)
                is_interval = chance.random() < 0.7
                its_read = (
                    read(its, f"r{step}", start, start + chance.randint(1, 4))
                    if is_interval
                    else read_new(its, f"r{step}", {})
                )
                if not its_read.unchanged:
                    pending.append((its_read, is_interval))
            else:
                one, is_interval = pending.pop(chance.randrange(len(pending)))
                try:
                    load(its, f"l{step}", one, may_follow=is_interval)
                    ended["loaded"] += 1
                except ApplicationError as error:
                    ended[error.type] += 1
            ids = [id for id, _ in shown(its)]
            assert ids == [*range(1, len(ids) + 1)], step
        assert ended.keys() == {"loaded", "Conflict"}
        its.load("counted", {})
        load(its, "all", read(its, "all", 1, last + 1))
        assert shown(its) == [(n, f"step {step}") for n in range(1, last + 1)]
