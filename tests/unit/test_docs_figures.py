"""The figures of the documentation are those of the code, and its alerts name metrics that there are."""

from __future__ import annotations

import re
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from entrepot.activities.catalog import growing_table
from entrepot.activities.ingest import landing, packing
from entrepot.activities.ingest.sources.files import text
from entrepot.activities.ingest.sources.postgres import client as postgres
from entrepot.activities.maintenance import histories
from entrepot.activities.publish.dashboard import MOST_CHART_ROWS, MOST_TABLE_ROWS
from entrepot.activities.runtime.isolation import processes
from entrepot.backends.duckdb import backend, file
from entrepot.language.limits import DEFAULTS, duration_text
from entrepot.registry import GROUP
from entrepot.worker import process
from entrepot.worker.cli import follow
from entrepot.worker.config.tenant_schema import ScheduleSection
from entrepot.workflows import calls, steps

ROOT = Path(__file__).parents[2]
PAGES = {page.stem: " ".join(page.read_text().split()) for page in (ROOT / "docs").glob("*.md")}
WORDS = {5: "five", 10: "ten", 16: "16", 20: "20"}
PAUSES = [min(2**n * DEFAULTS.backoff.total_seconds(), 20) for n in range(DEFAULTS.attempts - 1)]


@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        ("ingest", f"A line of more than {text.LONGEST >> 20} MB"),
        ("ingest", f"unpacks to more than a {'thousand' if text.BOMB_RATIO == 1000 else text.BOMB_RATIO} times its"),
        ("ingest", f"After {growing_table.MOST} loads segments are written together"),
        ("ingest", f"records about every {WORDS[int(landing.SECONDS)]} seconds what is in the lake"),
        ("operations", f"module hangs ({processes.IMPORT_SECONDS:.0f} s)"),
        ("operations", f"the step waits {backend.LOCK_SECONDS:.0f} s, and is tried {WORDS[DEFAULTS.attempts]} times"),
        ("operations", f"start again on another worker within {calls.HEARTBEAT.total_seconds():.0f} s"),
        ("operations", f"waits up to {WORDS[int(calls.PATIENCE.total_seconds() // 60)]} minutes in all"),
        ("operations", f"{WORDS[DEFAULTS.attempts]}, unless a step, pipeline or [tenant](tenants.md) says otherwise"),
        ("operations", f"the newest {histories.KEEP} of each environment stay"),
        ("operations", f"keeps files of more than {packing.SMALL >> 20} MB as they are"),
        ("operations", f"In a pipeline of more than {steps.LARGE_PIPELINE} steps transforms go in batches"),
        ("operations", f"closes it {'half a second' if file._IDLE_SECONDS == 0.5 else file._IDLE_SECONDS} after"),
        ("operations", f"is asked again for {'two' if follow._AWAY_SECONDS == 120 else '?'} minutes"),
        ("monitoring", f"`attempts`, {DEFAULTS.attempts}"),
        ("monitoring", f"doubled each time up to {calls.LONGEST_PAUSE.seconds} s: {sum(PAUSES):.0f} s in all"),
        ("monitoring", f"its `timeout`, {DEFAULTS.timeout // timedelta(hours=1)} hours"),
        ("monitoring", f"noticed after {calls.HEARTBEAT.seconds} s"),
        ("monitoring", f"{calls.PATIENCE.seconds // 60} minutes in all"),
        ("monitoring", f"{backend.LOCK_SECONDS:.0f} s; for other workers as long as they work"),
        ("monitoring", f"{postgres.CONNECT_SECONDS} s, and {postgres.ANSWER_SECONDS} s"),
        ("monitoring", f"{processes.IMPORT_SECONDS:.0f} s; {processes.BUILD_SECONDS:.0f} s"),
        ("monitoring", f"commands that wait give up after {follow._AWAY_SECONDS:.0f} s"),
        ("tenants", f'| `catch_up` | `"{duration_text(ScheduleSection.model_fields["catch_up"].default)}"` |'),
    ],
)
def test_a_figure_is_the_codes(page: str, sentence: str) -> None:
    assert sentence in PAGES[page]


def test_what_a_page_shows_at_most_is_said_where_it_is_written() -> None:
    said = " ".join((ROOT / "entrepot/language/outputs.py").read_text().split())
    assert f"over at most {MOST_CHART_ROWS:,} rows, or an ibis table of at most {MOST_TABLE_ROWS}" in said


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / f"docs/{page}.md").read_text(), re.DOTALL)


def test_alerts_can_be_read_and_name_metrics_that_there_are() -> None:
    [alerts] = [yaml.safe_load(block) for block in blocks("monitoring", "yaml")]
    rules: list[dict[str, Any]] = alerts["groups"][0]["rules"]
    documented = set(re.findall(r"`((?:entrepot|temporal)_\w+)`", PAGES["operations"]))  # which a test of workers holds
    named = [name for rule in rules for name in re.findall(r"\b(?:entrepot|temporal)_\w+", rule["expr"])]
    assert {name.removesuffix("_bucket") for name in named} <= documented
    assert len(named) >= len(rules) == len({rule["alert"] for rule in rules})
    watched = set(re.findall(r"`((?:entrepot|temporal)_\w+)[{`]", PAGES["monitoring"]))
    assert watched <= documented


def test_a_package_of_ones_own_offers_its_pipelines_where_they_are_looked_for() -> None:
    [written] = [tomllib.loads(block) for block in blocks("package", "toml")]
    offered = written["project"]["entry-points"][GROUP]
    assert all(reference == f"acme_pipelines.{name}:{name}" for name, reference in offered.items())


def test_grace_is_what_the_operators_are_told() -> None:
    told = (process.GRACE + process.AFTER_GRACE).seconds
    assert f"{told} s after SIGTERM" in " ".join((ROOT / "CHANGELOG.md").read_text().split())
