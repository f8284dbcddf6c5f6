"""Files that are read by more than one attempt, and columns whose types change late."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.activities.ingest.sources.files import column_types, files
from entrepot.activities.ingest.sources.files import json as files_json
from entrepot.activities.ingest.sources.files import text as files_text
from entrepot.language.sources import Files
from tests.activities.ingest.sources.reading import Read, read, read_in_two

TEXTS = {
    "int": ["1", "-20", "9007199254740993"],
    "real": ["1.5", "2.50", "1e3"],
    "date": ["2020-01-31", "1999-12-01"],
    "timestamp": ["2020-01-31 10:00:00", "2020-01-31T10:00:00.5"],
    "zone": ["2020-01-31T10:00:00Z"],
    "time": ["10:00:00"],
    "boolean": ["true", "False"],
    "text": ["007", "x y", '"quoted, ""text"""', '"two\nlines"'],
    "null": [""],
}
BAD = ["1,2,3,4,5,6,7", '1,"broken"quote', "\udcff,1,2"]


@st.composite
def written(draw: st.DrawFn) -> list[str]:
    """Texts of CSV files whose columns have one kind of values for a while, and then another."""
    names = ["a", "b", "c"]
    texts = []
    for _ in range(draw(st.integers(1, 2))):
        header = draw(st.lists(st.sampled_from(names), min_size=2, max_size=3, unique=True))
        lines = [",".join(header)]
        for _ in range(draw(st.integers(1, 3))):
            kinds = [draw(st.sampled_from(list(TEXTS))) for _ in header]
            for _ in range(draw(st.integers(0, 12))):
                lines.append(",".join(draw(st.sampled_from([*TEXTS[kind], ""])) for kind in kinds))
            lines += draw(st.lists(st.sampled_from(BAD), max_size=1))
        texts.append("\n".join([*lines, ""]))
    return texts


def same(one: Read, other: Read, table: str = "t") -> None:
    tables = [table for table, _, _ in one.pieces]
    assert sorted(set(tables)) == sorted({table for table, _, _ in other.pieces})
    for name in set(tables):
        assert one.table(name).combine_chunks() == other.table(name).combine_chunks()
    assert (one.state, one.hints) == (other.state, other.hints)


def same_by_two_attempts(source: Files, size: int, stop: int, patch: pytest.MonkeyPatch) -> None:
    """Read at once, in small chunks, and by two attempts, the rows are the same."""
    whole = read(source)
    patch.setattr(files_text, "CHUNK", size)
    patch.setattr(files_text, "HEAD", 16)
    undisturbed = read(source)
    same(undisturbed, whole)
    same(read_in_two(source, stop), undisturbed)


@settings(max_examples=40, deadline=None)
@given(
    texts=written(),
    types=st.sampled_from([{}, {"a": "float64"}]),
    size=st.sampled_from([24, 60, 200]),
    stop=st.integers(0, 30),
    ending=st.sampled_from("\n\r"),
)
def test_csv_by_two_attempts(texts: list[str], types: Any, size: int, stop: int, ending: str) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        for number, text in enumerate(texts):
            data = text.encode("utf-8", "surrogateescape").replace(b"\n", b"\r\n" if ending == "\r" else b"\n")
            Path(folder, f"{number}.csv").write_bytes(b"\xef\xbb\xbf" * number + data)
        declared = types if "a" in "".join(text.partition("\n")[0] for text in texts) else {}
        source = Files(f"{folder}/*.csv", bad_rows="reject", types=declared)
        same_by_two_attempts(source, size, stop, patch)


VALUES: list[list[Any]] = [
    [1, 2, None], [1.5], ["2020-01-31", None], ["x", "ä"], [True], [{"x": 1}, {"x": None}], [{"y": "z"}],
    [[1]], [[]], [["x"]], [None],
]  # fmt: skip


