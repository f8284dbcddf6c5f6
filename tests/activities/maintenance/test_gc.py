"""What a collection takes away beside versions: environments that expired, leftovers in the lake, old records."""

from __future__ import annotations

import datetime
import os
import time
from contextlib import suppress
from pathlib import Path

import pytest
from temporalio.exceptions import ApplicationError

from entrepot.activities.catalog.catalog import Catalog
from entrepot.activities.ingest import heads, manifest
from entrepot.activities.ingest.warehouse_loader import WarehouseLoader
from entrepot.activities.maintenance import histories
from entrepot.activities.maintenance.gc import GcActivities
from entrepot.activities.maintenance.repair import RepairActivities
from entrepot.activities.runtime.context import ActivityContext
from entrepot.activities.storage import lake
from entrepot.backends.duckdb.backend import DuckDBSession
from entrepot.errors import Unavailable
from entrepot.protocol.maintenance import GcInput, RepairInput
from tests.activities.maintenance.staged import ACME, House, opened

DAY = datetime.timedelta(days=1)


def environments(house: House) -> set[str]:
    with house.catalog() as catalog:
        return catalog.environments()


def age(house: House, days: float) -> None:
    """Makes all that is recorded, and every file, so much older."""
    with house.catalog() as catalog:
        times = {"versions": ("made_at",), "environments": ("published_at",), "runs": ("ended_at",)}
        for table, columns in times.items():
            for column in columns:
                catalog.session.execute(f"UPDATE entrepot.{table} SET {column} = {column} - INTERVAL {days * 24} HOUR")
    for file in files(house):
        os.utime(file, times=(time.time() - days * 86400,) * 2)


def files(house: House) -> set[Path]:
    return {file for file in Path(house.tenants.get("acme").lake).rglob("*") if file.is_file()}


def test_an_environment_expires_with_what_it_alone_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(monkeypatch, expires={"pr_*": 14 * DAY}) as house:
        house.complete()
        house.events += 1
        house.complete("pr_1")
        age(house, 13)
        assert house.collect(keep_days=7).expired == []
        age(house, 2)
        house.complete()  # prod is older, too, and never expires
        planned = house.collect(keep_days=7, keep_publishes=1, dry_run=True)
        done = house.collect(keep_days=7, keep_publishes=1)
        assert planned.expired == done.expired == ["growing/pr_1"]
        assert environments(house) == {"prod"}


def test_a_run_keeps_an_environment_from_expiring_though_it_published_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(monkeypatch, expires={"pr_*": 14 * DAY}) as house:
        house.complete("pr_1")
        age(house, 15)
        house.complete("pr_1")
        assert house.collect().expired == []


def test_what_died_while_it_was_written_goes_from_every_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(monkeypatch) as house:
        house.complete()
        before = files(house)
        root = Path(house.tenants.get("acme").lake)
        folders = ("raw/growing/events", "loads/growing/events", "models/growing/m/v", "artifacts/growing/p/v/run")
        for folder in (*folders, "published/prod/growing"):
            (root / folder).mkdir(parents=True, exist_ok=True)
            (root / folder / "x.json.part-0123").write_text("half")
        assert house.collect(keep_days=1).files == 0  # somebody may be writing it
        found = house.collect()
        assert (found.files, found.bytes["lake"]) == (5, 20)
        assert files(house) == before


def test_a_full_lake_is_emptied_before_anything_is_written_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_full(_: str, target: str) -> None:
        raise Unavailable(f"{target} cannot be written: No space left on device")

    with opened(monkeypatch) as house:
        for _ in range(2):  # loads that would be written together
            house.events += 1
            house.complete()
        leftover = Path(house.tenants.get("acme").lake_path("loads/growing/events"), "x.parquet.part-0123")
        leftover.write_text("half")
        with monkeypatch.context() as full:
            full.setattr(lake, "put", is_full)
            with pytest.raises(ApplicationError, match="No space left"):
                house.call(GcActivities, "gc", GcInput(**ACME, keep_days=0, keep_publishes=1), "gc")
        assert not leftover.exists()
        assert house.collect(keep_publishes=1).files


def test_tables_that_no_version_is_made_of_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(monkeypatch) as house:
        for _ in range(17):  # so many that segments are written together
            house.events += 1
            house.complete()
        with house.catalog() as catalog:
            catalog.session.execute("CREATE TABLE growing__v.somebodys (n BIGINT)")
        house.collect(keep_publishes=1)
        with house.catalog() as catalog:
            known = {segment.table for v in catalog.every_version() for segment in v.segments}
            known |= {v.table.table for v in catalog.every_version() if v.table}
            assert set(catalog.session.relations("growing__v")) == {*known, "somebodys"}


def test_records_of_long_ago_are_forgotten_but_for_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histories, "KEEP", 4)
    with opened(monkeypatch) as house:
        for _ in range(7):
            house.events += 1
            house.complete()
        house.collect(keep_days=1)
        assert counts(house) == dict.fromkeys(("publishes", "loads", "runs"), 7)
        house.collect(keep_publishes=2)
        assert counts(house) == dict.fromkeys(("publishes", "loads", "runs"), 4)
        house.rollback("prod", cursor=True)
        house.complete()
        house.check()


