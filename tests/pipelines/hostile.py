"""Columns, values, titles and places of copies that are called as nobody should call them: all of it is data."""

from __future__ import annotations

import pyarrow as pa

from entrepot import Copy, Dashboard, Export, Panel, Pipeline, Table

WORDS = (
    'say "hi"',
    "it's",
    "'; DROP SCHEMA hostile CASCADE; --",
    "/* */ comment",
    "a b",
    "../../up",
    "select",
    "SELECT 1",
    "ключ",
    "名前",
    "%s",
    "{x}",
    "$1",
    "a.b",
    "back`tick",
    "back\\slash",
    "two\nlines",
    "long " + "x" * 3_000,
    "<script>alert(1)</script>",
    "[bold]",
)
hostile = Pipeline("hostile", parameters={"schema": "we\"ird '; DROP TABLE x; --", "name": "ta ble\"'"})


@hostile.ingest(tables=["words"])
def source() -> pa.Table:
    """The words as values, and, but for the longest, as columns."""
    columns = {f"c{number}": list(WORDS) for number in range(2)}
    return pa.table({"number": list(range(len(WORDS))), **columns})


@hostile.transform
def renamed(words: Table) -> Table:
    """Each word is a column, too, that has the words."""
    return words.select("number", **{word: words.c0 for word in WORDS if len(word) < 100})


@hostile.transform
def again(renamed: Table) -> Table:
    """Read and grouped by such columns."""
    return renamed.group_by(WORDS[2]).agg(**{WORDS[0]: renamed[WORDS[1]].max()})


@hostile.publish
def taken_away(renamed: Table) -> Export:
    return Export(renamed)


@hostile.publish
def copied(again: Table, schema: str, name: str) -> Copy:
    return Copy(again, schema=schema, name=name)


@hostile.publish
def board(again: Table) -> Dashboard:
    return Dashboard(WORDS[-2], panels=[Panel(WORDS[2], again.limit(5))], text=WORDS[-2])
