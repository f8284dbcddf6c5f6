"""The identity of Python code that computes something: what it does, not how it is written.

Comments, formatting, annotations, docstrings and the names of locals do not count. What does: the statements, the
constants, what the code refers to in its own package (followed to its definition), and the installed versions of the
distributions that a step declares in `depends`.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import inspect
import json
import textwrap
import types
from collections.abc import Callable, Iterable
from typing import Any

from entrepot.errors import BadInput

HASH_LENGTH = 16
"""Hexadecimal digits that are kept of SHA-256. Names carry the rest of the identity, so 64 bits per name are ample."""


def digest(value: Any) -> str:
    """The hash of a JSON-like value, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_LENGTH]


def function_identity(function: Callable[..., Any], depends: Iterable[str] = ()) -> str:
    """The hash of a function's code, of what it refers to, and of the versions of `depends`.

    Raises:
        BadInput: if a distribution named in `depends` is not installed.
    """
    return digest([_describe(function, set()), [f"{name}=={_installed(name)}" for name in sorted(depends)]])


def class_identity(cls: type) -> str:
    """The hash of a class's own code, and of its bases in the same package."""
    return digest(_describe_class(cls, set(), cls.__module__.partition(".")[0]))


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        raise BadInput(f"the distribution {name!r}, named in `depends`, is not installed") from None


def _describe(value: Any, seen: set[int], home: str = "") -> Any:
    """A JSON-like description. `home` is the top-level package whose own code is followed."""
    if isinstance(value, functools.partial):
        return ["partial", _describe(value.func, seen, home), _describe(value.args, seen), _describe(value.keywords, seen)]
    if isinstance(value, types.MethodType):
        return _describe(value.__func__, seen, home)
    if isinstance(value, types.FunctionType):
        return _describe_code(value, _closure(value), value.__globals__, seen)
    if isinstance(value, type):
        return _describe_class(value, seen, home)
    if isinstance(value, types.ModuleType):
        return ["module", value.__name__]
    if isinstance(value, dict):
        return ["dict", [[_describe(k, seen, home), _describe(v, seen, home)] for k, v in value.items()]]
    if isinstance(value, list | tuple):
        return [type(value).__name__, [_describe(v, seen, home) for v in value]]
    if isinstance(value, set | frozenset):
        return ["set", sorted((_describe(v, seen, home) for v in value), key=repr)]
    if value is None or isinstance(value, str | int | float | bool | bytes | complex):
        return repr(value)
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    if name is not None:
        return ["named", getattr(value, "__module__", ""), str(name)]
    return ["object", type(value).__module__, type(value).__qualname__, _stable_repr(value)]


def _stable_repr(value: Any) -> str:
    text = repr(value)
    return text if " at 0x" not in text else ""


def _closure(function: types.FunctionType) -> dict[str, Any]:
    cells = function.__closure__ or ()
    found = {}
    for name, cell in zip(function.__code__.co_freevars, cells, strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # a cell that is not filled yet: a function that refers to itself
            continue
    return found


def _describe_class(cls: type, seen: set[int], home: str) -> Any:
    name = ["class", cls.__module__, cls.__qualname__]
    if id(cls) in seen or not home or cls.__module__.partition(".")[0] != home:
        return name
    seen.add(id(cls))
    bases = [_describe_class(base, seen, home) for base in cls.__bases__]
    try:
        node = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    except (OSError, TypeError, SyntaxError):
        return [*name, bases]
    for each in ast.walk(node):
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            _drop_docstring(each)
    return [*name, bases, ast.dump(node, annotate_fields=False)]


def _describe_code(
    function: types.FunctionType, closure: dict[str, Any], scope: dict[str, Any], seen: set[int]
) -> Any:
    if id(function.__code__) in seen:
        return ["again", function.__qualname__]
    seen.add(id(function.__code__))
    home = (function.__module__ or "").partition(".")[0]
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        # No source to read, as for a function made by exec, or a lambda within a longer statement.
        code = function.__code__
        body: Any = [code.co_code.hex(), _describe(code.co_consts, seen), list(code.co_names)]
        used = set(code.co_names)
    else:
        node = _definition(tree)
        normalised, used = _normalise(node)
        body = normalised
    refers = []
    for name in sorted(used):
        if name in closure or name in scope:
            target = closure.get(name, scope.get(name))
            refers.append([name, _reference(target, seen, home)])
    defaults = [_describe(function.__defaults__, seen, home), _describe(function.__kwdefaults__, seen, home)]
    return ["function", body, defaults, refers]


def _reference(target: Any, seen: set[int], home: str) -> Any:
    """What a global name stands for. Code of other packages is named, not followed: that is what `depends` is for."""
    if isinstance(target, types.FunctionType) and (target.__module__ or "").partition(".")[0] != home:
        return ["named", target.__module__, target.__qualname__]
    return _describe(target, seen, home)


def _definition(tree: ast.Module) -> ast.AST:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return node
    return tree


def _normalise(node: ast.AST) -> tuple[str, set[str]]:
    """The tree as text, with locals renamed in the order in which they appear, and the names that are not local."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        node.decorator_list = []
        node.name = "_"
    local: dict[str, str] = {}
    for each in ast.walk(node):
        if isinstance(each, ast.arg):
            local.setdefault(each.arg, f"v{len(local)}")
        elif isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
            local.setdefault(each.id, f"v{len(local)}")
    used: set[str] = set()
    for each in ast.walk(node):
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            _drop_docstring(each)
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            each.returns = None
        if isinstance(each, ast.arg):
            each.annotation = None
            each.arg = local[each.arg]
        elif isinstance(each, ast.Name):
            if each.id in local:
                each.id = local[each.id]
            else:
                used.add(each.id)
    return ast.dump(node, annotate_fields=False), used


def _drop_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        node.body = node.body[1:] or [ast.Pass()]
