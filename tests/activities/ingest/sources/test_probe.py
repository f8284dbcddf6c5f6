"""Whether sources have something new, without reading them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from entrepot.activities.ingest.sources import registry
from entrepot.errors import BadInput, Unavailable
from entrepot.language.sources import Files, PostgresTable
from tests.servers.postgres import Server


def mark(returned: Any, *tables: str) -> str:
    names = tables or ("events",)
    return registry.probe(registry.sources(returned, names[0], names))


def execute(postgres: Server, sql: str) -> None:
    with postgres.connect(autocommit=True) as connection:
        for statement in sql.split("; "):
            connection.execute(statement.encode())


def test_files_that_come_change_and_go(tmp_path: Path) -> None:
    files = Files(str(tmp_path / "*.csv"))
    marks = [mark(files)]
    for name, text in (("a", "id\n1\n"), ("b", "id\n1\n"), ("a", "id\n1\n2\n")):
        (tmp_path / f"{name}.csv").write_text(text)
        marks.append(mark(files))
        assert mark(files) == marks[-1]
    os.utime(tmp_path / "a.csv", (1, 1))
    marks.append(mark(files))
    (tmp_path / "b.csv").unlink()
    marks.append(mark(files))
    assert len(set(marks)) == len(marks)


def test_no_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id\n1\n")
    path.chmod(0)
    assert mark(Files(str(path))) == mark(Files(str(path)))


def test_one_of_several_is_enough(tmp_path: Path) -> None:
    both = {"a": Files(str(tmp_path / "a.csv")), "b": Files(str(tmp_path / "b.csv"))}
    before = mark(both, "a", "b")
    (tmp_path / "b.csv").write_text("id\n1\n")
    assert mark(both, "a", "b") != before


def test_what_only_reading_tells_is_said() -> None:
    with pytest.raises(BadInput, match="whether there is something new for 'events' only reading tells"):
        mark([{"id": 1}])


def test_a_url_with_a_secret_is_refused_here_too() -> None:
    with pytest.raises(BadInput, match="has a password or signature"):
        mark(Files("ftp://me:secret@host/a.csv"))


@pytest.mark.usefixtures("shop_database")
def test_a_cursor_that_grows(postgres: Server) -> None:
    execute(postgres, "DROP TABLE IF EXISTS probed; CREATE TABLE probed (id int PRIMARY KEY, at timestamptz)")
    table = PostgresTable("env:SHOP", "probed", cursor="at", key=["id"])
    marks = [mark(table)]
    for number in (1, 2):
        execute(postgres, f"INSERT INTO probed VALUES ({number}, '2026-11-2{number}T06:00:00.000001Z')")
        marks.append(mark(table))
        assert mark(table) == marks[-1]
    assert len(set(marks)) == 3


@pytest.mark.usefixtures("shop_database")
def test_rows_that_were_written(postgres: Server) -> None:
    execute(postgres, 'DROP TABLE IF EXISTS "Odd Name"; CREATE TABLE "Odd Name" (id int)')
    table = PostgresTable("env:SHOP", "Odd Name")
    before = mark(table)
    execute(postgres, 'INSERT INTO "Odd Name" VALUES (1); SELECT pg_stat_force_next_flush()')
    assert mark(table) != before


@pytest.mark.usefixtures("shop_database")
def test_a_view_of_which_nobody_counts(postgres: Server) -> None:
    execute(postgres, "CREATE OR REPLACE VIEW seen AS SELECT 1 AS id")
    with pytest.raises(BadInput, match=r"a view without a `cursor` cannot be probed; give the step a `probe=`"):
        mark(PostgresTable("env:SHOP", "seen"))
    assert mark(PostgresTable("env:SHOP", "seen", cursor="id", key=["id"]))


def test_a_database_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP", "postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(Unavailable):
        mark(PostgresTable("env:SHOP", "probed"))
