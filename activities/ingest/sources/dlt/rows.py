"""How dlt takes nested rows apart, with ids that are the same whenever the rows are: `_dlt_id`, `_dlt_root_id`.

dlt draws the ids of root rows at random unless it merges in ways of its own; then the same rows never have the same
content twice. Here, in tables that are merged by a primary key, a row's id is a hash of its key: what a later load
brings for the key has the same id, and its nested rows take the place of the earlier ones. Everywhere else it is a hash
of the whole row with all that is nested in it. Rows that are equal throughout are numbered, or each would join with the
nested rows of all of them.

Two rows with the same primary key in one load of a merged table share an id. dlt finds this module by its name, and the
class in it by its.
"""

from __future__ import annotations

from collections import Counter

from entrepot.activities.ingest.sources.dlt.compat import (
    DLT_ID_LENGTH_BYTES,
    Row,
    RowNormalizer,
    digest128,
    get_row_hash,
)
from entrepot.activities.ingest.sources.naming import TELL_APART, one_name
from entrepot.errors import StepFailed


class DataItemNormalizer(RowNormalizer):
    """dlt's own, except for the ids of root rows."""

    def begin(self) -> None:
        """Forgets the rows and names of another schema."""
        self._seen: Counter[tuple[str, str]] = Counter()  # ids of rows that have nested ones
        self._names: dict[tuple[str, ...], dict[str, str]] = {}  # at each place, the keys that were met and their names

    def check(self, table: str, row: Row, level: int) -> None:
        """Raises StepFailed for a key that has the name of another: one of the two would be lost, or take its place."""
        self._check_names((table,), row, level)

    def _check_names(self, place: tuple[str, ...], row: Row, level: int) -> None:
        known = self._names.setdefault(place, {})
        if not row.keys() <= known.keys():
            for key in row:
                if key not in known:
                    name = self.name_of(key)
                    if other := [k for k, shown in known.items() if shown == name]:
                        where = f"table {place[0]!r}" + (f", in {'.'.join(place[1:])!r}" if place[1:] else "")
                        raise StepFailed(one_name(other[0], key, name, where, TELL_APART))
                    known[key] = name
        for key, value in row.items():
            if type(value) is dict:
                inner = (*place, known[key])
                if not self.is_kept_whole(place[0], inner[1:], level):
                    self._check_names(inner, value, level - 1)

    def root_id(self, table: str, row: Row, flattened: Row) -> str:
        """A hash of the row's key, or of the whole row."""
        if key := self._key(table):
            return get_row_hash({name: flattened.get(name) for name in key}, subset=key)
        row_id = get_row_hash(row)
        if self.has_lists:
            self._seen[table, row_id] += 1
            if (count := self._seen[table, row_id]) > 1:
                return digest128(f"{row_id}_{count}", DLT_ID_LENGTH_BYTES)
        return row_id

    def _key(self, table: str) -> list[str]:
        """The primary key of a table whose rows it makes unique; nothing for others."""
        schema = self.schema.tables.get(table, {})
        if schema.get("write_disposition") != "merge" or schema.get("x-merge-strategy") == "scd2":
            return []
        return self.primary_key(table)
