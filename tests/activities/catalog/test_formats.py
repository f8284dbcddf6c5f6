"""A catalog says its format: older ones become today's, newer ones and those of development versions are refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot import backends
from entrepot.activities.catalog.tables import TABLES, CatalogTables, equals, now
from entrepot.backends import QueryTag, Session, TableName
from entrepot.errors import BadInput

RUN = {"pipeline": "shop", "environment": "prod", "run": "r1", "workflow": "w", "status": "done", "started_at": now()}


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    backend = backends.create({"type": "duckdb", "path": str(tmp_path / "a.duckdb")}, "test")
    with backend.session(QueryTag("acme", "test", "test")) as session:
        yield session
    backend.close()


def renames(tables: CatalogTables) -> None:
    """A migration that changes what rows say."""
    tables.update("runs", {"status": "published"}, equals("status", "done"))


def breaks(tables: CatalogTables) -> None:
    """A migration that fails after it has changed something."""
    tables.delete("runs", equals("pipeline", "shop"))
    raise ConnectionError("gone")


def formats(tables: CatalogTables) -> list[int]:
    return sorted(row["format"] for row in tables.select("formats"))


def statuses(tables: CatalogTables) -> list[str]:
    return [row["status"] for row in tables.select("runs")]


def test_a_new_catalog_is_of_todays_format(session: Session) -> None:
    tables = CatalogTables(session, "entrepot")
    tables.create()
    tables.create()
    assert formats(tables) == [1]
    assert tables.existing() >= TABLES.keys()


def test_an_older_one_becomes_todays_step_by_step_when_somebody_begins_to_write(session: Session) -> None:
    CatalogTables(session, "entrepot").create()
    CatalogTables(session, "entrepot").insert("runs", RUN)
    newer = CatalogTables(session, "entrepot", migrations=(renames, renames))
    with pytest.raises(BadInput, match="in format 1, and this Entrepot reads 3: it becomes that when a run"):
        newer.existing()
    newer.create()
    newer.create()
    assert (formats(newer), statuses(newer)) == ([1, 2, 3], ["published"])
    assert newer.existing() >= TABLES.keys()


def test_a_migration_that_fails_leaves_what_was(session: Session) -> None:
    CatalogTables(session, "entrepot").create()
    CatalogTables(session, "entrepot").insert("runs", RUN)
    broken = CatalogTables(session, "entrepot", migrations=(renames, breaks))
    with pytest.raises(ConnectionError):
        broken.create()
    assert (formats(broken), statuses(broken)) == ([1, 2], ["published"])
    mended = CatalogTables(session, "entrepot", migrations=(renames, renames))
    mended.create()
    assert formats(mended) == [1, 2, 3]


@pytest.mark.parametrize("used", [CatalogTables.create, CatalogTables.existing])
def test_a_newer_one_is_refused(session: Session, used: object) -> None:
    CatalogTables(session, "entrepot", migrations=(renames,)).create()
    with pytest.raises(BadInput, match=r"in format 2, which Entrepot 0\.1\.0 has made, and this one"):
        used(CatalogTables(session, "entrepot"))  # type: ignore[operator]


def test_what_was_left_half_made_is_completed(session: Session) -> None:
    tables = CatalogTables(session, "entrepot")
    tables.create()
    session.drop_table(TableName("entrepot", "runs"))
    tables.delete("formats", equals("format", 1))
    tables.create()
    assert (formats(tables), statuses(tables)) == ([1], [])


def test_tables_that_are_not_the_catalogs_do_not_matter(session: Session) -> None:
    session.create_schema("entrepot")
    session.execute("CREATE TABLE entrepot.notes (text VARCHAR)")
    tables = CatalogTables(session, "entrepot")
    assert tables.existing() == {"notes"}
    tables.create()
    assert formats(tables) == [1]
