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
from entrepot.activities.catalog.growing_table import GONE, VALID_FROM, VALID_TO, Segment
from entrepot.activities.ingest.dispositions import STRATEGIES
from entrepot.activities.ingest.sources.stream import Hints, IntervalFilter, ValueFilter
from entrepot.backends import TableName
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
    in_range, of_files = (append.supersedes(Hints("append", replaces=its), OWN, None) for its in (day, file))
    assert in_range is not None
    assert of_files is not None
    assert (in_range.window, of_files.among) == (("at", 1, 2), ("_file", ("a.csv",)))
    by_key, with_root = (merge.supersedes(Hints("merge", key=("id",)), OWN, root) for root in (None, ROOT))
    assert by_key is not None
    assert with_root is not None
    assert (by_key.table, by_key.columns) == ("orders__l", {"id": "id"})
    assert (with_root.table, with_root.columns) == ("root__l", {"_dlt_root_id": "_dlt_id"})


def test_a_history_stores_its_changes_with_the_time_from_which_on_they_hold() -> None:
    scd2 = STRATEGIES["scd2"]
    table = ibis.schema({"id": "int64", **scd2.own_columns})
    assert list(scd2.segment_columns(table)) == ["id", VALID_FROM, GONE]
    assert set(scd2.own_columns) == {VALID_FROM, VALID_TO} < set(scd2.reserved)


LOADS = sorted({*FOLDER.glob("*.py"), *FOLDER.glob("sources/dlt/*.py")} - {FOLDER / "dispositions.py"})


@pytest.mark.parametrize("path", LOADS, ids=lambda path: path.name)
def test_nobody_else_compares_names_of_dispositions(path: Path) -> None:
    """So a new disposition touches one file. dlt's own words, which `hints.py` translates, are others."""
    compared = [
        ast.unparse(node)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Compare) and ast.unparse(node.left).split(".")[-1] == "disposition"
        if any(isinstance(each, ast.Constant | ast.Tuple) for each in node.comparators)
    ]
    assert compared == []
