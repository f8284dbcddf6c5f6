"""A load says what it is: what stands in its place is refused where it is read, before anything of it is written."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from temporalio.exceptions import ApplicationError

from entrepot.protocol.messages import Context, ExtractRequest, LoadRequest, LoadTablesRequest
from tests.activities.ingest.loading import ENVIRONMENT, Warehouse, warehouse

ROWS, MORE = 200, 5


@pytest.fixture(scope="module")
def house() -> Iterator[Warehouse]:
    """A table of 200 rows, to which 5 were added."""
    with warehouse() as house:
        bring(house, ROWS)
        bring(house, ROWS + MORE)
        yield house


def bring(house: Warehouse, rows: int, **more: Any) -> Any:
    (house.folder / "counted.rows").write_text(json.dumps([{"id": n} for n in range(1, rows + 1)]))
    return house.load("counted", {}, **more)


def in_lake(house: Warehouse, pattern: str) -> list[Path]:
    return list(Path(house.tenants.get("acme").lake).rglob(pattern))


def manifest_of(house: Warehouse, rows: int) -> Path:
    """The manifest of the load that brought so many rows."""
    [found] = [p for p in in_lake(house, "load.json") if json.loads(p.read_text())["parts"][0]["rows"] == rows]
    return found


def landed(house: Warehouse, rows: int) -> Path:
    return Path(json.loads(manifest_of(house, rows).read_text())["parts"][0]["file"])


@contextmanager
def by_hand(path: Path, change: Callable[[Path], Any]) -> Iterator[None]:
    """A file is changed while the block runs."""
    data = path.read_bytes()
    change(path)
    yield
    path.write_bytes(data)


def fewer_rows(path: Path) -> None:
    rows = pq.read_table(path)
    pq.write_table(rows.slice(0, len(rows) // 4), path)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def one_bit_other(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def says(**values: Any) -> Callable[[Path], Any]:
    return lambda path: path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def says_other_file(path: Path) -> None:
    found = json.loads(path.read_text())
    found["parts"][0]["file"] += ".other"
    path.write_text(json.dumps(found))


def from_lake(house: Warehouse) -> None:
    """The newest version is loaded into a warehouse that has none."""
    newest = house.cursor("counted").tables["counted"]
    with house._catalog() as catalog:
        session = catalog.session
        for kind in ("view", "table"):
            names = [name for name, its in session.relations("ingested__v").items() if its == kind]
            for name in names:
                session.execute(f'DROP {kind} ingested__v."{name}"')
        catalog.delete_versions([version.key for version in catalog.every_version()])
    context = Context(tenant="acme", pipeline="ingested", run="again")
    asked = LoadTablesRequest(context=context, step="counted", tables={"counted": newest})
    asyncio.run(ENVIRONMENT.run(house.activities.load_tables, asked))


def refusal(call: Callable[[], Any]) -> str:
    with pytest.raises(ApplicationError) as caught:
        call()
    assert caught.value.non_retryable
    said = caught.value.message
    assert said.startswith("tenant 'acme', pipeline 'ingested': ingest 'counted' ("), said
    assert "run it once with `refresh`" in said
    return said


@pytest.mark.parametrize("rows", [ROWS, MORE])
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (fewer_rows, "is not the file that was written"),
        (truncated, "is not the file that was written: it has 100 bytes"),
        (one_bit_other, "is not the file that was written"),
        (Path.unlink, "is gone from the lake"),
    ],
)
def test_another_file_is_refused_by_its_name(
    house: Warehouse, change: Callable[[Path], Any], why: str, rows: int
) -> None:
    path = landed(house, rows)
    with by_hand(path, change):
        assert f"table 'counted': {path} {why}" in refusal(lambda: from_lake(house))
        with house._catalog() as catalog:
            assert not catalog.every_version()
            assert not catalog.session.tables("ingested__v")
    from_lake(house)
    assert len(house.rows("counted")) == ROWS + MORE


@pytest.mark.parametrize("rows", [ROWS, MORE])
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (says(parts=[]), "is not the manifest that was written for version"),
        (says(adds_to="0" * 16), "is not the manifest that was written for version"),
        (says(shape={"id": "string"}), "is not the manifest that was written for version"),
        (says(table="others"), "is not the manifest that was written for version"),
        (truncated, "is no manifest of a load"),
        (Path.unlink, "the lake does not have the load of 'counted'"),
    ],
)
def test_another_manifest_is_refused_by_its_name(
    house: Warehouse, change: Callable[[Path], Any], why: str, rows: int
) -> None:
    path = manifest_of(house, rows)
    with by_hand(path, change):
        said = refusal(lambda: from_lake(house))
        assert str(path) in said
        assert why in said
    from_lake(house)
    assert len(house.rows("counted")) == ROWS + MORE


@pytest.mark.parametrize("change", [says_other_file, says(hints={}), truncated])
def test_the_catalog_remembers_the_manifest_that_the_next_load_follows(
    house: Warehouse, change: Callable[[Path], Any]
) -> None:
    from_lake(house)
    path = manifest_of(house, MORE)
    with by_hand(path, change):
        assert str(path) in refusal(lambda: bring(house, ROWS + 2 * MORE))


@pytest.mark.parametrize("change", [truncated, Path.unlink, lambda path: path.write_text("{}")])
def test_another_place_to_continue_from_is_refused(house: Warehouse, change: Callable[[Path], Any]) -> None:
    path = Path(house.cursor("counted").watermarks or "")
    with by_hand(path, change):
        assert str(path) in refusal(lambda: bring(house, ROWS + 2 * MORE))


def test_everything_is_loaded_anew_where_somebody_asks_for_it() -> None:
    """Though the version is the same, and its manifest and file stand there: they are not whole."""
    with warehouse() as house:
        bring(house, ROWS)
        truncated(landed(house, ROWS))
        bring(house, ROWS, refresh=True)
        assert len(in_lake(house, "load.json")) == 1
        from_lake(house)
        assert len(house.rows("counted")) == ROWS
        bring(house, ROWS + MORE)
        assert len(house.rows("counted")) == ROWS + MORE


def test_a_checkpoint_that_cannot_be_read_is_none() -> None:
    """An attempt begins at the beginning of the source."""
    with warehouse() as house:
        (house.folder / "breaks").touch()
        with pytest.raises(ApplicationError, match="the source hung up"):
            bring(house, ROWS)
        folder = Path(house.tenants.get("acme").lake, "loads", "ingested", "counted", f"run-{house.last}")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "checkpoint.json").write_text('{"stream": 1, "parts": {"counted": [')
        (house.folder / "breaks").unlink()
        house.numbers = iter([house.last])
        bring(house, ROWS)
        assert len(house.rows("counted")) == ROWS


@pytest.mark.parametrize("standing", [0, 1])
def test_of_two_loads_that_bring_the_same_at_once_either_may_stand(standing: int) -> None:
    """Each found no manifest and wrote its own; the next load follows the one that stands in the lake."""
    with warehouse() as house:
        (house.folder / "counted.rows").write_text(json.dumps([{"id": n} for n in range(1, ROWS + 1)]))
        loads, written = [], []
        for environment in ("prod", "dev"):
            parameters = {"folder": str(house.folder), "options": {}}
            context = Context(
                tenant="acme",
                pipeline="ingested",
                environment=environment,
                run=f"of-{environment}",
                started_at="2026-01-01T00:00:00",
                parameters=parameters,
            )
            asked = ExtractRequest(context=context, step="counted")
            load = asyncio.run(ENVIRONMENT.run(house.activities.extract, asked))
            loads.append(LoadRequest(context=context, load=load))
            [path] = in_lake(house, "load.json")
            written.append(path.read_bytes())
            path.unlink()
        assert written[0] != written[1]
        path.write_bytes(written[standing])
        for load in (loads[standing], loads[1 - standing]):
            asyncio.run(ENVIRONMENT.run(house.activities.load, load))
        bring(house, ROWS + MORE)
        bring(house, ROWS + MORE, environment="dev")
        assert len(house.rows("counted")) == ROWS + MORE
