"""What the code of a pipeline promises of a table: its columns, the rules of its contract, its checks, its age."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from entrepot.errors import listed
from entrepot.identity.code import function_identity
from entrepot.language.promises.contract import name_of, schema_of
from entrepot.language.step import CheckStep, PublishStep, TransformStep
from entrepot.planning.graph import Graph
from entrepot.planning.products.contract import ProductContract
from entrepot.planning.products.rules import NOT_NULL, UNIQUE, Rule, contradiction


def promised(graph: Graph, table: str, columns: Mapping[str, str]) -> ProductContract:
    """What is promised of a table with these columns, whether or not it is a product."""
    step = graph.steps[graph.makers[table]]
    contract = step.contract if isinstance(step, TransformStep) else None
    checks = (each for each in graph.of(CheckStep) if table in each.guards and each.severity == "block")
    product = step.products.get(table)
    return ProductContract(
        version=product.version if product else "",
        owner=(product.owner if product else "") or step.owner,
        description=(product.description if product else "") or step.description,
        columns=dict(columns),
        rules=tuple(rules_of(contract, columns)) if contract is not None else (),
        checks={each.name: each.description for each in checks if each.contract is None},
        fresh_within=step.fresh_within.total_seconds() if step.fresh_within else None,
        consumers=product.consumers if product else (),
        shown_by=tuple(_shown_by(graph, table)),
    )


def unkept(graph: Graph, table: str, columns: Mapping[str, str]) -> str:
    """Why no version of a table with these columns can keep its contract; empty, if one can."""
    step = graph.steps[graph.makers[table]]
    if not isinstance(step, TransformStep) or step.contract is None:
        return ""
    schema = schema_of(step.contract)
    if missing := [
        name for name, column in schema.columns.items() if column.required and not _names(name, column, columns)
    ]:
        return f"its contract demands {listed(missing)}, and it has {listed(columns)}"
    if column := contradiction(rules_of(step.contract, columns)):
        return f"its contract demands of column {column!r} what no value satisfies"
    return ""


def rules_of(contract: Any, columns: Iterable[str]) -> Iterator[Rule]:
    """The rules of a pandera contract for a table with these columns, as data."""
    schema, columns = schema_of(contract), list(columns)
    seen: set[str] = set()
    for name, column in schema.columns.items():
        for each in _names(name, column, columns):
            if each not in seen:
                seen.add(each)
                yield from _column_rules(each, column)
    keys = schema.unique or []
    for key in [keys] if all(isinstance(each, str) for each in keys) else keys:
        if key:
            yield Rule(rule=UNIQUE, columns=tuple(key))
    for check in schema.checks:
        yield _rule((), check)


def _names(name: str, column: Any, columns: Iterable[str]) -> list[str]:
    return [each for each in columns if (re.search(name, each) if column.regex else each == name)]


def _column_rules(name: str, column: Any) -> Iterator[Rule]:
    if not column.nullable or any(not check.ignore_na for check in column.checks):
        yield Rule(rule=NOT_NULL, columns=(name,))
    if column.unique:
        yield Rule(rule=UNIQUE, columns=(name,))
    for check in column.checks:
        yield _rule((name,), check)


def _rule(columns: tuple[str, ...], check: Any) -> Rule:
    """A check. Of one of the author's own nobody can tell what it demands, so that its code counts."""
    arguments = {key: _plain(value) for key, value in (check.statistics or {}).items()}
    if (own := _own_function(check)) is not None:
        arguments["code"] = function_identity(own)
    return Rule(rule=str(check.name or "check"), columns=columns, arguments=arguments, said=name_of(check))


def _own_function(check: Any) -> Any:
    """The author's function that a check calls; None, where pandera's name for it says what it demands."""
    from pandera.api.function_dispatch import Dispatcher

    called = check._check_fn
    if isinstance(called, Dispatcher):
        return None
    # pandera wraps what stands in the class of a model, and keeps it beside the class.
    cells = (cell.cell_contents for cell in getattr(called, "__closure__", None) or ())
    own = next((cell.check_fn for cell in cells if hasattr(cell, "check_fn")), called)
    return getattr(own, "__func__", own)


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, re.Pattern):
        return value.pattern
    if isinstance(value, set | frozenset):
        return sorted(map(_plain, value), key=lambda each: (type(each).__name__, each))
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value)  # a date, a decimal


def _shown_by(graph: Graph, table: str) -> list[str]:
    """The publish steps that are made of a table, directly or not."""
    direct = {step.name for step in graph.steps.values() if table in graph.table_inputs(step)}
    below = direct | graph.reach(direct, graph.downstream)
    return [step.name for step in graph.of(PublishStep) if step.name in below]
