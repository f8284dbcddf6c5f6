"""What runs hold, when several of their steps say so at once."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from entrepot import backends
from entrepot.activities.catalog.catalog import Catalog
from entrepot.activities.catalog.tables import equals
from entrepot.activities.runtime.leases import Leases
from entrepot.backends import QueryTag
from entrepot.errors import Contended

RUN = "run-1"
NAMES = [f"table_{number}" for number in range(12)]


def test_steps_that_hold_at_once_all_hold(tmp_path: Path) -> None:
    backend = backends.create({"type": "duckdb", "path": str(tmp_path / "leases.duckdb")}, "test")

    def hold(name: str) -> None:
        with backend.session(QueryTag("acme", RUN, name)) as session:
            leases = Leases(Catalog(session).tables, "shop", lambda workflow, run: True)
            while True:
                try:
                    leases.hold(RUN, name, "1")
                    return
                except Contended:  # as steps do, who wait for other runs
                    pass

    with backend.session(QueryTag("acme", RUN, "test")) as session:
        catalog = Catalog(session)
        catalog.ensure()
        leases = Leases(catalog.tables, "shop", lambda workflow, run: True)
        leases.begin(RUN, "workflow")
        leases.plan(RUN, {"orders": "1"})
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(hold, NAMES)) == [None] * len(NAMES)
    with backend.session(QueryTag("acme", RUN, "test")) as session:
        (row,) = Catalog(session).tables.select("leases", equals("run", RUN))
        assert {name for name, _ in json.loads(row["holds"])} == {"orders", *NAMES}
    backend.close()
