"""The identity of Python code that computes something: what it does, not how it is written.

Comments, formatting, annotations, docstrings and the names of locals do not count. What does: the statements, the
constants, what the code refers to in its own package (followed to its definition), and the installed versions of the
distributions that a step declares in `depends`. Where code cannot be followed with certainty, every module of the
package that the step's module imports counts: `entrepot.identity.modules`. `docs/versions.md` has the rule.
"""

from __future__ import annotations

import copyreg
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import sys
import types
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from entrepot.errors import BadInput
from entrepot.identity import volatility
from entrepot.identity.modules import is_own, source_of, sources
from entrepot.identity.syntax import Import, Outside, Syntax, bound_in, class_definition, definition, syntax_of
from entrepot.language.step import Step

HASH_LENGTH = 16
"""Hexadecimal digits that are kept of SHA-256. Names carry the rest of the identity, so 64 bits per name are ample."""


def stable_hash(value: Any) -> str:
    """The hash of a JSON-like value, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:HASH_LENGTH]


@dataclass(frozen=True)
class Code:
    """What is computed, as a hash."""

    hash: str
    varies: str = ""
    """Why that is no function of its inputs, as `entrepot.identity.volatility` says it; empty, if it is one."""


def function_identity(function: Callable[..., Any], depends: Iterable[str] = ()) -> str:
    """The hash of a function's code, of what it refers to, and of the versions of `depends`.

    Raises:
        BadInput: if a distribution named in `depends` is not installed.
    """
    return function_code(function, depends).hash


def function_code(function: Callable[..., Any], depends: Iterable[str] = ()) -> Code:
    """The same, and whether the function reads the clock or draws at random, as far as its own package shows.

    Raises:
        BadInput: if a distribution named in `depends` is not installed.
    """
    home = _module_of(function)
    is_narrowed = any(is_own(name, home) and _version(name) is None for name in depends)
    code = _described(function, home, is_narrowed=is_narrowed)
    return Code(stable_hash([code.hash, installed(depends)]), code.varies)


def class_identity(cls: type) -> str:
    """The hash of a class's own code, of its bases in the same package, and of what its methods refer to there."""
    return value_identity(cls, cls.__module__)


def value_identity(value: Any, home: str) -> str:
    """The hash of any value; code of the package that the module `home` belongs to is followed, other code is named."""
    return _described(value, home).hash


def _described(value: Any, home: str, *, is_narrowed: bool = False) -> Code:
    description = _Description(home)
    described = [description.of(value), description.interfaces()]
    if not description.is_certain and not is_narrowed:
        described.append(sources(home))
    return Code(stable_hash(described), volatility.of_names(description.foreign))


def installed(depends: Iterable[str]) -> list[str]:
    """The installed versions of distributions, as `name==version`; of modules, the hash of their source.

    Raises:
        BadInput: if one is neither.
    """
    found = []
    for name in sorted(depends):
        if (version := _version(name)) is not None:
            found.append(f"{name}=={version}")
        elif (source := source_of(name)) is not None:
            found.append(f"{name}: {source}")
        else:
            raise BadInput(
                f"the distribution {name!r}, named in `depends`, is not installed, and there is no such module"
            )
    return found


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _module_of(value: Any) -> str:
    """The module in which a callable's own code stands."""
    while isinstance(value, functools.partial):
        value = value.func
    if isinstance(value, types.MethodType):
        value = value.__func__
    if isinstance(value, types.FunctionType):
        return str(value.__globals__.get("__name__", ""))
    return str((value if isinstance(value, type) else type(value)).__module__)


