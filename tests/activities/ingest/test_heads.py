"""What the lake remembers of each environment's newest load, beside files that come and go."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.activities.ingest import heads
from entrepot.activities.storage import lake
from entrepot.errors import StepFailed
from tests.activities.ingest.loading import Warehouse, warehouse


@pytest.fixture
def house() -> Iterator[Warehouse]:
    with warehouse() as house:
        (house.folder / "counted.rows").write_text(json.dumps([{"id": 1}]))
        house.load("counted", {})
        yield house


def named(house: Warehouse) -> dict[str, dict[str, str]]:
    return {head.environment: head.tables for head in heads.read(house.tenants.get("acme"), "ingested", "counted")}


def path_of(house: Warehouse, name: str) -> Path:
    return Path(house.tenants.get("acme").lake_path("loads", "ingested", "counted", "heads", name))


def test_a_head_that_is_being_written_is_none_yet(house: Warehouse) -> None:
    path_of(house, "dev.json.part-0123").write_text("half")
    assert named(house) == {"prod": house.cursor("counted").tables}


def test_a_head_that_is_removed_after_it_was_listed_is_none_any_more(
    house: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = lake.files

    def and_dropped(target: str) -> dict[str, lake.File]:
        found = listed(target)
        path_of(house, "dev.json").unlink()
        return found

    path_of(house, "dev.json").write_bytes(path_of(house, "prod.json").read_bytes())
    monkeypatch.setattr(lake, "files", and_dropped)
    assert named(house) == {"prod": house.cursor("counted").tables}


def test_a_head_that_cannot_be_read_is_named(house: Warehouse) -> None:
    path_of(house, "prod.json").write_text("{")
    with pytest.raises(StepFailed, match=r"heads/prod\.json does not say which load was the newest"):
        named(house)
