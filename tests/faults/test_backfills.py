"""A backfill whose worker is killed, and whose history is long: every interval is loaded, and no row is there twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.waiting import until
from tests.worker.processes import Place, said

ROWS = 60


@pytest.fixture
def place(tmp_path: Path) -> Place:
    its = Place(tmp_path)
    (tmp_path / "tenants.toml").write_text(
        '[pipelines]\ningested = "tests.pipelines.ingested:ingested"\n'
        '[tenants.acme]\nbackend = { type = "duckdb", path = "acme.duckdb" }\n'
    )
    return its


def give(place: Place, name: str) -> None:
    rows = [{"id": n, "name": f"{name}{n}"} for n in range(1, ROWS + 1)]
    (place.folder / "counted.rows").write_text(json.dumps(rows))


def progress(place: Place) -> dict[str, Any]:
    told = place.entrepot("backfill", "ingested", "--json")
    return dict(json.loads(told.stdout)) if told.returncode == 0 else {"done": 0}


def test_killed_twice_and_gone_on_with_as_new_executions(place: Place) -> None:
    of_this = ("--select", "counted+", "-p", f"folder={json.dumps(str(place.folder))}")
    give(place, "old")
    with place.server_alone("--dynamic-config-value", "limit.historyCount.suggestContinueAsNew=60"):
        with place.spawned("worker"):
            said(place.entrepot("run", "ingested", *of_this), 0)
            give(place, "new")
            with place.spawned("backfill", "ingested", f"1..{ROWS + 1}", "--every", "4", *of_this):
                until(lambda: progress(place)["done"] > 2)
        with place.spawned("worker"):  # the first was killed in the middle of an interval, as this one will be
            until(lambda: progress(place)["done"] > 6)
        with place.spawned("worker"):
            found = until(lambda: ended if (ended := progress(place)).get("stage") == "done" else None)
        listed = place.temporal("workflow", "list", "--query", "WorkflowType='Backfill'", "-o", "json")
    assert (found["stage"], found["done"], found["total"], found["failed"]) == ("done", 15, 15, [])
    assert found["rows"] >= ROWS
    statuses = [each["status"] for each in json.loads(listed.stdout)]
    assert statuses.count("WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW") >= 1
    with duckdb.connect(str(place.state / "acme.duckdb"), read_only=True) as connection:
        rows = connection.execute("SELECT id, name FROM ingested.counted ORDER BY ALL").fetchall()
        assert rows == [(n, f"new{n}") for n in range(1, ROWS + 1)]
        assert connection.execute("SELECT count(*), max(n) FROM ingested.ids").fetchall() == [(ROWS, 1)]


def test_one_interval_that_fails_does_not_end_the_others_when_the_history_is_long(place: Place) -> None:
    of_this = ("--select", "counted+", "-p", f"folder={json.dumps(str(place.folder))}")
    give(place, "old")
    with (
        place.server_alone("--dynamic-config-value", "limit.historyCount.suggestContinueAsNew=40"),
        place.spawned("worker"),
    ):
        said(place.entrepot("run", "ingested", *of_this), 0)
        (place.folder / "refused").write_text("[5]")
        told = said(place.entrepot("backfill", "ingested", f"1..{ROWS + 1}", "--every", "4", *of_this), 1)
        assert "1 of 15 intervals could not be loaded: 5..9: " in told
        assert "14 are loaded" in told
        (place.folder / "refused").unlink()
        again = place.entrepot("backfill", "ingested", f"1..{ROWS + 1}", "--every", "4", "--json", *of_this)
        found = json.loads(said(again, 0))
        assert (found["loaded_before"], found["done"]) == (14, 1)
