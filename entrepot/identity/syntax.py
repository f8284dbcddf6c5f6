"""The source of a function or class as a tree from which everything is gone that does not change what it computes.

Comments, formatting, docstrings, annotations that nobody reads, the names of locals, and the order of imports leave no
trace. Names from outside are numbered in the order of their first use, so that what they stand for can be described.
"""

from __future__ import annotations

import ast
import linecache
import threading
import types
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef
_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_NAMED = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.ExceptHandler | ast.MatchAs | ast.MatchStar
_REFLECTIVE = frozenset({"__subclasses__", "__globals__", "__dict__"})
"""Attributes that reach what the source does not show."""
_IGNORED = frozenset({"ctx", "type_comment", "kind", "type_params", "returns"})


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


def syntax_of(node: Definition) -> Syntax:
    """The normalised source of a function, lambda or class. Its own name and decorators are not part of it."""
    return _Normaliser(node).result


def bound_in(node: ast.ClassDef) -> frozenset[str]:
    """The names that the body of a class binds."""
    return frozenset(_bindings(node.body))


def definition(code: types.CodeType, scope: dict[str, Any]) -> Definition | None:
    """The definition that a function was compiled from; None if its file is gone, or no longer what was compiled."""
    parsed = _source(code.co_filename, scope)
    if parsed is None or code not in parsed.compiled:
        return None
    if code.co_name != "<lambda>":
        return parsed.functions.get((code.co_name, code.co_firstlineno))
    ranges = set(code.co_positions())
    lambdas = parsed.lambdas.get(code.co_firstlineno, [])
    exact = [n for n in lambdas if _range(n.body) in ranges]
    return exact[0] if len(exact) == 1 else lambdas[0] if len(lambdas) == 1 else None


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
        self.compiled = frozenset(_codes(compile(text, "", "exec", dont_inherit=True)))
        self.functions: dict[tuple[str, int], _Function] = {}
        """By name and first line."""
        self.lambdas: dict[int, list[ast.Lambda]] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, _Function):
                self.functions.setdefault((node.name, _first_line(node)), node)
            elif isinstance(node, ast.Lambda):
                self.lambdas.setdefault(node.lineno, []).append(node)


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


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _first_line(node: _Function) -> int:
    return min([node.lineno, *(d.lineno for d in node.decorator_list)])


def _range(node: ast.expr) -> tuple[int | None, int | None, int | None, int | None]:
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset


@dataclass
class _Scope:
    is_class: bool
    bound: dict[str, Import | None]
    """The names that are bound here. Those that one import alone binds stand for what it imports."""
    elsewhere: dict[str, str] = field(default_factory=dict)
    """Names declared `global` or `nonlocal`."""
    tokens: dict[str, str] = field(default_factory=dict)


