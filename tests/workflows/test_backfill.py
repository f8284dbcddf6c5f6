"""Backfills: whatever happens on the way, what was loaded again has the rows that the source has, each once."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from entrepot.protocol.backfills import BackfillProgress
from entrepot.worker.config.tenant_schema import TenantSection
from tests.conftest import House, serving, settings
from tests.servers.webhooks import http_server
from tests.waiting import eventually
from tests.workflows.ingesting import Ingesting, Rows

INGESTED = {"tenant": "acme", "pipeline": "ingested"}
MERGE = {"write_disposition": "merge"}
ID = "acme/ingested:backfill"


def rows(ids: Any, name: str = "n") -> Rows:
    return [{"id": n, "name": f"{name}{n}"} for n in ids]


async def start(ingesting: Ingesting, start: Any, end: Any, every: Any, **more: Any) -> WorkflowHandle[Any, Any]:
    parameters = {"folder": str(ingesting.folder), "options": more.pop("options", {})}
    value = {"tenant": "acme", "pipeline": "ingested", "select": "counted+", "parameters": parameters}
    value |= {"start": start, "end": end, "every": every, **more}
    return await ingesting.house.start("Backfill", value, id=f"{ID}-{ingesting.house.task_queue}")


async def backfill(ingesting: Ingesting, *given: Any, **more: Any) -> BackfillProgress:
    ended = await (await start(ingesting, *given, **more)).result()
    return BackfillProgress.model_validate(ended)


async def progress(handle: WorkflowHandle[Any, Any]) -> BackfillProgress:
    return await handle.query("progress", result_type=BackfillProgress)  # type: ignore[no-any-return]


async def until(handle: WorkflowHandle[Any, Any], is_so: Any) -> BackfillProgress:
    async def look() -> BackfillProgress | None:
        found = await progress(handle)
        return found if is_so(found) else None

    return await eventually(look)  # type: ignore[return-value]


async def failed(handle: WorkflowHandle[Any, Any]) -> ApplicationError:
    with pytest.raises(WorkflowFailureError) as caught:
        await asyncio.wait_for(handle.result(), 300)
    assert isinstance(caught.value.cause, ApplicationError)
    return caught.value.cause


def raw(ingesting: Ingesting) -> list[tuple[Any, ...]]:
    return ingesting.query("SELECT id, name FROM ingested.counted ORDER BY ALL")


@pytest.mark.parametrize("options", [{}, MERGE])
async def test_a_range_is_loaded_again_interval_by_interval(ingesting: Ingesting, options: dict[str, Any]) -> None:
    ingesting.give("counted", rows(range(1, 61)))
    await ingesting.load("counted+", options)
    ingesting.give("counted", rows([*range(1, 30), *range(33, 61)], "m"))
    ended = await backfill(ingesting, 20, 41, 4, options=options, at_once=3)
    assert (ended.total, ended.done, ended.outcome, ended.stage) == (6, 6, "published", "done")
    assert ended.running == ()
    kept = [] if not options else rows([30, 31, 32])  # a merge deletes nothing
    expected = [*rows(range(1, 20)), *rows([*range(20, 30), *range(33, 41)], "m"), *kept, *rows(range(41, 61))]
    assert raw(ingesting) == sorted((row["id"], row["name"]) for row in expected)
    assert ingesting.query("SELECT count(*), max(n) FROM ingested.ids") == [(len(expected), 1)]
    assert ended.at_once == (1 if options else 3)
    assert ended.notes == (("intervals are loaded one by one, since 'counted' is merged by key",) if options else ())
    assert (await ingesting.load("counted+", options)).outcome == "nothing to do"  # the watermark stayed


async def test_columns_that_come_and_go_on_the_way(ingesting: Ingesting) -> None:
    ingesting.give("counted", rows(range(1, 41)))
    await ingesting.load("counted+")
    more = {31: {"other": 1.5}, **{key: {"extra": "x"} for key in range(11, 16)}}
    source = [{**row, **more.get(row["id"], {})} for row in rows(range(1, 41), "m")]
    ingesting.give("counted", source)
    assert (await backfill(ingesting, 1, 41, 5, at_once=4)).done == 8
    found = ingesting.query("SELECT id, name, extra, other FROM ingested.counted ORDER BY 1")
    assert found == [(row["id"], row["name"], row.get("extra"), row.get("other")) for row in source]


async def test_against_a_dict_through_edits_loads_and_cancelled_backfills(ingesting: Ingesting) -> None:
    chance = random.Random(7)
    source = {n: f"a{n}" for n in range(1, 80)}
    shown: dict[int, str] = {}
    loaded_to = 0
    for step in range(4):
        for n in chance.sample(sorted(source), 15):
            source[n] = f"{step}.{n}"
        for n in chance.sample(sorted(source), 3):
            del source[n]
        source |= {n: f"new{n}" for n in range(80 + 5 * step, 85 + 5 * step)}
        ingesting.give("counted", [{"id": n, "name": name} for n, name in sorted(source.items())])
        await ingesting.load("counted+")
        shown |= {n: name for n, name in source.items() if n > loaded_to}
        loaded_to = max(source)
        first = chance.randint(1, 60)
        last = first + chance.randint(1, 40)
        given = (first, last, chance.randint(3, 12))
        at_once = chance.choice([1, 4, 8])
        if chance.random() < 0.5:
            handle = await start(ingesting, *given, at_once=at_once)
            await until(handle, lambda found: found.done or found.stage != "prepare")
            await handle.cancel()
            with pytest.raises(WorkflowFailureError):
                await handle.result()
        await backfill(ingesting, *given, at_once=at_once)
        shown = {n: name for n, name in shown.items() if not first <= n < last}
        shown |= {n: name for n, name in source.items() if first <= n < last}
        assert raw(ingesting) == sorted(shown.items()), step
        assert ingesting.query("SELECT count(*), max(n) FROM ingested.ids") == [(len(shown), 1)]


async def a_rollback(house: House, options: Any) -> None:
    await (await house.start("Rollback", {**INGESTED, "cursor": True})).result()


async def a_promotion(house: House, options: Any) -> None:
    await (await house.start("Create", {"tenant": "acme", "environment": "dev"})).result()
    await house.run("ingested", select="counted+", parameters=options, environment="dev")
    await (await house.start("Promote", {**INGESTED, "like": "dev"})).result()


async def a_run_that_computes_anew(house: House, options: Any) -> None:
    await house.run("ingested", select="counted+", parameters=options, force="ids")


async def a_collection(house: House, options: Any) -> None:
    await (await house.start("Gc", {"tenant": "acme", "keep_days": 0, "keep_publishes": 1})).result()
    await (await house.start("Repair", {"tenant": "acme"})).result()


@pytest.mark.parametrize(
    ("meanwhile", "options"),
    [(a_rollback, {}), (a_rollback, MERGE), (a_promotion, {}), (a_run_that_computes_anew, {}), (a_collection, {})],
)
async def test_it_has_loaded_all_whatever_happens_meanwhile(ingesting: Ingesting, meanwhile: Any, options: Any) -> None:
    for last in (31, 41):
        ingesting.give("counted", rows(range(1, last)))
        await ingesting.load("counted+", options)
    ingesting.give("counted", rows(range(1, 51), "m"))  # all are edited, and ten are new
    handle = await start(ingesting, 1, 41, 5, at_once=1, options=options)
    await until(handle, lambda found: found.done >= 2)
    await handle.execute_update("pause")
    await until(handle, lambda found: not found.running)
    await meanwhile(ingesting.house, {"folder": str(ingesting.folder), "options": options})
    await handle.execute_update("resume")
    ended = BackfillProgress.model_validate(await handle.result())
    assert (ended.done, ended.failed) == (8, ())
    assert any("went back" in note for note in ended.notes) == (meanwhile is a_rollback)
    await ingesting.load("counted+", options)
    assert raw(ingesting) == [(each["id"], each["name"]) for each in rows(range(1, 51), "m")]


async def test_it_pauses_goes_on_and_changes_how_many_run_at_once(ingesting: Ingesting) -> None:
    ingesting.give("counted", rows(range(1, 41)))
    await ingesting.load("counted+")
    ingesting.write("waits", "")
    handle = await start(ingesting, 1, 41, 5, at_once=2)
    found = await until(handle, lambda found: len(found.running) == 2)
    assert (found.running, found.line) == (("1..6", "6..11"), "0 of 8 intervals · at most 2 at once")
    await handle.execute_update("at_once", 3)
    await until(handle, lambda found: len(found.running) == 3)
    assert (await handle.execute_update("pause"))["paused"]
    (ingesting.folder / "waits").unlink()
    found = await until(handle, lambda found: found.done == 3)
    assert (found.running, found.line) == ((), "3 of 8 intervals · paused")
    with pytest.raises(WorkflowUpdateFailedError, match="Workflow update failed") as caught:
        await handle.execute_update("at_once", 51)
    assert "at_once is a whole number from 1 to 50, not 51" in str(caught.value.cause)
    with pytest.raises(WorkflowUpdateFailedError) as caught:
        await handle.execute_update("at_once", "many")
    assert str(caught.value.cause) == "BadInput: at_once is a whole number from 1 to 50, not 'many'"
    await handle.execute_update("resume")
    ended = BackfillProgress.model_validate(await handle.result())
    assert (ended.done, ended.failed, ended.left) == (8, (), 0)


async def test_what_failed_is_told_and_alone_is_loaded_the_next_time(ingesting: Ingesting) -> None:
    ingesting.give("counted", rows(range(1, 31)))
    await ingesting.load("counted+")
    ingesting.give("counted", rows(range(1, 31), "m"))
    ingesting.write("refused", "[11, 21]")
    error = await failed(await start(ingesting, 1, 31, 5))
    assert error.type == "BackfillFailed"
    for text in (
        "2 of 6 intervals could not be loaded: 11..16: ",
        "the source does not say",
        "4 are loaded, and the next",
    ):
        assert text in error.message
    assert "m" not in {name[0] for _, name in raw(ingesting)}  # nothing is shown of it yet
    assert ingesting.query("SELECT count(*) FROM entrepot.leases") == [(0,)]  # nor kept from collections
    (ingesting.folder / "refused").unlink()
    (ingesting.folder / "asked").unlink()
    ended = await backfill(ingesting, 1, 31, 5)
    assert (ended.loaded_before, ended.done, ended.total) == (4, 2, 6)
    assert ended.notes == ("4 of 6 intervals were loaded by the backfill of before; `again` loads them again",)
    assert len((ingesting.folder / "asked").read_text()) == 3  # and the run at the end asks for what is new
    assert raw(ingesting) == [(n, f"m{n}") for n in range(1, 31)]
    ended = await backfill(ingesting, 1, 31, 5)  # that one came to its end, so all is asked for
    assert (ended.loaded_before, ended.done, ended.outcome) == (0, 6, "nothing to do")


async def test_after_a_rollback_of_cursors_all_of_it_is_loaded_again(ingesting: Ingesting) -> None:
    ingesting.give("counted", rows(range(1, 11)))
    await ingesting.load("counted+")
    ingesting.give("counted", rows(range(1, 21)))
    await ingesting.load("counted+")
    ingesting.give("counted", rows(range(1, 21), "m"))
    ingesting.write("refused", "[6]")
    await failed(await start(ingesting, 1, 11, 5))  # the first interval is loaded
    back = {"tenant": "acme", "pipeline": "ingested", "cursor": True}
    await (await ingesting.house.start("Rollback", back)).result()
    (ingesting.folder / "refused").unlink()
    ended = await backfill(ingesting, 1, 11, 5)
    assert (ended.loaded_before, ended.done) == (0, 2)
    assert raw(ingesting) == [(n, f"m{n}") for n in range(1, 21)]


async def test_a_hook_is_told_of_intervals_that_failed(temporal: WorkflowEnvironment, tmp_path: Path) -> None:
    with http_server() as webhook:
        backend = {"type": "duckdb", "path": "acme.duckdb"}
        section = TenantSection.model_validate({"backend": backend, "on_failure": {"webhook": webhook.url}})
        known = {"ingested": "tests.pipelines.ingested:ingested"}
        async with serving(temporal.client, settings(tmp_path, known, acme=section)) as house:
            ingesting = Ingesting(house, tmp_path)
            ingesting.give("counted", rows(range(1, 11)))
            await ingesting.load("counted+")
            ingesting.write("refused", "[6]")
            handle = await start(ingesting, 1, 11, 5)
            error = await failed(handle)
            told = house.client.get_workflow_handle(f"{handle.id}:failed:{handle.first_execution_run_id}")
            await told.result()
        (request,) = webhook.requests
        assert request.json["error"] == error.message
        assert request.json["workflow_id"] == handle.id


async def test_again_begins_at_the_start(ingesting: Ingesting) -> None:
    ingesting.give("counted", rows(range(1, 11)))
    await ingesting.load("counted+")
    ingesting.write("refused", "[6]")
    await failed(await start(ingesting, 1, 11, 5))
    (ingesting.folder / "refused").unlink()
    assert (await backfill(ingesting, 1, 11, 5, again=True)).done == 2


async def test_after_ten_failed_intervals_no_other_begins(ingesting: Ingesting) -> None:
    ingesting.give("counted", rows(range(1, 101)))
    await ingesting.load("counted+")
    ingesting.write("refused", str(list(range(1, 101))))
    handle = await start(ingesting, 1, 101, 1, at_once=5)
    error = await failed(handle)
    assert "of 100 intervals could not be loaded" in error.message
    assert 10 <= len((await progress(handle)).failed) <= 14


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"start": 5, "end": 1}, "there is nothing from 5 to 1"),
        ({"start": 1, "end": 9, "every": "day"}, "a range of numbers is cut by a number above 0"),
        (
            {"start": 1, "end": 9, "every": 1, "at_once": 0},
            "'at_once' is wrong: it should be greater than or equal to 1",
        ),
        ({"start": 1, "end": 9, "every": 1, "select": "ids"}, "the selection 'ids' has no ingest step"),
        ({"start": 1, "end": 9, "every": 1, "select": "nothing"}, "unknown"),
        ({"start": 1, "end": 9, "every": 1, "select": "counted+"}, "'counted' loaded nothing in 'prod' yet"),
        ({"start": 1, "end": 9, "every": 1, "environment": "V"}, "cannot be an environment"),
        ({"start": 1}, "the field 'end' is missing"),
        ({"start": 1, "end": 9, "size": 1}, "unknown field 'size'"),
    ],
)
async def test_what_is_no_backfill(ingesting: Ingesting, given: dict[str, Any], why: str) -> None:
    handle = await ingesting.house.start("Backfill", {"tenant": "acme", "pipeline": "ingested", **given})
    error = await failed(handle)
    assert (error.type, why in error.message) == ("BadInput", True), error.message
