"""What an ingest step's function may return, and which source reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from entrepot.activities.ingest.sources import registry
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
    assert found(returned, "orders") == {"dlt": ("orders", "DltSource")}


def test_what_dlt_reads_of_a_step_is_read_in_one_go() -> None:
    mixed = {"files": FILES, "rows": [{"id": 1}], "database": DATABASE, "more": [{"id": 2}]}
    assert found(mixed, *mixed) == {
        "table:files": ("files", "FileSource"),
        "table:database": ("database", "PostgresSource"),
        "dlt": ("shop", "DltSource"),
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
