"""Names of columns in any script, from any source: none is lost, and no two become one."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from entrepot.activities.ingest.sources.dlt import extract
from entrepot.activities.ingest.sources.naming import name_of
from entrepot.activities.ingest.sources.stream import IntervalFilter
from entrepot.errors import BadInput, StepFailed
from entrepot.language.sources import Files
from tests.activities.ingest.sources import streams
from tests.activities.ingest.sources.reading import read
from tests.activities.ingest.sources.tables import Table
from tests.servers.postgres import Server


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("raceId", "race_id"),
        ("Straße", "straße"),
        ("Größe (m²)", "größe_m²x"),
        ("名前", "名前"),
        ("Имя клиента", "имя_клиента"),
        ("اسم", "اسم"),
        ("नाम", "नाम"),
        ("e\N{COMBINING ACUTE ACCENT}te\N{COMBINING ACUTE ACCENT}", "été"),
        ("a__b", "a__b"),
        ("2024", "_2024"),
    ],
)
def test_letters_of_every_script_stay(column: str, name: str) -> None:
    assert name_of(column) == name
    assert name_of(name) == name


def as_csv(folder: str, row: dict[str, str]) -> Files:
    text = io.StringIO()
    csv.writer(text).writerows([list(row), list(row.values())])
    Path(folder, "t.csv").write_text(text.getvalue())
    return Files(f"{folder}/t.csv")


def as_json(folder: str, row: dict[str, str]) -> Files:
    Path(folder, "t.json").write_text(json.dumps(row))
    return Files(f"{folder}/t.json")


def as_parquet(folder: str, row: dict[str, str]) -> Files:
    pq.write_table(pa.Table.from_pylist([row]), f"{folder}/t.parquet")
    return Files(f"{folder}/t.parquet")


def from_file(source: Files) -> list[Any]:
    return [values[0] for values in read(source).columns().values()]


def from_dlt(data: Any) -> list[Any]:
    ((found,),) = streams.read(extract.stream("t", data, watermark={})).rows.values()
    return [value for name, value in found.items() if not name.startswith("_dlt_")]


COLUMN = st.text(st.sampled_from("aAbéÉßÄ1 -_!€名яЯع"), min_size=1, max_size=3).filter(lambda text: text.strip())


@given(columns=st.lists(COLUMN, min_size=2, max_size=4, unique=True))
@example(columns=["Id", "id"])
@example(columns=["na!e", "na%e"])
@example(columns=["€", "$"])
@example(columns=["Straße", "STRASSE"])
@example(columns=["1", "__"])
@example(columns=["é", "e\N{COMBINING ACUTE ACCENT}"])
@settings(max_examples=12)
def test_each_column_stays_itself_or_both_are_named(columns: list[str]) -> None:
    assume(all(column == column.strip() for column in columns))
    row = {column: f"value {number}" for number, column in enumerate(columns)}
    names = [name_of(column) for column in columns]
    with tempfile.TemporaryDirectory() as folder:
        for source in (
            as_csv(folder, row),
            as_json(folder, row),
            as_parquet(folder, row),
            [row],
            pa.Table.from_pylist([row]),
        ):
            brought = from_file if isinstance(source, Files) else from_dlt
            if len(set(names)) == len(names):
                assert sorted(brought(source)) == sorted(row.values())  # type: ignore[operator]
                continue
            with pytest.raises(StepFailed, match="have one name") as refused:
                brought(source)  # type: ignore[operator]
            assert sum(repr(column) in str(refused.value) for column in columns) >= 2


def test_dicts_whose_keys_collide_in_other_rows_or_deep_inside_are_refused() -> None:
    with pytest.raises(StepFailed, match="table 't': 'Id' and 'id' have one name: 'id'; give one of them another name"):
        from_dlt([{"Id": 1}, {"id": 2}])
    with pytest.raises(StepFailed, match=r"table 't', in 'a\.b': 'c!' and 'c%' have one name: 'cx'"):
        from_dlt([{"a": {"b": {"c!": 1, "c%": 2}}}])
    with pytest.raises(StepFailed, match="table 't__items': 'Id' and 'id' have one name"):
        from_dlt([{"items": [{"Id": 1, "id": 2}]}])
    assert sorted(from_dlt([{"a": {"id": 1}, "b": {"Id": 2}}])) == [1, 2]


@pytest.mark.parametrize("write", [as_csv, as_json, as_parquet])
def test_columns_of_files_are_renamed(tmp_path: Path, write: Any) -> None:
    source: Files = write(str(tmp_path), {"na!e": "a", "na%e": "b", "Preis €": "1"})
    renamed = Files(source.path, rename={"na!e": "name", "Preis €": "price"}, types={"price": "int64"})
    assert read(renamed).columns() == {"name": ["a"], "na_e": ["b"], "price": [1]}
    merged = Files(source.path, rename={"na!e": "name"}, disposition="merge", key=["na!e"])
    assert read(merged).hints["t"].key == ("name",)


def test_what_is_renamed_must_be_there(tmp_path: Path) -> None:
    source = as_csv(str(tmp_path), {"id": "1"})
    with pytest.raises(BadInput, match="rename: unknown column 'ID"):
        read(Files(source.path, rename={"IDs": "number"}))


@pytest.mark.usefixtures("shop_database")
def test_columns_of_a_database_are_renamed_and_told_apart(postgres: Server) -> None:
    table = Table(postgres, '"Id" int, id int, "名前" text, at int')
    table.add("1, 2, 'x', 3")
    with pytest.raises(StepFailed, match="'Id' and 'id' have one name: 'id'; tell them apart by `rename`"):
        table.load()
    settings: Any = {"rename": {"Id": "number", "at": "seen"}, "cursor": "at"}
    load = table.load(**settings, key=["Id"])
    assert load.pieces[0].rows.schema.names == ["number", "id", "名前", "seen"]  # type: ignore[union-attr]
    assert (load.hints.key, load.hints.newest) == (("number",), ("seen", "desc"))
    assert table.load(load.state, **settings, key=["Id"]).rows == []
    assert table.load(**settings).hints.replaces == IntervalFilter(None, None, "seen")