@st.composite
def objects(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Objects whose keys have one kind of values for a while, and then another."""
    found = []
    for _ in range(draw(st.integers(1, 4))):
        kinds = draw(st.dictionaries(st.sampled_from("abc"), st.sampled_from(VALUES), min_size=1))
        for _ in range(draw(st.integers(0, 8))):
            found.append({key: draw(st.sampled_from(values)) for key, values in kinds.items()})
    return found


@settings(max_examples=40, deadline=None)
@given(values=objects(), size=st.sampled_from([16, 50, 200]), stop=st.integers(0, 30), shape=st.sampled_from("[{"))
def test_json_by_two_attempts(values: list[dict[str, Any]], size: int, stop: int, shape: str) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        lines = [json.dumps(value, ensure_ascii=False) for value in values]
        text = "\n".join(lines) if shape == "{" else "\n[" + " ,\n".join(lines) + "]"
        Path(folder, "t.json").write_text(text)
        source = Files(f"{folder}/t.json")
        same_by_two_attempts(source, size, stop, patch)


class Counted:
    """Files that are opened, with the bytes that were read of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.taken = 0
        self._opened = files_text._opened
        monkeypatch.setattr(files_text, "_opened", self._counting)

    def _counting(self, *given: Any) -> Any:
        stream, counted = self._opened(*given), self

        class Stream:
            def seek(self, place: int) -> None:
                stream.seek(place)

            def read(self, size: int) -> bytes:
                data: bytes = stream.read(size)
                counted.taken += len(data)
                return data

        return Stream()


@pytest.mark.parametrize("name", ["t.csv", "lines.json", "array.json"])
@pytest.mark.parametrize("changes", [False, True])
def test_no_text_is_read_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, changes: bool) -> None:
    monkeypatch.setattr(files_text, "CHUNK", 1_000)
    for module in (files_text, files_json):
        monkeypatch.setattr(module, "HEAD", 100)
    values: list[Any] = [*range(500), "late" if changes else 500]
    objects = [json.dumps({"n": value}) for value in values]
    csv, lines, array = "\n".join(["n,x", *(f"{v},y" for v in values)]), "\n".join(objects), f"[{','.join(objects)}]"
    (tmp_path / name).write_text({"t.csv": csv, "lines.json": lines, "array.json": array}[name])
    size = (tmp_path / name).stat().st_size
    source, counted = Files(str(tmp_path / name)), Counted(monkeypatch)
    pieces = list(files.stream("t", source, {}).pieces(None))
    assert [piece.anew for piece in pieces].count(True) == changes
    # Wherever the reading begins within a file, it looks at the beginning, too, and a block may be read twice.
    assert counted.taken <= (1 + changes) * (size + 100) + changes * (1_000 + 200)
    begun_anew = False
    for number, piece in enumerate(pieces):
        assert piece.watermark is not None
        begun_anew |= piece.anew
        comes_again = changes and not (begun_anew and piece.rows)
        if number % 4 == 0 or piece.anew:
            counted.taken = 0
            for _ in files.stream("t", source, {}).pieces(piece.watermark):
                pass
            left = size * comes_again + size - piece.watermark["place"][0]
            assert counted.taken <= left + (1 + 2 * comes_again) * (1_000 + 200)


def test_a_column_whose_values_come_late_is_no_reason_to_begin_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_text, "CHUNK", 100)
    (tmp_path / "1.csv").write_text("a,b\n" + "1,\n" * 100 + "2,2020-01-01\n")
    (tmp_path / "2.csv").write_text("a,c\n" + "3,x\n")
    source = Files(str(tmp_path / "*.csv"))
    assert not any(piece.anew for piece in files.stream("t", source, {}).pieces(None))
    table = read(source).table()
    assert [str(field.type) for field in table.schema] == ["int64", "date32[day]", "string"]
    assert table.num_rows == 102


LATE = [{"id": n, "late": 7 if n == 19 else None, "never": None} for n in range(20)]


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_column_has_no_type_until_it_has_values(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"t.{kind}"
    rows = ["id,late,never", *(f"{row['id']},{row['late'] or ''}," for row in LATE)]
    text = "\n".join(rows if kind == "csv" else map(json.dumps, LATE))
    path.write_text(text + "\n")
    monkeypatch.setattr(files_text, "CHUNK", len(text) * 2 // 3)
    result = read(Files(str(path)))
    first, second = (table.schema for _, table, _ in result.pieces if table.num_rows)
    assert (first.field("late").type, second.field("late").type) == (pa.null(), pa.int64())
    assert first.field("never").type == second.field("never").type == pa.null()
    assert result.table().to_pylist() == LATE


def test_a_file_is_rewritten_only_for_a_column_that_has_a_type(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": [1], "none": pa.nulls(1), "typed": pa.nulls(1, pa.int32())}), path)
    before = path.stat().st_mtime_ns
    column_types.without_types(path, ["none"])
    assert path.stat().st_mtime_ns == before
    column_types.without_types(path, ["none", "typed"])
    assert pq.read_schema(path).types == [pa.int64(), pa.null(), pa.null()]
