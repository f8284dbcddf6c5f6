"""Who reads a DuckDB file while runs go on.

What must hold: no read is refused, each shows one publish, runs end well, and nobody has to wait for a reader that has
read.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from tests.conftest import House
from tests.worker.processes import ROOT, TENANTS

READER = """
import json, sys
from entrepot import Table
from entrepot.worker.reading import read

def counted(orders: Table, by_country: Table) -> Table:
    sums = by_country.aggregate(counted=by_country.orders.sum(), summed=by_country.ids.sum())
    return orders.aggregate(rows=orders.count(), ids=orders.id.sum()).cross_join(sums)

for _ in sys.stdin:
    try:
        print(json.dumps(read(counted, "shop", tenants=sys.argv[1], state=sys.argv[2]).to_pylist()), flush=True)
    except BaseException as error:
        print(json.dumps(f"{type(error).__name__}: {error}"), flush=True)
"""
"""What it counts differs if its two tables are of different publishes."""


async def test_a_reader_in_a_loop_is_never_refused_and_sees_whole_publishes(shop: House, tmp_path: Path) -> None:
    (tmp_path / "tenants.toml").write_text(TENANTS)
    await shop.run(parameters={"rows": 100})
    pipe = asyncio.subprocess.PIPE
    reader = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", READER, str(tmp_path / "tenants.toml"), str(tmp_path)),
        cwd=ROOT,
        stdin=pipe,
        stdout=pipe,
    )

    async def look() -> Any:
        assert reader.stdin
        assert reader.stdout
        reader.stdin.write(b"\n")
        return json.loads(await reader.stdout.readline())

    try:
        seen = [await look()]
        going = asyncio.create_task(shop.run(parameters={"rows": 200}))
        while not going.done():
            seen.append(await look())
        assert (await going).outcome == "published"
        seen.append(await look())
    finally:
        reader.kill()
        await reader.wait()
    assert [each for each in seen if not isinstance(each, list)] == []
    assert all(row["rows"] == row["counted"] and row["ids"] == row["summed"] for [row] in seen)
    assert [seen[0][0]["rows"], seen[-1][0]["rows"]] == [100, 200]
