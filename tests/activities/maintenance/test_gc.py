"""What a collection takes away beside versions: environments that expired, leftovers in the lake, old records."""

from __future__ import annotations

import datetime
import os
import time
from pathlib import Path

import pytest

from entrepot.activities.catalog.catalog import Catalog
from entrepot.activities.maintenance import histories
from tests.activities.maintenance.staged import House, opened

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
        lake = Path(house.tenants.get("acme").lake)
        folders = ("raw/growing/events", "loads/growing/events", "models/growing/m/v", "artifacts/growing/p/v/run")
        for folder in (*folders, "published/prod/growing"):
            (lake / folder).mkdir(parents=True, exist_ok=True)
            (lake / folder / "x.json.part-0123").write_text("half")
        assert house.collect(keep_days=1).files == 0  # somebody may be writing it
        found = house.collect()
        assert (found.files, found.bytes["lake"]) == (5, 20)
        assert files(house) == before


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


def counts(house: House) -> dict[str, int]:
    with house.catalog() as catalog:
        tables = Catalog(catalog.session).tables
        return {name: len(tables.select(name)) for name in ("publishes", "loads", "runs")}
