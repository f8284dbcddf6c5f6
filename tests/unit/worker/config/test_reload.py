"""A tenant file is read again when it changes; what is wrong with it is said, and changes nothing."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from entrepot import BadInput
from entrepot.activities.runtime.tenant import Tenants
from entrepot.worker.config import settings

FILE = """
[pipelines]
shop = "tests.pipelines.shop:shop"

[tenants.acme]
backend = {{ type = "duckdb", path = "acme.duckdb" }}

[tenants.acme.settings.shop]
parameters = {{ limit = {limit} }}
"""


def served(folder: Path) -> Tenants:
    write(folder, FILE.format(limit=1.0))
    return settings.load(str(folder / "tenants.toml"), str(folder)).connect()


def write(folder: Path, text: str) -> None:
    file = folder / "tenants.toml"
    before = file.stat().st_mtime_ns if file.exists() else 0
    file.write_text(text)
    if before:
        os.utime(file, ns=(before + 1_000, before + 1_000))


def limit(tenants: Tenants) -> object:
    return tenants.parameters("acme", tenants.pipeline("acme", "shop"), {})["limit"]


def test_changed_parameters_count_at_once(tmp_path: Path) -> None:
    tenants = served(tmp_path)
    assert limit(tenants) == 1.0
    write(tmp_path, FILE.format(limit=2.0))
    assert limit(tenants) == 2.0


def test_a_new_tenant_is_known_and_one_that_is_gone_is_not(tmp_path: Path) -> None:
    tenants = served(tmp_path)
    write(tmp_path, FILE.format(limit=1.0).replace("acme", "globex"))
    assert tenants.get("globex").name == "globex"
    with pytest.raises(BadInput, match="unknown tenant 'acme'"):
        tenants.get("acme")


def test_a_new_pipeline_is_known(tmp_path: Path) -> None:
    tenants = served(tmp_path)
    more = FILE.format(limit=1.0).replace("[tenants.acme]", 'slow = "tests.pipelines.slow:slow"\n\n[tenants.acme]')
    write(tmp_path, more)
    assert tenants.pipeline("acme", "slow").name == "slow"


def test_connections_stay_open_where_the_warehouse_is_the_same(tmp_path: Path) -> None:
    tenants = served(tmp_path)
    before = tenants.get("acme").backend
    write(tmp_path, FILE.format(limit=2.0))
    assert tenants.get("acme").backend is before
    write(tmp_path, FILE.format(limit=2.0).replace("acme.duckdb", "other.duckdb"))
    assert tenants.get("acme").backend is not before


def test_what_is_wrong_is_said_once_and_what_was_read_before_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tenants = served(tmp_path)
    for broken in ("[tenants.acme", FILE.format(limit=1.0).replace("parameters", "paramters")):
        caplog.clear()
        write(tmp_path, broken)
        assert [limit(tenants), limit(tenants)] == [1.0, 1.0]
        (record,) = caplog.records
        assert record.getMessage().startswith(
            f"{tmp_path / 'tenants.toml'} has changed but cannot be used, so the settings read before stay in effect: "
            f"{tmp_path}/tenants.toml "
        )
    write(tmp_path, FILE.format(limit=2.0))
    assert limit(tenants) == 2.0


def test_warehouses_beside_those_of_the_file_stay(tmp_path: Path) -> None:
    write(tmp_path, FILE.format(limit=1.0))
    loaded = settings.load(str(tmp_path / "tenants.toml"), str(tmp_path))
    other = {"type": "duckdb", "path": "other.duckdb"}
    tenants = replace(loaded, further={"other": other}).connect()
    write(tmp_path, FILE.format(limit=2.0))
    assert limit(tenants) == 2.0
    assert tenants.get("acme").warehouses == ("duckdb", "other")
