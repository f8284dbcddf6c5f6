"""Places that two tenants would share are seen through whatever they are called, and databases shared by prefixes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.worker.config.test_settings import Files

SHOP = 'pipelines = { shop = "a:b", sales = "a:b" }\n'


@pytest.fixture
def files(tmp_path: Path) -> Files:
    (tmp_path / "state").mkdir()
    return Files(tmp_path)


def tenant(name: str, lines: str = "", backend: str = "", settings: str = "", pipelines: str = '"shop"') -> str:
    backend = backend or f'{{ type = "duckdb", path = "{name}.duckdb" }}'
    return f"[tenants.{name}]\nbackend = {backend}\npipelines = [{pipelines}]\nsettings = {{ {settings} }}\n{lines}\n"


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ("file://{state}/x", "x", "the same lake"),
        ("{state}/./x", "file://{state}//x/", "the same lake"),
        ("up/../x", "x", "the same lake"),
        ("linked", "x", "the same lake"),
        ("linked/y", "x", "one inside the other"),
        ("s3://b/x", "s3a://b/x", "the same lake"),
        ("s3://b/x", "S3N://B//x/", "the same lake"),
        ("s3://b/x", "simplecache::s3://b/x/y", "one inside the other"),
        ("gs://b", "gcs://b/x", "one inside the other"),
        ("abfss://c@h.net/x", "abfs://c@H.net/x", "the same lake"),
        ("s3://b/x", "s3://b/xy", ""),
        ("s3://b/x", "s3://b/X", ""),
        ("s3://b/x", "gs://b/x", ""),
        ("x", "xy", ""),
    ],
)
def test_lakes_are_compared_by_what_they_are(files: Files, one: str, other: str, said: str) -> None:
    state = files.folder / "state"
    (state / "x").mkdir()
    (state / "linked").symlink_to("x")
    lakes = [lake.format(state=state) for lake in (one, other)]
    text = SHOP + tenant("acme", f'lake = "{lakes[0]}"') + tenant("globex", f'lake = "{lakes[1]}"')
    if not said:
        files.load(text)
        return
    problem = files.problem(text)
    assert problem.startswith("tenants.globex: ")
    assert said in problem
    assert "'acme'" in problem
    assert lakes[1].rstrip("/") in problem or str(state) in problem


@pytest.mark.parametrize("lake", ["s3://b/../x", "s3://b/%2e%2e/x", "s3://b/x\\\\y", "a\\u0000b", "a\\nb", "a\\u200bb"])
def test_a_lake_that_leads_elsewhere_is_none(files: Files, lake: str) -> None:
    assert "is no place of a lake" in files.problem(SHOP + tenant("acme", f'lake = "{lake}"'))


def test_a_file_is_known_by_its_other_names(files: Files) -> None:
    state = files.folder / "state"
    (state / "acme.duckdb").write_text("x")
    os.link(state / "acme.duckdb", state / "globex.duckdb")
    problem = files.problem(SHOP + tenant("acme") + tenant("globex"))
    assert problem.startswith(
        f"tenants.globex: has the same file as tenant 'acme': {state}/globex.duckdb and {state}/acme.duckdb; "
        "both have the schemas 'entrepot', 'shop' there, so give each a file or a `prefix` of its own"
    )


SNOWFLAKE = '{{ type = "snowflake", account = "{}", user = "u", password = "env:P", database = "{}" }}'
BIGQUERY = '{{ type = "bigquery", project = "{}", location = "{}" }}'
DATABRICKS = (
    '{{ type = "databricks", host = "{}", http_path = "{}", catalog = "{}", volume = "a.b.c", token = "env:T" }}'
)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (SNOWFLAKE.format("org-eu", "DB"), SNOWFLAKE.format("ORG_EU", "db"), True),
        (SNOWFLAKE.format("org-eu", "DB"), SNOWFLAKE.format("org-eu", "OTHER"), False),
        (SNOWFLAKE.format("org-eu", "DB"), SNOWFLAKE.format("org-us", "DB"), False),
        (BIGQUERY.format("data", "EU"), BIGQUERY.format("data", "US"), True),
        (BIGQUERY.format("data", "EU"), BIGQUERY.format("data-2", "EU"), False),
        (
            DATABRICKS.format("https://Host.net/", "/sql/1.0/warehouses/a", "main"),
            DATABRICKS.format("host.net", "/sql/1.0/warehouses/b", "Main"),
            True,
        ),
        (DATABRICKS.format("host.net", "/x", "main"), DATABRICKS.format("host.net", "/x", "other"), False),
    ],
)
@pytest.mark.parametrize("prefixes", [("", ""), ("acme", "globex"), ("acme", ""), ("acme", "acme_2")])
def test_tenants_share_a_database_where_their_schemas_cannot_meet(
    files: Files, one: str, other: str, same: bool, prefixes: tuple[str, str]
) -> None:
    lines = [f'prefix = "{prefix}"' if prefix else "" for prefix in prefixes]
    text = SHOP + tenant("acme", lines[0], one) + tenant("globex", lines[1], other)
    if same and prefixes in (("", ""), ("acme", "acme_2")):
        assert "tenants.globex: has the same database as tenant 'acme': " in files.problem(text)
    else:
        files.load(text)


def test_schemas_that_meet_though_there_are_prefixes_are_refused(files: Files) -> None:
    backend = '{ type = "duckdb", path = "one.duckdb" }'
    text = tenant("acme", 'prefix = "acme"', backend)
    text += tenant("globex", "", backend, 'sales = {schema = "acme_shop"}', '"sales"')
    assert "both have the schemas 'acme_shop' there" in files.problem(SHOP + text)


def test_a_prefix_stands_before_every_schema(files: Files) -> None:
    text = SHOP + tenant("acme", 'prefix = "acme"', "", 'sales = { schema = "money" }', '"shop", "sales"')
    acme = files.load(text).connect().get("acme")
    assert {name: its.schema for name, its in acme.pipelines.items()} == {"shop": "acme_shop", "sales": "acme_money"}
    assert acme.catalog_schema == "acme_entrepot"


def test_of_many_lakes_each_place_is_looked_at_once(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    real = os.path.realpath
    monkeypatch.setattr(os.path, "realpath", lambda path: looked.append(path) or real(path))
    names = [f"t{number}" for number in range(50)]
    files.load(SHOP + "".join(tenant(name, f'lake = "lakes/{name}"') for name in names))
    lakes = [path for path in looked if "/lakes/" in path]
    assert len(lakes) == len(names)
    assert len(looked) <= 3 * len(names)
