"""Finding pipelines by name: from settings (`module:object`) and from the entry points `entrepot.pipelines`."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Set
from concurrent.futures import Future
from importlib.metadata import entry_points
from types import ModuleType

from entrepot.errors import BadInput, EntrepotError, PipelineError, Unavailable, unknown
from entrepot.identity.imported import stamp
from entrepot.identity.modules import neighbours, package_of
from entrepot.pipeline import Pipeline
from entrepot.tracebacks import author_line, describe, is_transient

GROUP = "entrepot.pipelines"
_log = logging.getLogger("entrepot")


class Registry:
    """The pipelines that can be loaded, and those that are.

    Args:
        references: Pipeline names to `module:object`. Entry points add to them; settings win.
        reload: Import a module anew when one of its package's files has changed. For development: what runs already
            keeps the code that it has.
    """

    def __init__(self, references: Mapping[str, str], *, reload: bool = False) -> None:
        self.references: Mapping[str, str] = {}
        self.reloads = reload
        self.rehearse: Callable[[str, str], None] | None = None
        """Imports and validates a pipeline where it harms nobody, and raises what doing so here would. A worker has
        it: a command that imports a pipeline harms nobody but itself."""
        self._loading: dict[str, Future[Pipeline]] = {}
        self._reported: set[str] = set()
        """The changed files that were warned of."""
        self._loaded: dict[str, tuple[Pipeline, dict[str, tuple[int, int]]]] = {}
        self._lock = threading.Lock()
        self.refer(references)

    def refer(self, references: Mapping[str, str]) -> None:
        """Takes other references of pipelines, for those that are loaded from now on."""
        before, self.references = self.references, {**installed(), **references}
        with self._lock:
            for name in [n for n in self._loaded if before.get(n) != self.references.get(n)]:
                del self._loaded[name]

    def load(self, name: str) -> Pipeline:
        """The pipeline of a name.

        Raises:
            BadInput: if there is none, its module cannot be imported, or holds no such pipeline.
            PipelineError: if declaring its steps raises it.
            Unavailable: if its module may be imported the next time.
        """
        if name not in self.references:
            raise BadInput(unknown("pipeline", name, self.references))
        with self._lock:
            if (pipeline := self._as_imported(name)) is not None:
                return pipeline
            before = self._loading.get(name)
            loading = self._loading[name] = before or Future()
        if before is not None:  # another thread does it
            return before.result()
        try:
            loading.set_result(self._imported(name))
        except BaseException as error:
            loading.set_exception(error)
        finally:
            with self._lock:
                del self._loading[name]
        return loading.result()

    def _imported(self, name: str) -> Pipeline:
        if name in self._loaded:
            _remove_bytecode(_own_modules(self.references[name].partition(":")[0]).values())
        if self.rehearse is not None:
            self.rehearse(name, self.references[name])  # whatever that takes, other pipelines need not wait
        with self._lock:
            if name in self._loaded:
                _forget(self.references[name].partition(":")[0])
            before = set(sys.modules)
            try:
                pipeline = _import(name, self.references[name])
                if self.rehearse is not None:
                    pipeline.take_for_valid()
            except EntrepotError:
                _forget(self.references[name].partition(":")[0], but=before)  # the next attempt reads mended code
                raise
            modules = _own_modules(self.references[name].partition(":")[0])
            self._loaded[name] = (pipeline, _stamps(str(m.__file__) for m in modules.values()))
            return pipeline

    def _as_imported(self, name: str) -> Pipeline | None:
        """A pipeline that need not be imported: it was, and its files are as they were, or are not looked at again."""
        if name not in self._loaded:
            return None
        pipeline, stamps = self._loaded[name]
        if stamps != _stamps(stamps):
            if self.reloads:
                return None
            self._warn_changed(name, stamps)
        return pipeline

    def stamps(self, name: str) -> dict[str, tuple[int, int]]:
        """The files that make a loaded pipeline, each as it was when it was imported; else none."""
        with self._lock:
            return dict(self._loaded[name][1]) if name in self._loaded else {}

    def _warn_changed(self, name: str, stamps: Mapping[str, tuple[int, int]]) -> None:
        """Warns once which files have changed since they were imported."""
        changed = {file for file, before in stamps.items() if before != stamp(file)} - self._reported
        self._reported |= changed
        for file in sorted(changed):
            _log.warning(
                "%s has changed since pipeline %r was imported: this worker goes on with what it imported; restart it",
                *(file, name),
            )


def installed() -> dict[str, str]:
    """The pipelines that installed packages offer, as `module:object`."""
    return {entry.name: entry.value for entry in entry_points(group=GROUP)}


def see_working_folder() -> None:
    """Lets modules of the current folder be found, as Python itself does for a script."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())


def _import(name: str, reference: str) -> Pipeline:
    module_name, _, attribute = reference.partition(":")
    where = f"pipeline {name!r} ({reference})"
    importlib.invalidate_caches()
    see_working_folder()
    try:
        module = importlib.import_module(module_name)
    except PipelineError:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
            raise BadInput(f"{where}: there is no module {error.name!r} on the worker's Python path") from None
        line = author_line(error, _home(module_name))
        at = f" at {line}" if line else ""
        kind = Unavailable if is_transient(error) else BadInput
        raise kind(f"{where}: its module fails to import{at}: {describe(error)}") from error
    pipelines = {key: value for key, value in vars(module).items() if isinstance(value, Pipeline)}
    if (attribute or name) not in pipelines:
        raise BadInput(f"{where}: module {module_name!r}: {unknown('pipeline object', attribute or name, pipelines)}")
    pipeline = pipelines[attribute or name]
    if pipeline.name != name:
        raise BadInput(f"{where}: the pipeline calls itself {pipeline.name!r}; use that name in the settings")
    return pipeline


def _home(module_name: str) -> str:
    """A file of the package that a module is in, or the module's own; found without importing anything."""
    spec = importlib.util.find_spec(package_of(module_name))
    return (spec.origin if spec else None) or ""


def _own_modules(module_name: str) -> dict[str, ModuleType]:
    """The loaded modules that make a pipeline: its own, and those of its package."""
    found = {name: sys.modules[name] for name in {module_name, *neighbours(module_name)} if name in sys.modules}
    return {name: module for name, module in found.items() if getattr(module, "__file__", None)}


def _forget(module_name: str, but: Set[str] = frozenset()) -> None:
    forgotten = {name: module for name, module in _own_modules(module_name).items() if name not in but}
    _remove_bytecode(forgotten.values())
    for name in forgotten:
        del sys.modules[name]


def _remove_bytecode(modules: Iterable[ModuleType]) -> None:
    """Python takes bytecode for that of the source if size and second agree, so it would miss a quick edit."""
    for module in modules:
        with contextlib.suppress(OSError, NotImplementedError):
            os.remove(importlib.util.cache_from_source(str(module.__file__)))


def _stamps(files: Iterable[str]) -> dict[str, tuple[int, int]]:
    return {file: stamp(file) for file in files}
