"""Names from outside: each works exactly, or is refused in a sentence with nothing written anywhere.

What must hold: whatever a workflow, an activity, the command line or the tenant file is given as a name, nothing is
written but for a name that is one; a sentence says which field is wrong, shows what cannot be seen, and stays short.
Columns and values are data, and come through as they are. No tenant opens the lake or the catalog of another.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import pytest_asyncio
from temporalio.client import ActivityFailureError, WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from entrepot.protocol import activities
from entrepot.protocol.activities import Activity, work_queue
from entrepot.protocol.messages import Request
from entrepot.worker.config.settings import TenantSection
from tests.conftest import House, serving, settings
from tests.pipelines.hostile import WORDS

PIPELINES = {"one": "tests.pipelines.owned:one", "hostile": "tests.pipelines.hostile:hostile"}
EVERYWHERE = ["prod", "dev", "*"]
NAMES = [
    "",
    " ",
    "..",
    "pr_x/../../../globex/published/prod",
    "/etc/passwd",
    "pr_%2e%2e%2fglobex",
    "pr_\\..\\globex",
    'pr_"; DROP SCHEMA one CASCADE; --',
    "pr_' OR 1=1",
    "prod\n",
    "prod\x00",
    "pr_\u0440\u043e\u0434",  # Cyrillic letters that look like 'pod'
    "pr_\uff41",  # a wide 'a'
    "Prod",
    "con",
    "nul",
    "Pr__1",
    "-rf",
    "x" * 300,
    "x" * 3_000,
]
RUN = ["tenant", "pipeline", "environment", "replay"]
FIELDS = {
    **dict.fromkeys(("Pipeline", "Ingest", "Transform", "Train", "Publish"), RUN),
    "Rollback": ["tenant", "pipeline", "environment", "to"],
    "Gc": ["tenant", "pipeline"],
    "Drop": ["tenant", "pipeline", "environment"],
    "Repair": ["tenant", "pipeline"],
    "Parity": ["tenant", "pipeline", "environment", "on", "raw"],
}
IDS = {"Prod", "Pr__1"}
"""Those of the names that could be a run's id."""
SOUND = {"tenant": "acme", "pipeline": "one"}
DEV = {**SOUND, "environment": "dev"}
CONTEXT = {**SOUND, "run": "r1"}


def tenant(name: str, path: str = "", lake: str | None = None, prefix: str = "") -> TenantSection:
    backend = {"type": "duckdb", "path": path or f"{name}.duckdb"}
    return TenantSection(backend=backend, lake=lake, environments=EVERYWHERE, pipelines=[*PIPELINES], prefix=prefix)


