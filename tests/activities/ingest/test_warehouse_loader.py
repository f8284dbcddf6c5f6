"""Loads of any columns in any order, however many: a table that grows has the rows that a dict would have."""

from __future__ import annotations

import csv
import datetime
import gzip
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.activities.catalog import growing_table
from entrepot.activities.catalog.ingest_state import IngestState
from tests.activities.ingest.loading import Row, Warehouse, seen, warehouse

KINDS: dict[str, st.SearchStrategy[Any]] = {
    "name": st.sampled_from(["a", "b", "c"]),
    "n": st.integers(0, 3),
    "x": st.sampled_from([0.5, 1.5]),
    "straße": st.sampled_from(["p", "q"]),
    "day": st.sampled_from([datetime.date(2024, 2, 29), datetime.date(2024, 3, 1)]),
}


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One load."""

    refresh: bool = False
    environment: str = "prod"
    back: int = 0
    """How many loads the environment's cursor goes back first."""


@st.composite
def strays(draw: st.DrawFn) -> dict[str, Any]:
    """How one load of a few is another than the next one of `prod`."""
    others = [{"refresh": True}, *[{"environment": "dev"}] * 2, {"back": 1}, {"back": 2}, *[dict[str, Any]()] * 5]
    return draw(st.sampled_from(others))


@dataclass(frozen=True, kw_only=True)
class Brought(Turn):
    """What a source has at one load: rows by key, of the same columns in this order; and the keys that are gone."""

    columns: tuple[str, ...]
    rows: Mapping[int, Row]
    gone: frozenset[int] = frozenset()


@st.composite
def brought(draw: st.DrawFn, *, with_deletions: bool = False, one_after_another: bool = False) -> Brought:
    columns = draw(st.lists(st.sampled_from(sorted(KINDS)), unique=True, min_size=1))
    order = draw(st.permutations(["id", *columns]))
    keys = draw(st.sets(st.integers(0, 8), min_size=1, max_size=6))
    rows = {key: {name: draw(KINDS[name]) for name in columns} for key in sorted(keys)}
    gone = draw(st.sets(st.sampled_from(sorted(keys)), max_size=2)) if with_deletions else set()
    how = {} if one_after_another else draw(strays())
    return Brought(columns=tuple(order), rows=rows, gone=frozenset(gone), **how)


