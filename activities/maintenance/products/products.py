"""The activities by which products are listed, written as files and held against files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from entrepot.activities.maintenance.products.listing import Products
from entrepot.activities.runtime.activity import Activities, implements
from entrepot.activities.runtime.context import ActivityContext
from entrepot.protocol import activities
from entrepot.protocol.products import (
    CheckContractsInput,
    ContractDifference,
    ContractFile,
    ProductRow,
    ProductsInput,
)


class ProductActivities(Activities):
    """The activities `products`, `contracts` and `check_contracts`."""

    @implements(activities.PRODUCTS)
    def products(self, work: ActivityContext, request: ProductsInput) -> list[ProductRow]:
        """Every data product, with its promise and who depends on it."""
        with self._products(work, request) as products:
            return products.rows()

    @implements(activities.CONTRACTS)
    def contracts(self, work: ActivityContext, request: ProductsInput) -> list[ContractFile]:
        """The Open Data Contract Standard file of each product that an environment shows."""
        with self._products(work, request) as products:
            return products.files()

    @implements(activities.CHECK_CONTRACTS)
    def check_contracts(self, work: ActivityContext, request: CheckContractsInput) -> list[ContractDifference]:
        """What an environment does not show as Open Data Contract Standard files say it."""
        with self._products(work, request) as products:
            return products.differences(request.files)

    @contextmanager
    def _products(self, work: ActivityContext, request: ProductsInput) -> Iterator[Products]:
        graphs = self._tenants.graphs(request.tenant, request.pipeline)
        with work.session() as session:
            catalog = work.catalog(session)
            catalog.ensure()
            yield Products(self._tenants, work.tenant, catalog, graphs, request)
