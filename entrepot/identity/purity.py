"""Functions that see nothing but their inputs, constants and ibis: called again, they would give the same."""

from __future__ import annotations

import dis
import types
from collections.abc import Callable, Hashable
from typing import Any

from entrepot.identity.modules import package_of
from entrepot.identity.syntax import codes

_PACKAGES = frozenset({"ibis", "entrepot"})
_PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes})
_UNSAFE = frozenset(
    {"__import__", "breakpoint", "compile", "eval", "exec", "globals", "input", "locals", "open", "vars"}
)
"""Built-in functions that see more."""
_IMPORT = dis.opmap["IMPORT_NAME"]


def seen_by(function: Callable[..., Any]) -> tuple[Hashable, ...] | None:
    """What a function sees beside its inputs, if that is constants and ibis alone; None, if it may see more.

    Whoever has called it with the same inputs, and with this, need not call it again.
    """
    if not isinstance(function, types.FunctionType) or vars(function):
        return None
    inner = [*codes(function.__code__)]
    names = {name for code in inner for name in code.co_names}
    if any(_IMPORT in code.co_code[::2] for code in inner) or names & _UNSAFE - function.__globals__.keys():
        return None
    values = [(name, function.__globals__[name]) for name in sorted(names & function.__globals__.keys())]
    try:
        cells = [cell.cell_contents for cell in function.__closure__ or ()]
    except ValueError:  # a cell that is not filled yet
        return None
    values += [*zip(function.__code__.co_freevars, cells, strict=True), ("", function.__kwdefaults__ or None)]
    values += [("", value) for value in function.__defaults__ or ()]
    seen = [(name, _key(value)) for name, value in values]
    return tuple(seen) if all(key is not None for _, key in seen) else None


def _key(value: Any) -> Hashable:
    """A value by what it is; None, if it may see more, or may change."""
    if type(value) in _PLAIN:
        return type(value), repr(value)
    if type(value) is tuple:
        keys = tuple(map(_key, value))
        return keys if None not in keys else None
    if isinstance(value, types.ModuleType):
        return ("module", value.__name__) if value.__name__ in _PACKAGES else None
    if isinstance(value, type) or (isinstance(value, types.FunctionType) and value.__closure__ is None):
        return id(value) if package_of(value.__module__) in _PACKAGES else None
    return id(value) if type(value).__module__ == "ibis.common.deferred" else None  # `_`
