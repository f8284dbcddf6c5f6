"""What dlt knows of a table, in the words of an ingest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import dlt
from dlt.extract import DltResource, DltSource, Incremental
from dlt.extract.exceptions import DataItemRequiredForDynamicTableHints

from entrepot.activities.ingest.dispositions import STRATEGIES
from entrepot.activities.ingest.sources.dlt.compat import is_unsaid, normalize_table_identifiers, parents_cursor
from entrepot.activities.ingest.sources.dlt.cursors import Limits, bound_of, cursor_of, skips_known_rows
from entrepot.activities.ingest.sources.stream import Hints, IntervalFilter
from entrepot.errors import StepFailed
from entrepot.language.interval import Interval
from entrepot.language.sources import Disposition

_STRATEGIES = ("delete-insert", "upsert", "scd2")
_Table = Mapping[str, Any]


def hints_of(schema: dlt.Schema, source: DltSource, interval: Interval | None, limits: Limits) -> dict[str, Hints]:
    """Each table of the source, also those that had no rows, where dlt knows them.

    Raises:
        StepFailed: if a table asks for what cannot be.
    """
    tables: dict[str, _Table] = {name: schema.tables[name] for name in schema.data_table_names(include_incomplete=True)}
    resources = {r.name: r for r in [*source.resources.extracted, *source.resources.selected.values()]}
    for resource in source.resources.selected.values():
        for name, table in _announced(schema, resource).items():
            tables.setdefault(name, table)
    roots = {
        name: _root_hints(schema, name, table, resources.get(table.get("resource", "")), interval, limits)
        for name, table in tables.items()
        if not table.get("parent")
    }
    return {name: roots[name] if name in roots else _nested(schema, name, tables, roots) for name in tables}


def welcome_new_tables(sources: Sequence[DltSource]) -> None:
    """Has contracts say nothing of new tables: to dlt, whose schema begins empty with each load, all of them are."""
    for source in sources:
        if source.schema_contract:
            source.schema_contract = _welcoming(source.schema_contract)
        for resource in source.resources.extracted:
            if resource.schema_contract and not callable(resource.schema_contract):
                resource.apply_hints(schema_contract=_welcoming(resource.schema_contract))


def _welcoming(contract: Any) -> Any:
    modes = contract if isinstance(contract, Mapping) else {"columns": contract, "data_type": contract}
    return {**modes, "tables": "evolve"}


def _announced(schema: dlt.Schema, resource: DltResource) -> dict[str, _Table]:
    """The table of a resource that may not have brought any rows."""
    try:
        table: _Table = normalize_table_identifiers(resource.compute_table_schema(), schema.naming)
    except DataItemRequiredForDynamicTableHints:
        return {}
    return {} if resource.name.startswith("_dlt") else {table["name"]: table}


def columns_with(table: _Table, hint: str) -> list[str]:
    """The columns of a table that have a hint."""
    return [name for name, column in table["columns"].items() if column.get(hint)]


def _nested(schema: dlt.Schema, name: str, tables: Mapping[str, _Table], roots: Mapping[str, Hints]) -> Hints:
    parent = root = tables[name]["parent"]
    while root not in roots:
        root = tables[root]["parent"]
    top = roots[root]
    return Hints(
        disposition=top.disposition,
        parent=parent,
        root=root,
        contract=_contract(tables[name].get("schema_contract")) or top.contract,
    )


def _root_hints(
    schema: dlt.Schema,
    name: str,
    table: _Table,
    resource: DltResource | None,
    interval: Interval | None,
    limits: Limits,
) -> Hints:
    cursor = cursor_of(resource) if resource else None
    parental = parents_cursor(resource) if resource and not cursor else None
    disposition = _disposition(name, table, resource, cursor or parental)
    primary, group = (tuple(columns_with(table, prop)) for prop in ("primary_key", "merge_key"))
    strategy = STRATEGIES[disposition]
    if strategy.needs_key and primary and group:
        raise StepFailed(
            f"table {name!r} gives both a primary key ({', '.join(primary)}) and a merge key ({', '.join(group)}); "
            "give the primary key to replace single rows, or the merge key to replace groups of them"
        )
    if strategy.needs_key and not primary and not group:
        raise StepFailed(f"table {name!r} asks for {disposition!r} and gives neither a primary key nor a merge key")
    order, deleted = (next(iter(columns_with(table, prop)), None) for prop in ("dedup_sort", "hard_delete"))
    contract = table.get("schema_contract") or schema.settings.get("schema_contract")
    return Hints(
        disposition=disposition,
        key=primary or group if strategy.needs_key else primary,
        is_group=strategy.needs_key and bool(group),
        deleted=deleted,
        newest=(order, table["columns"][order]["dedup_sort"]) if order else None,
        replaces=_replaces(schema, name, cursor, parental, interval, limits) if strategy.supersedes_ranges else None,
        contract=_contract(contract),
    )


def _disposition(
    name: str, table: _Table, resource: DltResource | None, cursor: Incremental[Any] | None
) -> Disposition:
    given: str = table.get("write_disposition") or "append"
    if given == "merge":
        strategy = table.get("x-merge-strategy")
        if strategy is not None and strategy not in _STRATEGIES:
            known = ", ".join(repr(known) for known in _STRATEGIES)
            raise StepFailed(f"table {name!r} asks for the merge strategy {strategy!r}; known are {known}")
        return "scd2" if strategy == "scd2" else "merge"
    if (
        given == "append"
        and cursor is None
        and (resource is None or is_unsaid(resource, table.get("variant_name", "")))
    ):
        return "replace"
    return "append" if given == "append" else "replace"


def _replaces(
    schema: dlt.Schema,
    name: str,
    cursor: Incremental[Any] | None,
    parental: Incremental[Any] | None,
    interval: Interval | None,
    limits: Limits,
) -> IntervalFilter | None:
    """The earlier rows that come again: those of an interval, or those which dlt does not know again by itself."""
    again = cursor or parental
    beyond = limits.again(schema.name, again) if again and interval is None else None
    if again is None or (
        interval is None and not beyond and (skips_known_rows(again) or (again.range_start == "open" and not again.lag))
    ):
        return None
    why = "its cursor goes back (lag), or has no primary key to know rows by"
    why = "an interval is loaded again" if interval else why
    why = "its cursor has met values far in the future" if beyond else why
    if cursor is None:
        raise StepFailed(
            f"table {name!r} is appended to, and {why}, but the cursor {again.cursor_path!r} is that of the resource "
            "above it, so earlier rows cannot be told; use 'merge'"
        )
    if interval is None and not beyond and (cursor.last_value_func is not max or cursor.range_start == "open"):
        raise StepFailed(
            f"table {name!r} is appended to, and {why}: its cursor {cursor.cursor_path!r} has to grow (max) and its "
            "range_start to be 'closed', or rows would be lost or doubled; else use 'merge'"
        )
    fields = (cursor.get_cursor_column_name() or cursor.cursor_path).split(".")
    column = schema.naming.shorten_fragments(*(schema.naming.normalize_path(field) for field in fields))
    if interval is not None:
        return IntervalFilter(interval.start, interval.end, column)
    if beyond and not cursor.lag:
        return IntervalFilter(*beyond, None, column)
    return IntervalFilter(bound_of(cursor.start_value), None, column)


def _contract(contract: Any) -> Literal["evolve", "freeze", "discard"] | None:
    modes: Sequence[str | None] = (
        [contract.get(k) for k in ("columns", "data_type")] if isinstance(contract, Mapping) else [contract]
    )
    if not contract:
        return None
    if "freeze" in modes:
        return "freeze"
    return "discard" if any(mode and mode.startswith("discard") for mode in modes) else "evolve"
