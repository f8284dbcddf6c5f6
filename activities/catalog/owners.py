"""The names that people see, and who owns them: views in warehouses, files in the lake, schemas of versions; and the
catalog itself, which is one tenant's.

Each has one owner, recorded in the catalog's `places`. A place is claimed before anything stands there, and released
after nothing does any more: so whatever stands somewhere is recorded, also what a process that died has left, and what
is recorded and not to be shown any more can be taken away by whoever comes next.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from entrepot.activities.catalog.tables import CatalogTables, any_of, equals, now
from entrepot.backends import RelationKind, Session, TableName
from entrepot.errors import BadInput

_AT_ONCE = 1000
"""Rows of one statement; BigQuery takes 1 MB."""


@dataclass(frozen=True)
class Place:
    """Where something stands that people find by its name."""

    kind: Literal["view", "file", "versions", "catalog", "copy"]
    """A view; a file in the lake; a schema in which a pipeline's versions stand; that of the catalog; or the table of a
    copy on a further warehouse, whose own catalog does not know it."""
    schema: str
    table: str
    """Of a file, its path in the lake."""
    warehouse: str = ""
    """Empty: the one where the pipeline runs."""

    @property
    def key(self) -> str:
        """The same for two names that some warehouse takes for one."""
        return str(self).lower() if self.kind != "file" else self.table

    @property
    def name(self) -> TableName:
        """As a name in its warehouse."""
        return TableName(self.schema, self.table)

    def __str__(self) -> str:
        return ".".join(part for part in (self.schema, self.table) if part)


@dataclass(frozen=True)
class Owner:
    """Who owns a place."""

    tenant: str
    pipeline: str
    environment: str = ""
    name: str = ""
    """The table, or the publish step, that is shown there."""

    def __str__(self) -> str:
        shown = f" (which shows {self.name!r} there)" if self.name else ""
        where = f", environment {self.environment!r}" if self.environment else ""
        return f"pipeline {self.pipeline!r} of tenant {self.tenant!r}{where}{shown}"

    @property
    def remedy(self) -> str:
        """What to do if the pipeline is there no more."""
        if self.environment:
            drop = f"entrepot env drop {self.environment} --pipeline {self.pipeline}"
            return f"choose another name; or, if {self.pipeline!r} is not to show it any more, `{drop}`"
        gone = f"entrepot gc {self.pipeline} --keep-days 0"
        return f"choose another schema; or, if {self.pipeline!r} is not run any more, `{gone}`"


Shown = frozenset[tuple[Place, str]]
"""Places, each with the name of what is shown there."""


def check_distinct(shown: Iterable[tuple[Place, str]]) -> Shown:
    """Raises BadInput for two names at one place."""
    every: dict[tuple[str, str], tuple[Place, str]] = {}
    for place, name in shown:
        _, other = every.setdefault((place.warehouse, place.key), (place, name))
        if other != name:
            raise BadInput(f"{other!r} and {name!r} would both be shown as {place}; give one of them another name")
    return frozenset(every.values())


def relations_in(session: Session, schema: str) -> dict[str, RelationKind]:
    """What stands in a schema, by names in small letters: two that differ in case alone are one to some warehouse."""
    return {name.lower(): kind for name, kind in session.relations(schema).items()}


def check_unoccupied(kinds: Mapping[str, RelationKind], place: Place, *, is_ours: bool) -> None:
    """Raises BadInput if something stands at a place that Entrepot has not made.

    Args:
        kinds: What stands in the place's schema, as `relations_in` tells it.
    """
    found = kinds.get(place.table.lower())
    if found is not None and (found == "table" or not is_ours):
        raise BadInput(
            f"{place} is a {found} that Entrepot has not made, and it stands where a view is to show {place.table!r}; "
            f"drop or rename it, or give the pipeline or the copy another schema"
        )


@dataclass(frozen=True)
class Places:
    """Every name that people see, and its owner: the catalog's `places`."""

    tables: CatalogTables

    def of(self, pipeline: str, environment: str) -> Shown:
        """What an environment shows, or did before it was changed."""
        rows = self.tables.select("places", equals("pipeline", pipeline), equals("environment", environment))
        return frozenset((_place(row), row["name"]) for row in rows)

    def check_free(self, owner: Owner, wanted: Shown) -> None:
        """Raises BadInput for places that are somebody else's: another pipeline's, environment's or tenant's."""
        names = {(place.warehouse, place.key): name for place, name in wanted}
        for place, other in self._owned({place for place, _ in wanted}):
            if (other.tenant, other.pipeline, other.environment) != (owner.tenant, owner.pipeline, owner.environment):
                ours = replace(owner, name=names[place.warehouse, place.key])
                raise BadInput(f"{place} belongs to {other}, and cannot belong to {ours}, too; {other.remedy}")

    def claim(self, owner: Owner, new: Shown, *, run: str = "") -> None:
        """Records places as an environment's, outside of any transaction: of two at the same time, both see both.

        Raises:
            BadInput: if one of them is somebody else's.
        """
        if not new:
            return
        self.check_free(owner, new)
        rows = [_row(owner, place, name, run) for place, name in sorted(new, key=str)]
        for start in range(0, len(rows), _AT_ONCE):
            self.tables.insert("places", *rows[start : start + _AT_ONCE])
        try:
            self.check_free(owner, new)
        except BadInput:
            self.release(owner.pipeline, owner.environment, new)
            raise

    def release(self, pipeline: str, environment: str, shown: Shown) -> None:
        """Releases places where nothing stands any more."""
        for name in {name for _, name in shown}:
            keys = any_of("place", {place.key for place, its in shown if its == name})
            its = (equals("pipeline", pipeline), equals("environment", environment), equals("name", name), keys)
            self.tables.delete("places", *its)

    def tenants(self) -> set[str]:
        """Whose the catalog is: one tenant's, or nobody's yet."""
        return self.tables.distinct("places", "tenant") if "places" in self.tables.existing() else set()

    def claim_catalog(self, tenant: str) -> None:
        """Records the catalog as a tenant's, whether or not it is another's, too: who looks then sees both."""
        row = _row(Owner(tenant, ""), Place("catalog", self.tables.schema, ""), "", "")
        self.tables.insert_once("places", row, "tenant", "kind")

    def release_catalog(self, tenant: str) -> None:
        """Takes back what `claim_catalog` recorded."""
        self.tables.delete("places", equals("tenant", tenant), equals("kind", "catalog"))

    def claim_versions(self, owner: Owner, schema: str) -> None:
        """Records the schema of a pipeline's versions as its own.

        Raises:
            BadInput: if it is somebody else's.
        """
        place = Place("versions", schema, "")
        if any(its == owner for _, its in self._owned({place})):
            return
        self.claim(owner, frozenset({(place, "")}))

    def of_versions(self, pipeline: str) -> set[Place]:
        """The schemas in which a pipeline's versions stand, or did."""
        return {place for place, _ in self.of(pipeline, "") if place.kind == "versions"}

    def claim_copy(self, owner: Owner, target: TableName, warehouse: str, *, run: str) -> None:
        """Records that a copy is about to be made on a further warehouse: whoever makes it may die on the way.

        Raises:
            BadInput: if its place is somebody else's.
        """
        place = Place("copy", target.schema, target.table, warehouse)
        if place not in self.copies(owner.pipeline, warehouse):
            self.claim(owner, frozenset({(place, "")}), run=run)

    def copies(self, pipeline: str, warehouse: str = "") -> set[Place]:
        """Where copies of a pipeline stand, or were to: on a further warehouse, or on all."""
        its = {place for place, _ in self.of(pipeline, "") if place.kind == "copy"}
        return {place for place in its if warehouse in ("", place.warehouse)}

    def _owned(self, wanted: Collection[Place]) -> list[tuple[Place, Owner]]:
        """Those of the wanted places that are somebody's."""
        keys = {(place.warehouse, place.key) for place in wanted}
        if not keys:
            return []
        rows = self.tables.select("places", any_of("place", {key for _, key in keys}))
        found = [(_place(row), Owner(row["tenant"], row["pipeline"], row["environment"], row["name"])) for row in rows]
        return [(place, owner) for place, owner in found if (place.warehouse, place.key) in keys]


def _place(row: Mapping[str, Any]) -> Place:
    return Place(row["kind"], row["in_schema"], row["in_table"], row["warehouse"])


def _row(owner: Owner, place: Place, name: str, run: str) -> dict[str, Any]:
    return {
        "tenant": owner.tenant,
        "pipeline": owner.pipeline,
        "environment": owner.environment,
        "name": name,
        "kind": place.kind,
        "warehouse": place.warehouse,
        "place": place.key,
        "in_schema": place.schema,
        "in_table": place.table,
        "run": run,
        "since": now(),
    }
