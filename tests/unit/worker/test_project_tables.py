"""What a new project finds to hold in files."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.language.names import PIPELINE, STEP
from entrepot.worker.local.project.project import Project
from entrepot.worker.local.project.tables import LONGEST, NO_TABLE, FileTable, identifier, tables_of

VALUES = st.sampled_from(["", "1", "2", "3", "x", "1.5", "2026-01-01"])
ROWS = st.lists(st.tuples(VALUES, VALUES, st.just("z")), min_size=1, max_size=6)


def table(rows: list[tuple[str, ...]], *columns: str) -> FileTable:
    with TemporaryDirectory() as folder:
        path = Path(folder, "things.csv")
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([columns, *rows])
        [found] = tables_of([path])
        return found


@settings(max_examples=40)
@given(ROWS)
def test_checks_hold_in_the_data(rows: list[tuple[str, ...]]) -> None:
    found = table(rows, "a", "thing_id", "c")
    by_column = dict(zip(("a", "thing_id", "c"), zip(*rows, strict=True), strict=True))
    full = [name for name, values in by_column.items() if "" not in values]
    assert found.complete == full
    assert found.key is None or (found.key in full and len({*by_column[found.key]}) == len(rows))
    if "thing_id" in full and all(value in ("1", "2", "3") for value in by_column["thing_id"]):
        assert (found.key == "thing_id") == (len({*by_column["thing_id"]}) == len(rows))
    assert [*found.types] == [name for name, values in by_column.items() if {*values} != {""}]


def test_what_is_called_an_id_is_the_key_and_few_values_make_groups() -> None:
    found = table([(f"n{n}", str(n), "ab"[n % 2], f"{n / 7:.3f}") for n in range(40)], "name", "code", "kind", "size")
    assert (found.key, found.group, found.numbers) == ("code", "kind", ["size"])
    assert found.types == {"name": "string", "code": "int64", "kind": "string", "size": "float64"}


@given(st.text(max_size=60))
def test_any_name_of_a_file_or_folder_becomes_a_name_or_none(text: str) -> None:
    name = identifier(text, LONGEST, NO_TABLE, "_rows")
    assert not name or (STEP.problem(name) is None and name not in NO_TABLE)
    assert not name or STEP.problem(f"{name}_complete") is None
    assert bool(name) or not re.search("[a-zA-Z0-9]", text)


@pytest.mark.parametrize(
    ("folder", "name"),
    [("Corner Shop!", "corner_shop"), ("2024", "t_2024"), ("日本", "project"), ("main", "main_data")],
)
def test_a_project_is_called_after_its_folder(tmp_path: Path, folder: str, name: str) -> None:
    project = Project(tmp_path / folder, "blank")
    assert project.name == name
    assert PIPELINE.problem(project.name) is None
    assert project.package.startswith(name)
