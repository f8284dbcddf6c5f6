"""The catalog of a development version of Entrepot is refused, and left as it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import WorkflowEnvironment

from entrepot.activities.catalog.catalog import Catalog
from entrepot.backends import QueryTag
from entrepot.errors import BadInput
from tests.conftest import House, serving, settings

REFUSED = (
    "schema 'entrepot' holds the catalog of a development version of Entrepot, from before catalogs had a format, "
    "which this one does not read"
)


@pytest.fixture
async def house(temporal: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[House]:
    async with serving(temporal.client, settings(tmp_path, {"one": "tests.pipelines.owned:one"})) as house:
        for statement in (
            "CREATE SCHEMA entrepot",
            "CREATE TABLE entrepot.heads (pipeline VARCHAR)",
            "CREATE TABLE entrepot.versions (pipeline VARCHAR)",
            "INSERT INTO entrepot.versions VALUES ('one')",
        ):
            house.query(statement)
        yield house


@pytest.mark.parametrize(
    ("workflow", "asked"),
    [
        ("Pipeline", {"pipeline": "one"}),
        ("Gc", {"keep_days": 0}),
        ("Drop", {"environment": "dev"}),
        ("Repair", {}),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
async def test_an_earlier_catalog_is_refused(house: House, workflow: str, asked: dict[str, Any]) -> None:
    before = _tables(house)
    assert REFUSED in str(await house.fail(workflow, tenant="acme", **asked))
    assert _tables(house) == before
    assert house.query("SELECT * FROM entrepot.versions") == [("one",)]


async def test_an_earlier_catalog_is_not_taken_for_one(house: House) -> None:
    session = house.tenants.get("acme").backend.session(QueryTag("acme", "test", "test"))
    with session as opened, pytest.raises(BadInput, match="development version"):
        Catalog(opened).exists()


def _tables(house: House) -> list[tuple[Any, ...]]:
    return house.query("SELECT table_schema, table_name FROM information_schema.tables ORDER BY ALL")
