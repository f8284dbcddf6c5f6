"""The same pipeline over the same load on several warehouses: here two DuckDB files, one of which can be led astray."""

from __future__ import annotations

import io
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from rich.console import Console
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from entrepot.backends import QueryTag
from entrepot.language.incremental import ByInterval
from entrepot.language.step import TransformStep
from entrepot.protocol.parity import ParityReport, TableParity
from entrepot.worker.cli import follow
from entrepot.worker.cli.parity import show
from entrepot.worker.config.tenant_schema import TenantSection
from tests.conftest import House, serving, settings
from tests.pipelines.frozen import frozen
from tests.waiting import until_running

TWO = TenantSection(
    backend={"type": "duckdb", "path": "acme.duckdb"}, backends={"other": {"type": "duckdb", "path": "other.duckdb"}}
)


@pytest_asyncio.fixture
async def two(temporal: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[House]:
    """The shop for a tenant with two DuckDB files."""
    section = TenantSection(
        backend={"type": "duckdb", "path": "acme.duckdb"},
        backends={"other": {"type": "duckdb", "path": "other.duckdb"}},
    )
    async with serving(
        temporal.client, settings(tmp_path, {"shop": "tests.pipelines.shop:shop"}, acme=section)
    ) as house:
        yield house


async def parity(house: House, **more: object) -> ParityReport:
    handle = await house.start("Parity", {"tenant": "acme", "pipeline": "shop", **more})
    return ParityReport.model_validate(await handle.result())


@pytest.mark.fast
async def test_two_warehouses_agree(two: House) -> None:
    report = await parity(two)
    assert report.agrees
    assert report.on == ("duckdb", "other")
    assert {side.verdict for table in report.tables for side in table.sides} == {"agrees"}
    again = await parity(two)
    assert {side.certified_by for table in again.tables for side in table.sides} == {report.run}
    fresh = await parity(two, fresh=True)
    assert fresh.agrees
    assert not any(side.certified for table in fresh.tables for side in table.sides)


def elsewhere(house: House, *statements: str) -> list[tuple[object, ...]]:
    """Runs statements on the other warehouse, as somebody with a shell would; the rows of the last."""
    backend: Any = house.tenants.get("acme", "other").backend
    with backend.session(QueryTag("acme", "test", "test")) as session:
        for statement in statements:
            rows = session._connection.execute(statement).fetchall()
        return rows  # type: ignore[no-any-return]


def forget(house: House) -> None:
    """Without certificates, everything is compared anew."""
    house.query("DELETE FROM entrepot.certificates")


def table_of(report: ParityReport, name: str) -> TableParity:
    (found,) = [table for table in report.tables if table.name == name]
    return found


async def test_a_value_that_differs_is_shown_with_its_row_on_both_sides(two: House) -> None:
    orders = table_of(await parity(two), "orders")
    forget(two)
    elsewhere(two, f"UPDATE shop__v.orders__{orders.version} SET country = 'XX' WHERE id = 7")
    report = await parity(two)
    assert not report.agrees
    orders = table_of(report, "orders")
    (side,) = orders.sides
    assert (side.verdict, side.why) == ("differs", "1 rows differ, in 'country'")
    (cell,) = side.cells
    assert (cell.key, cell.column, cell.right) == ({"id": "7"}, "country", "XX")
    assert cell.left in ("DE", "FR", "IT")
    assert "LEFT" in side.sql
    assert "orders_raw" in orders.expression
    page = Path(report.link).read_text()
    assert "tables do not agree" in page
    assert "XX" in page


async def test_rows_that_are_missing_or_too_many_are_shown(two: House) -> None:
    orders = table_of(await parity(two, select="orders"), "orders")
    forget(two)
    table = f"shop__v.orders__{orders.version}"
    elsewhere(two, f"DELETE FROM {table} WHERE id = 3", f"INSERT INTO {table} SELECT * FROM {table} WHERE id = 4")
    (side,) = table_of(await parity(two, select="orders"), "orders").sides
    assert side.verdict == "differs"
    assert [row["id"] for row in side.only_left] == ["3"]
    assert [row["id"] for row in side.only_right] == ["4"]
    assert "2 rows differ" in side.why


async def test_the_last_digits_of_floats_are_no_difference(two: House) -> None:
    version = table_of(await parity(two, select="by_country"), "by_country").version
    forget(two)
    elsewhere(two, f"UPDATE shop__v.by_country__{version} SET mean = mean * (1 + 1e-13)")
    (side,) = table_of(await parity(two, select="by_country"), "by_country").sides
    assert side.agrees
    forget(two)
    elsewhere(two, f"UPDATE shop__v.by_country__{version} SET mean = mean * (1 + 1e-6)")
    (side,) = table_of(await parity(two, select="by_country"), "by_country").sides
    assert (side.verdict, len(side.cells)) == ("differs", 3)


async def test_a_difference_is_traced_to_the_table_that_it_comes_from(two: House) -> None:
    first = await parity(two)
    forget(two)
    for name in ("orders", "by_country"):
        column = "country" if name == "orders" else "orders"
        value = "'XX'" if name == "orders" else "0"
        elsewhere(two, f"UPDATE shop__v.{name}__{table_of(first, name).version} SET {column} = {value}")
    (side,) = table_of(await parity(two), "by_country").sides
    assert side.why.endswith("it reads 'orders', which differs already")


async def test_what_fails_on_one_warehouse_does_not_stop_the_others(two: House) -> None:
    report = await parity(two, select="+orders")
    orders, countries = table_of(report, "orders"), table_of(report, "countries")
    forget(two)
    elsewhere(
        two, "DELETE FROM entrepot.versions WHERE name = 'orders'", f"DROP TABLE shop__v.orders__{orders.version}"
    )
    elsewhere(two, f"ALTER TABLE shop__v.countries__{countries.version} RENAME COLUMN name TO nom")
    report = await parity(two)
    verdicts = {table.name: table.sides[0].verdict for table in report.tables}
    assert verdicts["orders_raw"] == "agrees"
    assert verdicts["countries"] == "not compared"
    (side,) = table_of(report, "countries").sides
    assert side.why.startswith("its digest failed on other: DuckDB cannot compute it: Binder")
    assert '"name"' in side.sql  # the statement
    assert verdicts["orders"] == verdicts["by_country"] == "not computed"
    assert "'orders', which was not computed" in table_of(report, "by_country").sides[0].why


async def test_a_terminal_shows_what_goes_on_and_then_what_differs(
    two: House, capsys: pytest.CaptureFixture[str]
) -> None:
    first = await parity(two, select="orders by_country")
    table = f"shop__v.orders__{table_of(first, 'orders').version}"
    elsewhere(two, f"DELETE FROM {table} WHERE id = 3", f"UPDATE {table} SET country = 'XX' WHERE id = 4")
    handle = await two.start("Parity", {"tenant": "acme", "pipeline": "shop", "select": "orders by_country"})
    console = Console(file=io.StringIO(), width=200)
    report = ParityReport.model_validate(await follow.watch(two.client, handle, console))
    lines = console.file.getvalue()  # type: ignore[attr-defined]
    assert "✓ ingest source on other" in lines
    assert "✓ compare by_country · 3 rows" in lines
    assert "✗ compare orders · 600 rows · other: 600 rows on duckdb, 599 on other; 2 rows differ" in lines
    show(report)
    out = capsys.readouterr().out
    assert "country where id = 4: " in out
    assert "only on duckdb: id = 3, " in out
    assert re.search(rf"^certified by run {first.run} on \d{{4}}-\d\d-\d\d \d\d:\d\d UTC: by_country$", out, re.M)


async def test_rows_that_were_removed_by_hand_after_a_certificate_are_found(two: House) -> None:
    orders = table_of(await parity(two, select="orders"), "orders")
    elsewhere(two, f"DELETE FROM shop__v.orders__{orders.version} WHERE id = 7")
    (side,) = table_of(await parity(two, select="orders"), "orders").sides
    assert (side.verdict, side.certified) == ("differs", False)
    assert [row["id"] for row in side.only_left] == ["7"]


async def test_an_old_certificate_and_one_of_another_place_do_not_count(two: House) -> None:
    await parity(two, select="orders")
    two.query("UPDATE entrepot.certificates SET made_at = made_at - INTERVAL 31 DAY")
    (side,) = table_of(await parity(two, select="orders"), "orders").sides
    assert not side.certified
    two.query("DELETE FROM entrepot.certificates WHERE made_at < now() - INTERVAL 30 DAY")
    two.query("UPDATE entrepot.certificates SET warehouses = replace(warehouses, 'other.duckdb', 'moved.duckdb')")
    (side,) = table_of(await parity(two, select="orders"), "orders").sides
    assert not side.certified


async def test_what_fails_on_the_first_warehouse_does_not_stop_the_others(two: House) -> None:
    first = await parity(two)
    forget(two)
    countries = table_of(first, "countries").version
    two.query(f"ALTER TABLE shop__v.countries__{countries} RENAME COLUMN name TO nom")
    report = await parity(two)
    verdicts = {table.name: table.sides[0].verdict for table in report.tables}
    assert verdicts.pop("countries") == "not compared"
    assert set(verdicts.values()) == {"agrees"}
    (side,) = table_of(report, "countries").sides
    nothing = "there is nothing on duckdb to hold it against: its digest failed on duckdb"
    assert side.why.startswith(f"{nothing}: DuckDB cannot compute it: Binder")
    assert '"name"' in table_of(report, "countries").sql
    assert "not compared" in Path(report.link).read_text()


async def test_what_cannot_be_computed_digested_or_found_is_a_verdict_and_the_rest_goes_on(
    temporal: WorkflowEnvironment, tmp_path: Path
) -> None:
    async with serving(temporal.client, settings(tmp_path, {"hard": "tests.pipelines.hard:hard"}, acme=TWO)) as house:
        report = await parity(house, pipeline="hard")
        sides = {table.name: table.sides[0] for table in report.tables}
        assert {name: side.verdict for name, side in sides.items()} == {
            "numbers": "agrees",
            "squares": "not computed",
            "roots": "not computed",
            "late": "not compared",
            "exact": "agrees",
        }
        assert "Overflow" in sides["squares"].why
        assert "it reads 'squares', which was not computed" in sides["roots"].why
        assert "column 'at' has 3 values before the year 1, after 9999 or infinite" in sides["late"].why


async def test_a_warehouse_that_cannot_be_used_is_a_verdict(temporal: WorkflowEnvironment, tmp_path: Path) -> None:
    broken = tmp_path / "no-folder"
    broken.write_text("")
    lost = {"type": "duckdb", "path": str(broken / "x.duckdb")}
    section = TWO.model_copy(update={"backends": {**TWO.backends, "lost": lost}})
    async with serving(
        temporal.client, settings(tmp_path, {"shop": "tests.pipelines.shop:shop"}, acme=section)
    ) as house:
        report = await parity(house, select="+orders")
        assert report.tables
        for table in report.tables:
            other, gone = table.sides
            assert (other.verdict, gone.verdict) == ("agrees", "not computed")
            assert gone.why.startswith("lost could not be used: the DuckDB file")


async def test_bad_input_is_refused_in_a_sentence(two: House) -> None:
    failure = await two.fail("Parity", tenant="acme", pipeline="shop", on=["duckdb", "snowflake"])
    assert failure.type == "BadInput"
    assert "unknown backend 'snowflake'. Known: 'duckdb', 'other'" in failure.message
    failure = await two.fail("Parity", tenant="acme", pipeline="shop", on=["duckdb"])
    assert "parity needs two warehouses" in failure.message
    failure = await two.fail("Parity", tenant="acme", pipeline="shop", select="return_model")
    assert "has no table to compare" in failure.message


async def test_a_tenant_may_publish_only_what_agrees(temporal: WorkflowEnvironment, tmp_path: Path) -> None:
    section = TenantSection(
        backend={"type": "duckdb", "path": "acme.duckdb"},
        backends={"other": {"type": "duckdb", "path": "other.duckdb"}},
        parity="other",
    )
    pipelines = {"shop": "tests.pipelines.shop:shop"}
    async with serving(temporal.client, settings(tmp_path, pipelines, acme=section)) as house:
        version = table_of(await parity(house, select="orders"), "orders").version
        forget(house)
        elsewhere(house, f"UPDATE shop__v.orders__{version} SET returned = NOT returned WHERE id = 7")
        failure = await house.fail(tenant="acme", pipeline="shop")
        assert failure.type == "ParityFailed"
        assert "do not agree (1 rows differ, in 'returned'" in failure.message
        assert "nothing was published" in failure.message
        assert house.query("SELECT count(*) FROM entrepot.publishes") == [(0,)]
        elsewhere(house, "DELETE FROM entrepot.versions WHERE name = 'orders'", f"DROP TABLE shop__v.orders__{version}")
        summary = await house.run()
        assert summary.outcome == "published"
        assert "orders" in summary.moved


async def test_a_table_can_be_served_from_another_warehouse(temporal: WorkflowEnvironment, tmp_path: Path) -> None:
    pipelines = {"served": "tests.pipelines.served:served"}
    async with serving(temporal.client, settings(tmp_path, pipelines, acme=TWO)) as house:
        assert "shown_there" in (await house.run("served")).moved
        assert elsewhere(house, "SELECT count(*), sum(number) FROM shop_window.numbers") == [(100, 4950)]
        (version,) = house.query("SELECT details FROM entrepot.versions WHERE name = 'shown_there'")
        assert json.loads(version[0])["to"] == "other"
        assert (await house.run("served", parameters={"rows": 7})).outcome == "published"
        assert elsewhere(house, "SELECT count(*) FROM shop_window.numbers") == [(7,)]
        await (await house.start("Rollback", {"tenant": "acme", "pipeline": "served"})).result()
        assert elsewhere(house, "SELECT count(*) FROM shop_window.numbers") == [(100,)]


async def gc(house: House, pipeline: str | None = None, **more: object) -> dict[str, Any]:
    asked = {"tenant": "acme", "keep_days": 0, "keep_publishes": 1, **more}
    found: dict[str, Any] = await (
        await house.start("Gc", {**asked, **({"pipeline": pipeline} if pipeline else {})})
    ).result()
    return found


def leases(house: House) -> list[tuple[object, ...]]:
    return house.query("SELECT run, state FROM entrepot.leases")


@pytest_asyncio.fixture
async def slow(temporal: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[House]:
    """A pipeline that waits for a file, for a tenant with two DuckDB files."""
    async with serving(temporal.client, settings(tmp_path, {"slow": "tests.pipelines.slow:slow"}, acme=TWO)) as house:
        yield house


async def in_the_middle(house: House) -> WorkflowHandle[Any, Any]:
    """A comparison that waits for the file in a transform."""
    parameters = {"until": str(house.state / "gate")}
    handle = await house.start("Parity", {"tenant": "acme", "pipeline": "slow", "parameters": parameters})
    await until_running(handle, "slept on duckdb")
    return handle


async def test_a_collection_takes_nothing_from_a_comparison_that_goes_on(slow: House) -> None:
    handle = await in_the_middle(slow)
    assert leases(slow) == [(handle.first_execution_run_id, "planned")]
    assert not (await gc(slow))["removed"]
    (slow.state / "gate").touch()
    assert ParityReport.model_validate(await handle.result()).agrees
    assert leases(slow) == []
    # Nothing was published: what stays is where the environment stands with its sources.
    elsewhere(slow, "CHECKPOINT")  # before, DuckDB does not tell what tables take up
    planned, collected = await gc(slow, dry_run=True), await gc(slow)
    assert planned["elsewhere"]["other"]["bytes"] > 0
    for each in (planned, collected):
        assert {name.partition("@")[0] for name in each["removed"]} == {"slow.after", "slow.doubled", "slow.slept"}
        assert each["elsewhere"]["other"]["removed"] == each["removed"]
        assert each["elsewhere"]["other"]["kept"] == 1
    assert [name for (name,) in elsewhere(slow, TABLES)] == [name for (name,) in slow.query(TABLES)]
    assert (await parity(slow, pipeline="slow")).agrees


TABLES = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'slow__v' ORDER BY 1"


async def test_a_comparison_that_is_cancelled_gives_its_lease_back(slow: House) -> None:
    handle = await in_the_middle(slow)
    await handle.cancel()
    with pytest.raises(WorkflowFailureError):
        await handle.result()
    assert leases(slow) == []
    assert len((await gc(slow))["elsewhere"]["other"]["removed"]) == 0  # it had nothing there


async def test_the_lease_of_a_comparison_that_was_terminated_lapses(slow: House) -> None:
    handle = await in_the_middle(slow)
    await handle.terminate()
    collected = await gc(slow)
    assert {name.partition("@")[0] for name in collected["removed"]} == {"slow.doubled"}
    assert leases(slow) == [(handle.first_execution_run_id, "given up")]


async def test_a_warehouse_that_does_not_run_the_pipeline_is_compared_from_the_same_loads(
    temporal: WorkflowEnvironment, tmp_path: Path
) -> None:
    third = {"type": "duckdb", "path": str(tmp_path / "third.duckdb")}
    section = TWO.model_copy(update={"backends": {**TWO.backends, "third": third}})
    async with serving(
        temporal.client, settings(tmp_path, {"shop": "tests.pipelines.shop:shop"}, acme=section)
    ) as house:
        await house.run()
        report = await parity(house, on=["other", "third"])
        assert report.agrees
        assert {table.version for table in report.tables} <= {
            version for (version,) in house.query("SELECT version FROM entrepot.versions")
        }
        assert elsewhere(house, "SELECT count(*) FROM entrepot.ingest_states") == [(0,)]
        assert leases(house) == []
        collected = await gc(house, "shop")
        assert not collected["elsewhere"]["other"]["removed"]
        assert not collected["elsewhere"]["third"]["removed"]


async def test_a_copy_whose_run_died_is_taken_by_the_next_and_otherwise_collected(
    temporal: WorkflowEnvironment, tmp_path: Path
) -> None:
    pipelines = {"served": "tests.pipelines.served:served"}
    tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'served__v'"
    died = "DELETE FROM entrepot.versions WHERE name = 'shown_there' AND row_count = 7"
    async with serving(temporal.client, settings(tmp_path, pipelines, acme=TWO)) as house:
        for rows in (100, 7):
            await house.run("served", parameters={"rows": rows})
        await (await house.start("Rollback", {"tenant": "acme", "pipeline": "served"})).result()
        house.query(died)  # as if it had died when the table was there, and nobody knew of it
        assert (await house.run("served", parameters={"rows": 7})).outcome == "published"
        assert elsewhere(house, tables, "SELECT count(*) FROM shop_window.numbers") == [(7,)]
        await (await house.start("Rollback", {"tenant": "acme", "pipeline": "served"})).result()
        house.query(died)
        assert elsewhere(house, "CHECKPOINT", tables) == [(2,)]
        planned, collected = await gc(house, dry_run=True), await gc(house)
        assert planned["elsewhere"]["other"]["tables"] == collected["elsewhere"]["other"]["tables"] == 1
        assert planned["elsewhere"]["other"]["bytes"] > 0
        assert elsewhere(house, tables) == [(1,)]
        assert elsewhere(house, "SELECT count(*) FROM shop_window.numbers") == [(100,)]
        assert len(house.query("SELECT * FROM entrepot.places WHERE kind = 'copy'")) == 1


async def test_a_warehouse_that_cannot_be_used_keeps_its_copies_and_holds_nothing_else_up(
    temporal: WorkflowEnvironment, tmp_path: Path
) -> None:
    pipelines = {"served": "tests.pipelines.served:served"}
    async with serving(temporal.client, settings(tmp_path, pipelines, acme=TWO)) as house:
        for rows in (100, 7):
            await house.run("served", parameters={"rows": rows})
    (tmp_path / "other.duckdb").rename(tmp_path / "away")
    (tmp_path / "other.duckdb").write_text("no database")
    async with serving(temporal.client, settings(tmp_path, pipelines, acme=TWO)) as house:
        collected = await gc(house)
        assert collected["elsewhere"]["other"]["why"]
        assert {name.partition("@")[0] for name in collected["removed"]} == {"served.raw", "served.numbers"}
    (tmp_path / "away").replace(tmp_path / "other.duckdb")
    async with serving(temporal.client, settings(tmp_path, pipelines, acme=TWO)) as house:
        collected = await gc(house)
        assert {name.partition("@")[0] for name in collected["removed"]} == {"served.shown_there"}
        assert elsewhere(house, "SELECT count(*) FROM shop_window.numbers") == [(7,)]


async def test_what_is_frozen_is_not_compared_but_what_the_code_makes_of_it(
    temporal: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = frozen.graph.steps["daily"]
    assert isinstance(step, TransformStep)
    assert isinstance(step.incremental, ByInterval)
    monkeypatch.setitem(vars(step.incremental), "frozen_before", "2026-02-01")
    orders = [{"id": n, "at": f"{day}T10:00:00", "shop": "a"} for n, day in enumerate(["2026-01-29", "2026-02-02"])]
    (tmp_path / "orders.json").write_text(json.dumps([{**order, "amount": 1} for order in orders]))
    (tmp_path / "shops.json").write_text('[{"shop": "a", "country": "CH"}]')
    pipelines = {"frozen": "tests.pipelines.frozen:frozen"}
    async with serving(temporal.client, settings(tmp_path, pipelines, acme=TWO)) as house:
        await house.run("frozen", parameters={"folder": str(tmp_path)})
        (tmp_path / "orders.json").write_text("[]")
        await house.run("frozen", parameters={"folder": str(tmp_path), "rule": 3})
        asked = {"tenant": "acme", "pipeline": "frozen", "parameters": {"rule": 3}}
        report = ParityReport.model_validate(await (await house.start("Parity", asked)).result())
        assert report.agrees, report
        assert house.query("SELECT total FROM frozen.daily ORDER BY day") == [(1,), (4,)]
        compared = {table.name: table.version for table in report.tables}["daily"]
        found = elsewhere(house, f'SELECT total FROM frozen__v."daily__{compared}" ORDER BY day')
        assert found == [(4,), (4,)]
