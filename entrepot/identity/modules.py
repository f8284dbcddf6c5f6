"""The modules of an author's own package, and their source: what counts where code cannot be followed with certainty.

For a module that stands alone, what stands beside it is its package.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import sys
import sysconfig
import weakref
from collections.abc import Iterator
from functools import lru_cache
from types import ModuleType

from entrepot.identity.syntax import parsed

_BY_NAME = frozenset({"__import__", "import_module", "pkgutil", "runpy", "modules"})
"""What a module reads that imports others by names which its source need not show (`modules`: of `sys`)."""

_OURS = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
"""Where Entrepot itself stands: a pipeline in a module beside its packages does not own them."""

_texts: weakref.WeakKeyDictionary[ModuleType, str] = weakref.WeakKeyDictionary()
"""The source of each module as it was when it was first looked at: what was imported does not change with the file."""


def package_of(module: str) -> str:
    """The package that a module belongs to: the one of the first level; for an example of Entrepot, the example."""
    names = module.split(".")
    return ".".join(names[:3]) if names[:2] == ["entrepot", "examples"] else names[0]


def is_own(module: str, home: str) -> bool:
    """Whether a module belongs to the package of the module `home`."""
    if package_of(module) == package_of(home):
        return True
    if "." in home or hasattr(sys.modules.get(home), "__path__") or (folder := _folder(home)) is None:
        return False
    other = module.partition(".")[0]
    return folder == _folder(other) and not (folder == _OURS and _is_package(other))


def neighbours(home: str) -> list[str]:
    """The loaded modules that belong to the package of the module `home`, itself included."""
    return [name for name in list(sys.modules) if name != "__main__" and is_own(name, home)]


def sources(home: str) -> list[list[str]]:
    """Every module of the package of `home` that it imports, directly or not, with the hash of its source.

    Comments and formatting leave no trace. Where a module imports others by names that its source does not show, all
    modules of the package are taken.
    """
    found: dict[str, str] = {}
    to_read = [home]
    while to_read:
        name = to_read.pop()
        if name in found or not is_own(name, home) or (text := _text(name)) is None:
            continue
        read = _read(text)
        found[name] = read.hash
        to_read += _parents(name)
        to_read += read.imported(name if _is_package(name) else name.rpartition(".")[0])
        to_read += _every(home) if read.by_name else ()
    return sorted([name, hashed] for name, hashed in found.items())


def source_of(module: str) -> str | None:
    """The hash of the source of a module, or of a package with all that is in it; None if there is no such source."""
    names = [module, *(_within(module) if _is_package(module) else ())]
    texts = [[name, _read(text).hash] for name in names if (text := _text(name)) is not None]
    return hashlib.sha256(repr(sorted(texts)).encode()).hexdigest()[:16] if texts else None


class _Source:
    """What is read from the text of a module."""

    def __init__(self, text: str) -> None:
        tree = parsed(text)
        for node in ast.walk(tree):
            for name in ("body", "orelse", "finalbody"):
                if isinstance(statements := getattr(node, name, None), list):
                    setattr(node, name, [each for each in statements if not _says_nothing(each)])
        self.hash = hashlib.sha256(ast.dump(tree, annotate_fields=False).encode("utf-8", "surrogatepass")).hexdigest()
        names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        names |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        self._imports = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
        names |= {a.name.partition(".")[0] for n in self._imports for a in n.names}
        names |= {(n.module or "").partition(".")[0] for n in self._imports if isinstance(n, ast.ImportFrom)}
        self.by_name = bool(names & _BY_NAME)

    def imported(self, package: str) -> Iterator[str]:
        """The modules that it names, and what may be one."""
        for node in self._imports:
            base = ""
            if isinstance(node, ast.ImportFrom):
                try:
                    base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                except ImportError:
                    continue
                yield base
            for alias in node.names:
                name = f"{base}.{alias.name}" if base else alias.name
                yield from (name, *_parents(name))


@lru_cache(maxsize=1024)
def _read(text: str) -> _Source:
    return _Source(text)


def _says_nothing(node: ast.AST) -> bool:
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _text(name: str) -> str | None:
    """The source of a module; None if there is none."""
    module = sys.modules.get(name)
    if module is not None and module in _texts:
        return _texts[module]
    file = _file(name)
    if file is None or not file.endswith(".py"):
        return None
    try:
        with open(file, encoding="utf-8") as opened:
            text = opened.read()
        _read(text)  # whether it is Python at all
    except (OSError, UnicodeDecodeError, SyntaxError, ValueError):
        return None
    if module is not None:
        _texts[module] = text
    return text


def _file(name: str) -> str | None:
    module = sys.modules.get(name)
    if module is not None:
        return getattr(module, "__file__", None)
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None
    return spec.origin if spec is not None else None


def _folder(name: str) -> str | None:
    """The folder in which a module or package of the first level stands; None if it is installed or has no file."""
    file = _file(name) if name else None
    if file is None:
        return None
    folder = os.path.dirname(os.path.abspath(file))
    if os.path.basename(file) == "__init__.py":
        folder = os.path.dirname(folder)
    return None if folder in _installed() else folder


@lru_cache(maxsize=1)
def _installed() -> frozenset[str]:
    return frozenset(os.path.abspath(sysconfig.get_path(which)) for which in ("stdlib", "purelib", "platlib"))


def _is_package(name: str) -> bool:
    return os.path.basename(_file(name) or "") == "__init__.py"


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def _every(home: str) -> Iterator[str]:
    """All modules of a package, imported or not; of a module that stands alone, those beside it."""
    top = package_of(home)
    if _is_package(top):
        yield from _within(top)
    elif (folder := _folder(top)) is not None:
        yield from sorted(name[:-3] for name in os.listdir(folder) if name.endswith(".py"))


def _within(package: str) -> Iterator[str]:
    root = os.path.dirname(os.path.abspath(_file(package) or ""))
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(each for each in folders if each.isidentifier())
        inner = os.path.relpath(folder, root).replace(os.sep, ".")
        prefix = package if inner == "." else f"{package}.{inner}"
        for file in sorted(files):
            if file.endswith(".py") and file[:-3].isidentifier():
                yield prefix if file == "__init__.py" else f"{prefix}.{file[:-3]}"
