"""What is installed is one package: beside a project that has modules and folders of the same names as ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from email.parser import HeaderParser
from pathlib import Path

import pytest

from tests.worker.processes import ROOT, Place

UV = Path(sys.executable).parent / "uv"
PACKED = (".py", ".html", ".jinja")
DEMO_REQUIREMENTS = ROOT / "requirements" / "demo.txt"
PROJECT = {
    "tenants.toml": """
        [pipelines]
        shop = "pipeline:shop"

        [tenants.acme]
        backend = { type = "duckdb", path = "acme.duckdb" }
        """,
    "activities.py": """
        from temporalio import activity

        PRICES = [{"id": 1, "price": 2.5}, {"id": 2, "price": 4.0}]

        @activity.defn
        async def greet(name: str) -> str:
            return f"hello {name}"
        """,
    "pipeline.py": """
        import ibis
        from activities import PRICES
        from backends.euro import in_euro
        from examples import NAME
        from tests.helpers import only_dear
        from entrepot import Pipeline, Table

        shop = Pipeline("shop")

        @shop.ingest
        def prices():
            return PRICES

        @shop.transform
        def dear(prices: Table) -> Table:
            return only_dear(in_euro(prices)).mutate(shop=ibis.literal(NAME))
        """,
    "backends/euro.py": "def in_euro(table):\n    return table.mutate(euro=table.price * 0.9)\n",
    "examples/__init__.py": "NAME = 'corner'\n",
    "tests/helpers.py": "def only_dear(table):\n    return table.filter(table.euro > 3)\n",
    "workflows/greetings.py": """
        from datetime import timedelta

        from temporalio import workflow

        with workflow.unsafe.imports_passed_through():
            from activities import greet

        @workflow.defn
        class Greet:
            @workflow.run
            async def run(self, name: str) -> str:
                return await workflow.execute_activity(greet, name, start_to_close_timeout=timedelta(seconds=60))
        """,
    "worker.py": """
        import asyncio
        import os

        from temporalio.client import Client
        from temporalio.worker import Worker

        from activities import greet
        from workflows.greetings import Greet

        async def main():
            client = await Client.connect(os.environ["TEMPORAL_ADDRESS"])
            async with Worker(client, task_queue="own", workflows=[Greet], activities=[greet]):
                print(await client.execute_workflow(Greet.run, "corner", id="greet", task_queue="own"))

        if __name__ == "__main__":
            asyncio.run(main())
        """,
}


def uv(*arguments: str | Path, folder: Path = ROOT) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in {"VIRTUAL_ENV", "PYTHONHOME", "PYTHONPATH"}}
    done = subprocess.run(
        [UV, *arguments], check=False, cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist of this checkout, and the wheel that was built from it alone."""
    folder = tmp_path_factory.mktemp("built")
    uv("build", "-q", "--out-dir", folder)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a new environment, into which the wheel was installed."""
    environment = tmp_path_factory.mktemp("environment") / "venv"
    uv("venv", "-q", "--python", sys.executable, environment)
    into = ("pip", "install", "-q", "--python", environment / "bin" / "python")
    uv(*into, "--require-hashes", "-r", DEMO_REQUIREMENTS)
    uv(*into, "--no-deps", wheel)
    return environment / "bin"


@pytest.fixture
def project(tmp_path: Path) -> Place:
    """A project with names of its own that are also ours."""
    place = Place(tmp_path)
    for name, text in PROJECT.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        lines = text.strip("\n").split("\n")
        indent = len(lines[0]) - len(lines[0].lstrip())
        file.write_text("\n".join(line[indent:] for line in lines) + "\n")
    return place


def everything(folder: Path) -> Iterator[str]:
    for base in (folder, *(each for each in folder.iterdir() if each.is_dir())):
        for file in (found for kind in PACKED for found in base.resolve().rglob(f"*{kind}")):
            yield str(base.relative_to(folder.parent) / file.relative_to(base.resolve()))


def test_the_wheel_holds_one_package_and_all_of_it(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {"entrepot", "entrepot-0.1.0.dist-info"}
    apart = ("entrepot/examples/postgres/", "entrepot/examples/sqlite/")
    assert not [name for name in names if "/tests/" in name or name.startswith(apart)]
    expected = {name for name in everything(ROOT / "entrepot") if not name.startswith(apart)}
    assert {name for name in names if name.endswith(PACKED)} == expected
    assert {"entrepot/py.typed", "entrepot/backends/duckdb/backend.py", "entrepot/examples/flights/pipeline.py"} <= {
        *names
    }


def test_the_wheel_says_what_an_index_shows(wheel: Path) -> None:
    said = HeaderParser().parsestr(zipfile.ZipFile(wheel).read("entrepot-0.1.0.dist-info/METADATA").decode())
    assert said["Author"]
    assert said["License-Expression"] == "Apache-2.0"
    assert {"temporal", "ibis", "dlt"} <= {*said["Keywords"].split(",")}
    assert "Typing :: Typed" in said.get_all("Classifier", [])
    assert said.get_payload().startswith("# Entrepot")


def test_the_archive_of_the_source_builds_without_the_checkout(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        links = [member.name for member in opened if member.issym() or member.islnk()]
        names = {member.name.partition("/")[2] for member in opened}
    assert links == []
    assert {"entrepot/worker/cli/app.py", "pyproject.toml", "README.md", "LICENSE"} <= names


def test_a_project_with_our_names_runs_its_pipeline_and_its_own_worker(project: Place, installed: Path) -> None:
    def run(program: str, *arguments: str) -> str:
        done = project.command(str(installed / program), *arguments, PYTHONPATH=str(project.folder))
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "Usage: entrepot" in run("entrepot", "--help")
    with project.server_alone():
        arguments = ["worker", "--tenants", "tenants.toml"]
        environment = project.environment(PYTHONPATH=str(project.folder))
        log = (project.folder / "entrepot.log").open("w")
        with (
            log,
            subprocess.Popen(
                [installed / "entrepot", *arguments], cwd=project.folder, env=environment, stderr=log
            ) as ours,
        ):
            try:
                summary = json.loads(run("entrepot", "run", "shop", "--tenant", "acme", "--json"))
                theirs = project.command(str(installed / "python"), "worker.py", PYTHONPATH=str(project.folder))
                # Its exit code says nothing: Temporal's library was seen to crash as the interpreter ends.
                assert theirs.stdout == "hello corner\n", theirs.stderr
            finally:
                ours.terminate()
    assert [(step["name"], step["rows"]) for step in summary["steps"]] == [("prices", 2), ("dear", 1)]


def test_a_checkout_does_not_stand_before_a_project_either(project: Place) -> None:
    """As it is installed for development: with a link to the checkout."""
    path = str(project.folder)
    assert "Usage: entrepot" in project.entrepot("--help", PYTHONPATH=path).stdout
    code = "import pipeline, activities, worker, workflows.greetings; print(activities.__file__, worker.__file__)"
    found = project.command(sys.executable, "-c", code, PYTHONPATH=path)
    assert found.stdout.split() == [f"{path}/activities.py", f"{path}/worker.py"], found.stderr
