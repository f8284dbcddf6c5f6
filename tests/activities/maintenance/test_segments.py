"""Segments that are written together: however they were loaded, each version keeps its rows, and later loads go on."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.activities.maintenance import segments
from entrepot.activities.runtime.context import ActivityContext
from tests.activities.ingest.loading import Row, Warehouse, seen, warehouse

WAYS: dict[str, Any] = {
    "append": {"write_disposition": "append"},
    "merge": {"write_disposition": "merge", "primary_key": "id", "columns": {"gone": {"hard_delete": True}}},
    "scd2": {"write_disposition": {"disposition": "merge", "strategy": "scd2"}, "primary_key": "id"},
}
LOADED = st.dictionaries(st.integers(0, 6), st.integers(0, 3), min_size=1, max_size=5)
LOADS = st.lists(st.tuples(LOADED, st.sampled_from([0, 0, 1, 2, 3])), min_size=4, max_size=6)
"""What a source has at each load, and of how many of the newest versions the segments are written together after it."""


def rows(load: dict[int, int], number: int, way: str) -> list[Row]:
    """The rows of a load; a column comes later."""
    more = {"late": number} if number > 1 and way != "scd2" else {}
    return [{"id": key, "n": n, **more, **({"gone": n == 3} if way == "merge" else {})} for key, n in load.items()]


def expected(before: list[Row], brought: list[Row], way: str) -> list[Row]:
    """What a table has to show after a load: all rows, or for each key its newest."""
    if way == "append":
        return before + brought
    kept = [] if way == "scd2" else [row for row in before if row["id"] not in {each["id"] for each in brought}]
    return kept + [row for row in brought if not row.get("gone")]


def shown(loaded: Warehouse, version: str = "") -> Counter[tuple[tuple[str, Any], ...]]:
    found = loaded.rows("keyed", version)
    return seen([row for row in found if row.get("valid_to") is None], "valid_from", "gone")


@pytest.mark.parametrize("way", WAYS)
@given(loads=LOADS)
@settings(max_examples=2)
def test_every_version_keeps_its_rows(way: str, loads: list[tuple[dict[int, int], int]]) -> None:
    with warehouse() as loaded:
        work = ActivityContext(loaded.tenants.get("acme"), "gc", "gc")
        current: list[Row] = []
        made: list[str] = []
        for number, (load, together) in enumerate(loads):
            brought = rows(load, number, way)
            (loaded.folder / "keyed.rows").write_text(json.dumps(brought))
            loaded.load("keyed", WAYS[way])
            current = expected(current, brought, way)
            assert shown(loaded) == seen(current, "gone")
            made = list(dict.fromkeys([*made, loaded.cursor("keyed").tables["keyed"]]))
            chosen = made[-together:] if together else []
            before = {version: seen(loaded.rows("keyed", version)) for version in made}
            with loaded._catalog() as catalog:
                hashes = {v.version: v.manifest for v in catalog.every_version()}
                some = [v for v in catalog.every_version() if v.version in chosen]
                now = segments.write_together(work, catalog, some)
                assert {v.key: v for v in now} == {v.key: v for v in catalog.every_version() if v.version in chosen}
                assert hashes == {v.version: v.manifest for v in catalog.every_version()}
                counts = [len(v.segments) for v in now]
            assert before == {version: seen(loaded.rows("keyed", version)) for version in made}
            assert not counts or min(counts) <= 1  # the oldest is one segment now, or was a table
