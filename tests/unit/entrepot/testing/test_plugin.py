"""What pytest has wherever Entrepot is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TESTS = """
from entrepot import Pipeline, Table
from entrepot.testing import assert_rows

shop = Pipeline("shop")

@shop.ingest
def sales(): ...

@shop.transform
def doubled(sales: Table) -> Table:
    return sales.mutate(amount=sales.amount * 2)

def test_right(in_memory):
    assert_rows(in_memory.compute(shop, doubled, sales=[{"id": 1, "amount": 2}]), [{"id": 1, "amount": 4}])

def test_wrong(in_memory):
    assert_rows(in_memory.compute(shop, doubled, sales=[{"id": 1, "amount": 2}]), [{"id": 1, "amount": 5}])
"""


def test_a_project_has_the_fixture_and_reads_the_difference(tmp_path: Path) -> None:
    (tmp_path / "test_shop.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert "1 failed, 1 passed" in ran.stdout, ran.stdout + ran.stderr
    assert "≠ id=1  amount=4 (expected 5)" in ran.stdout


def test_the_plugin_costs_other_projects_nothing() -> None:
    heavy = ["ibis", "duckdb", "sklearn", "pandas", "pyarrow", "dlt", "temporalio"]
    code = f"import entrepot.testing.plugin, sys; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"
