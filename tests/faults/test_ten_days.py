"""Ten days of a shop, as its people live them: through the command line, with two workers that are killed at random.

Every day says what was computed, and every table is held against what Python makes of the same orders.
"""

from __future__ import annotations

import json
import random
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.waiting import until
from tests.worker.processes import Place

PIPELINE = """
import json
from pathlib import Path

import dlt
from ibis import _

from entrepot import ByInterval, ByKey, Pipeline, Table

shop = Pipeline("shop")
FOLDER = Path(__file__).parent


def rows(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


@shop.ingest(tables=["orders", "visits", "products"])
def source():
    @dlt.resource(name="orders", write_disposition="merge", primary_key="id", columns={"sold": {"data_type": "date"}})
    def orders(at=dlt.sources.incremental("changed", initial_value=0)):
        yield [row for row in rows("orders") if row["changed"] >= at.last_value]

    @dlt.resource(name="visits", write_disposition="append")
    def visits(at=dlt.sources.incremental("day", initial_value="2025-12-31", range_start="open")):
        yield [row for row in rows("visits") if row["day"] > at.last_value]

    @dlt.resource(name="products", write_disposition="replace")
    def products():
        yield rows("products")

    @dlt.source(name="shop")
    def every():
        return [orders, visits, products]

    return every()


@shop.transform(incremental=ByInterval("day"))
def daily(orders: Table) -> Table:
    return orders.group_by(day=_.sold).agg(n=_.count(), total={total})


@shop.transform(incremental=ByKey("customer"))
def customers(orders: Table) -> Table:
    return orders.group_by("customer").agg(orders=_.count(){more})


@shop.transform
def by_kind(orders: Table, products: Table) -> Table:
    return orders.join(products, "product").group_by("kind").agg(total=_.amount.sum())


@shop.transform
def conversion(daily: Table, visits: Table) -> Table:
    seen = visits.mutate(day=visits.day.cast("date")).group_by("day").agg(visits=_.n.sum())
    return daily.join(seen, "day").select("day", "n", "visits")


@shop.check(daily)
def no_negative_orders(orders: Table) -> Table:
    return orders.filter(orders.amount < 0)
"""
TENANTS = """
[pipelines]
shop = "ten_days:shop"

[tenants.acme]
backend = { type = "duckdb", path = "acme.duckdb" }
"""
BUG, MENDED = "_.amount.sum()", "(_.amount * (1 - _.returned)).sum()"


