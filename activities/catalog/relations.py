"""What stands in the schemas of a warehouse, held against what should."""

from __future__ import annotations

from collections.abc import Iterable

import sqlglot.expressions as sge

from entrepot.activities.catalog.owners import relations_in
from entrepot.backends import RelationKind, Session, TableName


class Relations:
    """The tables and views in the schemas of one warehouse, each schema listed once, and each counted once.

    Args:
        counted: Whether rows are counted, too.
    """

    def __init__(self, session: Session, *, counted: bool = False) -> None:
        self._session = session
        self._counted = counted
        self._kinds: dict[str, dict[str, RelationKind]] = {}
        self._rows: dict[TableName, int] = {}

    def kind(self, name: TableName) -> RelationKind | None:
        """Whether a name is a table or a view; None, if there is neither."""
        if name.schema not in self._kinds:
            self._kinds[name.schema] = relations_in(self._session, name.schema)
        return self._kinds[name.schema].get(name.table.lower())

    def names(self, schema: str) -> list[str]:
        """What stands in a schema."""
        self.kind(TableName(schema, ""))
        return list(self._kinds[schema])

    def drop(self, names: Iterable[TableName]) -> None:
        """Drops what stands under these names, whatever it is; where nothing does, nothing."""
        for name in names:
            if kind := self.kind(name):
                (self._session.drop_view if kind == "view" else self._session.drop_table)(name)

    def first_problem(self, wanted: Iterable[tuple[TableName, RelationKind, int | None]]) -> str:
        """What is wrong with the first of some that is not as it has to be; empty, if all are.

        Args:
            wanted: Each name, whether it is a table or a view, and how many rows it has, where that is known.
        """
        return next(filter(None, (self.problem(*each) for each in wanted)), "")

    def problem(self, name: TableName, wanted: RelationKind = "table", rows: int | None = None) -> str:
        """What is wrong with a table or view; empty, if nothing is."""
        found = self.kind(name)
        if found != wanted:
            return f"{name} is gone" if found is None else f"{name} is a {found} now"
        if rows is None or not self._counted:
            return ""
        if name not in self._rows:
            table = sge.table_(name.table, db=name.schema, quoted=True)
            counted = sge.select(sge.Count(this=sge.Star()).as_("n")).from_(table)
            self._rows[name] = self._session.query(counted)[0]["n"]
        n = self._rows[name]
        return "" if n == rows else f"{name} has {n:,} rows, and was made with {rows:,}"
