"""Verdicts, certificates and runs come back from the catalog as they were recorded; verdicts and runs once."""

from __future__ import annotations

import datetime

import sqlglot.expressions as sge

from entrepot.activities.catalog.catalog import Catalog
from entrepot.activities.catalog.records import Certificate, CheckVerdict, Run

AT = datetime.datetime(2026, 1, 2, 3, 4, 5)


def test_a_verdict(catalog: Catalog) -> None:
    sample = [{"id": 1, "name": "it's"}]
    made = CheckVerdict("positive", "1", "hash", {"orders": "2"}, ["orders"], "warn", 1, sample, "run", AT)
    for _ in range(2):
        catalog.pipeline("shop").add_verdict(made)
    assert catalog.pipeline("shop").verdicts(sge.true()) == [made]
    assert set(catalog.pipeline("shop").known(["1"])) == {("positive", "1")}


def test_a_certificate(catalog: Catalog) -> None:
    made = Certificate("orders", "1", "hash", {"duckdb": {"rows": 3}}, "agrees", 3, "00", "run", AT)
    catalog.pipeline("shop").add_certificate(made)
    assert catalog.pipeline("shop").certificates("orders", "1") == [made]
    assert catalog.pipeline("shop").certificates("orders", "2") == []


def test_a_run(catalog: Catalog) -> None:
    made = Run("shop", "prod", "run", "completed", AT, AT, {"steps": 3}, workflow="acme/shop")
    for _ in range(2):
        catalog.pipeline("shop").add_run(made)
    assert catalog.runs("run", "completed") == [made]
    assert catalog.pipeline("shop").environments_of_runs() == {"run": "prod"}
