"""The shape of the tenant file as JSON Schema, by which editors complete and check it as it is written.

It says what each value may be, where that does not depend on another: what it takes for good may still be refused.
"""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from entrepot.language.limits import duration_text
from entrepot.language.names import TenantName
from entrepot.worker.config.section import Section
from entrepot.worker.config.tenant_schema import File, TenantSection


class _Whole(File):
    """The tenant file of Entrepot."""

    tenants: dict[TenantName, TenantSection]


class _Written(GenerateJsonSchema):
    """Defaults as somebody would write them in the file."""

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, BaseModel):
            return {}
        return duration_text(dft) if isinstance(dft, timedelta) else super().encode_default(dft)


def json_schema() -> dict[str, Any]:
    """The schema; it needs nothing else."""
    from entrepot import backends

    made = _Whole.model_json_schema(schema_generator=_Written)
    for section in sections(Section):
        if section.__name__ in made["$defs"]:
            _describe(made["$defs"][section.__name__], section)
    its = made["$defs"][TenantSection.__name__]["properties"]
    for warehouse in (its["backend"], *its["backends"]["patternProperties"].values()):
        # What a warehouse takes is known to its driver alone, which need not be one of ours.
        warehouse["properties"] = {"type": {"type": "string", "examples": backends.known()}}
        warehouse["required"] = ["type"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_tidy(made)}


def sections(of: type[Section]) -> Iterator[type[Section]]:
    """The kinds of sections."""
    for each in of.__subclasses__():
        yield each
        yield from sections(each)


def _describe(found: dict[str, Any], section: type[Section]) -> None:
    """Gives each setting the text that stands below it in the code."""
    for name, text in _texts(section):
        found["properties"][section.model_fields[name].alias or name]["description"] = text


def _texts(section: type[Section]) -> Iterator[tuple[str, str]]:
    """A section's settings and their texts. Pydantic can read them, too, but would at each start of a command."""
    [made] = ast.parse(inspect.getsource(section)).body
    assert isinstance(made, ast.ClassDef)
    for setting, below in zip(made.body, made.body[1:], strict=False):
        if isinstance(setting, ast.AnnAssign) and isinstance(setting.target, ast.Name) and isinstance(below, ast.Expr):
            yield setting.target.id, " ".join(str(ast.literal_eval(below.value)).split())


def _tidy(found: Any) -> Any:
    """Without pydantic's titles, which only repeat names; and where names are to have a shape, no others are taken."""
    if isinstance(found, list):
        return [_tidy(each) for each in found]
    if not isinstance(found, dict):
        return found
    kept = {key: _tidy(each) for key, each in found.items() if key != "title" or not isinstance(each, str)}
    return {**kept, "additionalProperties": False} if "patternProperties" in kept else kept


def written() -> str:
    """The schema as a file."""
    return json.dumps(json_schema(), indent=2) + "\n"
