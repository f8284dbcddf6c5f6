"""The source of a function or class as a tree from which everything is gone that does not change what it computes.

Comments, formatting, docstrings, annotations that nobody reads, the names of locals, and the order of imports leave no
trace. Names from outside are numbered in the order of their first use, so that what they stand for can be described.
"""

from __future__ import annotations

import ast
import linecache
import pickle
import threading
import types
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

_Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = _Function | ast.Lambda | ast.ClassDef
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_NAMED: dict[type, str] = {
    **dict.fromkeys((ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef), "name"),
    **dict.fromkeys((ast.ExceptHandler, ast.MatchAs, ast.MatchStar), "name"),
    ast.Name: "id",
    ast.arg: "arg",
    ast.MatchMapping: "rest",
}
"""The nodes that read or bind a name, and where they have it."""
_IGNORED = frozenset({"ctx", "kind", "type_comment", "type_params"})
_REFLECTIVE = frozenset({"__subclasses__", "__globals__", "__dict__"})
"""Attributes that reach what the source does not show."""


@dataclass(frozen=True)
class Import:
    """A name that an import statement within the code brings."""

    module: str
    level: int = 0
    attribute: str | None = None


Outside = str | Import
"""A name that the code does not bind itself, or one that it imports."""


@dataclass
class Syntax:
    """What is left of a definition's source."""

    tree: Any = None
    outside: dict[Outside, set[tuple[str, ...]]] = field(default_factory=dict)
    """In the order of first use: names, and the attribute paths read from each (`helpers.clean` is `("clean",)`)."""
    parameters: list[list[str]] = field(default_factory=list)
    """The parameters of every function, by their own names: they count if somebody passes them by keyword."""
    keywords: set[str] = field(default_factory=set)
    """The keywords of every call."""
    is_open: bool = False
    """Whether a call passes keywords that the source does not show (`**options`)."""
    is_certain: bool = True
    """Whether the source shows all that it reads: no name stands for one of several imports."""


@lru_cache(maxsize=4096)
def syntax_of(node: Definition) -> Syntax:
    """The normalised source of a function, lambda or class. Its own name and decorators are not part of it.

    Remembered, since a plan describes mostly the code that the plan before has described.
    """
    return _Normaliser(pickle.loads(pickle.dumps(node))).result


def bound_in(node: ast.ClassDef) -> frozenset[str]:
    """The names that the body of a class binds."""
    return frozenset(_bindings(node.body))


def definition(code: types.CodeType, scope: dict[str, Any]) -> Definition | None:
    """The definition that a function was compiled from; None if its file is gone, or no longer what was compiled."""
    parsed = _source(code.co_filename, scope)
    if parsed is None or code not in parsed.compiled:
        return None
    found = parsed.definitions.get((code.co_name, code.co_firstlineno), [])
    if len(found) > 1:  # several lambdas in a line
        ranges = set(code.co_positions())
        found = [each for each in found if isinstance(each, ast.Lambda) and _range(each.body) in ranges]
    return found[0] if len(found) == 1 else None


def class_definition(cls: type, file: str, scope: dict[str, Any]) -> ast.ClassDef | None:
    """The definition of a class; None if its file is gone, or no longer what was compiled."""
    parsed = _source(file, scope)
    if parsed is None:
        return None
    methods = [value for value in vars(cls).values() if isinstance(value, types.FunctionType)]
    if any(m.__code__.co_filename == file and m.__code__ not in parsed.compiled for m in methods):
        return None
    nodes: list[ast.AST] = [parsed.tree]
    for part in cls.__qualname__.replace(".<locals>", "").split("."):
        inner = [n for node in nodes for n in ast.walk(node) if n is not node]
        nodes = [n for n in inner if isinstance(n, ast.ClassDef | _Function) and n.name == part]
    found = [n for n in nodes if isinstance(n, ast.ClassDef)]
    return found[0] if len(found) == 1 else None


_PARSING = threading.Lock()
_TRIES = 20


def parsed(text: str) -> ast.Module:
    """The tree of a source.

    Python 3.11 counts the depth of all trees that threads are making together, and fails if the count is wrong at the
    end: so one at a time, and again if somebody else's code was making one.

    Raises:
        SyntaxError, ValueError: if it is no source.
    """
    with _PARSING:
        for _ in range(_TRIES):
            with suppress(SystemError):
                return ast.parse(text)
        return ast.parse(text)


