"""A pandera contract as rules over an ibis table.

The rules are read from the schema and computed here: pandera's own back end for ibis leaves out that a column is
unique, takes an empty table for a violation, and a NULL that is not to be ignored for none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import ibis
import ibis.expr.operations as ops
import pyarrow as pa

from entrepot.activities.runtime.context import attribute_errors
from entrepot.activities.runtime.isolation.call import Call
from entrepot.activities.runtime.isolation.tables import WorkerTables
from entrepot.activities.transform.functions import values
from entrepot.backends import TableName
from entrepot.identity.expression import nodes_of, schema_from
from entrepot.language.promises.contract import name_of, schema_of
from entrepot.language.step import CheckStep, Step
from entrepot.planning.expressions.built import Built


@dataclass(frozen=True)
class Broken:
    """A rule that a table as such breaks."""

    rule: str
    said: str


@dataclass(frozen=True)
class Rule:
    """A rule over rows: an expression of those that violate it."""

    rule: str
    said: str
    violating: ibis.Table

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (self.rule, self.said, self.built)

    @cached_property
    def built(self) -> Built:
        """The expression on its way to another process."""
        return Built(nodes_of(self.violating))


def _arrived(rule: str, said: str, violating: Built) -> Rule:
    return Rule(rule, said, violating.read())


def rules_of(
    call: Call, step: Step, table: TableName, columns: tuple[tuple[str, str], ...], dialect: str
) -> list[Broken | Rule]:
    """Every rule of a step's contract for a table; asked of its process. What checks execute, the worker reads."""
    return list(_rules(call, step, table, columns, dialect))


def values_of_rule(
    call: Call,
    step: Step,
    table: TableName,
    columns: tuple[tuple[str, str], ...],
    dialect: str,
    rule: int,
    number: int,
    rows: pa.Buffer,
) -> pa.Buffer:
    """What a function that a rule calls gives for rows; asked of its step's process."""
    found = _rules(call, step, table, columns, dialect)[rule]
    assert isinstance(found, Rule)
    with attribute_errors(step):
        return values(found.built, number, rows)


@lru_cache(maxsize=8)
def _rules(
    call: Call, step: Step, table: TableName, columns: tuple[tuple[str, str], ...], dialect: str
) -> tuple[Broken | Rule, ...]:
    assert isinstance(step, CheckStep)
    tables = WorkerTables(call.read, dialect)
    with attribute_errors(step):
        found = list(rules(step.contract, tables.table(table, schema_from(dict(columns)))))
    return tuple(replace(e, violating=tables.unbound(e.violating)) if isinstance(e, Rule) else e for e in found)


def rules(contract: Any, table: ibis.Table) -> Iterator[Broken | Rule]:
    """Every rule of a contract for this table: broken already by its columns, or to be asked of its rows."""
    schema = schema_of(contract)
    columns, missing = _matched(schema, table)
    for name in missing:
        yield Broken("column_in_dataframe", f"column {name!r} is missing; the table has {', '.join(table.columns)}")
    if schema.strict is True and (more := [name for name in table.columns if name not in columns]):
        yield Broken("column_in_schema", f"the contract does not know the columns {', '.join(more)}")
    if schema.ordered and (wrong := [name for name in table.columns if name in columns]) != list(columns):
        yield Broken("column_ordered", f"the columns are in the order {', '.join(wrong)}, not {', '.join(columns)}")
    if not schema.columns and schema.dtype is not None:
        columns = dict.fromkeys(table.columns)
    for name, column in columns.items():
        dtype = schema.dtype if schema.dtype is not None else column.dtype
        yield from _type_rules(table, name, dtype)
        yield from _column_rules(table, name, column) if column is not None else ()
    keys = schema.unique or []
    for key in [keys] if all(isinstance(each, str) for each in keys) else keys:
        if key:
            yield from _key_rules(table, list(key))
    for check in schema.checks:
        yield from _check_rules(table, None, check)


def _matched(schema: Any, table: ibis.Table) -> tuple[dict[str, Any], list[str]]:
    """The table's columns that the contract speaks of, in its order, and those that are missing."""
    found: dict[str, Any] = {}
    missing: list[str] = []
    for name, column in schema.columns.items():
        names = [n for n in table.columns if re.search(name, n)] if column.regex else [name] * (name in table.columns)
        found |= {each: column for each in names if each not in found}
        missing += [name] if column.required and not names else []
    return found, missing


