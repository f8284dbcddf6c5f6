"""The versions of tables of which something is frozen: by what they count, and by what not."""

from __future__ import annotations

from collections.abc import Mapping

from entrepot import ByInterval, Pipeline
from entrepot.identity.frozen import Base, Kept, kept_of
from entrepot.identity.version import Frozen, version_of
from entrepot.language.step import Step
from entrepot.planning.plan import Plan, PlannedStep
from entrepot.planning.slices import Content

COLUMNS = {"day": "date", "total": "int64"}
JANUARY, MARCH = "2024-01-01T00:00:00", "2024-03-01T00:00:00"


def daily(before: str | None) -> Step:
    p = Pipeline("shop")
    p.ingest(name="source", tables=["sales"])(lambda: None)
    p.transform(name="daily", incremental=ByInterval("day", frozen_before=before))(lambda sales: sales)
    return p.graph.steps["daily"]


class Table:
    """What one environment shows, after runs by some code, on some load, with some date."""

    def __init__(self) -> None:
        self.columns: Mapping[str, str] = COLUMNS
        self.shown = Base(version_of("transform", "code 1", {"sales": "load 1"}), COLUMNS)

    def kept(self, code: int, load: int, before: str, columns: Mapping[str, str] = COLUMNS) -> Kept:
        return kept_of(daily(before), f"code {code}", columns, {"sales": f"load {load}"}, self.shown)

    def run(self, code: int, load: int, before: str, columns: Mapping[str, str] = COLUMNS) -> str:
        kept = self.kept(code, load, before, columns)
        version = version_of("transform", f"code {code}", {"sales": f"load {load}"}, frozen=kept.frozen)
        self.shown = Base(version, columns, kept.frozen)
        return version


def test_a_first_computation_has_nothing_of_another_and_stays_with_nothing_new() -> None:
    table = Table()
    first = table.shown.version
    assert table.run(1, 1, JANUARY) == first
    assert table.shown.frozen is None


def test_each_run_counts_the_same_origin_and_finds_its_version_again() -> None:
    table = Table()
    first = table.shown
    second = table.run(1, 2, JANUARY)
    assert table.shown.frozen == Frozen(first.version, JANUARY)
    assert table.run(1, 2, JANUARY) == second
    before = table.shown
    third = table.run(2, 3, JANUARY)
    assert table.shown.frozen == Frozen(first.version, JANUARY)
    assert len({first.version, second, third}) == 3
    table.shown = before  # a rollback by one
    assert table.run(2, 3, JANUARY) == third
    table.shown = first  # by two
    assert table.run(2, 3, JANUARY) == third


def test_a_later_date_alone_changes_nothing_and_an_earlier_one_counts() -> None:
    table = Table()
    first = table.shown.version
    second = table.run(1, 2, JANUARY)
    assert table.run(1, 2, MARCH) == second
    assert table.shown.frozen == Frozen(first, JANUARY)
    third = table.run(1, 3, MARCH)
    assert table.shown.frozen == Frozen(second, MARCH)
    assert table.run(1, 3, JANUARY) != third
    assert table.shown.frozen == Frozen(second, JANUARY)


def test_other_columns_are_other_rows_from_then_on() -> None:
    table, more = Table(), {**COLUMNS, "n": "int64"}
    first = table.shown.version
    one = table.run(2, 1, JANUARY, more)
    assert table.shown.frozen == Frozen(first, JANUARY)
    table.run(1, 1, JANUARY)
    assert table.shown.frozen == Frozen(one, JANUARY)
    assert table.run(2, 1, JANUARY, more) != one, "the column was gone meanwhile"


def test_what_is_computed_once_more_is_made_of_itself() -> None:
    table = Table()
    table.run(1, 2, JANUARY)
    shown = table.shown
    assert table.kept(1, 2, JANUARY) == Kept(base=shown.version, before=JANUARY, frozen=shown.frozen)
    assert table.kept(1, 2, MARCH) == Kept(base=shown.version, before=MARCH, frozen=shown.frozen)


def test_a_column_is_the_same_as_long_as_its_rule_and_the_frozen_rows_are() -> None:
    one, other = (Content("v", {"": "rows", "total": total, "shop": "shop"}) for total in ("sum", "mean"))
    frozen = Frozen("origin", JANUARY)
    assert one.beside(None) == one
    assert one.beside(frozen).changed(other.beside(frozen)) == {"total"}
    assert one.beside(frozen).slice(["shop", None]) == other.beside(frozen).slice(["shop", None])
    for others in (None, Frozen("origin", MARCH), Frozen("another", JANUARY)):
        assert one.beside(frozen).slice(["shop"]) != one.beside(others).slice(["shop"])
    whole = Content("v")
    assert whole.beside(frozen) == whole, "its version says it"


def test_a_plan_made_again_keeps_what_stays_for_the_steps_that_have_begun() -> None:
    def plan(base: str, version: str = "1") -> Plan:
        steps = tuple(PlannedStep(name=name, kind="transform", action="run", why="") for name in ("one", "two"))
        kept = {name: Kept(base=base, before=JANUARY) for name in ("one", "two")}
        return Plan(steps=steps, versions={"one": version, "two": version}, kept=kept)

    again = plan("old").replanned(plan("new"), {"one"})
    assert {name: each.base for name, each in again.kept.items()} == {"one": "old", "two": "new"}
    assert again.kept_for(["two", "three"]) == {"two": Kept(base="new", before=JANUARY)}
    assert plan("old").replanned(plan("new", "2"), {"one"}) == plan("old")
