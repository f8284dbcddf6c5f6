"""Makes the state that a release leaves: `python -m tests.states.make 0.1`, once, when it is released.

It is never made again: later versions must read what that release wrote, and the next has a folder of its own.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from entrepot.worker import process
from entrepot.worker.config.settings import Settings
from tests.conftest import serving, settings
from tests.servers.temporal import dev_server

KEPT = Path(__file__).parent
PLACE = Path("/tmp/entrepot-state")
"""A neutral place: a catalog and manifests have the paths of the lake's files."""
SOURCE = PLACE / "events.json"
EXPORTED = PLACE / "warehouse"


def rows(*ids: int) -> str:
    """What the source has."""
    return json.dumps([{"id": each, "kind": "ab"[each % 2]} for each in ids])


def loaded() -> Settings:
    """One tenant, in that place."""
    return settings(PLACE, {"kept": "tests.pipelines.kept:kept"})


@contextmanager
def place() -> Iterator[None]:
    """The place, empty, for nobody else while the block runs."""
    with open(f"{PLACE}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(PLACE, ignore_errors=True)
        PLACE.mkdir()
        try:
            yield
        finally:
            shutil.rmtree(PLACE)


def unpack(release: str) -> None:
    """Puts the state of a release into the place."""
    shutil.copytree(KEPT / f"release_{release}", PLACE, dirs_exist_ok=True)
    with duckdb.connect(str(PLACE / "acme.duckdb")) as database:
        waiting = [each for each in (EXPORTED / "schema.sql").read_text().split(";") if each.strip()]
        while waiting:  # views are exported in no order, also before what they read
            missing = []
            for statement in waiting:
                try:
                    database.execute(statement)
                except duckdb.CatalogException:
                    missing.append(statement)
            assert len(missing) < len(waiting), missing
            waiting = missing
        database.execute((EXPORTED / "load.sql").read_text())


async def main(release: str) -> None:
    """Three runs, in two environments: loads that add, a publish to go back to, and what each of them leaves."""
    with place():
        async with dev_server() as server:
            await process.register_search_attributes(server.client)
            async with serving(server.client, loaded()) as house:
                asked = {"parameters": {"source": str(SOURCE)}}
                SOURCE.write_text(rows(*range(1, 31)))
                await house.run("kept", **asked)
                SOURCE.write_text(rows(*range(1, 41)))
                await house.run("kept", **asked)
                await house.run("kept", environment="dev", **asked)
        with duckdb.connect(str(PLACE / "acme.duckdb")) as database:
            database.execute(f"EXPORT DATABASE '{EXPORTED}' (FORMAT parquet)")
        folder = KEPT / f"release_{release}"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(PLACE, folder, ignore=shutil.ignore_patterns("acme.duckdb*"))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
