"""Write the same graph of trivial transforms as a project for each peer.

``layers`` times ``width`` transforms, named ``t_<layer>_<column>``. Those of layer 0 read ``source.parquet``; each
other one joins two tables of the layer before: its own column and the next. Every peer keeps every transform as a
table in ``warehouse.duckdb``, under the schema ``bench``, except Hamilton, whose data frames stay in memory.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import duckdb

ROWS = 1000
SOURCE = "source.parquet"
DATABASE = "warehouse.duckdb"
SCHEMA = "bench"
SHAPE = "shape.json"
STATE = "state"
SUM = "sum.txt"


@dataclass(frozen=True)
class Transform:
    """One transform: where it stands in the graph, what it reads, and the constant it multiplies by."""

    layer: int
    column: int
    parents: tuple[str, ...]
    constant: float

    @property
    def name(self) -> str:
        """Name the table it makes."""
        return f"t_{self.layer}_{self.column}"

    def sql(self, table: Callable[[str], str]) -> str:
        """Write its query, naming each table it reads by ``table``."""
        if not self.parents:
            return f"select id, x * {self.constant} as x, grp from read_parquet('{SOURCE}')"
        left, right = (table(parent) for parent in self.parents)
        return f"select a.id, a.x + b.x * {self.constant} as x, a.grp from {left} a join {right} b using (id)"


@dataclass(frozen=True)
class Shape:
    """The size of the graph, how often one transform in its middle layer has been changed, and how often all have."""

    layers: int
    width: int
    changes: int = 0
    changes_of_all: int = 0

    def transforms(self) -> Iterator[Transform]:
        """Give every transform, layer by layer."""
        for layer in range(self.layers):
            for column in range(self.width):
                changes = self.changes if (layer, column) == (self.layers // 2, 0) else 0
                constant = (1 + (layer * 7 + column) % 13) / 64 + changes + self.changes_of_all
                parents = (f"t_{layer - 1}_{column}", f"t_{layer - 1}_{(column + 1) % self.width}") if layer else ()
                yield Transform(layer, column, parents, constant)

    def last(self) -> list[str]:
        """Name the tables of the last layer."""
        return [f"t_{self.layers - 1}_{column}" for column in range(self.width)]


@dataclass(frozen=True)
class Command:
    """A process to run: its arguments, its whole environment, and the folder to run it in."""

    arguments: list[str]
    environment: dict[str, str]
    folder: Path

    def run(self) -> subprocess.CompletedProcess[str]:
        """Run it, keeping what it prints."""
        return subprocess.run(
            self.arguments, env=self.environment, cwd=self.folder, capture_output=True, text=True, check=False
        )


def write_dbt(folder: Path, layers: int, width: int) -> None:
    """Write a dbt project with a model file per transform."""
    _write("dbt", folder, Shape(layers, width))


def write_sqlmesh(folder: Path, layers: int, width: int) -> None:
    """Write a SQLMesh project with a model file per transform."""
    _write("sqlmesh", folder, Shape(layers, width))


def write_dagster(folder: Path, layers: int, width: int) -> None:
    """Write a Dagster module with an asset per transform, and a script that materialises them in its own process."""
    _write("dagster", folder, Shape(layers, width))


def write_hamilton(folder: Path, layers: int, width: int) -> None:
    """Write a Hamilton module with a function per transform, and a script that runs its driver."""
    _write("hamilton", folder, Shape(layers, width))


def write_duckdb(folder: Path, layers: int, width: int) -> None:
    """Write one statement per transform, and a script that runs them in turn: no framework at all."""
    _write("duckdb", folder, Shape(layers, width))


def change_one(peer: str, folder: Path) -> None:
    """Change the constant of one transform in the middle layer; every other file stays as it was."""
    shape = read_shape(folder)
    _write(peer, folder, replace(shape, changes=shape.changes + 1))


def change_all(peer: str, folder: Path) -> None:
    """Change the constants of all transforms."""
    shape = read_shape(folder)
    _write(peer, folder, replace(shape, changes_of_all=shape.changes_of_all + 1))


def read_shape(folder: Path) -> Shape:
    """Tell the shape of the project in a folder."""
    return Shape(**json.loads((folder / SHAPE).read_text()))


def command(peer: str, venv: Path, folder: Path) -> Command:
    """Give the command that brings a project up to date, first or later: what an expert of the tool would type."""
    programs = {
        "dbt": ["dbt", "--quiet", "run", *_dbt_selection(folder)],
        "sqlmesh": ["sqlmesh", "plan", "--auto-apply", "--no-prompts", "--skip-tests", "--skip-linter", "--no-diff"],
    }
    program, *arguments = programs.get(peer, ["python", "run.py"])
    settings = {
        "DO_NOT_TRACK": "1",
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "SQLMESH__DISABLE_ANONYMIZED_ANALYTICS": "true",
        "SQLMESH_HOME": str(folder.resolve() / ".sqlmesh"),
        "DAGSTER_HOME": str(folder.resolve()),
    }
    return Command([str(venv.resolve() / "bin" / program), *arguments], {**os.environ, **settings}, folder)


def after_run(peer: str, folder: Path) -> None:
    """Do what a user does between two runs: for dbt, keep the manifest that the next run compares with."""
    if peer == "dbt":
        (folder / STATE).mkdir(exist_ok=True)
        shutil.copyfile(folder / "target" / "manifest.json", folder / STATE / "manifest.json")


def result(peer: str, venv: Path, folder: Path) -> tuple[int, float]:
    """Count the transforms whose results are there, and sum x over the last layer."""
    shape = read_shape(folder)
    if peer == "hamilton":
        return shape.layers * shape.width, float((folder / SUM).read_text())
    union = " union all ".join(f"select sum(x) as x from {SCHEMA}.{name}" for name in shape.last())
    count = f"select count(*) from information_schema.tables where table_schema = '{SCHEMA}' and table_name like 't_%'"
    script = f"import duckdb; print(*duckdb.connect('{DATABASE}').execute(\"select ({count}), sum(x) from ({union})\")"
    python = str(venv.resolve() / "bin" / "python")
    printed = subprocess.run(
        [python, "-c", f"{script}.fetchone())"], cwd=folder, capture_output=True, text=True, check=True
    )
    tables, total = printed.stdout.split()
    return int(tables), float(total)


def _write(peer: str, folder: Path, shape: Shape) -> None:
    """Write the project of a peer, touching only the files whose text differs."""
    if shape.layers < 1 or shape.width < 2:
        raise ValueError(f"a graph needs a layer and two columns, not {shape.layers} x {shape.width}")
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / SOURCE).exists():
        rows = f"select i as id, (i % 97) / 8::double as x, i % 10 as grp from range({ROWS}) rows(i)"
        duckdb.execute(f"copy ({rows}) to '{folder / SOURCE}' (format parquet)")
    for name, text in {SHAPE: json.dumps(asdict(shape)), **_WRITERS[peer](shape)}.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def _in_schema(name: str) -> str:
    """Name a table with its schema."""
    return f"{SCHEMA}.{name}"


def _dbt_selection(folder: Path) -> list[str]:
    """Select what changed since the manifest kept, or everything where none is kept yet."""
    if not (folder / STATE / "manifest.json").exists():
        return []
    return ["--select", "state:modified+", "--state", STATE]


def _dbt_files(shape: Shape) -> dict[str, str]:
    """Give the files of the dbt project by name."""
    models = {f"models/{one.name}.sql": one.sql("{{{{ ref('{}') }}}}".format) for one in shape.transforms()}
    return {"dbt_project.yml": _DBT_PROJECT, "profiles.yml": _DBT_PROFILE, **models}


def _sqlmesh_files(shape: Shape) -> dict[str, str]:
    """Give the files of the SQLMesh project by name."""
    models = {
        f"models/{one.name}.sql": f"MODEL (name {_in_schema(one.name)}, kind FULL);\n\n{one.sql(_in_schema)}\n"
        for one in shape.transforms()
    }
    return {"config.yaml": _SQLMESH_CONFIG, **models}


def _dagster_files(shape: Shape) -> dict[str, str]:
    """Give the files of the Dagster project by name."""
    assets = [
        f"@asset(deps={list(one.parents)})\n"
        f"def {one.name}(database: Database) -> None:\n"
        f'    database.execute("create or replace table {_in_schema(one.name)} as {one.sql(_in_schema)}")\n'
        for one in shape.transforms()
    ]
    module = "\n\n".join([_DAGSTER_HEAD, *assets])
    return {"dagster.yaml": _DAGSTER_INSTANCE, "assets.py": module, "run.py": _DAGSTER_RUN}


def _hamilton_files(shape: Shape) -> dict[str, str]:
    """Give the files of the Hamilton project by name."""
    functions = [
        f"def {one.name}({', '.join(f'{parent}: pd.DataFrame' for parent in one.parents or ('source',))})"
        " -> pd.DataFrame:\n"
        f"    return {'_join' if one.parents else '_scale'}({', '.join(one.parents or ('source',))}, {one.constant})\n"
        for one in shape.transforms()
    ]
    return {"transforms.py": "\n\n".join([_HAMILTON_HEAD, *functions]), "run.py": _HAMILTON_RUN.format(shape.last())}


def _duckdb_files(shape: Shape) -> dict[str, str]:
    """Give the files of the bare DuckDB project by name."""
    statements = [
        f"create or replace table {_in_schema(one.name)} as {one.sql(_in_schema)}\n" for one in shape.transforms()
    ]
    return {"transforms.sql": "".join(statements), "run.py": _DUCKDB_RUN}


_WRITERS: dict[str, Callable[[Shape], dict[str, str]]] = {
    "dbt": _dbt_files,
    "sqlmesh": _sqlmesh_files,
    "dagster": _dagster_files,
    "hamilton": _hamilton_files,
    "duckdb": _duckdb_files,
}

_DBT_PROJECT = """\
name: bench
version: "1.0"
config-version: 2
profile: bench
flags:
  send_anonymous_usage_stats: false
  version_check: false
  partial_parse: true
  log_level_file: none
