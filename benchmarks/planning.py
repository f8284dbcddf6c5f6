"""Planning many transforms: the first plan in a process, and one after nothing has changed.

Ours is what the activity `plan` does in a fresh process whose imports are done, as a worker's are before it serves:
importing the pipeline's module, its graph, building and hashing every expression, reading the catalog, deciding. Beside
it stands what ibis alone takes to build the same expressions, which no planner of ibis expressions can leave out; and
SQLMesh's explanation of its plan of the same transforms, as a whole process less its `--help`, which stands for its
imports.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmarks import chain
from benchmarks.peers import install, projects
from benchmarks.timing import Row, finish, table, timed

FIRST, AGAIN = "first plan", "nothing changed"
OURS, BARE, SQLMESH = "entrepot", "bare ibis", "sqlmesh"
WANTED_SECONDS = {FIRST: 2.0, AGAIN: 0.3}
"""For 1,000 transforms."""
_AGAIN_TIMES = 5
_SHAPE = {"id": "int64", "x": "float64", "grp": "int64"}
_PYTHON = (sys.executable, "-m", "benchmarks.planning")
_ENVIRONMENT = {"PYTHONPATH": str(Path(__file__).parent.parent)}


def plan_here() -> dict[str, float]:
    """In the current folder: our seconds for the first plan of `bench`, and for the next."""
    from entrepot import backends
    from entrepot.activities import plan
    from entrepot.activities.catalog.details import TableDetails
    from entrepot.activities.catalog.version import Version
    from entrepot.activities.runtime.context import ActivityContext
    from entrepot.activities.runtime.isolation.builder import Builder
    from entrepot.activities.runtime.isolation.processes import PROCESSES, load_with
    from entrepot.backends import TableName
    from entrepot.identity.expression import schema_from
    from entrepot.protocol.messages import Context, PlanRequest
    from entrepot.worker import process
    from entrepot.worker.config import settings

    process.warm_up()
    PROCESSES.fork_here()
    tenants = settings.load("tenants.toml", ".").connect()
    load_with(tenants)
    context = Context(tenant="bench", pipeline="bench", run="benchmark")
    work = ActivityContext(tenants.get("bench"), context.run, "plan")
    with work.session() as session:
        work.catalog(session).ensure()
        catalog = work.catalog(session).pipeline(context.pipeline)
        session.create_schema("bench__v")
        target = TableName("bench__v", "source__0")
        session.create_table(target, schema_from(_SHAPE))
        source = Version("source", "0", "ingest", "", target, _SHAPE, _SHAPE, 0, TableDetails(), context.run)
        catalog.add_version(source)

        def plan_once() -> float:
            before = time.perf_counter()
            graph = tenants.pipeline(context.tenant, context.pipeline).graph
            request = PlanRequest(context=context, selected=tuple(graph.steps), raw={"source": "0"}, ingested={})
            with Builder(work, tenants, context.pipeline) as builder:
                values = dict(graph.parameters)
                made = plan._make_plan(catalog, backends.dialect("duckdb"), graph, values, request, builder)
            seconds = time.perf_counter() - before
            if len(made.to_run()) != len(graph.steps) - 1:
                raise RuntimeError(f"{len(made.to_run())} of {len(graph.steps)} steps were planned to run")
            return seconds

        return {FIRST: plan_once(), AGAIN: sorted(plan_once() for _ in range(_AGAIN_TIMES))[_AGAIN_TIMES // 2]}


def build_here() -> dict[str, float]:
    """In the current folder: what ibis takes to build every expression of `bench`."""
    import ibis

    from entrepot.language.step import TransformStep
    from entrepot.worker import process

    process.warm_up()
    sys.path.insert(0, ".")
    before = time.perf_counter()
    import bench  # type: ignore[import-not-found]

    steps = [step for step in bench.bench.steps if isinstance(step, TransformStep)]
    for step in steps:
        step.function(**{name: ibis.table(_SHAPE, name=name) for name in step.inputs})
    return {FIRST: time.perf_counter() - before}


def sqlmesh(venv: Path, folder: Path, layers: int, width: int) -> dict[str, float]:
    """SQLMesh's seconds for explaining a plan of everything, and one after everything was applied."""
    projects.write_sqlmesh(folder, layers, width)
    applying = projects.command(SQLMESH, venv, folder)

    def seconds(*arguments: str) -> float:
        before = time.perf_counter()
        done = replace(applying, arguments=[applying.arguments[0], *arguments]).run()
        if done.returncode != 0:
            raise RuntimeError(f"sqlmesh failed with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        return time.perf_counter() - before

    imports = seconds("--help")
    explaining = ("plan", "--explain", "--no-prompts", "--skip-tests", "--skip-linter", "--no-diff")
    first = seconds(*explaining) - imports
    seconds(*applying.arguments[1:])
    return {FIRST: first, AGAIN: seconds(*explaining) - imports}


def ours(part: str, layers: int, width: int) -> dict[str, float]:
    """What one of `PARTS` says in a fresh process, for a pipeline written for it."""
    folder = Path(tempfile.mkdtemp(prefix="entrepot-planning-"))
    try:
        chain.write_entrepot(folder, projects.Shape(layers, width))
        said = timed([*_PYTHON, "--part", part], folder, _ENVIRONMENT).output
    finally:
        shutil.rmtree(folder)
    return {str(task): float(seconds) for task, seconds in json.loads(said.splitlines()[-1]).items()}


PARTS = {OURS: plan_here, BARE: build_here}


def main(arguments: list[str] | None = None) -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planning", description=__doc__)
    parser.add_argument("--layers", type=int, default=10)
    parser.add_argument("--width", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", nargs="*", default=[SQLMESH], choices=[SQLMESH])
    parser.add_argument("--venvs", type=Path, default=chain.VENVS)
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.part:
        finish(json.dumps(PARTS[options.part]()))
    layers, width = options.layers, options.width
    seconds: dict[tuple[str, str], list[float]] = {}
    for number in range(options.rounds):
        found = {part: ours(part, layers, width) for part in PARTS}
        if options.peers and number == 0:  # once: it applies everything in between, which takes a while
            folder = Path(tempfile.mkdtemp(prefix="entrepot-planning-"))
            found[SQLMESH] = sqlmesh(install.ready(SQLMESH, options.venvs), folder, layers, width)
            shutil.rmtree(folder)
        for name, tasks in found.items():
            for task, each in tasks.items():
                seconds.setdefault((task, name), []).append(each)
            print(f"round {number + 1}, {name}: " + ", ".join(f"{t} {s:.2f} s" for t, s in tasks.items()), flush=True)
    table(f"planning {layers * width:,} transforms, imports done", rows_of(seconds))
    if layers * width == 1000:
        for task, wanted in WANTED_SECONDS.items():
            mine = statistics.median(seconds[task, OURS])
            print(f"{task}: {mine:.2f} s, wanted under {wanted:g} s: {'✓' if mine < wanted else '✗'}")


def rows_of(seconds: dict[tuple[str, str], list[float]]) -> list[Row]:
    """Ours, and under it everybody else, by task."""
    rows = []
    for task in (FIRST, AGAIN):
        mine = Row(OURS, task, seconds[task, OURS], None)
        others = [name for of, name in seconds if of == task and name != OURS]
        rows += [mine, *(Row(name, task, seconds[task, name], mine.median) for name in others)]
    return rows


if __name__ == "__main__":
    main()
