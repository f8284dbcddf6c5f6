"""What the tests of the catalog get: one on DuckDB."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from entrepot import backends
from entrepot.activities.catalog.catalog import Catalog
from entrepot.backends import QueryTag


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    """A catalog in a schema that is called otherwise than by default."""
    backend = backends.create({"type": "duckdb", "path": str(tmp_path_factory.mktemp("catalog") / "a.duckdb")}, "test")
    with backend.session(QueryTag("acme", "test", "test")) as session:
        made = Catalog(session, "elsewhere")
        made.ensure()
        yield made
    backend.close()