models:
  bench:
    +materialized: table
"""

_DBT_PROFILE = f"""\
bench:
  target: local
  outputs:
    local:
      type: duckdb
      path: {DATABASE}
      schema: {SCHEMA}
      threads: 4
"""

_SQLMESH_CONFIG = f"""\
gateways:
  local:
    connection:
      type: duckdb
      database: {DATABASE}
default_gateway: local
disable_anonymized_analytics: true
model_defaults:
  dialect: duckdb
  start: "2024-01-01"
"""

_DAGSTER_INSTANCE = """\
telemetry:
  enabled: false
"""

_DAGSTER_HEAD = """\
import duckdb
from dagster import ResourceParam, asset

Database = ResourceParam[duckdb.DuckDBPyConnection]
"""

_DAGSTER_RUN = f"""\
import assets
import duckdb
from dagster import load_assets_from_modules, materialize

QUIET = {{"loggers": {{"console": {{"config": {{"log_level": "ERROR"}}}}}}}}

with duckdb.connect("{DATABASE}") as database:
    database.execute("create schema if not exists {SCHEMA}")
    materialize(load_assets_from_modules([assets]), resources={{"database": database}}, run_config=QUIET)
"""

_HAMILTON_HEAD = f"""\
import pandas as pd


def source() -> pd.DataFrame:
    return pd.read_parquet("{SOURCE}")


def _scale(table: pd.DataFrame, constant: float) -> pd.DataFrame:
    return table.assign(x=table["x"] * constant)


def _join(left: pd.DataFrame, right: pd.DataFrame, constant: float) -> pd.DataFrame:
    both = left.merge(right[["id", "x"]], on="id", suffixes=("", "_right"))
    return both.assign(x=both["x"] + both["x_right"] * constant)[["id", "x", "grp"]]
"""

_HAMILTON_RUN = f"""\
from pathlib import Path

import transforms
from hamilton import driver

LAST = {{}}

tables = driver.Builder().with_modules(transforms).build().execute(LAST)
Path("{SUM}").write_text(repr(float(sum(table["x"].sum() for table in tables.values()))))
"""

_DUCKDB_RUN = f"""\
from pathlib import Path

import duckdb

with duckdb.connect("{DATABASE}") as database:
    database.execute("create schema if not exists {SCHEMA}")
    for statement in Path("transforms.sql").read_text().splitlines():
        database.execute(statement)
"""
