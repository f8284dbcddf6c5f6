"""What an ingest step's function may return, and which source reads it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from entrepot.activities.ingest.sources import registry
from entrepot.errors import BadInput
from entrepot.language.sources import Files, PostgresTable

FILES = Files("orders.csv")
DATABASE = PostgresTable("env:SHOP", "orders")


@dataclass(frozen=True)
class OurFiles(Files):
    """Files with settings that a team has agreed on."""


def found(returned: Any, *tables: str) -> dict[str, tuple[str, str]]:
    sources = registry.sources(returned, "shop", tables)
    return {name: (table, type(source).__name__) for name, (table, source) in sources.items()}


@pytest.mark.parametrize(
    ("returned", "reader"),
    [(FILES, "FileSource"), (OurFiles("orders.csv"), "FileSource"), (DATABASE, "PostgresSource")],
)
def test_a_description_is_read_by_the_source_of_its_class(returned: Any, reader: str) -> None:
    assert found(returned, "orders") == {"table:orders": ("orders", reader)}
    assert found(returned, "orders", "orders__rejected") == {"table:orders": ("orders", reader)}
    assert found(returned, "orders", "others") == {"table:shop": ("shop", reader)}
    assert found({"orders": returned}, "orders", "others") == {"table:orders": ("orders", reader)}


@pytest.mark.parametrize("returned", [[], [{"id": 1}], {}, {"orders": [{"id": 1}]}, lambda: iter([{"id": 1}])])
def test_everything_else_is_read_by_dlt(returned: Any) -> None:
    assert found(returned, "orders") == {"dlt": ("orders", "AnySource")}


def test_what_dlt_reads_of_a_step_is_read_in_one_go() -> None:
    mixed = {"files": FILES, "rows": [{"id": 1}], "database": DATABASE, "more": [{"id": 2}]}
    assert found(mixed, *mixed) == {
        "table:files": ("files", "FileSource"),
        "table:database": ("database", "PostgresSource"),
        "dlt": ("shop", "AnySource"),
    }


def test_only_a_step_whose_sources_all_have_a_fingerprint_has_one(tmp_path: Path) -> None:
    (tmp_path / "orders.csv").write_text("id\n1\n")
    files = Files(str(tmp_path / "orders.csv"))

    def fingerprint(returned: Any) -> str | None:
        return registry.fingerprint(registry.sources(returned, "shop", ["orders"]), {"orders": None})

    before = fingerprint({"orders": files})
    assert before == fingerprint(files) is not None
    assert fingerprint({"orders": files, "others": DATABASE}) is None
    assert fingerprint([{"id": 1}]) is None
    (tmp_path / "orders.csv").write_text("id\n2\n")
    assert fingerprint(files) != before


FILE_SOURCE = "entrepot.activities.ingest.sources.files.files:FileSource"
OURS = f"{OurFiles.__module__}.OurFiles"


def install(monkeypatch: pytest.MonkeyPatch, name: str, *values: str) -> None:
    points = [EntryPoint(name, value, registry.GROUP) for value in values]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)


def test_the_nearest_class_with_an_entry_point_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = "entrepot.activities.ingest.sources.postgres.tables:PostgresSource"
    install(monkeypatch, OURS, reader)
    assert found(OurFiles("orders.csv"), "orders") == {"table:orders": ("orders", "PostgresSource")}
    install(monkeypatch, OURS, FILE_SOURCE, FILE_SOURCE)
    assert found(OurFiles("orders.csv"), "orders") == {"table:orders": ("orders", "FileSource")}


@pytest.mark.parametrize(
    ("name", "value"), [("entrepot.language.sources.Files", "theirs:Files"), (OURS, "theirs:OurFiles")]
)
def test_two_entry_points_for_one_class_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    install(monkeypatch, name, value, FILE_SOURCE)
    with pytest.raises(BadInput, match=f"two sources read '{name}': '{FILE_SOURCE}', '{value}'"):
        found(OurFiles("orders.csv"), "orders")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no_such_module:Source", "which cannot be imported: No module named 'no_such_module'"),
        ("json:Source", "which cannot be imported: module 'json' has no attribute 'Source'"),
        ("json:JSONDecoder", "which is no source"),
        ("json:loads", "which is no source"),
        ("json", "which is no source"),
    ],
)
def test_an_entry_point_that_leads_to_no_source_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str, message: str
) -> None:
    install(monkeypatch, OURS, value)
    with pytest.raises(BadInput, match=f"the entry point '{OURS}' of the group .* leads to '{value}', {message}"):
        found(OurFiles("orders.csv"), "orders")
    assert found(FILES, "orders") == {"table:orders": ("orders", "FileSource")}
