"""Where a publish step's copies go, read from its source: a plan runs no such function."""

from __future__ import annotations

import ast
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from entrepot.identity.syntax import definition
from entrepot.language.outputs import Copy


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
    places = {name: given[name] for name in names[1:] if name in given}
    values = {name: _text(node, known) for name, node in places.items() if ast.unparse(node) != "None"}
    if "schema" not in values or None in values.values():
        return None
    return CopiedTo(**{name: str(value) for name, value in values.items()})


def _text(node: ast.expr, known: Mapping[str, Any]) -> str | None:
    """A text that an expression stands for; None for any other expression."""
    value = node.value if isinstance(node, ast.Constant) else known.get(node.id) if isinstance(node, ast.Name) else None
    return value if isinstance(value, str) else None