def _type_rules(table: ibis.Table, name: str, dtype: Any) -> Iterator[Broken]:
    from pandera.engines.ibis_engine import Engine

    if dtype is not None and not dtype.check(Engine.dtype(table[name].type()), table[name]):
        yield Broken(f"dtype('{dtype}')", f"column {name!r} is of type {table[name].type()}, not {dtype}")


def _column_rules(table: ibis.Table, name: str, column: Any) -> Iterator[Broken | Rule]:
    if not column.nullable:
        yield Rule("not_nullable", f"column {name!r} has NULL", table.filter(_is_missing(table[name])).select(name))
    if column.unique:
        yield from _key_rules(table, [name])
    for check in column.checks:
        yield from _check_rules(table, name, check)


def _key_rules(table: ibis.Table, key: list[str]) -> Iterator[Broken | Rule]:
    if missing := [name for name in key if name not in table.columns]:
        yield Broken("multiple_fields_uniqueness", f"the table lacks {', '.join(missing)}, which must be unique")
        return
    counted = table.group_by(key).aggregate(entrepot_rows=table.count())
    said = f"{', '.join(map(repr, key))} must be unique, and is not"
    yield Rule("unique", said, counted.filter(counted.entrepot_rows > 1).select(*key))


def _check_rules(table: ibis.Table, name: str | None, check: Any) -> Iterator[Broken | Rule]:
    rule = name_of(check)
    of = f"column {name!r}" if name else "the table"
    answers = _answers(table, name, check)
    if isinstance(answers, bool):
        if not answers:
            yield Broken(rule, f"{of} violates {rule}")
        return
    said = f"{of} violates {rule}"
    if isinstance(answers, ibis.expr.types.Scalar):
        # Of no row nothing can be said, and what is NULL for some rows is not true.
        asked = table.aggregate(entrepot_rows=table.count(), entrepot_holds=answers)
        wrong = (asked.entrepot_rows > 0) & ~asked.entrepot_holds.fill_null(False)
        yield Rule(rule, said, asked.filter(wrong).select("entrepot_rows"))
        return
    for source, answer in answers:
        # In the place of a NULL a check has its answer only if it does not ignore them.
        wrong = ~answer.fill_null(check.ignore_na)
        if name is not None and check.ignore_na and name in source.columns:
            wrong = wrong & ~_is_missing(source[name])
        yield Rule(rule, said, source.filter(wrong).select(*([name] if name in source.columns else source.columns)))


def _answers(table: ibis.Table, name: str | None, check: Any) -> Any:
    """A truth value, a scalar, or boolean columns, each with the table whose rows it speaks of."""
    from pandera.api.ibis.types import IbisData

    if check.name == "unique_values_eq":  # it would ask the warehouse itself
        return _has_exactly(table[name], check.statistics["values"])
    made = _function(check)(IbisData(table, name), **_arguments(check))
    if isinstance(made, Mapping):
        made = table.select(**{str(key): value for key, value in made.items()})
    if isinstance(made, ibis.Table):
        node = made.op()
        if isinstance(node, ops.Project) and node.parent == table.op():
            return [(table, value.to_expr()) for value in node.values.values()]
        return [(made, made[column]) for column in made.columns]
    if isinstance(made, bool | ibis.expr.types.Scalar):
        return made
    return [(table, made)]


def _has_exactly(column: Any, values: Iterable[Any]) -> Any:
    wanted = [*dict.fromkeys(values)]
    seen = column.isin(wanted).fill_null(True).all() & (column.nunique() == len(wanted))
    return seen if wanted else column.count() == 0


def _function(check: Any) -> Any:
    import pandera.backends.ibis.builtin_checks  # noqa: F401 - makes those that pandera names known
    from pandera.api.function_dispatch import Dispatcher

    # A schema may have a copy from before they were known.
    is_named = isinstance(check._check_fn, Dispatcher)
    return check.get_builtin_check_fn(check._check_fn.__name__) if is_named else check._check_fn


def _arguments(check: Any) -> dict[str, Any]:
    given = dict(check._check_kwargs)
    if check.name == "str_matches":  # a pattern such as a|b is anchored as a whole
        pattern = given["pattern"]
        given["pattern"] = f"^(?:{pattern.pattern if isinstance(pattern, re.Pattern) else pattern})"
    return given


def _is_missing(value: Any) -> Any:
    """NULL, and NaN, which pandera takes for the same."""
    return value.isnull() | value.isnan().fill_null(False) if value.type().is_floating() else value.isnull()
