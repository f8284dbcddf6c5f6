"""Which source reads what an ingest step's function has returned: it is found by the type of that.

Other packages add theirs by entry points of the group `entrepot.sources`, each named by the class that it reads, with
its module, as in `"entrepot_sqlite.SqliteTable" = "entrepot_sqlite.reading:SqliteSource"`. What none reads is dlt's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from entrepot.activities.ingest.sources.stream import Source
from entrepot.errors import BadInput, listed
from entrepot.identity.code import stable_hash

GROUP = "entrepot.sources"

_SOURCES = "entrepot.activities.ingest.sources"
_OWN = (
    EntryPoint("entrepot.language.sources.Files", f"{_SOURCES}.files.files:FileSource", GROUP),
    EntryPoint("entrepot.language.sources.PostgresTable", f"{_SOURCES}.postgres.tables:PostgresSource", GROUP),
)
_ALL_ELSE = EntryPoint("dlt", f"{_SOURCES}.dlt.source:AnySource", GROUP)

Sources = Mapping[str, tuple[str, Source]]
"""A step's sources, each with its table, by the name that its watermark has among those of the step."""


def sources(returned: Any, step: str, tables: Collection[str]) -> Sources:
    """The sources in what a step's function has returned: one, or a mapping of tables to such.

    Args:
        tables: Those that the step names.

    Raises:
        BadInput: if another package's entry point leads to no source, or two are for one class.
    """
    # What is no part of another table: a bare resource, or rows without a name, are of the only one.
    own = [t for t in tables if not any(t.startswith(f"{other}__") for other in tables)]
    name = own[0] if len(own) == 1 else step
    given = dict(returned) if isinstance(returned, Mapping) else {name: returned}
    entries = (*entry_points(group=GROUP), *_OWN)
    found: dict[str, tuple[str, Source]] = {}
    rest: dict[str, Any] = {}
    for table, value in given.items():
        if entry := _entry(type(value), entries):
            found[f"table:{table}"] = (table, _loaded(entry)(value))
        else:
            rest[table] = value
    if rest or not found:  # dlt reads it in one go, and has one watermark for all of it
        found[_ALL_ELSE.name] = (name, _ALL_ELSE.load()(rest if isinstance(returned, Mapping) else returned))
    return found


def _entry(described: type, entries: Collection[EntryPoint]) -> EntryPoint | None:
    """The entry point of a class, or of the nearest that it is derived from."""
    for cls in described.__mro__:
        name = f"{cls.__module__}.{cls.__qualname__}"
        found = {entry.value: entry for entry in entries if entry.name == name}
        if len(found) > 1:
            raise BadInput(f"two sources read {name!r}: {listed(found)}; uninstall the package of one")
        if found:
            return next(iter(found.values()))
    return None


def _loaded(entry: EntryPoint) -> Callable[[Any], Source]:
    where = f"the entry point {entry.name!r} of the group {GROUP!r}"
    try:
        source: Any = entry.load()
    except Exception as error:  # whatever another package's module raises
        raise BadInput(f"{where} leads to {entry.value!r}, which cannot be imported: {error}") from error
    if not (isinstance(source, type) and hasattr(source, "open")):
        raise BadInput(f"{where} leads to {entry.value!r}, which is no source: a class with a method `open`")
    return source


def probe(found: Sources) -> str:
    """A hash that is another one when the sources have something new, found at little cost.

    Raises:
        BadInput: if one of them cannot tell.
    """
    marks = {}
    for table, source in found.values():
        ask: Callable[[], str] | None = getattr(source, "probe", None)
        if ask is None:
            raise BadInput(
                f"whether there is something new for {table!r} only reading tells; give the step a `probe=`, a cheap "
                "function whose result changes with the source"
            )
        marks[table] = ask()
    return stable_hash(marks)


def fingerprint(found: Sources, tables: Mapping[str, Any]) -> str | None:
    """A hash of all that the sources would read into a step's tables; None if one of them has no fingerprint."""
    asked = {table: source.fingerprint for table, source in found.values()}
    prints = {table: ask() for table, ask in asked.items() if ask} if None not in asked.values() else {}
    return stable_hash([dict(tables), prints]) if prints else None