@pytest.fixture(autouse=True)
def few_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments are written together after few loads, so that this happens several times."""
    monkeypatch.setattr(growing_table, "MOST", 4)


def as_csv(path: Path, load: Brought, deleted: str | None = None) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*load.columns, *([deleted] if deleted else [])])
        for key, row in load.rows.items():
            values = [key if name == "id" else row[name] for name in load.columns]
            writer.writerow([*values, *([str(key in load.gone).lower()] if deleted else [])])


def as_json(path: Path, load: Brought) -> None:
    rows = []
    for key, row in load.rows.items():
        values = {name: key if name == "id" else row[name] for name in load.columns}
        rows.append({name: str(v) if isinstance(v, datetime.date) else v for name, v in values.items()})
    path.write_text("\n".join(map(json.dumps, rows)))


def expected(rows: Mapping[int, Row]) -> list[Row]:
    return [{"id": key, **row} for key, row in rows.items()]


State = Any
"""What a table should have, in a form that the disposition likes."""


@dataclass
class Held:
    """A table, and beside it what each of its states should be: the states that follow are computed from those before,
    so cursors may go back, and environments may part."""

    warehouse: Warehouse
    step: str
    options: Mapping[str, Any]
    after: Callable[[State, Any, str], State]
    """The state after a load over one of before (None: there was none)."""
    states: dict[tuple[str, str | None], State] = field(default_factory=dict)

    def load(self, turn: Turn) -> None:
        """Loads for an environment, perhaps after its cursor went back."""
        made, environment = self.warehouse, turn.environment
        if turn.back:
            made.back(self.step, environment, turn.back)
        before = None if turn.refresh else made.cursor(self.step, environment)
        state = self.states[self._at(before)] if before and before.load else None
        made.load(self.step, self.options, refresh=turn.refresh, environment=environment)
        number = f"2026-01-01T00:00:{made.last:02}"
        self.states.setdefault(self._at(made.cursor(self.step, environment)), self.after(state, turn, number))

    def check(self, rows: Callable[[State], list[Row]], *but: str) -> None:
        """Every version is as it was, also those that nobody is at any more."""
        for (version, _), state in self.states.items():
            assert seen(self.warehouse.rows(self.step, version), *but) == seen(rows(state))

    def _at(self, cursor: IngestState) -> tuple[str, str | None]:
        return cursor.tables[self.step], cursor.watermarks


several = settings(max_examples=4)
"""Each example is many loads."""


def merged(state: dict[int, Row] | None, load: Brought, _: str = "") -> dict[int, Row]:
    held = {key: row for key, row in (state or {}).items() if key not in load.rows}
    return held | {key: row for key, row in load.rows.items() if key not in load.gone}


def replaced(_: State, load: Brought, __: str = "") -> dict[int, Row]:
    return dict(load.rows)


@pytest.mark.parametrize("format", ["csv", "json"])
@given(loads=st.lists(brought(with_deletions=True), min_size=5, max_size=9))
@several
def test_merged_files_are_a_dict(format: str, loads: list[Brought]) -> None:
    with warehouse() as made:
        options = {"path": f"rows.{format}", "disposition": "merge", "key": ["id"]}
        held = Held(made, "texts", options | ({"deleted": "gone"} if format == "csv" else {}), merged)
        for load in loads:
            if format == "csv":
                as_csv(made.folder / "rows.csv", load, "gone")
            else:
                as_json(made.folder / "rows.json", load)
            held.load(load if format == "csv" else replace(load, gone=frozenset()))
        held.check(expected, "gone")


@given(loads=st.lists(brought(), min_size=2, max_size=4))
@several
def test_replaced_files_are_what_was_brought_last(loads: list[Brought]) -> None:
    with warehouse() as made:
        held = Held(made, "texts", {"path": "rows.csv"}, replaced)
        for load in loads:
            as_csv(made.folder / "rows.csv", load)
            held.load(load)
        held.check(expected)


History = tuple[tuple[int, Row, str, str | None], ...]
"""Keys with their rows, from when and until when they held."""


def remembered(state: History | None, load: Brought, now: str) -> History:
    known = {name for key, row, *_ in state or () for name in row} | set(load.columns) - {"id"}
    new = {key: {name: row.get(name) for name in known} for key, row in load.rows.items()}
    made = []
    for key, had, since, until in state or ():
        row = {name: had.get(name) for name in known}
        holds = until is None and new.get(key) == row
        made.append((key, row, since, None if holds else until or now))
        if holds:
            del new[key]
    return (*made, *((key, row, now, None) for key, row in new.items()))


def held_from_until(history: History) -> list[Row]:
    at = datetime.datetime.fromisoformat
    return [
        {"id": key, **row, "valid_from": at(since), "valid_to": at(until) if until else None}
        for key, row, since, until in history
    ]


@given(loads=st.lists(brought(one_after_another=True), min_size=4, max_size=7))
@several
def test_rows_that_changed_are_remembered(loads: list[Brought]) -> None:
    with warehouse() as made:
        options = {"path": "rows.csv", "disposition": "scd2", "key": ["id"]}
        held = Held(made, "texts", options, remembered)
        for load in loads:
            as_csv(made.folder / "rows.csv", load)
            held.load(load)
        held.check(held_from_until)


def sparse(load: Brought) -> list[Row]:
    """Rows of which not all have all columns."""
    rows = []
    for key, row in load.rows.items():
        kept = {name: value for number, (name, value) in enumerate(row.items()) if (key + number) % 3}
        rows.append({"id": key, **{n: str(v) if isinstance(v, datetime.date) else v for n, v in kept.items()}})
    return rows


@pytest.mark.parametrize("disposition", ["merge", "append", "replace"])
@given(loads=st.lists(brought(), min_size=5, max_size=7))
@settings(max_examples=2)
def test_dicts_without_some_columns(disposition: str, loads: list[Brought]) -> None:
    def after(state: list[Row] | None, load: Brought, _: str) -> list[Row]:
        keys = set() if disposition == "append" else set(load.rows) if disposition == "merge" else set(range(9))
        return [row for row in state or [] if row["id"] not in keys] + sparse(load)

    with warehouse() as made:
        options = {"write_disposition": disposition} | ({"primary_key": "id"} if disposition == "merge" else {})
        held = Held(made, "keyed", options, after)
        for load in loads:
            (made.folder / "keyed.rows").write_text(json.dumps(sparse(load)))
            held.load(load)
        held.check(lambda rows: rows)


@dataclass(frozen=True, kw_only=True)
class Folder(Turn):
    """Files at one load, each with the number of what is in it, and whether it is packed."""

    files: Mapping[str, tuple[int, bool]]

    def write(self, folder: Path) -> None:
        """Makes the folder so."""
        for path in folder.glob("*.csv*"):
            path.unlink()
        for name, (number, is_packed) in self.files.items():
            text = "\n".join(",".join(map(str, line)) for line in self.lines(number)).encode()
            (folder / name).write_bytes(gzip.compress(text) if is_packed else text)

    @staticmethod
    def lines(number: int) -> list[tuple[Any, ...]]:
        """What is in a file, as CSV."""
        header = (("id", "name"), ("name", "id"), ("id", "x"), ("id",))[number]
        values = {"id": number, "name": "a", "x": 0.5}
        return [header, *[tuple(values[name] for name in header)] * (1 + number % 2)]

    @staticmethod
    def rows(number: int) -> list[Row]:
        """What is in a file, as rows."""
        header, *lines = Folder.lines(number)
        return [dict(zip(header, line, strict=True)) for line in lines]


@st.composite
def folders(draw: st.DrawFn) -> Folder:
    names = draw(st.dictionaries(st.sampled_from("abc"), st.tuples(st.integers(0, 3), st.booleans()), min_size=1))
    return Folder(files={f"{n}.csv{'.gz' * packed}": (c, packed) for n, (c, packed) in names.items()}, **draw(strays()))


def appended(state: dict[str, int] | None, folder: Folder, _: str) -> dict[str, int]:
    """What is held of which file: files that are gone stay, but for those that are there under another name."""
    files = {name: number for name, (number, _) in folder.files.items()}
    new = Counter(number for name, number in files.items() if (state or {}).get(name) != number)
    held = dict(files)
    for name, number in sorted((state or {}).items()):  # of those that are alike, the first is the one that moved
        if name not in files and not new[number]:
            held[name] = number
        elif name not in files:
            new[number] -= 1
    return held


@given(turns=st.lists(folders(), min_size=5, max_size=9))
@several
def test_appended_files_are_known_by_their_content(turns: list[Folder]) -> None:
    with warehouse() as made:
        held = Held(made, "texts", {"path": "*.csv*", "disposition": "append"}, appended)
        for turn in turns:
            turn.write(made.folder)
            held.load(turn)
        held.check(lambda files: [row for number in files.values() for row in Folder.rows(number)], "_file")


@given(turns=st.lists(st.dictionaries(st.sampled_from("12"), folders(), min_size=1), min_size=4, max_size=6))
@settings(max_examples=3)
def test_appended_files_say_what_their_folders_say(turns: list[dict[str, Folder]]) -> None:
    """A file that moves to a folder that says something else is another one."""
    options = {"path": "*/*.csv*", "disposition": "append", "hive_partitioning": True}

    def after(state: dict[str, dict[str, int]] | None, turn: Parts, now: str) -> dict[str, dict[str, int]]:
        held = state or {}
        return {k: appended(held.get(k), turn.parts.get(k, Folder(files={})), now) for k in {*held, *turn.parts}}

    with warehouse() as made:
        held = Held(made, "texts", options, after)
        for parts in turns:
            for k in "12":
                (made.folder / f"k={k}").mkdir(exist_ok=True)
                parts.get(k, Folder(files={})).write(made.folder / f"k={k}")
            held.load(Parts(parts=parts))
        held.check(
            lambda state: [
                row | {"k": int(k)}
                for k, files in state.items()
                for number in files.values()
                for row in Folder.rows(number)
            ],
            "_file",
        )


@dataclass(frozen=True, kw_only=True)
class Parts(Turn):
    """Files in folders, by what the folders say."""

    parts: Mapping[str, Folder]


@given(deltas=st.lists(st.lists(brought(with_deletions=True), min_size=1, max_size=3), min_size=3, max_size=5))
@settings(max_examples=3)
def test_of_several_files_with_one_key_the_last_by_path_counts(deltas: list[list[Brought]]) -> None:
    with warehouse() as made:
        options = {"path": "*.csv", "disposition": "merge", "key": ["id"], "deleted": "gone"}
        held = Held(made, "texts", options, lambda state, turn, _: reduce(merged, turn.files, state))
        for number, files in enumerate(deltas):
            for path in made.folder.glob("*.csv"):
                path.unlink()
            for each, delta in enumerate(files):
                as_csv(made.folder / f"{number}-{each}.csv", delta, "gone")
            held.load(Deltas(files=files))
        held.check(expected, "gone")


@dataclass(frozen=True, kw_only=True)
class Deltas(Turn):
    """Several files that are merged in one load."""

    files: Sequence[Brought]
