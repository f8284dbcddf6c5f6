"""Loads that are written together: whatever they brought, an empty warehouse gets from them what each of them made."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from entrepot.activities.ingest import manifest, packing
from entrepot.activities.ingest.warehouse_loader import Hashes, WarehouseLoader
from entrepot.activities.runtime.context import ActivityContext, ensure_schemas
from entrepot.backends.base import physical
from entrepot.errors import StepFailed
from entrepot.identity.expression import schema_from
from tests.activities.ingest.loading import Row, Warehouse, seen, warehouse

APPEND: dict[str, Any] = {"write_disposition": "append"}
MERGE: dict[str, Any] = {"write_disposition": "merge", "primary_key": "id"}
WAYS: dict[str, Any] = {
    "append": APPEND,
    "merge": {**MERGE, "columns": {"gone": {"hard_delete": True, "data_type": "bool"}}},
    "scd2": {"write_disposition": {"disposition": "merge", "strategy": "scd2"}, "primary_key": "id"},
}
LOADED = st.dictionaries(st.integers(0, 6), st.integers(0, 3), min_size=1, max_size=5)
LOADS = st.lists(st.tuples(LOADED, st.sampled_from([0, 1, 1, 2, 3])), min_size=4, max_size=6)
"""What a source has at each load, and how many of the newest versions stay after it; 0: nothing is written together."""
EACH = [({1: 1, 2: 2}, 0), ({2: 3, 3: 1}, 0), ({4: 1}, 1), ({1: 2, 5: 0}, 0), ({2: 0, 5: 3}, 2), ({6: 1}, 1)]


def rows(load: Mapping[int, int], number: int, way: str) -> list[Row]:
    """The rows of a load; a column comes later."""
    more = {"late": number} if number > 1 and way != "scd2" else {}
    return [{"id": key, "n": n, **more, **({"gone": n == 3} if way == "merge" else {})} for key, n in load.items()]


def bring(house: Warehouse, step: str, brought: Iterable[Row], options: Mapping[str, Any]) -> dict[str, str]:
    """A load, and the versions of all tables after it."""
    (house.folder / f"{step}.rows").write_text(json.dumps(list(brought)))
    house.load(step, options)
    return dict(house.cursor(step).tables)


def pack(house: Warehouse, states: Sequence[Mapping[str, str]]) -> None:
    """Only what is in these states stays, the oldest first."""
    kept = {pair for tables in states for pair in tables.items()}
    with house._catalog() as catalog:
        work = ActivityContext(house.tenants.get("acme"), "gc", "gc")
        stay = [version for version in catalog.every_version() if version.key in kept]
        catalog.delete_versions([v.key for v in catalog.every_version() if v.key not in kept])
        now = packing.pack(work, catalog, stay, kept)
        assert {v.key: v for v in now} == {v.key: v for v in catalog.every_version()}
    remove_others(house, kept)
    oldest = [manifest.read(house.tenants.get("acme"), "ingested", *pair) for pair in next(iter(states)).items()]
    assert not any(each.follows for each in oldest)  # it is made of its own file alone


def remove_others(house: Warehouse, kept: Iterable[tuple[str, str]]) -> None:
    """As a collection does."""
    tenant = house.tenants.get("acme")
    with house._catalog() as catalog:
        hashes = {v.key: v.manifest for v in catalog.every_version()}
    needed: set[str] = set()
    for table, wanted in kept:
        version: str | None = wanted
        while version is not None:
            found = manifest.read(tenant, "ingested", table, version, hashes.get((table, version)))
            needed |= {found.path, *manifest.copies(found), *(each.file for each in found.files)}
            version = found.follows
    for folder in ("raw", "loads"):
        for path in Path(tenant.lake_path(folder)).rglob("*"):
            is_row = path.suffix == ".parquet" or path.name in (manifest.LOADED, manifest.PACKED)
            if is_row and str(path) not in needed:
                path.unlink()


@contextmanager
def empty(house: Warehouse) -> Iterator[WarehouseLoader]:
    """A warehouse that has nothing yet, over the same lake."""
    settings = {"type": "duckdb", "path": str(house.folder / "empty.duckdb")}
    tenant = replace(house.tenants.get("acme"), backend_settings=settings)
    work = ActivityContext(tenant, "again", "again")
    ensure_schemas(work, "ingested")
    try:
        with work.session() as session:
            yield WarehouseLoader(work, session, "ingested", "keyed", "again")
    finally:
        tenant.close()
        (house.folder / "empty.duckdb").unlink()


def rebuilt(house: Warehouse, tables: Mapping[str, str], hashes: Hashes | None = None) -> dict[str, Any]:
    """The rows of versions, as an empty warehouse gets them from the lake."""
    found = {}
    with empty(house) as loader:
        loader.all(tables, hashes or {})
        for table, version in loader._catalog.versions(tables).items():
            assert version.table is not None
            shown = loader._session.fetch(physical(version.table, schema_from(version.columns))).to_pylist()
            assert version.rows == len(shown)
            found[table] = seen(shown)
    return found


def shown(house: Warehouse, tables: Mapping[str, str]) -> dict[str, Any]:
    return {table: seen(house.rows(table, version)) for table, version in tables.items()}


@pytest.mark.parametrize("way", WAYS)
@given(loads=LOADS)
@example(loads=EACH)
@settings(max_examples=3)
def test_every_version_that_stays_is_made_of_them(way: str, loads: list[tuple[dict[int, int], int]]) -> None:
    with warehouse() as house:
        states: list[dict[str, str]] = []
        for number, (load, stay) in enumerate(loads):
            now = bring(house, "keyed", rows(load, number, way), WAYS[way])
            states = [*(each for each in states if each != now), now]
            if stay:
                states = states[-stay:]
                pack(house, states)
            for tables in states:
                assert rebuilt(house, tables) == shown(house, tables)


def test_rows_follow_their_root_whatever_of_them_is_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where whoever did it has died in between: what was put together of the nested table comes first."""

    def items(*keys: int) -> list[Row]:
        return [{"name": f"{key}", "sub": [{"k": n} for n in range(key)]} for key in keys]

    loads = [
        [{"id": 1, "items": items(1, 2)}, {"id": 2, "items": items(3)}],
        [{"id": 2, "items": items(1)}, {"id": 3, "items": items(2, 2)}],
        [{"id": 1, "items": []}],
        [{"id": 4, "items": items(2)}],
    ]
    with warehouse() as house:
        states = [bring(house, "nested", load, MERGE) for load in loads]
        put, left = manifest.put, [1]

        def dying(*given: Any) -> str:
            if not left:
                raise Died
            left.pop()
            return put(*given)

        monkeypatch.setattr(manifest, "put", dying)
        with pytest.raises(Died):
            pack(house, states[2:])
        monkeypatch.setattr(manifest, "put", put)
        for tables in states[2:]:
            assert rebuilt(house, tables) == shown(house, tables)
        pack(house, states[2:])
        for tables in states[2:]:
            assert rebuilt(house, tables) == shown(house, tables)


