"""Files are known by what they hold: under another name, packed or not."""

from __future__ import annotations

import gzip
from pathlib import Path

import ibis
import pytest

from entrepot.activities.ingest.sources.files import known_files
from entrepot.activities.ingest.sources.files.files import FileSource
from entrepot.activities.ingest.sources.files.known_files import Known, compared
from entrepot.activities.ingest.sources.stream import RawTable
from entrepot.language.sources import Files
from tests.activities.ingest.sources.reading import Read, read


class Store:
    """A folder whose files are appended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.last: Read | None = None

    def write(self, **files: str) -> None:
        """Files by name, each with the value of its only row."""
        for name, value in files.items():
            (self.folder / f"{name}.csv").write_text(f"value\n{value}\n")

    def load(self) -> list[tuple[str, str]]:
        """What the next load reads: values, and the files that they say to be from."""
        source = Files(str(self.folder / "*.csv*"), disposition="append")
        self.last = read(source, self.last.state if self.last else None)
        if not self.last.pieces:
            return []
        found = self.last.columns()
        return [(value, Path(file).name) for value, file in zip(found["value"], found["_file"], strict=True)]

    @property
    def replaced(self) -> list[str]:
        """Whose rows of before the last load took the place of."""
        replaces = self.last.hints["t"].replaces if self.last else None
        return [Path(name).name for name in replaces.values] if replaces else []  # type: ignore[union-attr]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_a_file_under_a_new_name_is_not_read_and_its_rows_are_replaced_when_it_changes(store: Store) -> None:
    store.write(a="old", b="other")
    assert store.load() == [("old", "a.csv"), ("other", "b.csv")]
    (store.folder / "a.csv").rename(store.folder / "c.csv")
    assert (store.load(), store.replaced) == ([], [])
    store.write(c="new")
    assert (store.load(), store.replaced) == ([("new", "c.csv")], ["a.csv"])
    store.write(c="newer")
    assert (store.load(), store.replaced) == ([("newer", "c.csv")], ["c.csv"])


def test_files_that_move_on_as_logs_do_are_read_once(store: Store) -> None:
    store.write(log="monday")
    store.load()
    for day, before in [("tuesday", "monday"), ("wednesday", "tuesday")]:
        (store.folder / "log.csv").rename(store.folder / f"{before}.csv")
        store.write(log=day)
        ((value, _),) = store.load()
        assert (value, store.replaced) == (day, [])
    store.write(log="wednesday to its end", monday="mended")  # each takes the place of its own rows alone
    assert store.load() == [("wednesday to its end", "log.csv"), ("mended", "monday.csv")]
    assert store.replaced == ["log.csv#3", "log.csv"]


def test_two_files_side_by_side_are_two(store: Store) -> None:
    store.write(a="same", b="same")
    assert store.load() == [("same", "a.csv"), ("same", "b.csv")]
    (store.folder / "a.csv").unlink()
    store.write(c="same", d="same")  # one of them is `a`
    assert [value for value, _ in store.load()] == ["same"]


def test_a_packed_file_is_the_file_and_is_unpacked_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(a="x")
    store.load()
    (store.folder / "a.csv.gz").write_bytes(gzip.compress((store.folder / "a.csv").read_bytes()))
    (store.folder / "a.csv").unlink()
    assert store.load() == []
    (store.folder / "a.csv.gz").rename(store.folder / "b.csv.gz")
    monkeypatch.setattr(known_files, "_hash_inside", None)  # there is nothing to unpack
    assert store.load() == []


def test_where_rows_are_merged_another_name_is_another_delta(tmp_path: Path) -> None:
    """What one file brought, a later one may bring again, and it is the newest then."""
    first, second = tmp_path / "1.csv", tmp_path / "2.csv"
    first.write_text("id\n1\n")
    known = compared(Known(), [str(first)], adds=False).known
    second.write_bytes(first.read_bytes())
    first.unlink()
    assert compared(known, [str(second)], adds=False).read == (str(second),)
    packed = tmp_path / "1.csv.gz"
    packed.write_bytes(gzip.compress(second.read_bytes()))
    assert compared(known, [str(packed)], adds=False).read == ()


@pytest.mark.parametrize("comes_later", [False, True])
def test_a_load_hashes_files_once_unless_others_have_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, comes_later: bool
) -> None:
    hashed: list[str] = []
    monkeypatch.setattr(known_files, "_hash", lambda path, _hash=known_files._hash: hashed.append(path) or _hash(path))
    (tmp_path / "1.csv").write_text("a\n1\n")
    source = FileSource(Files(f"{tmp_path}/*.csv", disposition="append"))
    source.fingerprint()
    if comes_later:
        (tmp_path / "2.csv").write_text("a\n2\n")
    stream = source.open(RawTable("t", ibis.schema({})), {}, None)
    assert len(list(stream.pieces(None))) == 1 + comes_later
    assert len(hashed) == (3 if comes_later else 1)
    assert stream.watermark()["files"].keys() == {f"file://{path}" for path in tmp_path.iterdir()}