@pytest_asyncio.fixture(scope="module")
async def untouched(temporal: WorkflowEnvironment, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """Two tenants; one has published. Nothing that a test asks of it changes anything."""
    folder = tmp_path_factory.mktemp("names")
    loaded = settings(folder, PIPELINES, acme=tenant("acme"), globex=tenant("globex"))
    async with serving(temporal.client, loaded) as house:
        await house.run("one", "globex")
        yield house


@pytest.fixture
async def house(temporal: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[House]:
    """One tenant, who has not run yet."""
    async with serving(temporal.client, settings(tmp_path, PIPELINES, acme=tenant("acme"))) as house:
        yield house


def everything(folder: Path) -> dict[str, str]:
    """Every file below a folder and its content, but for what a worker writes as it runs."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".wal", ".queue"))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def written(house: House) -> tuple[dict[str, str], list[Any]]:
    """The lakes, and what stands in the warehouse of the tenant that has run; the other has none."""
    assert not (house.state / "acme.duckdb").exists()
    tables = house.query(
        "SELECT schema_name, table_name, estimated_size FROM duckdb_tables() WHERE table_name != 'leases' ORDER BY ALL",
        "globex",
    )
    return everything(house.state / "lake"), [*tables, *house.query("SELECT * FROM entrepot.environments", "globex")]


def check_refused(error: BaseException | None, given: str) -> None:
    """A sentence that names the field; or, of a list, the place in it."""
    assert isinstance(error, ApplicationError), given
    assert f"the field '{given}" in error.message.replace('"', "'"), error.message
    assert (error.type, error.non_retryable) == ("BadInput", True), error.message
    assert error.message.replace("\n  ", "").isprintable(), error.message
    assert error.message.replace("…", "").isascii(), error.message
    assert len(error.message) < 600, error.message


async def test_no_workflow_takes_what_is_no_name(untouched: House) -> None:
    before = written(untouched)

    async def refused(workflow: str, field: str, name: str) -> None:
        given: Any = {"on": ["duckdb", name], "raw": {name: "1"}}.get(field, name)
        sound = {name: value for name, value in DEV.items() if name in FIELDS[workflow]}
        handle = await untouched.start(workflow, {**sound, field: given})
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()
        check_refused(caught.value.cause, field)

    every = [(workflow, field) for workflow, fields in FIELDS.items() for field in fields]
    cases = [(*case, NAMES[(number * 7 + n) % len(NAMES)]) for number, case in enumerate(every) for n in range(3)]
    await asyncio.gather(*(refused(*case) for case in cases if not (case[1] == "to" and case[2] in IDS)))
    assert written(untouched) == before


async def test_no_activity_takes_what_is_no_name(untouched: House) -> None:
    """Anybody who may start workflows may start activities, too."""
    before = written(untouched)

    async def refused(activity: Activity[Any, Any], field: str, payload: dict[str, Any]) -> None:
        with pytest.raises(ActivityFailureError) as caught:
            await untouched.client.execute_activity(
                activity.name,
                payload,
                id=uuid.uuid4().hex,
                task_queue=work_queue(untouched.task_queue) if activity.is_work else untouched.task_queue,
                start_to_close_timeout=timedelta(minutes=5),
            )
        check_refused(caught.value.cause, field)

    every = [each for each in vars(activities).values() if isinstance(each, Activity)]
    name = NAMES[3]
    cases: list[tuple[Activity[Any, Any], str, dict[str, Any]]] = [
        (activities.TRAIN, "step", {"context": CONTEXT, "step": name}),
        (activities.TRANSFORM, "versions", {"context": CONTEXT, "steps": ["a"], "versions": {name: "1"}}),
        (activities.LOAD_TABLES, "tables.a", {"context": CONTEXT, "step": "a", "tables": {"a": f"../{name}"}}),
        (activities.PROMOTE, "removes.0", {"context": CONTEXT, "sequence": 0, "moves": {}, "removes": [name]}),
        (activities.ADOPT, "whence", {"context": CONTEXT, "versions": {}, "whence": name}),
    ]
    for activity in every:
        if issubclass(activity.request, Request):
            for field in ("tenant", "pipeline", "environment", "run", "backend"):
                cases.append((activity, f"context.{field}", {"context": {**CONTEXT, field: name}}))
        else:
            for field in {"tenant", "pipeline", "environment"} & activity.request.model_fields.keys():
                cases.append((activity, field, {**SOUND, field: name}))
    await asyncio.gather(*(refused(*case) for case in cases))
    assert written(untouched) == before


@pytest.mark.parametrize("field", ["select", "force", "parameters"])
async def test_what_selects_and_sets_is_looked_up_and_no_more(untouched: House, field: str) -> None:
    before = written(untouched)
    for name in [*(each for each in NAMES[1::4] if each.strip()), "9" * 5_000 + "+doubled", "doubled+" + "9" * 5_000]:
        given: Any = {name: 1} if field == "parameters" else name
        failure = await untouched.fail(**SOUND, **{field: given})
        assert failure.type == "BadInput", failure.message
        assert len(failure.message) < 3_000
    assert written(untouched) == before


async def test_columns_and_values_are_data_whatever_they_are(house: House) -> None:
    run = await house.run("hostile")
    columns = [word for word in WORDS if len(word) < 100]
    listed = ", ".join('"' + column.replace('"', '""') + '"' for column in columns)
    rows = house.query(f"SELECT {listed} FROM hostile.renamed ORDER BY number")
    assert rows == [tuple([word] * len(columns)) for word in WORDS]
    table = pyarrow.parquet.read_table(run.links["taken_away"]).sort_by("number")
    assert table.column_names == ["number", *columns]
    assert all(table[column].to_pylist() == list(WORDS) for column in columns)
    shown = house.query("""SELECT * FROM "we""ird '; DROP TABLE x; --"."ta ble""'" """)
    assert sorted(shown) == sorted((word, word) for word in WORDS)
    page = Path(run.links["board"]).read_text()
    assert "<script>alert(1)" not in page
    assert (await house.run("hostile")).outcome == "nothing to do"


async def test_the_command_line_starts_nothing_under_a_name_that_is_none(untouched: House) -> None:
    def said(*arguments: str) -> str:
        program = "from entrepot.worker.cli.app import main; main()"
        address = untouched.client.service_client.config.target_host
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            env={**os.environ, "TEMPORAL_ADDRESS": address},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2, done
        return done.stderr

    assert "'Prod' cannot be an environment" in said("run", "one", "-t", "acme", "-e", "Prod")
    assert r"'pr_\uff41' cannot be an environment" in said("env", "drop", "pr_\uff41", "-t", "acme")


async def test_nobody_opens_the_lake_or_the_catalog_of_another(temporal: WorkflowEnvironment, tmp_path: Path) -> None:
    """By two tenant files, of two workers: neither can see that the other has the same place."""
    async with serving(temporal.client, settings(tmp_path, PIPELINES, acme=tenant("acme"))) as house:
        await house.run("one")
    before = everything(tmp_path)
    for path, lake, what in (
        ("acme.duckdb", None, "the catalog in schema 'entrepot' of file "),
        ("new.duckdb", "lake/acme", "the lake "),
    ):
        other = tenant("globex", path, lake)
        async with serving(temporal.client, settings(tmp_path, PIPELINES, globex=other)) as house:
            for workflow, fields in FIELDS.items():
                if workflow != "Parity":  # which would want two warehouses
                    given = {"tenant": "globex", "pipeline": "one", "environment": "prod"}
                    failure = await house.fail(workflow, **{name: given[name] for name in fields if name in given})
                    assert (failure.type, failure.non_retryable) == ("BadInput", True)
                    assert what in failure.message
                    assert "belongs to tenant 'acme', and cannot be that of tenant 'globex', too" in failure.message
    assert {name: its for name, its in everything(tmp_path).items() if name != "new.duckdb"} == before


async def test_two_tenants_share_a_file_by_prefixes(temporal: WorkflowEnvironment, tmp_path: Path) -> None:
    shared = {name: tenant(name, "shared.duckdb", prefix=name) for name in ("acme", "globex")}
    async with serving(temporal.client, settings(tmp_path, PIPELINES, **shared)) as house:
        await house.run("one", parameters={"rows": 4})
        await house.run("one", "globex")
        for workflow, more in (("Gc", {"keep_days": 0}), ("Drop", {"environment": "prod", "pipeline": "one"})):
            await (await house.start(workflow, {"tenant": "acme", **more})).result()
        await (await house.start("Gc", {"tenant": "acme", "keep_days": 0})).result()
        views = house.query("SELECT schema_name, view_name FROM duckdb_views() WHERE NOT internal")
        assert set(views) == {("globex_one", "numbers"), ("globex_one", "doubled"), ("globex_reporting", "totals")}
        assert house.query("SELECT n FROM globex_reporting.totals ORDER BY n") == [(0,), (2,), (4,)]
        assert (await house.run("one", "globex")).outcome == "nothing to do"


async def test_a_file_that_the_catalog_names_is_in_the_tenants_own_lake(house: House) -> None:
    """Whoever may write the catalog cannot make a worker publish what it can read."""
    await house.run("one")
    stolen = house.state / "lake/globex/published/prod/one/taken_away.csv"
    stolen.parent.mkdir(parents=True)
    stolen.write_text("secret")
    for path in (stolen, house.state / "lake/acme/../globex/published/prod/one/taken_away.csv", "/etc/passwd"):
        details = json.dumps({"kind": "files", "path": str(path)})
        house.query(f"UPDATE entrepot.versions SET details = '{details}' WHERE name = 'taken_away'")
        run = await house.run("one", parameters={"rows": 7}, select="numbers doubled", force="doubled")
        assert "is no path in a lake" in run.model_dump_json()
        shown = [each.read_text() for each in (house.state / "lake/acme/published").rglob("*") if each.is_file()]
        assert not any("secret" in text or "root:" in text for text in shown)