def test_a_further_warehouse_finds_by_the_hash_of_the_load_what_took_its_place() -> None:
    """Its catalog does not hear of what is put together."""
    with warehouse() as house:
        states = [bring(house, "keyed", [{"id": n, "n": n}], MERGE) for n in range(4)]
        with house._catalog() as catalog:
            remembered = {version.key: version.manifest for version in catalog.every_version()}
        for count in (2, 1):  # what was put together is put together once more
            pack(house, states[-count:])
            assert rebuilt(house, states[-1], remembered) == shown(house, states[-1])
        others = dict.fromkeys(remembered, "0" * 64)
        with pytest.raises(StepFailed, match="is not the manifest that was written for version"):
            rebuilt(house, states[-1], others)


class Died(BaseException):
    """The process is gone."""


def test_values_of_any_type_are_as_they_were() -> None:
    """In the warehouse and in the file."""
    row = {
        "id": 2**53 + 1,
        "x": 0.1,
        "s": "straße ",
        "yes": True,
        "at": "2024-02-29T23:59:59.123456+02:00",
        "day": "1890-05-06",
        "time": "12:34:56.000001",
        "price": "12345678901234567890.123456789",
        "bytes": "AP8=",
        "doc": {"a": [1, {"b": None}], "c": "x"},
        "none": None,
    }
    types = {"day": "date", "time": "time", "price": "decimal", "bytes": "binary", "doc": "json", "none": "bigint"}
    columns: dict[str, Any] = {name: {"data_type": kind} for name, kind in types.items()}
    options = {**MERGE, "columns": columns}
    with warehouse() as house:
        states = [bring(house, "keyed", [{**row, "id": row["id"] + n, "x": n / 3}], options) for n in range(3)]
        before = [shown(house, tables) for tables in states]
        pack(house, states[-1:])
        assert rebuilt(house, states[-1]) == before[-1] == shown(house, states[-1])


def test_a_table_that_only_grows_leaves_its_large_files_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "SMALL", 20_000)
    with warehouse() as house:
        large = [{"id": n, "n": n * 7919 % 100_003} for n in range(20_000)]
        states = [bring(house, "keyed", brought, APPEND) for brought in (large, [{"id": 1}], [{"id": 2}], [{"id": 3}])]
        tenant = house.tenants.get("acme")
        with house._catalog() as catalog:
            work = ActivityContext(tenant, "gc", "gc")
            kept = set(states[-1].items())
            packing.pack(work, catalog, [v for v in catalog.every_version() if v.key in kept], kept)
        packed = manifest.read(tenant, "ingested", "keyed", states[-1]["keyed"])
        assert packed.follows == states[0]["keyed"]
        assert [each.rows for each in packed.files] == [3]
        assert rebuilt(house, states[-1]) == shown(house, states[-1])