class _Normaliser:
    def __init__(self, node: Definition) -> None:
        self.result = Syntax()
        self._root = node
        self._scopes: list[_Scope] = []
        self._count = 0
        self.result.tree = self._emit(node)

    def _emit(self, node: Any) -> Any:
        if isinstance(node, list):
            return [emitted for item in node if (emitted := self._emit(item)) is not None]
        if not isinstance(node, ast.AST):
            return node
        special = getattr(self, f"_emit_{type(node).__name__}", self._emit_any)
        return special(node)

    def _emit_any(self, node: ast.AST) -> Any:
        fields = [(name, getattr(node, name, None)) for name in node._fields if name not in _IGNORED]
        return [type(node).__name__, *([name, self._emit(v)] for name, v in fields if v is not None and v != [])]

    def _emit_Constant(self, node: ast.Constant) -> Any:
        return ["constant", type(node.value).__name__, repr(node.value)]

    def _emit_Name(self, node: ast.Name) -> Any:
        return self._name(node.id)

    def _emit_Attribute(self, node: ast.Attribute) -> Any:
        path: list[str] = []
        root: ast.expr = node
        while isinstance(root, ast.Attribute):
            path.insert(0, root.attr)
            root = root.value
        self.result.is_certain &= _REFLECTIVE.isdisjoint(path)
        if isinstance(root, ast.Name):
            return ["attributes", self._name(root.id, tuple(path)), path]
        return ["attributes", self._emit(root), path]

    def _emit_keyword(self, node: ast.keyword) -> Any:
        if node.arg is None:
            self.result.is_open = True
        else:
            self.result.keywords.add(node.arg)
        return ["keyword", node.arg, self._emit(node.value)]

    def _emit_Expr(self, node: ast.Expr) -> Any:
        return None if isinstance(node.value, ast.Constant) else ["expression", self._emit(node.value)]

    def _emit_Pass(self, node: ast.Pass) -> None:
        return None

    def _emit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        if self._scopes[-1].is_class:
            return self._emit_any(node)
        if node.value is None:
            return None
        return ["Assign", ["targets", [self._emit(node.target)]], ["value", self._emit(node.value)]]

    def _emit_Global(self, node: ast.Global) -> None:
        return None

    _emit_Nonlocal = _emit_Global

    def _emit_Import(self, node: ast.Import | ast.ImportFrom) -> Any:
        bound = self._scopes[-1].bound
        names = [alias.asname or alias.name.partition(".")[0] for alias in node.names]
        if all(bound.get(name) is not None for name in names):
            return None
        self.result.is_certain = False
        module = [node.module, node.level] if isinstance(node, ast.ImportFrom) else None
        pairs = zip(node.names, names, strict=True)
        return ["import", module, [[a.name, None if a.name == "*" else self._name(n)] for a, n in pairs]]

    _emit_ImportFrom = _emit_Import

    def _emit_ExceptHandler(self, node: ast.ExceptHandler) -> Any:
        name = self._name(node.name) if node.name else None
        return ["except", self._emit(node.type), name, self._emit(node.body)]

    def _emit_MatchAs(self, node: ast.MatchAs) -> Any:
        return ["as", self._emit(node.pattern), self._name(node.name) if node.name else None]

    def _emit_MatchStar(self, node: ast.MatchStar) -> Any:
        return ["star", self._name(node.name) if node.name else None]

    def _emit_MatchMapping(self, node: ast.MatchMapping) -> Any:
        rest = self._name(node.rest) if node.rest else None
        return ["mapping", self._emit(node.keys), self._emit(node.patterns), rest]

    def _emit_FunctionDef(self, node: _Function) -> Any:
        is_root = node is self._root
        name = None if is_root else self._name(node.name)
        decorators = [] if is_root else self._emit(node.decorator_list)
        # A decorator may read annotations; so may whoever calls a function, but not by the names of its locals.
        annotations = self._annotations(node) if decorators else []
        signature = self._signature(node.args)
        with_body = self._inner(_parameters(node.args), node.body)
        return [type(node).__name__, name, decorators, annotations, signature, with_body]

    _emit_AsyncFunctionDef = _emit_FunctionDef

    def _emit_Lambda(self, node: ast.Lambda) -> Any:
        return ["Lambda", self._signature(node.args), self._inner(_parameters(node.args), [node.body])]

    def _signature(self, args: ast.arguments) -> Any:
        """How a function is called: how many parameters of which sort, and their defaults, which stand outside it."""
        self.result.parameters.append(_parameters(args))
        counts = [
            len(args.posonlyargs),
            len(args.args),
            args.vararg is not None,
            len(args.kwonlyargs),
            args.kwarg is not None,
        ]
        return [counts, self._emit(args.defaults), [self._emit(d) for d in args.kw_defaults]]

    def _annotations(self, node: _Function) -> Any:
        every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        return [self._emit(each) for each in [*(a.annotation for a in every), node.returns]]

    def _inner(self, parameters: list[str], body: list[Any]) -> Any:
        scope = _Scope(is_class=False, bound=_bindings(body), elsewhere=_declared(body))
        scope.bound |= dict.fromkeys(parameters)
        self._scopes.append(scope)
        emitted = [[self._name(name) for name in parameters], self._emit(body)]
        self._scopes.pop()
        return emitted

    def _emit_ClassDef(self, node: ast.ClassDef) -> Any:
        is_root = node is self._root
        head = [None if is_root else self._name(node.name), self._emit(node.decorator_list), self._emit(node.bases)]
        head.append(self._emit(node.keywords))
        bound: dict[str, Import | None] = dict.fromkeys(_bindings(node.body))
        self._scopes.append(_Scope(is_class=True, bound=bound, elsewhere=_declared(node.body)))
        body = self._emit(node.body)
        self._scopes.pop()
        return ["class", head, body]

    def _emit_ListComp(self, node: _Comprehension) -> Any:
        first = self._emit(node.generators[0].iter)  # evaluated outside, unlike all the rest
        targets = [each.target for each in node.generators]
        self._scopes.append(_Scope(is_class=False, bound=_bindings(targets)))
        rest = []
        for number, each in enumerate(node.generators):
            source = self._emit(each.iter) if number else first
            rest.append([source, self._emit(each.target), self._emit(each.ifs), each.is_async])
        results = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        emitted = [type(node).__name__, rest, self._emit(results)]
        self._scopes.pop()
        return emitted

    _emit_SetComp = _emit_DictComp = _emit_GeneratorExp = _emit_ListComp

    def _name(self, name: str, path: tuple[str, ...] = ()) -> Any:
        for depth, scope in reversed(list(enumerate(self._scopes))):
            if scope.is_class and depth != len(self._scopes) - 1:
                continue
            declared = scope.elsewhere.get(name)
            if declared == "global":
                break
            if declared == "nonlocal" or name not in scope.bound:
                continue
            if scope.is_class:
                return ["own", name]
            if (imported := scope.bound[name]) is not None:
                return self._outside(imported, path)
            if name not in scope.tokens:
                scope.tokens[name] = f"v{self._count}"
                self._count += 1
            return scope.tokens[name]
        return self._outside(name, path)

    def _outside(self, name: Outside, path: tuple[str, ...]) -> Any:
        self.result.outside.setdefault(name, set()).add(path)
        return ["outside", list(self.result.outside).index(name)]


def _parameters(args: ast.arguments) -> list[str]:
    some = [*args.posonlyargs, *args.args, args.vararg, *args.kwonlyargs, args.kwarg]
    return [each.arg for each in some if each is not None]


def _within(nodes: Iterable[Any], *, in_comprehension: bool = False) -> Iterator[tuple[Any, bool]]:
    """The nodes of one scope, without those of scopes within it; and whether each stands in a comprehension."""
    for node in nodes:
        yield node, in_comprehension
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _within([*node.decorator_list, *node.args.defaults, *(d for d in node.args.kw_defaults if d)])
        elif isinstance(node, ast.ClassDef):
            yield from _within([*node.decorator_list, *node.bases, *node.keywords])
        elif isinstance(node, ast.Lambda):
            yield from _within([*node.args.defaults, *(d for d in node.args.kw_defaults if d)])
        else:
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
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load) and not in_comprehension:
            bind(node.id)
        elif isinstance(node, _NAMED):
            bind(node.name)
        elif isinstance(node, ast.MatchMapping):
            bind(node.rest)
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
