"""One server, one parent of workers and one first run for all cases; and the table at the end."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest
import pytest_asyncio

from tests.crash.boundaries import Boundary
from tests.crash.cases import House, Outcome
from tests.crash.house import Nursery, Server

REPORT = "crash matrix"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "crash: the crash matrix; asked for by name, at every boundary")


@pytest_asyncio.fixture(scope="session")
async def parents(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Server, Nursery]]:
    """The server, and the parent of the workers."""
    if sys.platform != "linux":
        pytest.skip("cases have the folder of their worker by its name in /proc")
    server, nursery = Server(tmp_path_factory.mktemp("server")), Nursery()
    try:
        await server.start()
        await nursery.open()
        try:
            yield server, nursery
        finally:
            await nursery.close()
    finally:
        server.kill()


@pytest_asyncio.fixture(scope="session")
async def house(parents: tuple[Server, Nursery], tmp_path_factory: pytest.TempPathFactory) -> House:
    """DuckDB as it is."""
    made = House(*parents, tmp_path_factory.mktemp("duckdb") / "cases")
    await made.prepare()
    return made


@pytest_asyncio.fixture(scope="session")
async def plain_house(parents: tuple[Server, Nursery], tmp_path_factory: pytest.TempPathFactory) -> House:
    """DuckDB as if it had no transactions, as the warehouses in the cloud."""
    made = House(*parents, tmp_path_factory.mktemp("plain") / "cases", is_plain=True)
    await made.prepare()
    return made


@pytest.fixture(scope="session")
def every(request: pytest.FixtureRequest) -> int:
    """One of how many boundaries is taken."""
    return 1 if "crash" in request.config.getoption("markexpr") else 16


def sample(boundaries: Sequence[Boundary], every: int) -> list[Boundary]:
    """The same ones each time: the middle of each stretch of so many; at least one."""
    assert boundaries, "none was found"
    return list(boundaries[min(every, len(boundaries)) // 2 :: every])


def alone(boundaries: Sequence[Boundary]) -> list[Boundary]:
    """Without those right after something: they are right before the next thing. But a commit's answer may be lost."""
    return [b for b in boundaries if b.place == "before" or b.kind == "activity" or "COMMIT" in b.name]


def report(record: Any, warehouse: str, house: House, outcomes: list[Outcome]) -> None:
    """Keeps a line of the table, and fails the test if a run did not end as the undisturbed one."""
    seconds = sorted(o.seconds for o in outcomes if o.seconds is not None) or [0.0]
    lost, doubled = (sum(getattr(o.difference, what) for o in outcomes) for what in ("lost", "doubled"))
    bad = [str(o) for o in outcomes if not o.is_good]
    middle = seconds[len(seconds) // 2]
    fault = outcomes[0].control.fault
    line = (warehouse, fault, len(house.boundaries), len(outcomes), len(bad), lost, doubled)
    record(REPORT, (*line, f"{middle:.1f} s", f"{seconds[-1]:.1f} s"))
    assert not bad, f"{len(bad)} of {len(outcomes)}:\n" + "\n".join(bad)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    lines = list(_lines(terminalreporter.stats))
    if lines:
        terminalreporter.section(REPORT)
        head = ("warehouse", "fault", "boundaries", "runs", "failed", "rows lost", "rows doubled")
        for line in [(*head, "recovery: median", "longest"), *lines]:
            warehouse, fault, *figures = line
            told = [
                f"{figure!s:>{max(len(name), 6)}}"
                for figure, name in zip(figures, [*head[2:], "recovery: median", "longest"], strict=True)
            ]
            terminalreporter.write_line(f"{warehouse:<24} {fault:<8} {'  '.join(told)}")


def _lines(stats: dict[str, list[Any]]) -> Iterator[Any]:
    for outcome in ("passed", "failed"):
        for each in stats.get(outcome, []):
            yield from (value for name, value in getattr(each, "user_properties", ()) if name == REPORT)
