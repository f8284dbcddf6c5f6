"""Fairness: how long one tenant's run takes alone, and behind what another has started before.

One worker with 16 slots, one Temporal server, two tenants on DuckDB files of their own. The other tenant's work is
there first: many short runs, steps that take a minute, steps that hang. The same again without what makes it fair
(slots of a tenant, fairness keys, turns, lanes) shows what that is for: a run that did not end within the limit counts
as long as that.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError

from benchmarks.timing import Row, table
from entrepot.activities.runtime.isolation import lanes
from entrepot.protocol.slots import Share
from entrepot.worker import process, turns
from entrepot.worker.client import TASK_QUEUE
from entrepot.worker.config.settings import Settings
from entrepot.worker.config.tenant_schema import TenantSection
from entrepot.worker.turns import Turns
from entrepot.workflows.calls import priority
from tests.servers.temporal import dev_server

ALONE, SHORT, LONG, HANGING = "alone", "behind short runs", "behind long steps", "behind steps that hang"
WITH, WITHOUT = "entrepot", "without caps and keys"
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
        """Ends what `a` has started, and waits until nothing of it waits for a slot: those that it has had are taken
        back when somebody lacks them."""
        self._end.touch()
        for other in self._others:
            with contextlib.suppress(RPCError):  # it has ended
                await other.terminate()
        slots = self._client.get_workflow_handle(f"a:slots:{TASK_QUEUE}")
        while await self._somebody_waits(slots):  # noqa: ASYNC110
            await asyncio.sleep(0.5)
        self._others.clear()
        self._end.unlink()

    async def _somebody_waits(self, slots: WorkflowHandle[object, object]) -> bool:
        try:
            shares: list[Share] = await slots.query(
                "shares", result_type=list[Share], rpc_timeout=timedelta(seconds=10)
            )
        except RPCError:  # the worker is still at what was terminated
            return True
        return any(share.granted < share.request.wanted for share in shares)

    async def _start(
        self, tenant: str, environment: str, parameters: dict[str, object]
    ) -> WorkflowHandle[object, object]:
        asked = {"tenant": tenant, "pipeline": "busy", "environment": environment, "parameters": parameters}
        return await self._client.start_workflow(
            "Pipeline", asked, id=uuid.uuid4().hex, task_queue=TASK_QUEUE, priority=priority(tenant)
        )


@contextmanager
def unfair() -> Iterator[None]:
    """While the block runs, workers give each tenant as much as it asks for."""
    with (
        patch.object(process, "Turns", lambda processors: Turns(sys.maxsize)),
        patch.object(turns, "ALONE", sys.maxsize),
        patch.object(lanes, "STEP", 0),
    ):
        yield


@asynccontextmanager
async def server(folder: Path, *, fair: bool) -> AsyncIterator[Client]:
    """A Temporal server while the block runs, with or without fairness between keys."""
    keys = ["matching.enableFairness=true", *(f"matching.numTaskqueue{each}Partitions=1" for each in ("Read", "Write"))]
    async with dev_server(
        dev_server_database_filename=str(folder / "temporal.db"),
        dev_server_extra_args=[
            *("--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=1"),
            *(part for key in keys if fair for part in ("--dynamic-config-value", key)),
        ],
        dev_server_log_level="error",
    ) as environment:
        yield environment.client


@asynccontextmanager
async def house(folder: Path, *, fair: bool) -> AsyncIterator[House]:
    """A house while the block runs."""
    tenants = {
        name: TenantSection(
            backend={"type": "duckdb", "path": f"{name}.duckdb", "threads": 1}, slots=8 if fair else 1000
        )
        for name in ("a", "b")
    }
    loaded = Settings(None, folder, {"busy": "fairness_busy:busy"}, tenants).connect()
    async with server(folder, fair=fair) as client:
        await process.register_search_attributes(client)
        with contextlib.nullcontext() if fair else unfair():
            async with process.create(client, loaded, slots=SLOTS):
                yield House(client, folder)


async def measure(options: argparse.Namespace, *, fair: bool) -> dict[str, list[float]]:
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
        async with house(folder, fair=fair) as running:
            # The first one makes schemas and the catalog. And in runs one right after the other Temporal's fair
            # queue soon takes 40 ms for each activity: alone as well as behind others.
            for round in range(-4, 0):
                await running.measured(round)
            for round in range(options.rounds):
                seconds[ALONE].append(await running.measured(round))
            for number, (scenario, flood) in enumerate(floods.items(), 1):
                await flood(running)
                for round in range(options.rounds if fair else 1):  # without, it may last as long as the limit
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
    parser.add_argument("--fair-alone", action="store_true", help="leave out how it is without caps and keys")
    options = parser.parse_args(arguments)
    process.warm_up()
    measured = {WITH: asyncio.run(measure(options, fair=True))}
    if not options.fair_alone:
        measured[WITHOUT] = asyncio.run(measure(options, fair=False))
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
