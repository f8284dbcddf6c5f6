"""What holds for a tenant, and where each value comes from."""

from pathlib import Path
from typing import Any

import pytest

from entrepot.worker.config import settings
from entrepot.worker.config.shown import held
from entrepot.worker.config.tenant_schema import LimitsSection, PipelineSection, ScheduleSection, TenantSection

TEXT = """
[pipelines]
shop = "tests.pipelines.shop:shop"
gone = "tests.pipelines.gone:gone"

[tenants.acme]
backend = { type = "bigquery", project = "p", credentials = "env:HIDDEN" }
pipelines = ["shop"]
limits = { memory = "8GiB", bytes_per_run = "500GB" }

[tenants.acme.settings.shop]
parameters = { limit = 60.0 }

[[tenants.acme.schedules]]
pipeline = "shop"
every = "6h"

[tenants.globex]
backend = { type = "duckdb", path = "globex.duckdb" }
settings.gone.parameters = { x = 1 }
"""


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, tuple[Any, str]]]:
    monkeypatch.setenv("HIDDEN", "geheim-geheim")
    (tmp_path / "tenants.toml").write_text(TEXT)
    loaded = settings.load(str(tmp_path / "tenants.toml"), str(tmp_path))
    return {n: {each.setting: (each.value, each.source) for each in held(loaded, n)} for n in loaded.tenants}


def test_each_value_says_where_it_is_from(found: dict[str, Any], tmp_path: Path) -> None:
    assert (
        found["acme"].items()
        >= {
            "backend.credentials": ("env:HIDDEN", "tenants.toml"),
            "lake": (f"{tmp_path}/lake/acme", "default"),
            "slots": (8, "default"),
            "gc.every": ("1d", "default"),
            "limits.memory": ("8GiB", "tenants.toml"),
            "limits.bytes_per_run": ("500GB", "tenants.toml"),
            "limits.timeout": ("1d", "default"),
            "limits.attempts": (5, "default"),
            "settings.shop.schema": ("shop", "default"),
            "settings.shop.parameters.limit": (60.0, "tenants.toml"),
            "schedules[0].every": ("6h", "tenants.toml"),
            "schedules[0].catch_up": ("1d", "default"),
        }.items()
    )
    assert found["acme"]["pipelines"] == (["shop"], "tenants.toml")
    assert found["acme"]["settings.shop.parameters.rows"][1] == "the pipeline"
    assert found["globex"]["pipelines"][1] == "default"
    assert found["globex"]["backend.path"] == (f"{tmp_path}/globex.duckdb", "tenants.toml")
    assert "geheim" not in str(found)


def test_a_pipeline_that_cannot_be_loaded_hides_nothing_else(found: dict[str, Any]) -> None:
    assert found["globex"]["settings.gone.parameters.x"] == (1, "tenants.toml")
    assert "cannot be loaded: pipeline 'gone'" in found["globex"]["settings.gone.parameters.*"][1]
    assert found["globex"]["settings.shop.parameters.limit"][1] == "the pipeline"


def test_nothing_is_left_out(found: dict[str, Any]) -> None:
    for section, where in ((TenantSection, ""), (LimitsSection, "limits."), (ScheduleSection, "schedules[0].")):
        for name in section.model_fields:
            assert any(each.startswith(f"{where}{name}") for each in found["acme"]) or name == "backends", name
    for name in PipelineSection.model_fields:
        assert any(each.startswith(f"settings.shop.{name.rstrip('_')}") for each in found["acme"]), name
