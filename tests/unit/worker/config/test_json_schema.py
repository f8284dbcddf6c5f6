"""What editors are told of the tenant file is what Entrepot takes."""

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from entrepot.worker.config.json_schema import json_schema, sections
from entrepot.worker.config.section import Section
from entrepot.worker.config.tenant_schema import File, TenantSection
from entrepot.worker.local.project.project import TEMPLATES, Project

ROOT = Path(__file__).parents[4]
VALIDATOR = jsonschema.Draft202012Validator(json_schema())
HEAD = '[tenants.acme]\nbackend = { type = "duckdb", path = "a" }\n'


def errors(text: str) -> list[str]:
    return [error.json_path for error in VALIDATOR.iter_errors(tomllib.loads(text))]


def test_it_is_a_schema() -> None:
    VALIDATOR.check_schema(VALIDATOR.schema)
    assert json.loads(json.dumps(VALIDATOR.schema)) == VALIDATOR.schema


def test_examples_and_new_projects_are_as_it_says() -> None:
    assert not errors((ROOT / "examples/tenants.toml").read_text())
    for template in TEMPLATES:
        assert not errors(Project(Path("shop_of_mine"), template).files()["tenants.toml"])


@pytest.mark.parametrize(
    "lines",
    [
        'pipelines = ["shop"]\nsettings.shop = { schema = "a", parameters = { x = 1 } }',
        'limits = { timeout = "2h", memory = "1.5 GiB", attempts = 3 }\nexpires = { "pr_*" = "14d" }',
        'prefix = ""\nweight = 2',
        'schedules = [{ pipeline = "shop", every = "6h", overlap = "allow_all" }]',
        'backends.other = { type = "one_of_our_own", anything = [1] }',
    ],
)
def test_what_is_taken_has_no_error(lines: str) -> None:
    assert errors(HEAD + lines) == []


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (HEAD + "paralel = 3", "$.tenants.acme"),
        (HEAD + "[tenants.acme.pipelines.shop]", "$.tenants.acme.pipelines"),
        (HEAD + "pipelines = []", "$.tenants.acme.pipelines"),
        (HEAD + "slots = 0", "$.tenants.acme.slots"),
        (HEAD + 'prefix = "Acme"', "$.tenants.acme.prefix"),
        (HEAD + 'gc.every = "1 day"', "$.tenants.acme.gc.every"),
        (HEAD + "limits.memory = 8", "$.tenants.acme.limits.memory"),
        (HEAD + 'schedules = [{ pipeline = "shop" }]', "$.tenants.acme.schedules[0]"),
        (HEAD + 'schedules = [{ pipeline="a", every="1h", overlap="no" }]', "$.tenants.acme.schedules[0].overlap"),
        ("[tenants.acme]\nbackend = { path = 'a' }", "$.tenants.acme.backend"),
        (HEAD.replace("acme", "Acme"), "$.tenants"),
    ],
)
def test_what_is_refused_is_underlined_where_it_stands(text: str, place: str) -> None:
    assert errors(text) == [place]


def test_defaults_are_as_they_are_written_and_good_themselves() -> None:
    found: dict[str, Any] = {name: each for name, each in _properties().items() if each.get("default") is not None}
    assert found["ScheduleSection.catch_up"]["default"] == "1d"
    for name, each in found.items():
        resolved = {**each, "$defs": VALIDATOR.schema["$defs"]}
        assert not list(jsonschema.Draft202012Validator(resolved).iter_errors(each["default"])), name


def test_every_setting_is_there_and_those_with_a_text_have_it() -> None:
    known = {
        f"{section.__name__}.{field.alias or name}"
        for section in sections(Section)
        if section is not File and section.__name__ in VALIDATOR.schema["$defs"]
        for name, field in section.model_fields.items()
    }
    assert known == set(_properties())
    assert "what holds" in json.dumps(VALIDATOR.schema).lower()
    assert "description" in VALIDATOR.schema["$defs"][TenantSection.__name__]["properties"]["settings"]


def _properties() -> dict[str, Any]:
    definitions = VALIDATOR.schema["$defs"].items()
    return {f"{section}.{name}": each for section, its in definitions for name, each in its["properties"].items()}
