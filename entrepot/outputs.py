"""What a publish step returns: a page of charts, files, or a copy in another schema."""

from __future__ import annotations

import ast
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from entrepot.syntax import definition

if TYPE_CHECKING:
    from entrepot import Table


@dataclass(frozen=True)
class Figure:
    """One number worth reading at a glance."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Panel:
    """A chart or a small table with a title and a sentence that says what it shows.

    `content` is an Altair chart over at most 5,000 rows, or an ibis table of at most 500: aggregate before you show. An
    Altair chart takes an ibis table as its data. Colours that it does not set suit the page, light and dark.
    """

    title: str
    content: Any
    text: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Dashboard:
    """One self-contained HTML page: data and chart library are inside, so it needs no network."""

    title: str
    panels: Sequence[Panel]
    text: str = ""
    figures: Sequence[Figure] = field(default=())


@dataclass(frozen=True)
class Export:
    """A table as files in the lake."""

    table: Table
    format: Literal["parquet", "csv"] = "parquet"


@dataclass(frozen=True)
class Copy:
    """A table under another name, in another schema, as a table of its own.

    `to` names another warehouse of the tenant, to serve the table from there: it is streamed over, and published only
    if its digest there is that of the rows here.
    """

    table: Table
    schema: str
    name: str | None = None
    to: str = ""


Output = Dashboard | Export | Copy


@dataclass(frozen=True)
class CopiedTo:
    """Where a `Copy` goes."""

    schema: str
    name: str | None = None
    to: str = ""


def copies(function: Callable[..., Any], parameters: Mapping[str, Any]) -> list[CopiedTo]:
    """Where a publish function's copies go, read from its source: for a plan, which runs no such function.

    Known are texts, the pipeline's parameters, and texts of the function's module. A copy whose place the source does
    not show in these words is left out.
    """
    if not isinstance(function, types.FunctionType):
        return []
    scope = function.__globals__
    node = definition(function.__code__, scope)
    known = {**scope, **parameters}
    calls = [each for each in ast.walk(node) if isinstance(each, ast.Call)] if node is not None else []
    found = (_copied_to(call, known) for call in calls if _is_copy(call.func, scope))
    return [each for each in found if each is not None]


def _is_copy(node: ast.expr, scope: Mapping[str, Any]) -> bool:
    if isinstance(node, ast.Attribute):  # `entrepot.Copy`
        return node.attr == Copy.__name__
    return isinstance(node, ast.Name) and scope.get(node.id) is Copy


def _copied_to(call: ast.Call, known: Mapping[str, Any]) -> CopiedTo | None:
    names = ("table", "schema", "name", "to")
    given = dict(zip(names, call.args, strict=False)) | {each.arg: each.value for each in call.keywords if each.arg}
    said = {name: given[name] for name in names[1:] if name in given}
    values = {name: _text(node, known) for name, node in said.items() if ast.unparse(node) != "None"}
    if "schema" not in values or None in values.values():
        return None
    return CopiedTo(**{name: str(value) for name, value in values.items()})


def _text(node: ast.expr, known: Mapping[str, Any]) -> str | None:
    """A text that an expression stands for; None for any other expression."""
    value = node.value if isinstance(node, ast.Constant) else known.get(node.id) if isinstance(node, ast.Name) else None
    return value if isinstance(value, str) else None
