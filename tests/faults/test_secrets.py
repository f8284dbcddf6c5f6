"""Canary secrets stand wherever settings may hold one, and code tells them in every way it can: nothing keeps them.

What must hold: whatever fails or succeeds, no history, log, row, file, page or answer of a command has one, and neither
has the server's own database. The same search finds what is no secret and was told beside them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import pyarrow.parquet as pq
import pytest
from psycopg import sql
from temporalio.client import Client, WorkflowFailureError, WorkflowQueryFailedError
from temporalio.service import RPCError

from entrepot import secrets
from entrepot.worker.client import reach
from tests.servers.postgres import Server
from tests.worker.processes import ROOT, Place

TOLD = "told-by-everybody-7731"
"""No secret. That it is found shows that the search would find one."""
MARK = "cAnary-"
"""What every secret begins with."""
FOUND_AS = [form.encode() for form in {*secrets._forms(MARK), *secrets._forms(MARK[:6])} if len(form) >= 6]

VARIABLES = {
    "BACKEND": f"{MARK}b4ckend/pw+1'x",
    "WRONG": f"{MARK}wr0ng-pw",
    "SOURCES__LEAKY__PASSWORD": f"{MARK}dlt-1njected",
    "SOURCES__LEAKY__SHOP_DSN": f"mysql://me:{MARK}dlt-%2Fdsn@host/db",
    "AWS_SECRET_ACCESS_KEY": f"{MARK}l4ke+/storage",
    "FSSPEC_FTP_PASSWORD": f"{MARK}l4ke-ftp",
}
SHOP, IN_FILE, IN_TOML = f"{MARK}p4ra:meter@x/y", f"{MARK}in-a-f1le", f"{MARK}in-t0ml"
FAILING = ("dlt", "database", "table", "python", "exit", "plan", "publish")

TENANTS = f"""
[pipelines]
leaky = "tests.pipelines.leaky:leaky"

[tenants.acme]
backend = {{ type = "duckdb", path = "acme.duckdb" }}
settings.leaky.parameters = {{ database = "env:SHOP_DATABASE", token = "file:FOLDER/canary", told = "{TOLD}" }}

[tenants.globex.backend]
type = "postgres"
host = "127.0.0.1"
port = PORT
database = "globex"
user = "globex"
password = "env:BACKEND"

[tenants.globex.settings.leaky]
parameters = {{ database = "file:FOLDER/database", token = "file:FOLDER/canary", told = "{TOLD}" }}

[tenants.initech.backend]
type = "postgres"
host = "127.0.0.1"
port = PORT
database = "initech"
user = "globex"
password = "env:WRONG"