class Shop:
    """What the shop has sold, what has been loaded of it, and what tables must say."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.chance = random.Random(10)
        self.orders: dict[int, dict[str, Any]] = {}
        self.visits: list[dict[str, Any]] = []
        self.products = [{"product": n, "kind": "book" if n % 2 else "toy"} for n in range(6)]
        self.changes = 0
        self.total, self.more = BUG, ""

    def sell(self, day: int, number: int) -> None:
        for _ in range(number):
            key = len(self.orders) + 1
            self.orders[key] = {
                "id": key,
                "sold": f"2026-01-{day:02}",
                "customer": self.chance.randint(1, 9),
                "product": self.chance.randint(0, 5),
                "amount": self.chance.randint(1, 100),
                "returned": 0,
            }
            self.touch(key)
        self.visits.append({"day": f"2026-01-{day:02}", "n": number * 10})

    def touch(self, key: int, **values: Any) -> None:
        """An order changes, as its `changed` tells."""
        self.changes += 1
        self.orders[key] |= {"changed": self.changes, **values}

    def write(self) -> None:
        for name, rows in (("orders", [*self.orders.values()]), ("visits", self.visits), ("products", self.products)):
            (self.place.folder / f"{name}.json").write_text(json.dumps(rows))

    def code(self) -> None:
        text = PIPELINE.replace("{total}", self.total).replace("{more}", self.more)
        (self.place.folder / "ten_days.py").write_text(text)

    def command(self, *arguments: str, code: int = 0) -> str:
        """What a command says. While no worker is there, it says that, too."""
        done = self.place.entrepot(*arguments)
        assert done.returncode == code, (done.stdout, done.stderr)
        return done.stderr if code else done.stdout

    def run(self, *more: str) -> dict[str, str]:
        """A run; each step that was computed, and what it said of how."""
        self.write()
        summary = json.loads(self.command("run", "shop", "--json", *more))
        return {step["name"]: step["note"] for step in summary["steps"] if step["kind"] != "check"}

    def check(self, schema: str = "shop") -> None:
        """Every table says what the shop has sold."""
        days: dict[str, list[dict[str, Any]]] = defaultdict(list)
        customers: dict[int, list[dict[str, Any]]] = defaultdict(list)
        kinds: dict[str, int] = defaultdict(int)
        for order in self.orders.values():
            days[order["sold"]].append(order)
            customers[order["customer"]].append(order)
            kinds[self.products[order["product"]]["kind"]] += order["amount"]
        kept = 1 if self.total == MENDED else 0
        visits = {visit["day"]: visit["n"] for visit in self.visits}
        expected = {
            "daily": {
                (day, len(its), sum(order["amount"] * (1 - kept * order["returned"]) for order in its))
                for day, its in days.items()
            },
            "customers": {
                (key, len(its), *((sum(order["amount"] for order in its),) if self.more else ()))
                for key, its in customers.items()
            },
            "by_kind": set(kinds.items()),
            "conversion": {(day, len(its), visits[day]) for day, its in days.items()},
        }
        with until(self.connected) as connection:
            for table, rows in expected.items():
                found = connection.execute(f'SELECT * FROM "{schema}".{table}').fetchall()
                told = [tuple(str(v) if hasattr(v, "year") else v for v in row) for row in found]
                assert (len(told), set(told)) == (len(rows), rows), table

    def connected(self) -> duckdb.DuckDBPyConnection | None:
        """The warehouse, once no worker has it."""
        try:
            return duckdb.connect(str(self.place.state / "acme.duckdb"), read_only=True)
        except duckdb.IOException:
            return None


@contextmanager
def mortal_workers(place: Place, chance: random.Random) -> Iterator[None]:
    """Two workers, each of which is killed once, at some time, while another takes its place."""
    over = threading.Event()

    def serve() -> None:
        with place.spawned("worker"):
            over.wait(chance.uniform(5, 40))
        if not over.is_set():
            with place.spawned("worker"):
                over.wait()

    threads = [threading.Thread(target=serve) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    place = Place(tmp_path)
    (tmp_path / "tenants.toml").write_text(TENANTS)
    its = Shop(place)
    with ExitStack() as stack:
        stack.enter_context(place.server_alone())
        yield its


def test_ten_days(shop: Shop) -> None:
    place, chance = shop.place, random.Random(3)
    shop.code()
    with mortal_workers(place, chance):
        for day in (1, 2, 3):
            shop.sell(day, 20)
        assert set(shop.run()) == {"source", "daily", "customers", "by_kind", "conversion"}
        shop.check()

        shop.sell(4, 5)  # the second day: one more
        computed = shop.run()
        assert computed["daily"] == "2026-01-04 anew"
        assert "keys anew" in computed["customers"]
        shop.check()

        shop.touch(2, amount=1000)  # the third: an order of the first day turns out to be another
        computed = shop.run()
        assert computed["daily"] == f"{shop.orders[2]['sold']} anew"
        shop.check()

        assert shop.run() == {}  # the fourth: nothing

        for key in (61, 62):  # the fifth: orders have a coupon now, which nobody reads
            shop.touch(key, coupon="WINTER")
        assert set(shop.run()) <= {"source", "daily", "customers", "by_kind"}
        shop.check()

        for key in (5, 6, 7):  # the sixth: some come back, and the total should not have them
            shop.touch(key, returned=1)
        shop.run()
        shop.check()

    shop.total = MENDED
    shop.code()
    with mortal_workers(place, chance):
        computed = shop.run()
        assert computed["daily"] == "computed as a whole: its code is new"
        assert "customers" not in computed
        shop.check()

        shop.touch(8, amount=-5)  # the seventh: what cannot be stops before anybody sees it
        shop.write()
        refused = shop.command("run", "shop", code=1)
        assert "no_negative_orders" in refused
        shop.touch(8, amount=5)
        shop.run()
        shop.check()

    before = shop.more
    shop.more = ", spent=_.amount.sum()"
    shop.code()
    with mortal_workers(place, chance):  # the eighth: a column is tried in dev, compared and promoted
        shop.command("env", "create", "dev", "--pipeline", "shop")
        assert set(shop.run("--environment", "dev")) == {"customers"}
        shop.check("shop__dev")
        difference = shop.command("env", "diff", "dev", "prod", "--pipeline", "shop")
        assert "additive" in difference
        assert "spent" in difference
        shop.command("env", "promote", "dev", "prod", "--pipeline", "shop")
        shop.check()
        assert shop.run() == {}  # what was computed in dev is not computed again

        shop.command("rollback", "shop")  # the ninth: back, and forth again
        shop.more, after = before, shop.more
        shop.check()
        shop.more = after
        assert shop.run() == {}
        shop.check()

        for key in range(10, 30):  # the tenth: the source was wrong for days, and its cursor does not tell
            shop.orders[key]["amount"] += 1
        assert shop.run() == {}
        told = shop.command("backfill", "shop", f"1..{shop.changes + 1}", "--every", "25", "--select", "source+")
        assert "published" in told
        shop.check()
