"""The identity of Python code that computes something: what it does, not how it is written.

Comments, formatting, annotations, docstrings and the names of locals do not count. What does: the statements, the
constants, what the code refers to in its own package (followed to its definition), and the installed versions of the
distributions that a step declares in `depends`. For a module that stands alone, its neighbours in the same folder are
its package.
"""

from __future__ import annotations

import copyreg
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import json
import os
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from entrepot import varying
from entrepot.errors import BadInput
from entrepot.step import Step
from entrepot.syntax import Import, Outside, Syntax, class_definition, definition, syntax_of

HASH_LENGTH = 16
"""Hexadecimal digits that are kept of SHA-256. Names carry the rest of the identity, so 64 bits per name are ample."""


def digest(value: Any) -> str:
    """The hash of a JSON-like value, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:HASH_LENGTH]


@dataclass(frozen=True)
class Code:
    """What is computed, as a hash."""

    hash: str
    varies: str = ""
    """Why that is no function of its inputs, as `entrepot.varying` says it; empty, if it is one."""


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
    code = _described(function, _module_of(function))
    return Code(digest([code.hash, installed(depends)]), code.varies)


def class_identity(cls: type) -> str:
    """The hash of a class's own code, of its bases in the same package, and of what its methods refer to there."""
    return value_identity(cls, cls.__module__)


def value_identity(value: Any, home: str) -> str:
    """The hash of any value; code of the package that the module `home` belongs to is followed, other code is named."""
    return _described(value, home).hash


def _described(value: Any, home: str) -> Code:
    description = _Description(home)
    described = description.of(value)
    return Code(digest([described, description.interfaces()]), varying.of_names(description.foreign))


def installed(distributions: Iterable[str]) -> list[str]:
    """The installed versions, as `name==version`.

    Raises:
        BadInput: if one is not installed.
    """
    found = []
    for name in sorted(distributions):
        try:
            found.append(f"{name}=={importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            raise BadInput(f"the distribution {name!r}, named in `depends`, is not installed") from None
    return found


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
            return ["partial", self.of(value.func), self.of(value.args), self.of(value.keywords)]
        if type(value) in (list, tuple):
            return [kind, [self.of(item) for item in value]]
        if type(value) in (set, frozenset):
            return [kind, sorted((self.of(item) for item in value), key=repr)]
        if type(value) in (dict, types.MappingProxyType):
            return [kind, [[self.of(k), self.of(v)] for k, v in value.items()]]
        if _is_array(value):
            if value.dtype.hasobject:
                return [kind, str(value.dtype), list(value.shape), self.of(value.tolist())]
            return [kind, str(value.dtype), list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
        wrapped = inspect.getattr_static(value, "__wrapped__", None)
        if callable(wrapped):
            return ["wrapped", kind, self.of(wrapped)]
        return self._object(value, kind)

    def _object(self, value: Any, kind: str) -> Any:
        """Any other object: its class, and the state that it would be pickled with."""
        if _is_global_random_state(value):
            return ["random state of the process"]
        try:
            registered = copyreg.dispatch_table.get(type(value))
            reduced = registered(value) if registered else value.__reduce_ex__(4)
        except Exception:  # locks, connections, generators: nothing that a result could be computed from
            return ["object", kind]
        if isinstance(reduced, str):
            return ["named", type(value).__module__, reduced]
        make, args, state, items, pairs = (*reduced, None, None, None)[:5]
        if isinstance(state, dict):
            # What is computed on demand is no state: it is there or not, depending on what ran before.
            lazy = {
                n for c in type(value).__mro__ for n, v in vars(c).items() if isinstance(v, functools.cached_property)
            }
            state = {name: state[name] for name in sorted(state, key=str) if name not in lazy}
        content = [list(items or ()), list(pairs or ())]
        return ["object", kind, self.of(type(value)), self.of(make), self.of(args), self.of(state), self.of(content)]

    def _once(self, value: types.FunctionType | type) -> Any:
        if value in self._known:
            return ["again", self._known[value]]
        self._known[value] = len(self._known)
        return self._class(value) if isinstance(value, type) else self._function(value)

    def _function(self, function: types.FunctionType) -> Any:
        module = str(function.__globals__.get("__name__", ""))
        if not self._is_own(module):
            wrapped = vars(function).get("__wrapped__")
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
        return ["function", body, self.of(function.__defaults__), self.of(function.__kwdefaults__), refers]

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
        return [*name, bases, *self._followed(syntax_of(node), scope)]

    def _followed(self, syntax: Syntax, scope: Mapping[str, Any]) -> tuple[Any, list[Any]]:
        """A normalised tree, and what each of the names that it takes from outside stands for."""
        self._parameters += syntax.parameters
        self._keywords |= syntax.keywords
        self._any_keyword |= syntax.is_open
        return syntax.tree, [self._outside(name, paths, scope) for name, paths in syntax.outside.items()]

    def _outside(self, name: Outside, paths: set[tuple[str, ...]], scope: Mapping[str, Any]) -> Any:
        if isinstance(name, Import):
            return self._imported(name, paths, str(scope.get("__package__") or ""))
        return self._reference(scope[name], paths) if name in scope else ["unbound", name]

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
            self.foreign |= {".".join([full, *path]) for path in paths}
        return ["module", source] if name.attribute is None else ["named", source, name.attribute]

    def _reference(self, target: Any, paths: set[tuple[str, ...]]) -> Any:
        """What a name stands for; of a module of the same package, what the code reads from it."""
        if not isinstance(target, types.ModuleType) or not self._is_own(target.__name__):
            if callable(target) or isinstance(target, types.ModuleType):
                self.foreign |= {varying.dotted(target, path) for path in paths or {()}}
            return self.of(target)
        return ["module", target.__name__, [self._read(target, path) for path in sorted(paths)]]

    def _read(self, module: Any, path: tuple[str, ...]) -> Any:
        target = module
        for number, part in enumerate(path):
            if not hasattr(target, part):
                return ["unbound", *path]
            target = getattr(target, part)
            if not isinstance(target, types.ModuleType) or not self._is_own(target.__name__):
                return [list(path[: number + 1]), self.of(target)]
        return [list(path)]

    def _bytecode(self, code: types.CodeType) -> Any:
        self._any_keyword = True
        self._parameters.append(list(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]))
        return ["code", code.co_code.hex(), [self.of(c) for c in code.co_consts], list(code.co_names), code.co_flags]

    def _is_own(self, module: str) -> bool:
        """Whether a module belongs to the same package; for a module that stands alone, to the same folder."""
        top = self._home.partition(".")[0]
        if module.partition(".")[0] == top:
            return True
        home, other = sys.modules.get(self._home), sys.modules.get(module)
        if "." in self._home or "." in module or hasattr(home, "__path__") or hasattr(other, "__path__"):
            return False
        files = [getattr(m, "__file__", None) for m in (home, other)]
        return None not in files and len({os.path.dirname(os.path.abspath(str(f))) for f in files}) == 1


_PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes})
_SPECIAL = frozenset({"__init__", "__call__", "__annotations__"})


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