def test_a_file_that_is_of_no_version_is_nobodys_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(monkeypatch) as house:
        house.complete()
        for folder in ("models/growing", "models/growing/m", "artifacts/growing"):
            Path(house.tenants.get("acme").lake_path(folder)).mkdir(parents=True, exist_ok=True)
            Path(house.tenants.get("acme").lake_path(folder, "README.md")).write_text("somebody's")
        before = files(house)
        assert house.collect().files == 0
        assert files(house) == before


def test_what_the_lake_would_bring_back_is_kept_though_the_catalog_has_lost_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(monkeypatch) as house:
        house.complete()
        house.events += 1
        house.complete("dev")
        with house.catalog() as catalog:
            kept = catalog.environment("dev").ingest_state("events")
            tables = ("versions", "ingest_states", "loads", "environments", "publishes")
            catalog.session.execute("; ".join(f"DELETE FROM entrepot.{table}" for table in tables))
            catalog.session.execute("DELETE FROM entrepot.places WHERE environment <> ''")
            catalog.session.execute("DROP SCHEMA growing__v CASCADE; CREATE SCHEMA growing__v")
        house.events = 1
        house.complete("pr_1")  # which knows nothing of the loads of before
        house.collect()
        with house.catalog() as catalog, catalog.session.transaction():
            work = ActivityContext(house.tenants.get("acme"), "again", "again")
            WarehouseLoader(work, catalog.session, "growing", "events", "again").all(kept.tables)
            (version,) = catalog.versions(kept.tables).values()
            assert version.rows == 4
        assert lake.exists(kept.watermarks or "")


@pytest.mark.parametrize("collections", [0, 1], ids=["loads", "loads that were written together"])
def test_a_load_whose_manifest_is_lost_keeps_its_files(monkeypatch: pytest.MonkeyPatch, collections: int) -> None:
    with opened(monkeypatch) as house:
        for _ in range(3):
            house.events += 1
            house.complete()
        for _ in range(collections):
            house.collect(keep_publishes=1)
        lost = {file: file.read_bytes() for file in files(house) if file.name in (manifest.LOADED, manifest.PACKED)}
        rows = {file for file in files(house) if file.suffix == ".parquet"}
        for file in lost:
            file.unlink()
        with suppress(ApplicationError):  # where it has to read one, it says which is gone
            house.call(GcActivities, "gc", GcInput(**ACME, keep_days=0, keep_publishes=1), "gc")
        assert rows <= files(house)
        repaired = house.call(RepairActivities, "repair", RepairInput(**ACME), "repair")
        assert repaired.found
        assert not repaired.left
        house.check()
        house.events += 1
        house.complete()
        house.check()


def test_a_cursor_that_goes_back_does_so_in_the_lake(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(monkeypatch) as house:
        house.complete()
        house.events += 2
        house.complete()
        assert house.rollback("prod", cursor=True) is not None
        house.check()
        (head,) = heads.every(house.tenants.get("acme"), "growing")
        assert house.rows[head.tables["events"]] == 3


def test_a_rollback_whose_answer_was_lost_takes_nothing_of_others_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(monkeypatch) as house:
        for _ in range(3):
            house.events += 1
            house.complete()
        first = house.rollback("prod", cursor=False, run="back")
        assert first == house.rollback("prod", cursor=False, run="back")
        assert first is not None
        assert first.ahead == ("events",)
        house.events += 1
        house.complete()
        with house.catalog() as catalog:
            before = catalog.environment("prod").head()
        again = house.rollback("prod", cursor=False, run="back")
        with house.catalog() as catalog:
            assert catalog.environment("prod").head() == before
        assert again == first


def test_what_a_warehouse_does_not_let_the_tenant_see_keeps_nothing_from_being_collected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a role that may drop tables and not look at their sizes."""

    def refused(self: DuckDBSession, *tables: object) -> int:
        return int(self.query("SELECT bytes FROM information_schema.sizes")[0]["bytes"])

    with opened(monkeypatch) as house:
        for _ in range(4):
            house.events += 1
            house.complete()
        monkeypatch.setattr(DuckDBSession, "bytes_of", refused)
        monkeypatch.setattr(DuckDBSession, "free_bytes", refused)
        planned = house.collect(dry_run=True)
        done = house.collect()
        assert planned.unknown.keys() == {"tables", "free"}
        assert "Table with name sizes does not exist" in planned.unknown["tables"]
        assert done.unknown.keys() == {"tables"}
        assert done.bytes["tables"] == 0
        assert done.bytes["lake"] > 0
        assert done.removed == planned.removed != []


def test_after_a_collection_the_lake_is_as_small_as_if_it_were_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a fresh build of the same rows; whatever environments show can still be loaded from it."""
    with opened(monkeypatch) as house, opened(monkeypatch) as fresh:
        for _ in range(6):
            house.events += 1000
            house.complete()
        house.collect(keep_publishes=1)
        fresh.events = house.events
        fresh.complete()
        left, new = files(house), files(fresh)
        assert len(left) <= len(new)
        assert sum(path.stat().st_size for path in left) <= 1.3 * sum(path.stat().st_size for path in new)
        house.events += 1
        house.complete("dev")  # which goes on behind what was written together
        house.check()


def counts(house: House) -> dict[str, int]:
    with house.catalog() as catalog:
        tables = Catalog(catalog.session).tables
        return {name: len(tables.select(name)) for name in ("publishes", "loads", "runs")}
