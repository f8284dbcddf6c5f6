"""Two worker processes serve one tenant, whose DuckDB file only one of them can have at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.worker.processes import Place

COMPLETED = "EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED"
PUBLISHED_MEANWHILE = "published while this run was going, so nothing of it was published; start it again"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@contextmanager
def two_workers(place: Place) -> Iterator[None]:
    with place.server_alone(), place.spawned("worker") as first, place.spawned("worker") as second:
        yield
        for worker in (first, second):
            worker.terminate()
            assert worker.wait(90) == 0, worker.communicate()


def start(place: Place, name: str, **value: Any) -> str:
    given = json.dumps({"tenant": "acme", **value})
    arguments = ["--type", "Pipeline", "--task-queue", "entrepot", "-w", name, "--input", given]
    started = place.temporal("workflow", "start", *arguments)
    assert started.returncode == 0, started.stderr
    return name


def ended(place: Place, name: str) -> tuple[str, set[str]]:
    """What a run came to at last, as Temporal tells it, and the workers that did its activities."""
    place.temporal("workflow", "result", "-w", name)
    shown = json.loads(place.temporal("workflow", "show", "-w", name, "-o", "json").stdout)["events"]
    started = [e["activityTaskStartedEventAttributes"] for e in shown if "activityTaskStartedEventAttributes" in e]
    return json.dumps(shown[-1]), {each["identity"] for each in started}


def rows(place: Place, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(place.state / "acme.duckdb"), read_only=True) as warehouse:
        return warehouse.execute(sql).fetchall()


def test_runs_with_long_steps_share_the_file(place: Place) -> None:
    with two_workers(place):
        runs = [
            start(place, f"slow-{environment}", pipeline="slow", environment=environment, parameters={"seconds": 3 + n})
            for n, environment in enumerate(("prod", "dev", "pr_1"))
        ]
        runs.append(start(place, "shop", pipeline="shop"))
        outcomes = [ended(place, run) for run in runs]
    for outcome, _ in outcomes:
        assert COMPLETED in outcome
    assert len(set.union(*(workers for _, workers in outcomes))) == 2
    for schema in ("slow", "slow__dev", "slow__pr_1"):
        assert rows(place, f"SELECT count(*), sum(n) FROM {schema}.after") == [(100, 4950)]
    assert rows(place, "SELECT count(*), count(DISTINCT run) FROM entrepot.publishes") == [(4, 4)]
    assert rows(place, "SELECT status, count(*) FROM entrepot.runs GROUP BY 1") == [("completed", 4)]


def test_runs_of_one_pipeline_publish_one_after_the_other_or_say_so(place: Place) -> None:
    with two_workers(place):
        runs = [
            start(place, f"shop-{number}", pipeline="shop", parameters={"limit": limit})
            for number, limit in enumerate((10.0, 20.0, 30.0, 10.0))
        ]
        outcomes = [ended(place, run)[0] for run in runs]
    failed = [each for each in outcomes if COMPLETED not in each]
    assert len(failed) < len(runs)
    assert all(PUBLISHED_MEANWHILE in each for each in failed), failed
    [(newest, count)] = rows(place, "SELECT max(sequence), count(DISTINCT run) FROM entrepot.publishes")
    assert newest == count >= 1
    assert rows(place, "SELECT name, version FROM entrepot.versions GROUP BY ALL HAVING count(*) > 1") == []
