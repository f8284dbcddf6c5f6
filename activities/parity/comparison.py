"""One table on several warehouses, and a verdict on each of them, whatever fails where."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

from entrepot.activities.catalog.version import Version
from entrepot.activities.parity.bisection import SHOWN, Found, compare_rows, texts
from entrepot.activities.parity.certificates import Certificates
from entrepot.activities.parity.digests import DigestedTable, common_kinds, digest_of
from entrepot.activities.parity.explanation import explained
from entrepot.activities.runtime.context import ActivityContext
from entrepot.activities.runtime.tenant import Tenants
from entrepot.backends import Session
from entrepot.errors import EntrepotError, Unavailable, listed
from entrepot.identity.expression import schema_from
from entrepot.identity.table_digest import ColumnKind, Digest
from entrepot.protocol.parity import Comparison, Side, TableParity, Verdict

LONGEST_WHY = 1_000
"""Characters of a reason: some engines repeat the whole statement."""
LONGEST_TEXT = 10_000
"""Characters that a report shows of a statement or an expression."""


@dataclass(frozen=True)
class Failure:
    """Why there is nothing to compare on a warehouse."""

    why: str
    verdict: Verdict = "not compared"
    statement: str = ""
    unavailable: bool = False


@dataclass
class _There:
    """The table on one warehouse."""

    session: Session
    version: Version
    engine: str
    statements: list[str] = field(default_factory=list)

    @property
    def source(self) -> DigestedTable:
        assert self.version.table is not None
        return DigestedTable(self.session, self.version.table, schema_from(self.version.columns))


class Comparing:
    """One table, compared.

    Args:
        patient: Whether it is tried again if a warehouse cannot be used now; else that is the verdict.
    """

    def __init__(self, tenants: Tenants, work: ActivityContext, asked: Comparison, *, patient: bool) -> None:
        self._tenants = tenants
        self._work = work
        self._asked = asked
        self._patient = patient
        self._first, *self._others = asked.on
        self._failed = {name: Failure(why, "not computed") for name, why in asked.failed.items()}
        self._there: dict[str, _There] = {}
        self._digest = ""

    def run(self) -> TableParity:
        """Compares.

        Raises:
            Unavailable: if a warehouse cannot be used now, and it is to be tried again.
        """
        started = time.monotonic()
        with ExitStack() as stack:
            # In the order of all that opens several, so that no two have what the other waits for.
            for name in sorted(self._asked.on, key=self._work.tenant.warehouses.index):
                if name not in self._failed:
                    self._open(name, stack)
            sides = self._sides()
            if self._patient and (gone := [each.why for each in self._failed.values() if each.unavailable]):
                raise Unavailable(gone[0])
            table = self._table(sides)
            if not (table.agrees or self._asked.brief):
                table = explained(
                    self._tenants,
                    self._asked,
                    table,
                    [self._work.catalog(there.session) for there in self._there.values()],
                )
        return table.model_copy(update={"seconds": time.monotonic() - started})

    def _open(self, name: str, stack: ExitStack) -> None:
        wanted = {self._asked.name: self._asked.version}
        try:
            session = stack.enter_context(self._work.session(self._asked.name, name))
            found = self._work.catalog(session).pipeline(self._asked.context.pipeline).versions(wanted)
            if self._asked.name not in found:
                self._failed[name] = Failure(f"the catalog of {name} does not know the version {self._asked.version}")
            else:
                self._there[name] = _There(session, found[self._asked.name], session.engine())
        except InterruptedError:
            raise
        except Exception as error:
            self._fail(name, "it could not be reached", error)

    def _fail(self, name: str, what: str, error: Exception) -> None:
        statements = self._there[name].statements if name in self._there else []
        self._failed[name] = Failure(
            f"{what} on {name}: {said(error)}",
            statement=statements[-1][:LONGEST_TEXT] if statements else "",
            unavailable=isinstance(error, Unavailable),
        )

    def _sides(self) -> dict[str, Side]:
        """The verdicts on those warehouses that are there, with the first."""
        if self._first in self._failed:
            return {}
        there = {name: (side.session, side.version, side.engine) for name, side in self._there.items()}
        certificates = Certificates(self._work, self._asked, there)
        sides = certificates.sides()
        if sides:
            self._digest = next(iter(sides.values())).digest
        if todo := [name for name in self._others if name in self._there and name not in sides]:
            sides |= self._compared(todo, certificates)
        return sides

    def _compared(self, others: list[str], certificates: Certificates) -> dict[str, Side]:
        sources = {name: self._there[name].source for name in (self._first, *others)}
        kinds = common_kinds([source.schema for source in sources.values()])
        usable = {name: kind for name, kind in kinds.items() if kind is not None}
        digests: dict[str, Digest] = {}
        with ThreadPoolExecutor(max_workers=len(sources)) as pool:
            tasks = {n: pool.submit(digest_of, s, usable, self._there[n].statements) for n, s in sources.items()}
        for name, task in tasks.items():
            if isinstance(error := task.exception(), InterruptedError):
                raise error
            if isinstance(error, Exception):
                self._fail(name, "its digest failed", error)
            else:
                digests[name] = task.result()
        if self._first not in digests:
            return {}
        self._digest = digests[self._first].hex
        lost = [column for column in kinds if column not in usable]
        compared = {}
        for name in (each for each in others if each in digests):
            compared[name] = self._told(name, sources, usable, digests, lost)
            if compared[name].agrees:
                certificates.add(compared[name], self._digest)
        return compared

    def _told(
        self,
        name: str,
        sources: Mapping[str, DigestedTable],
        kinds: Mapping[str, ColumnKind],
        digests: Mapping[str, Digest],
        incomparable: list[str],
    ) -> Side:
        """The verdict on one side, of which there is a digest."""
        ours, theirs = digests[self._first], digests[name]
        engine = self._there[name].engine
        side = Side(backend=name, verdict="agrees", engine=engine, rows=theirs.rows, digest=theirs.hex)
        if incomparable:
            types = [str(sources[each].schema.get(incomparable[0], "missing")) for each in (self._first, name)]
            why = f"column {incomparable[0]!r} is {types[0]} on {self._first}, and {types[1]} on {name}"
            return side.model_copy(update={"verdict": "differs", "why": why})
        if ours.hex == theirs.hex:
            return side
        try:
            found = compare_rows(sources[self._first], sources[name], kinds, rows=max(ours.rows, theirs.rows))
        except InterruptedError:
            raise
        except Exception as error:
            if self._patient and isinstance(error, Unavailable):
                raise
            found = Found(complete=False, stopped=f"its rows could not be looked at: {said(error)}")
        if found.within_tolerance:
            return side.model_copy(update={"verdict": "agrees within tolerance"})
        return _differing(side, found, ours.rows, theirs.rows, self._first, brief=self._asked.brief)

    def _table(self, sides: Mapping[str, Side]) -> TableParity:
        first = self._there.get(self._first)
        longest = LONGEST_WHY // 5 if self._asked.brief else LONGEST_WHY
        others = [sides.get(name) or self._not_told(name) for name in self._others]
        return TableParity(
            name=self._asked.name,
            kind=first.version.kind if first else "transform",
            version=self._asked.version,
            engine=first.engine if first else "",
            rows=first.version.rows if first else None,
            digest=self._digest,
            sql=self._failed[self._first].statement if self._first in self._failed and not self._asked.brief else "",
            sides=tuple(side.model_copy(update={"why": _cut(side.why, longest)}) for side in others),
        )

    def _not_told(self, name: str) -> Side:
        """The verdict where something failed: there, or on the first warehouse, without which nothing can be said."""
        failure = self._failed.get(name) or self._failed[self._first]
        own = name in self._failed
        why = failure.why if own else f"there is nothing on {self._first} to hold it against: {failure.why}"
        return Side(
            backend=name,
            verdict=failure.verdict if own else "not compared",
            engine=self._there[name].engine if name in self._there else "",
            why=why,
            sql=failure.statement if own and not self._asked.brief else "",
            unavailable=failure.unavailable,
        )


def said(error: Exception) -> str:
    """An error in a line, cut."""
    text = str(error) if isinstance(error, EntrepotError | ValueError) else f"{type(error).__name__}: {error}"
    return _cut(" ".join(text.split()), LONGEST_WHY)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[:longest] + "…"


def _differing(side: Side, found: Found, ours: int, theirs: int, first: str, *, brief: bool) -> Side:
    """A side with what differs, in a sentence and by example."""
    side = side.model_copy(
        update={"verdict": "differs", "why": "; ".join(_sentence(found, ours, theirs, first, side.backend))}
    )
    if brief:
        return side
    return side.model_copy(
        update={
            "cells": tuple(found.cells),
            "only_left": tuple(map(texts, found.only_left[:SHOWN])),
            "only_right": tuple(map(texts, found.only_right[:SHOWN])),
        }
    )


def _sentence(found: Found, ours: int, theirs: int, first: str, other: str) -> Iterable[str]:
    if ours != theirs:
        yield f"{ours:,} rows on {first}, {theirs:,} on {other}"
    if found.differing:
        least = "" if found.complete else "at least "
        columns = listed({cell.column for cell in found.cells})
        where = f", in {columns}" if found.cells else ""
        yield f"{least}{found.differing:,} rows differ{where}"
    if found.stopped:
        yield found.stopped
    elif not found.complete and not found.differing:
        yield f"digests differ, and {found.looked_at:,} rows that were looked at are the same within tolerance"
