"""Open Data Contract Standard files: of a product's contract, and read as one, whoever wrote them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from entrepot.errors import BadInput
from entrepot.language.limits import duration_text
from entrepot.planning.products.contract import ProductContract
from entrepot.planning.products.rules import NOT_NULL, UNIQUE, Rule

if TYPE_CHECKING:
    from open_data_contract_standard.model import DataQuality, OpenDataContractStandard, SchemaObject, SchemaProperty

VERSION = "v3.1.0"
"""Of the standard, in which files are written. Those of any 3 are read."""
LARGEST_FILE = 1_000_000
"""Characters."""
ENGINE = "entrepot"
"""Whose words rules are written in for which the standard has none."""
_SECONDS = {"s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "hr": 3600.0, "d": 86400.0, "day": 86400.0}


@dataclass(frozen=True)
class Subject:
    """Which table a file is about, and where that is shown."""

    tenant: str
    pipeline: str
    environment: str
    table: str
    server: Mapping[str, str]
    """Its warehouse, as the standard has it, without secrets."""
    types: Mapping[str, str]
    """Column to its type in that warehouse."""


def written(contract: ProductContract, of: Subject) -> str:
    """A contract as the text of a file, in YAML."""
    from open_data_contract_standard.model import OpenDataContractStandard

    quality = [*(_quality(rule) for rule in contract.rules if not rule.columns or len(rule.columns) > 1)]
    quality += [
        {"type": "text", "name": name, "description": said or f"No row violates {name}"}
        for name, said in contract.checks.items()
    ]
    table = {
        "name": of.table,
        "physicalName": of.table,
        "physicalType": "view",
        "logicalType": "object",
        "description": contract.description or None,
        "properties": [_property(contract, name, of.types.get(name)) for name in contract.columns],
        "quality": [each for each in quality if each is not None] or None,
    }
    document = {
        "apiVersion": VERSION,
        "kind": "DataContract",
        "id": f"{of.tenant}/{of.pipeline}/{of.table}",
        "name": of.table,
        "version": contract.version,
        "status": "active",
        "tenant": of.tenant,
        "dataProduct": of.table,
        "description": {"purpose": contract.description} if contract.description else None,
        "servers": [{"server": of.environment, "environment": of.environment, **of.server}],
        "schema": [table],
        "team": {"name": contract.owner, "members": [{"username": contract.owner, "role": "owner"}]},
        "slaProperties": _sla(contract, of.table),
        "customProperties": [
            {"property": "pipeline", "value": of.pipeline},
            *([{"property": "consumers", "value": list(contract.consumers)}] if contract.consumers else []),
        ],
    }
    return OpenDataContractStandard.model_validate(document).to_yaml()


def _sla(contract: ProductContract, table: str) -> list[dict[str, Any]] | None:
    if contract.fresh_within is None:
        return None
    text = duration_text(timedelta(seconds=contract.fresh_within))
    return [{"property": "freshness", "value": float(text[:-1]), "unit": text[-1], "element": table}]


def _property(contract: ProductContract, name: str, physical: str | None) -> dict[str, Any]:
    own = [rule for rule in contract.rules if rule.columns == (name,)]
    quality = [each for rule in own if (each := _quality(rule)) is not None]
    key = contract.key
    return {
        "name": name,
        "logicalType": logical(contract.columns[name]),
        "physicalType": physical,
        "required": (name in contract.required) or None,
        "unique": any(rule.rule == UNIQUE for rule in own) or None,
        "primaryKey": (name in key) or None,
        "primaryKeyPosition": key.index(name) + 1 if name in key else None,
        "quality": quality or None,
    }


def _quality(rule: Rule) -> dict[str, Any] | None:
    """A rule; None for what the column itself says."""
    if rule.rule == NOT_NULL or (rule.rule == UNIQUE and len(rule.columns) == 1):
        return None
    if rule.rule == "isin":
        arguments = {"validValues": rule.arguments["allowed_values"]}
        return {
            "type": "library",
            "metric": "invalidValues",
            "arguments": arguments,
            "mustBe": 0,
            "description": str(rule),
        }
    if rule.rule == UNIQUE:
        arguments = {"properties": list(rule.columns)}
        return {
            "type": "library",
            "metric": "duplicateValues",
            "arguments": arguments,
            "mustBe": 0,
            "description": str(rule),
        }
    implementation = {"rule": rule.rule, "arguments": rule.arguments}
    return {
        "type": "custom",
        "engine": ENGINE,
        "name": rule.rule,
        "implementation": implementation,
        "description": rule.said or rule.rule,
    }


def logical(dtype: str) -> str:
    """The standard's name for a type as ibis writes it."""
    import ibis.expr.datatypes as dt

    its = dt.dtype(dtype)
    for name, is_one in (
        ("boolean", its.is_boolean()),
        ("integer", its.is_integer()),
        ("number", its.is_numeric()),
        ("date", its.is_date()),
        ("timestamp", its.is_timestamp()),
        ("time", its.is_time()),
        ("array", its.is_array()),
        ("object", its.is_struct() or its.is_map() or its.is_json()),
    ):
        if is_one:
            return name
    return "string"


@dataclass(frozen=True)
class Expected:
    """What a file says of one table."""

    table: str
    schema: str
    """Where it stands; empty: the file does not say it."""
    version: str
    """Of the file's promise."""
    physical: Mapping[str, str]
    """Column to its type in a warehouse, where the file says it."""
    logical: Mapping[str, str]
    columns: tuple[str, ...]
    rules: tuple[Rule, ...]
    checks: tuple[str, ...]
    fresh_within: float | None


