"""A fifth warehouse, from outside: `examples/postgres` is installed as anybody's package would be, and it is enough."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from entrepot import backends
from entrepot.backends import QueryTag
from entrepot.protocol.parity import ParityReport
from entrepot.worker.config.tenant_schema import TenantSection
from tests.conftest import serving, settings
from tests.servers.postgres import Server

CHECKOUT = Path(__file__).parents[2]
OUTSIDE = CHECKOUT / "examples" / "postgres"
UV = Path(sys.executable).with_name("uv")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The package in a folder of its own, which Python looks into."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([UV, "pip", "install", "-q", "--no-deps", "--target", folder, OUTSIDE], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.syspath_prepend(str(OUTSIDE / "tests"))
        yield folder


def test_it_is_known_like_the_others(installed: Path) -> None:
    assert "postgres" in backends.known()
    assert backends.dialect("postgres").name == "postgres"
    assert not (installed / "backends").exists()


async def test_a_pipeline_runs_on_it_and_agrees_with_duckdb(
    temporal: WorkflowEnvironment, tmp_path: Path, installed: Path, postgres: Server
) -> None:
    section = TenantSection(
        backend=postgres.settings(), backends={"duckdb": {"type": "duckdb", "path": "other.duckdb"}}, parity="duckdb"
    )
    loaded = settings(tmp_path, {"shop": "tests.pipelines.shop:shop"}, acme=section)
    async with serving(temporal.client, loaded) as house:
        summary = await house.run()
        assert summary.outcome == "published"
        assert {"orders", "return_risk", "shared"} <= set(summary.moved)
        again = await house.run()
        assert not again.moved
        handle = await house.start("Parity", {"tenant": "acme", "pipeline": "shop"})
        report = ParityReport.model_validate(await handle.result())
        assert report.agrees
        assert report.on == ("postgres", "duckdb")
        assert {side.verdict for table in report.tables for side in table.sides} == {"agrees"}
        with house.tenants.get("acme").backend.session(QueryTag("acme", "test", "test")) as session:
            (row,) = session.query("SELECT count(*) AS n, sum(orders) AS orders FROM reporting.countries")
        assert (row["n"], row["orders"]) == (3, 600)


def test_the_conformance_suite_proves_it(installed: Path, postgres: Server) -> None:
    """Its quick parts; `examples/postgres/tests` runs all of it."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "tests/conformance",
            "-k",
            "lifecycle or types",
        ],
        cwd=CHECKOUT,
        env={**os.environ, **postgres.conformance(), "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "passed" in done.stdout