class _Parsed:
    """A file's source, and what is looked for in it."""

    def __init__(self, text: str) -> None:
        self.tree = parsed(text)
        self.compiled = frozenset(codes(compile(text, "", "exec", dont_inherit=True)))
        self.definitions: dict[tuple[str, int], list[_Function | ast.Lambda]] = {}
        """By name and first line."""
        for node in ast.walk(self.tree):
            if isinstance(node, _Function):
                line = min([node.lineno, *(each.lineno for each in node.decorator_list)])
                self.definitions.setdefault((node.name, line), []).append(node)
            elif isinstance(node, ast.Lambda):
                self.definitions.setdefault(("<lambda>", node.lineno), []).append(node)


def _source(file: str, scope: dict[str, Any]) -> _Parsed | None:
    linecache.checkcache(file)
    text = "".join(linecache.getlines(file, scope))
    return _parsed(text) if text else None


@lru_cache(maxsize=256)
def _parsed(text: str) -> _Parsed | None:
    try:
        return _Parsed(text)
    except (SyntaxError, ValueError):
        return None


def codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """The code of a function, and that of what it defines."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes(constant)


def _range(node: ast.expr) -> tuple[int | None, int | None, int | None, int | None]:
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset


@dataclass
class _Scope:
    is_class: bool
    bound: Mapping[str, Import | None]
    """The names that are bound here. Those that one import alone binds stand for what it imports."""
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    """Names declared `global` or `nonlocal`."""
    tokens: dict[str, str] = field(default_factory=dict)


def _written(node: Any) -> Any:
    """A tree as JSON-like data; unlike `ast.dump`, the same in each version of Python."""
    if isinstance(node, list):
        return [_written(each) for each in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [(name, getattr(node, name, None)) for name in node._fields if name not in _IGNORED]
    return [
        type(node).__name__,
        *([name, _written(value)] for name, value in fields if value is not None and value != []),
    ]


class _Normaliser(ast.NodeTransformer):
    """Rewrites a tree in place, which is then good for being written out and nothing else."""

    def __init__(self, root: Definition) -> None:
        self.result = Syntax()
        self._root = root
        self._scopes: list[_Scope] = []
        self._count = 0
        self.result.tree = _written(self.visit(root))

    def generic_visit(self, node: ast.AST) -> ast.AST:
        self._rename(node)
        return super().generic_visit(node)

    def _rename(self, node: ast.AST) -> None:
        where = _NAMED.get(type(node))
        if where and (name := getattr(node, where)) is not None:
            setattr(node, where, "" if node is self._root else self._name(name))

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        path, last = [node.attr], node
        while isinstance(last.value, ast.Attribute):
            last = last.value
            path.insert(0, last.attr)
        self.result.is_certain &= _REFLECTIVE.isdisjoint(path)
        if isinstance(last.value, ast.Name):
            last.value.id = self._name(last.value.id, tuple(path))
        else:
            self.visit(last.value)
        return node

    def visit_keyword(self, node: ast.keyword) -> ast.AST:
        self.result.is_open |= node.arg is None
        self.result.keywords |= {node.arg} if node.arg else set()
        return self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_Pass(self, node: ast.AST) -> None:
        """Does nothing. Nor do declarations: each name says by itself which it is."""

    visit_Global = visit_Nonlocal = visit_Pass

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if self._scopes[-1].is_class:
            return self.generic_visit(node)
        return self.generic_visit(ast.Assign([node.target], node.value)) if node.value else None

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> ast.AST | None:
        bound = self._scopes[-1].bound
        names = [alias.asname or alias.name.partition(".")[0] for alias in node.names]
        if all(bound.get(name) is not None for name in names):
            return None
        self.result.is_certain = False
        for alias, name in zip(node.names, names, strict=True):
            alias.asname = None if alias.name == "*" else self._name(name)
        return node

    visit_ImportFrom = visit_Import

    def visit_FunctionDef(self, node: _Function) -> ast.AST:
        self._rename(node)
        node.decorator_list = [] if node is self._root else self._all(node.decorator_list)
        if node.decorator_list and node.returns:
            self.visit(node.returns)
        else:
            node.returns = None
        # A decorator may read annotations; so may whoever calls a function, but not by the names of its locals.
        node.body = self._function(node.args, node.body, with_annotations=bool(node.decorator_list))
        return node

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        (node.body,) = self._function(node.args, [node.body], with_annotations=False)
        return node

    def _function(self, args: ast.arguments, body: list[Any], *, with_annotations: bool) -> list[Any]:
        """The body. Defaults and annotations stand outside it."""
        some = [*args.posonlyargs, *args.args, args.vararg, *args.kwonlyargs, args.kwarg]
        parameters = [each for each in some if each is not None]
        self.result.parameters.append([each.arg for each in parameters])
        self._all([*args.defaults, *args.kw_defaults])
        for each in parameters:
            each.annotation = each.annotation if with_annotations else None
        self._all([each.annotation for each in parameters])
        inner = [*parameters, *body]
        return self._inside(inner, _bindings(inner))[len(parameters) :]

    def visit_arg(self, node: ast.arg) -> ast.AST:
        self._rename(node)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self._rename(node)
        self._all([*node.decorator_list, *node.bases, *node.keywords])
        node.body = self._inside(node.body, dict.fromkeys(_bindings(node.body)), is_class=True)
        return node

    def visit_ListComp(self, node: _Comprehension) -> ast.AST:
        first = self.visit(node.generators[0].iter)  # outside, unlike all the rest
        node.generators[0].iter = ast.Constant(None)
        results = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        self._inside([*node.generators, *results], _bindings(each.target for each in node.generators))
        node.generators[0].iter = first
        return node

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp

    def _inside(self, nodes: list[Any], bound: Mapping[str, Import | None], *, is_class: bool = False) -> list[Any]:
        """What stands in a scope of its own."""
        self._scopes.append(_Scope(is_class, bound, _declared(nodes)))
        visited = self._all(nodes)
        self._scopes.pop()
        return visited

    def _all(self, nodes: list[Any]) -> list[Any]:
        return [visited for each in nodes if each is not None and (visited := self.visit(each)) is not None]

    def _name(self, name: str, path: tuple[str, ...] = ()) -> str:
        for depth, scope in reversed(list(enumerate(self._scopes))):
            if scope.is_class and depth != len(self._scopes) - 1:
                continue
            declared = scope.elsewhere.get(name)
            if declared == "global":
                break
            if declared == "nonlocal" or name not in scope.bound:
                continue
            if scope.is_class:
                return f"own {name}"
            if (imported := scope.bound[name]) is not None:
                return self._outside(imported, path)
            if name not in scope.tokens:
                scope.tokens[name] = f"local {self._count}"
                self._count += 1
            return scope.tokens[name]
        return self._outside(name, path)

    def _outside(self, name: Outside, path: tuple[str, ...]) -> str:
        self.result.outside.setdefault(name, set()).add(path)
        return f"outside {list(self.result.outside).index(name)}"


def _within(nodes: Iterable[Any], *, in_comprehension: bool = False) -> Iterator[tuple[Any, bool]]:
    """The nodes of one scope, without those of scopes within it; and whether each stands in a comprehension."""
    for node in nodes:
        yield node, in_comprehension
        if isinstance(node, _Function | ast.Lambda):
            yield from _within([*getattr(node, "decorator_list", ()), *node.args.defaults, *node.args.kw_defaults])
        elif isinstance(node, ast.ClassDef):
            yield from _within([*node.decorator_list, *node.bases, *node.keywords])
        elif node is not None:  # as a parameter without a default has it
            nested = in_comprehension or isinstance(node, _Comprehension)
            yield from _within(ast.iter_child_nodes(node), in_comprehension=nested)


def _bindings(body: Iterable[Any]) -> dict[str, Import | None]:
    """The names that the statements of one scope bind; with what is imported where nothing else binds the name."""
    found: dict[str, list[Import | None]] = {}

    def bind(name: str | None, imported: Import | None = None) -> None:
        if name is not None:
            found.setdefault(name, []).append(imported)

    for node, in_comprehension in _within(body):
        if isinstance(node, ast.NamedExpr):  # binds in the function around a comprehension
            bind(node.target.id)
        elif isinstance(node, ast.Name):
            bind(node.id if not isinstance(node.ctx, ast.Load) and not in_comprehension else None)
        elif type(node) in _NAMED:
            bind(getattr(node, _NAMED[type(node)]))
        elif isinstance(node, ast.Import):
            for alias in node.names:
                module = alias.name if alias.asname else alias.name.partition(".")[0]
                bind(alias.asname or module, Import(module))
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if alias.name != "*":
                    bind(alias.asname or alias.name, Import(node.module or "", node.level, alias.name))
    return {name: hows[0] if len(set(hows)) == 1 else None for name, hows in found.items()}


def _declared(body: Iterable[Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for node, _ in _within(body):
        if isinstance(node, ast.Global | ast.Nonlocal):
            found |= dict.fromkeys(node.names, "global" if isinstance(node, ast.Global) else "nonlocal")
    return found