def read(file: str, text: str) -> list[Expected]:
    """What a file says of tables.

    Raises:
        BadInput: if it is no Open Data Contract Standard file.
    """
    its = _document(file, text)
    tables = its.schema_ or []
    if not tables:
        raise BadInput(f"{file}: its `schema` names no table, so that nothing can be checked")
    return [_expected(file, its, table) for table in tables]


def _document(file: str, text: str) -> OpenDataContractStandard:
    import yaml
    from open_data_contract_standard.model import OpenDataContractStandard
    from pydantic import ValidationError

    if len(text) > LARGEST_FILE:
        raise BadInput(f"{file}: it has {len(text):,} characters, and at most {LARGEST_FILE:,} are read")
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadInput(f"{file} is no Open Data Contract Standard file: {' '.join(str(error).split())}") from None
    kind = found.get("kind") if isinstance(found, dict) else None
    if _size(found, {}) > LARGEST_FILE:
        raise BadInput(f"{file}: written out, its aliases are more than {LARGEST_FILE:,} values")
    if not isinstance(found, dict) or kind != "DataContract":
        what = "it has no `kind: DataContract`" if kind is None else f"its `kind` is {kind!r}, not 'DataContract'"
        raise BadInput(f"{file} is no Open Data Contract Standard file: {what}")
    version = found.get("apiVersion")
    if not (isinstance(version, str) and re.match(r"v3\.", version)):
        raise BadInput(f"{file}: its `apiVersion` is {version!r}; files of v3 are read, such as {VERSION!r}")
    try:
        return OpenDataContractStandard.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BadInput(f"{file} is no Open Data Contract Standard file: `{where}`: {first['msg']}") from None


def _size(value: Any, known: dict[int, float]) -> float:
    """How many values it is, if what stands in it several times counts as often; infinite, if it stands in itself."""
    parts = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    if not parts:
        return 1
    if id(value) not in known:
        known[id(value)] = float("inf")
        known[id(value)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(value)]


def _expected(file: str, its: OpenDataContractStandard, table: SchemaObject) -> Expected:
    name = table.physicalName or table.name
    if not name:
        raise BadInput(f"{file}: a table of its `schema` has no `name`")
    schema, _, short = name.rpartition(".")
    schemas = {each.schema_ or each.dataset or "" for each in its.servers or []} - {""}
    properties = {each.physicalName or each.name or "": each for each in table.properties or []}
    if "" in properties:
        raise BadInput(f"{file}: a column of {name!r} has no `name`")
    return Expected(
        table=short,
        schema=schema.rpartition(".")[2] or (schemas.pop() if len(schemas) == 1 else ""),
        version=its.version or "",
        physical={n: each.physicalType for n, each in properties.items() if each.physicalType},
        logical={n: each.logicalType for n, each in properties.items() if each.logicalType},
        columns=tuple(properties),
        rules=tuple(_rules(properties, table)),
        checks=tuple(each.name for each in table.quality or [] if each.type == "text" and each.name),
        fresh_within=_fresh_within(file, its, {name, short, table.name}),
    )


def _rules(properties: Mapping[str, SchemaProperty], table: SchemaObject) -> Iterator[Rule]:
    for name, each in properties.items():
        if each.required or each.primaryKey:
            yield Rule(rule=NOT_NULL, columns=(name,))
        if each.unique:
            yield Rule(rule=UNIQUE, columns=(name,))
        yield from _quality_rules((name,), each.quality)
    keys = [(each.primaryKeyPosition or 0, name) for name, each in properties.items() if each.primaryKey]
    if keys:
        yield Rule(rule=UNIQUE, columns=tuple(name for _, name in sorted(keys)))
    yield from _quality_rules((), table.quality)


def _quality_rules(columns: tuple[str, ...], quality: list[DataQuality] | None) -> Iterator[Rule]:
    """Those that are understood. Others are their own tool's."""
    for each in quality or []:
        given = each.arguments or {}
        metric = each.metric or each.rule
        its = each.implementation
        is_none = each.mustBe == 0 and not isinstance(each.mustBe, bool)
        if each.engine == ENGINE and isinstance(its, dict) and isinstance(its.get("rule"), str):
            arguments = its.get("arguments")
            yield Rule(
                rule=its["rule"],
                columns=columns,
                arguments=arguments if isinstance(arguments, dict) else {},
                said=each.description or "",
            )
        elif metric == "invalidValues" and is_none and columns and isinstance(given.get("validValues"), list):
            yield Rule(rule="isin", columns=columns, arguments={"allowed_values": given["validValues"]})
        elif metric in ("nullValues", "missingValues") and is_none and columns:
            yield Rule(rule=NOT_NULL, columns=columns)
        elif metric == "duplicateValues" and is_none:
            key = given.get("properties") or columns
            if isinstance(key, list | tuple) and key:
                yield Rule(rule=UNIQUE, columns=tuple(map(str, key)))


def _fresh_within(file: str, its: OpenDataContractStandard, names: set[str | None]) -> float | None:
    """The least age that is promised of a table, in seconds."""
    found = []
    for each in its.slaProperties or []:
        about = {(part.strip().partition(".")[0]) for part in (each.element or "").split(",")} - {""}
        if each.property not in ("freshness", "fr") or (about and about.isdisjoint({*names})):
            continue
        unit = (each.unit or "").lower()
        seconds = _SECONDS.get(unit) or _SECONDS.get(unit.removesuffix("s").removesuffix("ute").removesuffix("our"))
        if seconds is None or isinstance(each.value, bool) or not isinstance(each.value, int | float):
            raise BadInput(f"{file}: its freshness is a number of s, m, h or d, not {each.value!r} of {each.unit!r}")
        found.append(each.value * seconds)
    return min(found, default=None)