[tenants.initech.settings.leaky]
parameters = {{ database = "file:FOLDER/canary" }}
"""


@dataclass
class Leaky(Place):
    """A place whose environment, files and databases have canaries in them."""

    postgres_port: int = 0

    @property
    def database(self) -> str:
        return f"postgresql://shop:{quote(SHOP, safe='')}@127.0.0.1:{self.postgres_port}/postgres"

    def environment(self, **more: str) -> dict[str, str]:
        own = {"SHOP_DATABASE": self.database, **VARIABLES}
        path = os.pathsep.join(map(str, (ROOT, ROOT / "examples" / "postgres", self.folder / "installed")))
        code = {"CANARIES": " ".join(own), "CANARY_FILE": str(self.folder / "canary"), "PYTHONPATH": path}
        return super().environment(**{**own, **code, **more})


@pytest.fixture
def place(tmp_path: Path, postgres: Server, monkeypatch: pytest.MonkeyPatch) -> Leaky:
    monkeypatch.delenv(secrets.PAYLOAD_KEYS)  # or else nothing would be found because it is encrypted
    made = Leaky(tmp_path, postgres_port=postgres.port)
    text = TENANTS.replace("PORT", str(postgres.port)).replace("FOLDER", str(tmp_path))
    dlt_toml = f'[sources.leaky]\ntoken = "{IN_TOML}"\n'
    entry = "[entrepot.backends]\npostgres = entrepot_postgres.backend:Postgres\n"
    for name, content in {
        "tenants.toml": text,
        "canary": IN_FILE,
        "database": made.database,
        ".dlt/secrets.toml": dlt_toml,
        "installed/entrepot_postgres-0.dist-info/entry_points.txt": entry,
        "installed/entrepot_postgres-0.dist-info/METADATA": "Name: entrepot-postgres\nVersion: 0\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    with postgres.connect() as connection:
        for role, password in (("shop", SHOP), ("globex", VARIABLES["BACKEND"])):
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), password))
        connection.execute("CREATE DATABASE globex OWNER globex")
        connection.execute("CREATE TABLE people AS SELECT 1::int8 AS id")
        connection.execute("GRANT SELECT ON people TO shop")
    return made


async def run(client: Client, tenant: str, where: str) -> str:
    """Runs the pipeline; what the failure says, of all its causes."""
    value = {"tenant": tenant, "pipeline": "leaky", "parameters": {"where": where}}
    try:
        await client.execute_workflow("Pipeline", value, id=f"{tenant}/leaky-{where}", task_queue="entrepot")
    except WorkflowFailureError as error:
        said, cause = "", error.__cause__
        while cause is not None:
            said, cause = f"{said} {cause}", cause.__cause__
        return said
    return ""


async def histories(client: Client) -> AsyncIterator[tuple[str, bytes]]:
    """Every event of every workflow, and what describes it."""
    async for each in client.list_workflows():
        handle = client.get_workflow_handle(each.id, run_id=each.run_id)
        described = await handle.describe()
        events = (await handle.fetch_history()).events
        yield f"history of {each.id}", b"".join(event.SerializeToString() for event in events)
        yield f"description of {each.id}", described.raw_description.SerializeToString()
        for query in ("progress", "plan"):
            with contextlib.suppress(RPCError, WorkflowQueryFailedError):
                yield f"{query} of {each.id}", repr(await handle.query(query)).encode()


def rows(place: Leaky, postgres: Server) -> Iterator[tuple[str, bytes]]:
    """Every row of both warehouses, catalogs included."""
    file, server = duckdb.connect(str(place.state / "acme.duckdb"), read_only=True), postgres.connect(dbname="globex")
    for tenant, connection in {"acme": file, "globex": server}.items():
        listed: Any = "SELECT table_schema, table_name FROM information_schema.tables WHERE table_catalog <> 'system'"
        for schema, name in connection.execute(listed).fetchall():
            if not schema.startswith(("pg_", "information")):
                read: Any = f'SELECT * FROM "{schema}"."{name}"'
                yield f"{tenant}, {schema}.{name}", repr(connection.execute(read).fetchall()).encode()
        connection.close()


def files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Everything in the state folder: lake, pages, models, the warehouse's file, the server's database and its log."""
    for path in folder.rglob("*"):
        if path.is_file():
            yield str(path.relative_to(folder)), path.read_bytes()
            if path.suffix == ".parquet":
                yield f"rows of {path.relative_to(folder)}", repr(pq.read_table(path).to_pylist()).encode()


async def test_no_canary_is_anywhere(place: Leaky, postgres: Server) -> None:
    searched: dict[str, bytes] = {}
    with place.dev() as dev:
        client = await reach(place.address)
        said = await asyncio.gather(*(run(client, "acme", where) for where in FAILING), run(client, "initech", ""))
        searched |= {f"what {where} said": text.encode() for where, text in zip((*FAILING, "other"), said, strict=True)}
        assert await asyncio.gather(run(client, "acme", ""), run(client, "globex", "")) == ["", ""]
        for arguments in ("run leaky -t acme -p where=publish", "doctor"):
            done = await asyncio.to_thread(place.entrepot, *arguments.split())
            searched[arguments] = f"{done.stdout}\n{done.stderr}".encode()
        searched |= {name: data async for name, data in histories(client)}
        dev.terminate()
        assert dev.stdout is not None
        searched["output of dev"] = dev.stdout.read().encode()
    searched["log of dev"] = place.log.encode()
    searched |= dict(rows(place, postgres)) | dict(files(place.state))
    for form in FOUND_AS:
        told = {
            name: data[max(0, at - 100) : at + 100] for name, data in searched.items() if (at := data.find(form)) >= 0
        }
        assert told == {}
    # What is no secret is found, and so is what stands in a secret's place: nobody has kept quiet.
    for name in ("history of acme/leaky-", "acme, leaky.counted", "globex, leaky.counted", "temporal.db-wal"):
        assert TOLD.encode() in searched[name], name
    for name in (
        "acme, entrepot.runs",
        "log of dev",
        "output of dev",
        *(f"what {where} said" for where in FAILING if where != "table"),
    ):
        assert secrets.MASK.encode() in searched[name], name
    assert b"unknown table 'nobody'" in searched["what table said"]
    assert b"password authentication failed" in searched["what other said"]
