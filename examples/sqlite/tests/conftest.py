"""What the tests share: a tenant on DuckDB that loads a SQLite file of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from tests.activities.ingest.loading import Warehouse, warehouse


@pytest.fixture
def acme() -> Iterator[Warehouse]:
    """A tenant whose table `orders` is empty yet."""
    with warehouse("shop:shop") as made:
        with closing(sqlite3.connect(made.folder / "shop.sqlite")) as connection:
            connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT, price REAL, note)")
        yield made