class _Description:
    """Values as JSON-like data that is the same in every process."""

    def __init__(self, home: str) -> None:
        self._home = home
        self._known: dict[Any, int] = {}
        """The functions and classes met so far: each is described once."""
        self._open: dict[int, int] = {}
        """The containers and objects that are being described, by how deep: they may contain themselves."""
        self._parameters: list[list[str]] = []
        self._keywords: set[str] = set()
        self._any_keyword = False
        self.foreign: set[str] = set()
        """The names of what is read from other packages."""
        self.is_certain = True
        """Whether all code of the package that may run was followed."""

    def interfaces(self) -> Any:
        """The names of parameters that are passed by keyword somewhere; the others are names of locals."""
        return [[n if self._any_keyword or n in self._keywords else "" for n in names] for names in self._parameters]

    def of(self, value: Any) -> Any:
        """The description of a value."""
        if type(value) in _PLAIN:
            return [type(value).__name__, repr(value)]
        if isinstance(value, Step):
            return self.of(value.function)
        if isinstance(value, types.FunctionType | type):
            return self._once(value)
        if isinstance(value, types.ModuleType):
            self.is_certain &= not self._is_own(value.__name__)  # whoever has it may read all of it
            return ["module", value.__name__]
        if isinstance(value, types.CodeType):
            return self._bytecode(value)
        if id(value) in self._open:
            return ["within", len(self._open) - self._open[id(value)]]
        self._open[id(value)] = len(self._open)
        try:
            return self._compound(value)
        finally:
            del self._open[id(value)]

    def _compound(self, value: Any) -> Any:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        if isinstance(value, types.MethodType):
            return ["method", self.of(value.__func__), self.of(value.__self__)]
        if isinstance(value, functools.partial):
            keywords = [[name, self.of(value.keywords[name])] for name in sorted(value.keywords)]
            return ["partial", self.of(value.func), self.of(value.args), keywords]
        if type(value) in (list, tuple):
            return [kind, [self.of(item) for item in value]]
        if type(value) in (set, frozenset):
            return [kind, sorted((self._apart(item) for item in value), key=repr)]
        if type(value) in (dict, types.MappingProxyType):
            return [kind, [[self.of(k), self.of(v)] for k, v in value.items()]]
        if _is_array(value):
            if value.dtype.hasobject:
                return [kind, str(value.dtype), list(value.shape), self.of(value.tolist())]
            return [kind, str(value.dtype), list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
        if isinstance(value, _CACHED):  # what it remembers is no part of what it computes
            return ["wrapped", kind, self.of(value.__wrapped__)]
        return self._object(value, kind)

    def _apart(self, value: Any) -> Any:
        """The description of one of several that have no order: it does not depend on what was described before."""
        if type(value) in _PLAIN:
            return self.of(value)
        apart = _Description(self._home)
        apart._any_keyword = True
        described = [apart.of(value), apart.interfaces()]
        self.foreign |= apart.foreign
        self.is_certain &= apart.is_certain
        return described

    def _object(self, value: Any, kind: str) -> Any:
        """Any other object: its class, and the state that it would be pickled with."""
        if _is_global_random_state(value):
            return ["random state of the process"]
        try:
            registered = copyreg.dispatch_table.get(type(value))
            reduced = registered(value) if registered else value.__reduce_ex__(4)
        except Exception:  # locks, connections, generators, and classes that refuse
            self.is_certain = False
            return ["object", kind, self.of(type(value)), self.of(_attributes(value))]
        if isinstance(reduced, str):
            return ["named", type(value).__module__, reduced]
        make, args, state, items, pairs = (*reduced, None, None, None)[:5]
        if isinstance(state, dict):
            state = _lasting(type(value), state)
        content = [list(items or ()), list(pairs or ())]
        described = [self.of(each) for each in (type(value), make, args, state, content)]
        if self._is_own(type(value).__module__) and state != (attributes := _attributes(value)):
            described.append(self.of(attributes))  # it is pickled in a way of its own, and may leave something out
        return ["object", kind, *described]

    def _once(self, value: types.FunctionType | type) -> Any:
        if value in self._known:
            return ["again", self._known[value]]
        self._known[value] = len(self._known)
        return self._class(value) if isinstance(value, type) else self._function(value)

    def _function(self, function: types.FunctionType) -> Any:
        module = str(function.__globals__.get("__name__", ""))
        if not self._is_own(module):
            wrapped = vars(function).get("__wrapped__")
            held = [cell for cell in _closure(function).values() if cell is not wrapped]
            self.is_certain &= not any(map(self._holds_own, held))
            return ["named", module, function.__code__.co_qualname, self.of(wrapped)]
        closure = _closure(function)
        node = definition(function.__code__, function.__globals__)
        if node is None:  # made by exec, or changed on disk since it was imported
            names = function.__code__.co_names
            body = self._bytecode(function.__code__)
            refers = [self._reference(closure[n], set()) for n in sorted(closure)]
            refers += [self._reference(function.__globals__[n], set()) for n in names if n in function.__globals__]
        else:
            body, refers = self._followed(syntax_of(node), {**function.__globals__, **closure})
        described = ["function", body, self.of(function.__defaults__), self.of(function.__kwdefaults__), refers]
        if attributes := {name: v for name, v in vars(function).items() if name != "__wrapped__"}:
            self.is_certain = False
            described.append(self._plain(attributes))
        return described

    def _plain(self, values: Mapping[str, Any]) -> Any:
        return [[name, self.of(values[name])] for name in sorted(values) if type(values[name]) in _PLAIN]

    def _holds_own(self, value: Any, depth: int = 3) -> bool:
        """Whether something that another package has made was given code of this one."""
        if isinstance(value, types.FunctionType | type) and self._is_own(value.__module__):
            return True
        inner: Iterable[Any] = ()
        if isinstance(value, types.FunctionType):
            inner = _closure(value).values()
        elif isinstance(value, dict):
            inner = value.values()
        elif isinstance(value, list | tuple):
            inner = value
        return depth > 0 and any(self._holds_own(each, depth - 1) for each in inner)

    def _class(self, cls: type) -> Any:
        name = ["class", cls.__module__, cls.__qualname__]
        if not self._is_own(cls.__module__):
            return name
        bases = [self.of(base) for base in cls.__bases__]
        methods = [v for v in vars(cls).values() if isinstance(v, types.FunctionType)]
        # What the methods themselves see: the module's name may stand for newer code by now.
        scope = dict(vars(sys.modules.get(cls.__module__, object)))
        for method in methods:
            if method.__module__ == cls.__module__:
                scope |= method.__globals__ | _closure(method)
        node = class_definition(cls, str(scope.get("__file__", "")), scope)
        if node is None:
            own = {n: v for n, v in vars(cls).items() if not n.startswith("__") or n in _SPECIAL}
            return [*name, bases, [[n, self.of(v)] for n, v in sorted(own.items())]]
        return [*name, bases, *self._followed(syntax_of(node), scope), *self._set_later(cls, bound_in(node))]

    def _set_later(self, cls: type, bound: Container[str]) -> list[Any]:
        """What the body of a class does not show of its attributes."""
        named = {n: v for n, v in vars(cls).items() if not (n.startswith("_") and n.endswith("_"))}
        is_made = type(cls) is not type  # a metaclass may add classes of its own
        later = {n: v for n, v in named.items() if n not in bound and n not in _MADE}
        later = {n: v for n, v in later.items() if not (is_made and isinstance(v, type))}
        self.is_certain &= not later and not any(isinstance(v, list | dict | set) for v in named.values())
        methods = {n: v for n, v in named.items() if isinstance(v, types.FunctionType)}
        put = {n: v for n, v in methods.items() if not v.__qualname__.startswith(f"{cls.__qualname__}.")}
        found = [*self._plain(named), *([n, self.of(put[n])] for n in sorted(put))]
        return [found] if found else []

    def _followed(self, syntax: Syntax, scope: Mapping[str, Any]) -> tuple[Any, list[Any]]:
        """A normalised tree, and what each of the names that it takes from outside stands for."""
        self._parameters += syntax.parameters
        self._keywords |= syntax.keywords
        self._any_keyword |= syntax.is_open
        self.is_certain &= syntax.is_certain
        return syntax.tree, [self._outside(name, paths, scope) for name, paths in syntax.outside.items()]

    def _outside(self, name: Outside, paths: set[tuple[str, ...]], scope: Mapping[str, Any]) -> Any:
        if isinstance(name, Import):
            return self._imported(name, paths, str(scope.get("__package__") or ""))
        if name in scope:
            return self._reference(scope[name], paths)
        self.is_certain &= name not in _REFLECTIVE
        return ["unbound", name]

    def _imported(self, name: Import, paths: set[tuple[str, ...]], package: str) -> Any:
        try:
            source = importlib.util.resolve_name("." * name.level + name.module, package)
        except ImportError:
            source = name.module
        if self._is_own(source):
            try:
                target: Any = importlib.import_module(source)
                if name.attribute is not None:
                    inner = f"{source}.{name.attribute}"
                    target = getattr(target, name.attribute, None) or importlib.import_module(inner)
                return self._reference(target, paths)
            except ImportError:  # it fails when the step runs, and says so then
                pass
        else:
            full = source if name.attribute is None else f"{source}.{name.attribute}"
            self._note(".".join([full, *path]) for path in paths)
        return ["module", source] if name.attribute is None else ["named", source, name.attribute]

    def _reference(self, target: Any, paths: set[tuple[str, ...]]) -> Any:
        """What a name stands for; of a module of the same package, what the code reads from it."""
        if not isinstance(target, types.ModuleType) or not self._is_own(target.__name__):
            if callable(target) or isinstance(target, types.ModuleType):
                self._note(volatility.dotted(target, path) for path in paths or {()})
            return self.of(target)
        self.is_certain &= () not in paths  # handed on, or read in a way that its source does not show
        return ["module", target.__name__, [self._read(target, path) for path in sorted(paths)]]

    def _note(self, names: Iterable[str]) -> None:
        """Keeps the names of what is read from other packages."""
        read = {*names}
        self.foreign |= read
        self.is_certain &= not any(f"{name}.".startswith(f"{each}.") for name in read for each in _BY_NAME)

    def _read(self, module: Any, path: tuple[str, ...]) -> Any:
        target = module
        for number, part in enumerate(path):
            if not hasattr(target, part) and not _imports(f"{target.__name__}.{part}"):
                self.is_certain = False
                return ["unbound", *path]
            target = getattr(target, part)
            if not isinstance(target, types.ModuleType) or not self._is_own(target.__name__):
                return [list(path[: number + 1]), self.of(target)]
        self.is_certain = False
        return [list(path)]

    def _bytecode(self, code: types.CodeType) -> Any:
        self._any_keyword = True
        self._parameters.append(list(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]))
        return ["code", code.co_code.hex(), [self.of(c) for c in code.co_consts], list(code.co_names), code.co_flags]

    def _is_own(self, module: str) -> bool:
        """Whether a module belongs to the same package."""
        return is_own(module, self._home)


_PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes})
_SPECIAL = frozenset({"__init__", "__call__", "__annotations__"})
_REFLECTIVE = frozenset({"__import__", "compile", "eval", "exec", "globals", "vars"})
"""Built-in functions that reach what the source does not show."""
_BY_NAME = ("importlib.import_module", "importlib.reload", "pkgutil", "runpy", "sys.modules")
"""What imports by names that the source need not show."""
_CACHED = type(functools.lru_cache(lambda: None))
_MADE = frozenset({"_abc_impl", "_fields", "_make", "_replace", "_asdict", "_field_defaults"})
"""What Python itself adds to a class."""


def _imports(module: str) -> bool:
    """Whether there is such a module, which is then loaded: a body may import what nothing else has yet."""
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def _attributes(value: Any) -> dict[str, Any] | None:
    return _lasting(type(value), vars(value)) if hasattr(value, "__dict__") else None


def _lasting(cls: type, state: Mapping[str, Any]) -> dict[str, Any]:
    """State without what is computed on demand, which is there or not, depending on what ran before."""
    lazy = {n for c in cls.__mro__ for n, v in vars(c).items() if isinstance(v, functools.cached_property)}
    return {name: state[name] for name in sorted(state, key=str) if name not in lazy}


def _closure(function: types.FunctionType) -> dict[str, Any]:
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # a cell that is not filled yet: a function that refers to itself
            continue
    return found


def _is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray | numpy.generic)


def _is_global_random_state(value: Any) -> bool:
    """NumPy's own random state is in every frozen distribution of SciPy, and differs from process to process."""
    random = sys.modules.get("numpy.random.mtrand")
    return random is not None and value is random._rand
