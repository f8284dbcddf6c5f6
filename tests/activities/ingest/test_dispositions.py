"""What each disposition means, and that only its strategy knows.

Whether tables have the rows that they should have is held against plain Python in `test_warehouse_loader.py`.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_args

import ibis
import pytest

from entrepot.activities import ingest
from entrepot.activities.catalog.growing_table import (
    GONE,
    VALID_FROM,
    VALID_TO,
    InInterval,
    SameKey,
    Segment,
    WithValue,
)
from entrepot.activities.ingest.dispositions import STRATEGIES
from entrepot.activities.ingest.sources.stream import Hints, IntervalFilter, ValueFilter
from entrepot.backends import TableName
from entrepot.language.interval import Interval
from entrepot.language.sources import Disposition

FOLDER = Path(ingest.__file__).parent
OWN = TableName("s", "orders__l")
ROOT = Segment(schema_name="s", table="root__l", columns={}, rows=1)


def test_every_disposition_has_a_strategy() -> None:
    assert tuple(STRATEGIES) == get_args(Disposition)


def test_what_a_load_takes_the_place_of() -> None:
    day, file = IntervalFilter(1, 2, "at"), ValueFilter("_file", ("a.csv",))
    replace, append, merge, scd2 = STRATEGIES.values()
    for each in (replace, append, scd2):
        assert each.supersedes(Hints(), OWN, None) is None
    assert append.supersedes(Hints("append"), OWN, None) is None
    in_range, of_files = (append.supersedes(Hints("append", replaces=its), OWN, None) for its in (day, file))
    assert in_range == InInterval(column="at", interval=Interval(1, 2))
    assert of_files == WithValue(column="_file", values=("a.csv",))
    by_key, with_root = (merge.supersedes(Hints("merge", key=("id",)), OWN, root) for root in (None, ROOT))
    assert by_key == SameKey(schema_name="s", table="orders__l", columns={"id": "id"})
    assert with_root == SameKey(schema_name="s", table="root__l", columns={"_dlt_root_id": "_dlt_id"})


def test_a_history_stores_its_changes_with_the_time_from_which_on_they_hold() -> None:
    scd2 = STRATEGIES["scd2"]
    table = ibis.schema({"id": "int64", **scd2.own_columns})
    assert list(scd2.segment_columns(table)) == ["id", VALID_FROM, GONE]
    assert set(scd2.own_columns) == {VALID_FROM, VALID_TO} < set(scd2.reserved)


LOADS = sorted({*FOLDER.glob("*.py"), *FOLDER.glob("sources/dlt/*.py")} - {FOLDER / "dispositions.py"})


@pytest.mark.parametrize("path", LOADS, ids=lambda path: path.name)
def test_nobody_else_compares_names_of_dispositions(path: Path) -> None:
    """So a new disposition touches one file. dlt's own words, which `hints.py` translates, are others."""
    assert compared(path.read_text()) == []


@pytest.mark.parametrize(
    "right", ['== "append"', 'in ("append", "merge")', 'in ["append"]', 'not in {"scd2", "merge"}']
)
@pytest.mark.parametrize("left", ["disposition", "hints.disposition", "strategy_of(hints).name"])
def test_a_compared_name_is_seen(left: str, right: str) -> None:
    assert len(compared(f"{left} {right}")) == 1
    assert len(compared(f'"append" == {left}')) == 1


@pytest.mark.parametrize("code", ['cursor.name == "id"', "before.disposition != now.disposition", '"append" == said'])
def test_other_comparisons_are_none(code: str) -> None:
    assert compared(code) == []


def compared(code: str) -> list[str]:
    """The comparisons of a disposition, or of a strategy's name, with the name of one."""
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Compare)
        if any(ast.unparse(each).split(".")[-1] in ("disposition", "name") for each in (node.left, *node.comparators))
        if any(is_named(each) for each in (node.left, *node.comparators))
    ]


def is_named(value: ast.expr) -> bool:
    each = value.elts if isinstance(value, ast.Tuple | ast.List | ast.Set) else [value]
    return any(isinstance(one, ast.Constant) and one.value in STRATEGIES for one in each)
