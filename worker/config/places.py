"""Where tenants' data stand: no two in one lake, and in one database only where no name of theirs can be the same.

Places are compared by what they are, not by how they are written: a link, `..`, `file://`, another scheme for the same
store, a second name of the same file. What nothing here can tell, such as two names of one account, the catalog and the
lake tell when they are opened: each knows its tenant.
"""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from entrepot.errors import EntrepotError, listed

if TYPE_CHECKING:
    from entrepot.worker.config.settings import Settings
    from entrepot.worker.config.tenant_schema import TenantSection

_SCHEMES = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "abfss": "abfs", "az": "abfs", "wasb": "abfs", "wasbs": "abfs"}


@dataclass(frozen=True)
class Lake:
    """A tenant's lake."""

    tenant: str
    written: str
    chain: tuple[Hashable, ...]
    """What it is, and each folder that it is in."""

    def overlap(self, other: Lake) -> str:
        """How it overlaps with another tenant's that is the same, or in it, or around it."""
        if self.chain[0] == other.chain[0]:
            return f"tenants.{self.tenant}: has the same lake as tenant {other.tenant!r}: {self._both(other)}"
        return (
            f"tenants.{self.tenant}: its lake {self.written} and that of tenant {other.tenant!r} are one inside "
            f"the other: {other.written}"
        )

    def _both(self, other: Lake) -> str:
        return self.written if self.written == other.written else f"{self.written} and {other.written}"


@dataclass(frozen=True)
class Database:
    """A database, project or file in which a tenant's tables stand, and the schemas that it uses there."""

    tenant: str
    identity: Hashable
    written: str
    schemas: frozenset[str]
    prefix: str

    def overlap(self, other: Database) -> str | None:
        """How it overlaps with what another tenant has in the same database, as a sentence; None, if it does not."""
        common, both = self.schemas & other.schemas, self.prefix and other.prefix
        if both and (self.prefix.startswith(other.prefix) or other.prefix.startswith(self.prefix)):
            why = f"the prefixes {self.prefix!r} and {other.prefix!r} begin alike"
        elif common:
            why = f"both have the schemas {listed(common)} there"
        else:
            return None
        what = "file" if self.written.startswith("file ") else "database"
        places = [self.written.removeprefix("file "), other.written.removeprefix("file ")]
        return (
            f"tenants.{self.tenant}: has the same {what} as tenant {other.tenant!r}: "
            f"{' and '.join(dict.fromkeys(places))}; {why}, so give each a {what} or a `prefix` of its own"
        )


def overlaps(settings: Settings, known: Iterable[str]) -> Iterator[str]:
    """A sentence for each place that two tenants would share.

    Args:
        known: Every pipeline; a tenant that names none runs all of them.
    """
    tenants = settings.tenants.items()
    yield from _of_lakes([_lake(name, settings.lake(name, tenant)) for name, tenant in tenants])
    databases: dict[Hashable, list[Database]] = {}
    for name, tenant in tenants:
        for each in _databases(settings, name, tenant, known):
            databases.setdefault(each.identity, []).append(each)
    for together in databases.values():
        for database, other in combinations(together, 2):
            if database.tenant != other.tenant:
                yield from filter(None, [other.overlap(database)])


def _lake(tenant: str, written: str) -> Lake:
    return Lake(tenant, written, tuple(_chain(written)))


def _of_lakes(lakes: Sequence[Lake]) -> Iterator[str]:
    """A sentence for each two that are the same, or one in the other: of thousands, each is looked at once."""
    at: dict[Hashable, list[int]] = {}
    for number, lake in enumerate(lakes):
        at.setdefault(lake.chain[0], []).append(number)
    pairs = {
        (min(number, other), max(number, other))
        for number, lake in enumerate(lakes)
        for place in lake.chain
        for other in at.get(place, ())
        if other != number
    }
    for first, second in sorted(pairs):
        yield lakes[second].overlap(lakes[first])


def _databases(settings: Settings, name: str, tenant: TenantSection, known: Iterable[str]) -> Iterator[Database]:
    from entrepot import backends

    schemas = frozenset({tenant.catalog_schema, *tenant.schemas(known).values()})
    for given in (tenant.backend, *tenant.backends.values()):
        try:
            backend = backends.create(settings.backend(given), name)
        except EntrepotError:
            continue  # told elsewhere
        if not backend.database.isprintable():
            continue
        yield Database(name, (backend.name, _identity(backend.database)), backend.place, schemas, tenant.prefix)


def _identity(database: str) -> Hashable:
    """A file is what it is on its disk; any other is what it is called, where large and small letters are one."""
    return _chain(database)[0] if os.path.isabs(database) else database.casefold()


def _chain(place: str) -> list[Hashable]:
    """What a folder, file or URL is, and each folder that it is in, the nearest first."""
    url = place.rpartition("::")[2]
    scheme, separator, rest = url.partition("://")
    if not separator:
        return _local_chain(place)
    if scheme.lower() in ("file", "local"):
        return _local_chain(rest)
    parts = urlsplit(url)
    names = [parts.netloc.casefold(), *(name for name in re.split("/+", parts.path) if name not in ("", "."))]
    scheme = _SCHEMES.get(scheme.lower(), scheme.lower())
    return [(scheme, *names[: len(names) - number]) for number in range(len(names))]


def _local_chain(path: str) -> list[Hashable]:
    path, missing, found = os.path.realpath(path), list[str](), list[Hashable]()
    while True:
        try:
            known = os.stat(path)
        except OSError:
            missing.insert(0, os.path.basename(path))
            path = os.path.dirname(path)
            continue
        break
    found = [(known.st_dev, known.st_ino, *missing[: len(missing) - number]) for number in range(len(missing) + 1)]
    while (above := os.path.dirname(path)) != path:
        path = above
        known = os.stat(path)
        found.append((known.st_dev, known.st_ino))
    return found
