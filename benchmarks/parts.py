"""A table of 1,000 days that is computed by parts, in DuckDB: one more day, and reading it.

One more day of rows arrives. Ours is what a worker does for the step: which days changed, their rows, the view, without
the run around it. Beside it stand the table computed as a whole, and what an expert would write by hand for just this
case: `delete` the newest day and `insert` it again. Then the tables are read: ours is a view over some segments.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import duckdb
import ibis
from ibis import _

from benchmarks.timing import Row, table
from entrepot import ByInterval, Pipeline, Table, backends
from entrepot.activities.catalog.details import GrowingTableDetails, TableDetails
from entrepot.activities.catalog.growing_table import MOST, GrowingTable, Segment
from entrepot.activities.catalog.version import Version
from entrepot.activities.transform.increments import Created, Growth, Part
from entrepot.backends import QueryTag, Session, TableName
from entrepot.backends.base import physical
from entrepot.identity.expression import bind, schema_from
from entrepot.language.step import TransformStep
from entrepot.planning.resolve import resolve

DAYS = 1_000
READ = {"all": "", "a month": "where day >= date '2022-03-01' and day < date '2022-04-01'"}
OURS, WHOLE, BY_HAND = "by parts", "as a whole", "by hand"
SALES = {"id": "int64", "at": "timestamp", "shop": "int64", "amount": "float64"}
ROWS = """
    i as id, timestamp '2020-01-01' + to_days(({day} + i // {a_day})::integer) + to_seconds(i * 7919 % 86400) as at,
    i * 31 % 500 as shop, (i * 13 % 1000) / 4 as amount
"""

shop = Pipeline("shop")


@shop.ingest(tables={"sales": SALES}, name="source")
def source() -> object:
    """The rows are made in DuckDB."""
    return []


@shop.transform(incremental=ByInterval("day"))
def daily(sales: Table) -> Table:
    """Sums by day and shop."""
    return sales.group_by(day=_.at.date(), shop=_.shop).agg(total=_.amount.sum(), orders=_.count())


@shop.transform(incremental=ByInterval("at"))
def cleaned(sales: Table) -> Table:
    """As many rows as there are."""
    return sales.filter(_.amount > 1).mutate(cents=(_.amount * 100).cast("int64"), day=_.at.date())


class Warehouse:
    """The versions of both tables, as days come."""

    def __init__(self, session: Session, a_day: int) -> None:
        self.session = session
        self.a_day = a_day
        known = {"sales": schema_from(SALES)}
        self.resolved = resolve(shop.graph, known, shop.graph.parameters)
        session.create_schema("v")
        self.sales = self._sales([self._rows(0, DAYS - MOST + 1)])
        self.made = {name: self.whole(name, name) for name in ("daily", "cleaned")}
        self.days = DAYS - MOST + 1

    def _rows(self, day: int, days: int) -> Segment:
        columns = ROWS.format(day=day, a_day=self.a_day)
        self.session.execute(f"create table v.sales_{day} as select {columns} from range({days * self.a_day}) r(i)")
        return Segment(schema_name="v", table=f"sales_{day}", columns=SALES, rows=days * self.a_day)

    def _sales(self, segments: list[Segment]) -> Version:
        view = TableName("v", f"sales__{len(segments)}")
        self.session.create_view(view, GrowingTable(segments).rows(schema_from(SALES)))
        details = GrowingTableDetails(segments=tuple(segments))
        return Version("sales", view.table, "ingest", "", view, SALES, SALES, None, details, "run")

    def day_comes(self) -> None:
        """One more day of sales."""
        self.sales = self._sales([*self.sales.all_segments, self._rows(self.days, 1)])
        self.days += 1

    def _bound(self, name: str, cut: Callable[[ibis.Table], ibis.Table] = lambda rows: rows) -> ibis.Table:
        built = self.resolved.steps[name].built
        assert built is not None
        assert self.sales.table is not None
        rows = physical(self.sales.table, schema_from(SALES))
        return bind(built.read(), {"sales": cut(rows).op()})

    def whole(self, name: str, target: str) -> Version:
        """A table, computed as a whole."""
        table = TableName("v", target)
        made = self.session.create_as(table, self._bound(name))
        columns = {column: str(dtype) for column, dtype in made.columns.items()}
        inputs = {"sales": self.sales.version}
        return Version(
            name,
            target,
            "transform",
            self.resolved.steps[name].identity,
            table,
            columns,
            columns,
            made.rows,
            TableDetails(),
            "",
            inputs=inputs,
        )

    def by_hand(self, name: str) -> None:
        """The newest day, deleted and inserted again."""
        start = ibis.timestamp("2020-01-01") + ibis.interval(days=self.days - 1)
        newest = self.session.dialect.compile(self._bound(name, lambda sales: sales.filter(_.at >= start)))
        self.session.execute(f"delete from v.{name}_by_hand where day >= date '2020-01-01' + {self.days - 1}")
        self.session.execute(f"insert into v.{name}_by_hand {newest}")

    def grow(self, name: str, then: Version) -> None:
        """The newest version of a table, of the one before."""
        base = self.made[name]
        step, computed = shop.graph.steps[name], self.resolved.steps[name]
        assert isinstance(step, TransformStep)
        assert step.incremental is not None
        needs = (computed.needs or {})["sales"]

        def create(target: TableName, part: Part) -> Created:
            rows = part.of_table(self._bound(name, lambda rows: part.of_input(rows, needs)))
            return Created(self.session.create_as(target, rows), rows.schema())

        version, columns = f"{name}_{self.days}", base.columns
        before, now = {"sales": then}, {"sales": self.sales}
        made = Growth(self.session, step.incremental, computed, base, before, now, version, "v").make(create)
        inputs = {"sales": self.sales.version}
        self.made[name] = Version(
            name,
            version,
            "transform",
            computed.identity,
            made.view,
            columns,
            columns,
            made.rows,
            made.details,
            "",
            inputs=inputs,
        )


def measure(session: Session, a_day: int, rounds: int) -> list[Row]:
    """One more day, several times, and reading afterwards."""
    its = Warehouse(session, a_day)
    took: dict[str, dict[str, list[float]]] = {name: {OURS: [], WHOLE: [], BY_HAND: []} for name in its.made}
    for name in its.made:
        session.execute(f"create table v.{name}_by_hand as from v.{name}")
    for _day in range(MOST - 1):
        then = its.sales
        its.day_comes()
        for name, seconds in took.items():
            session.execute(f"drop table if exists v.{name}_whole")
            for who, done in (
                (OURS, partial(its.grow, name, then)),
                (WHOLE, partial(its.whole, name, f"{name}_whole")),
                (BY_HAND, partial(its.by_hand, name)),
            ):
                before = time.perf_counter()
                done()
                seconds[who].append(time.perf_counter() - before)
    rows = []
    for name, seconds in took.items():
        rows += _compared(f"{name}: one more day", seconds)
        for what, condition in READ.items():
            found = read(session, its.made[name], f"{name}_whole", condition, rounds)
            rows += _compared(f"{name}: reading {what}", found, wanted=1.2)
    return rows


def read(session: Session, made: Version, whole: str, condition: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of a query by contender, who take turns; a first round is not counted."""
    assert made.table is not None
    value = "total" if made.name == "daily" else "cents"
    query = f'select shop, sum({value}) as s, count(*) as n from v."{{}}" {condition} group by all order by all'
    tables = {OURS: made.table.table, WHOLE: whole, BY_HAND: f"{made.name}_by_hand"}
    found: dict[str, list[float]] = {who: [] for who in tables}
    for number in range(rounds + 1):
        answers = []
        for who, target in tables.items():
            before = time.perf_counter()
            answers.append(session.query(query.format(target)))
            found[who] += [time.perf_counter() - before] if number else []
        if any(answer != answers[0] for answer in answers):
            raise RuntimeError(f"{made.name} by parts is not as it is as a whole")
    return found


def _compared(task: str, seconds: dict[str, list[float]], wanted: float | None = None) -> list[Row]:
    mine = Row(OURS, task, seconds[OURS], None)
    others = (Row(who, task, its, mine.median, wanted if who == WHOLE else None) for who, its in seconds.items())
    return [mine, *(row for row in others if row.name != OURS)]


def main(arguments: list[str] | None = None) -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parts", description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000, help="of a day")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="entrepot-parts-") as folder:
        backend = backends.create({"type": "duckdb", "path": str(Path(folder, "parts.duckdb"))}, "the benchmark")
        with backend.session(QueryTag("bench", "run", "step")) as session:
            rows = measure(session, options.rows, options.rounds)
        backend.close()
    title = f"{DAYS:,} days of {options.rows:,} rows; DuckDB {duckdb.__version__}"
    table(title, rows)


if __name__ == "__main__":
    main()
