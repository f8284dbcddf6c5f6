"""Fairness: how long one tenant's run takes alone, and behind what another has started before.

One worker with 16 slots, one Temporal server, two tenants on DuckDB files of their own. The other tenant's work is
there first: many short runs, steps that take a minute, steps that hang. The same again without a cap on what a tenant
runs at once shows what the cap is for: a run that did not end within the limit counts as long as that.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from temporalio.client import Client, WorkflowFailureError, WorkflowHandle

from benchmarks.timing import Row, table
from entrepot.worker import process
from entrepot.worker.client import TASK_QUEUE
from entrepot.worker.config.settings import Settings
from entrepot.worker.config.tenant_schema import TenantSection
from entrepot.worker.local import dev
from entrepot.workflows.calls import priority

ALONE, SHORT, LONG, HANGING = "alone", "behind short runs", "behind long steps", "behind steps that hang"
WITH, WITHOUT = "entrepot", "without caps"
WANTED = 1.5
SLOTS = 16
LIMIT_SECONDS = 120.0
"""For which a run is waited for at most."""
_PIPELINE = """
import time
from pathlib import Path
from entrepot import Pipeline, Table

busy = Pipeline("busy", parameters={"round": 0, "seconds": 0.0, "until": ""})

@busy.ingest(tables={"numbers": {"n": "int64"}})
def source(seconds: float, until: str, round: int):
    end = time.monotonic() + seconds
    while until and not Path(until).exists() and (not seconds or time.monotonic() < end):
        time.sleep(0.05)
    return {"numbers": [{"n": n + round} for n in range(1000)]}

@busy.transform
def doubled(numbers: Table, round: int) -> Table:
    return numbers.mutate(twice=numbers.n * 2 + round)

@busy.transform
def summed(doubled: Table) -> Table:
    return doubled.agg(total=doubled.twice.sum())
"""


class House:
    """A server, a worker and two tenants: `a` has much to do, and `b` little."""

    def __init__(self, client: Client, state: Path) -> None:
        self._client = client
        self._end = state / "end"
        self._others: list[WorkflowHandle[object, object]] = []

    async def flood(self, runs: int, seconds: float | None = 0.0) -> None:
        """Starts that many runs of `a`, whose first steps take so long; with None, they hang."""
        until = "" if seconds == 0.0 else str(self._end)
        for number in range(runs):
            parameters = {"seconds": seconds or 0.0, "until": until, "round": number}
            self._others.append(await self._start("a", f"pr_{uuid.uuid4().hex[:8]}", parameters))
        await asyncio.sleep(1)

    async def measured(self, round: int) -> float:
        """The seconds of a run of `b`, which has everything to compute."""
        began = time.perf_counter()
        run = await self._start("b", "prod", {"round": round})
        try:
            await asyncio.wait_for(run.result(), LIMIT_SECONDS)
        except TimeoutError:
            await run.terminate()
        return time.perf_counter() - began

    async def clear(self) -> None:
        """Ends what `a` has started."""
        self._end.touch()
        for other in self._others:
            with contextlib.suppress(Exception):
                await other.cancel()
        for other in self._others:
            with contextlib.suppress(WorkflowFailureError):
                await other.result()
        self._others.clear()
        self._end.unlink()

    async def _start(
        self, tenant: str, environment: str, parameters: dict[str, object]
    ) -> WorkflowHandle[object, object]:
        asked = {"tenant": tenant, "pipeline": "busy", "environment": environment, "parameters": parameters}
        return await self._client.start_workflow(
            "Pipeline", asked, id=uuid.uuid4().hex, task_queue=TASK_QUEUE, priority=priority(tenant)
        )


@asynccontextmanager
async def house(folder: Path, *, capped: bool) -> AsyncIterator[House]:
    """A house while the block runs."""
    tenants = {
        name: TenantSection(
            backend={"type": "duckdb", "path": f"{name}.duckdb", "threads": 1}, slots=8 if capped else 1000
        )
        for name in ("a", "b")
    }
    loaded = Settings(None, folder, {"busy": "fairness_busy:busy"}, tenants).connect()
    async with dev.server(folder, dev.free_port(), dev.free_port()) as server:
        await process.register_search_attributes(server.client)
        async with process.create(server.client, loaded, slots=SLOTS):
            yield House(server.client, folder)


async def measure(options: argparse.Namespace, *, capped: bool) -> dict[str, list[float]]:
    """The seconds of runs of `b`, by what stands before them."""
    floods: dict[str, Callable[[House], Awaitable[None]]] = {
        SHORT: lambda house: house.flood(options.runs),
        LONG: lambda house: house.flood(options.steps, options.seconds),
        HANGING: lambda house: house.flood(options.steps, None),
    }
    seconds: dict[str, list[float]] = {ALONE: []}
    with tempfile.TemporaryDirectory(prefix="entrepot-fairness-") as name:
        folder = Path(name)
        (folder / "fairness_busy.py").write_text(_PIPELINE)
        sys.path.insert(0, name)
        async with house(folder, capped=capped) as running:
            await running.measured(-1)  # the first one makes schemas and the catalog
            for round in range(options.rounds):
                seconds[ALONE].append(await running.measured(round))
            for number, (scenario, flood) in enumerate(floods.items(), 1):
                await flood(running)
                for round in range(options.rounds if capped else 1):
                    seconds.setdefault(scenario, []).append(await running.measured(1000 * number + round))
                await running.clear()
        sys.path.remove(name)
    return seconds


def main(arguments: list[str] | None = None) -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fairness", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=300, help="short runs of the other tenant (default: 300)")
    parser.add_argument("--steps", type=int, default=50, help="its steps that are long, or hang (default: 50)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of its long steps (default: 60)")
    parser.add_argument("--capped-alone", action="store_true", help="leave out how it is without caps")
    options = parser.parse_args(arguments)
    process.warm_up()
    measured = {WITH: asyncio.run(measure(options, capped=True))}
    if not options.capped_alone:
        measured[WITHOUT] = asyncio.run(measure(options, capped=False))
    table(f"one run of a tenant, {options.rounds} rounds", rows_of(measured))


def rows_of(measured: dict[str, dict[str, list[float]]]) -> list[Row]:
    """The rows of the table: in each situation, its median as a share of what the run takes alone."""
    rows = []
    for name, seconds in measured.items():
        alone = Row(name, ALONE, seconds[ALONE], None)
        for situation, each in seconds.items():
            rows.append(Row(name, situation, each, None))
            if situation != ALONE:
                ratio = Row(name, situation, each, None).median / alone.median
                wanted = f", wanted ≤ {WANTED:g} {'✓' if ratio <= WANTED else '✗'}" if name == WITH else ""
                print(f"{name}, {situation}: {ratio:.2f} × of alone{wanted}")
    return rows


if __name__ == "__main__":
    main()
