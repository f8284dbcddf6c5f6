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
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from dlt.common.normalizers.json import relational
from dlt.common.normalizers.json.helpers import get_row_hash
from dlt.common.normalizers.utils import DLT_ID_LENGTH_BYTES
from dlt.common.utils import digest128

from entrepot.activities.ingest.sources.naming import TELL_APART, one_name
from entrepot.errors import StepFailed

Row = dict[str, Any]


class DataItemNormalizer(relational.DataItemNormalizer):
    """dlt's own, except for the ids of root rows; and every nested row knows its root."""

    def _reset(self) -> None:
        super()._reset()
        root = {"root": {self.c_dlt_id: self.c_dlt_root_id}}
        self._get_propagation_mapping = lru_cache(maxsize=None)(lambda table, is_root: root["root"] if is_root else {})
        self.propagation_config: Any = root
        self._seen: Counter[tuple[str, str]] = Counter()  # ids of rows that have nested ones
        self._has_lists = False
        self._names: dict[tuple[str, ...], dict[str, str]] = {}  # at each place, the keys that were met and their names

    def _flatten(self, table: str, dict_row: Row, _r_lvl: int) -> tuple[Row, dict[tuple[str, ...], Sequence[Any]]]:
        self._check_names((table,), dict_row, _r_lvl)
        row, lists = super()._flatten(table, dict_row, _r_lvl)
        self._has_lists = bool(lists)
        return row, lists

    def _check_names(self, place: tuple[str, ...], row: Row, level: int) -> None:
        """Raises StepFailed for a key that has the name of another: one of the two would be lost, or take its place."""
        known = self._names.setdefault(place, {})
        if not row.keys() <= known.keys():
            for key in row:
                if key not in known:
                    name = self._normalize_identifier(key) if key.strip() else self.EMPTY_KEY_IDENTIFIER
                    if other := [k for k, its in known.items() if its == name]:
                        where = f"table {place[0]!r}" + (f", in {'.'.join(place[1:])!r}" if place[1:] else "")
                        raise StepFailed(one_name(other[0], key, name, where, TELL_APART))
                    known[key] = name
        for key, value in row.items():
            if type(value) is dict:
                inner = (*place, known[key])
                if not self._is_nested_type(place[0], self._shorten_fragments(*inner[1:]), level):
                    self._check_names(inner, value, level - 1)

    def _add_row_id(
        self, table: str, dict_row: Row, flattened_row: Row, parent_row_id: str, pos: int, is_root: bool
    ) -> str:
        if not is_root:
            return super()._add_row_id(table, dict_row, flattened_row, parent_row_id, pos, is_root)
        if key := self._key(table):
            row_id = get_row_hash({name: flattened_row.get(name) for name in key}, subset=key)
        else:
            row_id = get_row_hash(dict_row)
            if self._has_lists:
                self._seen[table, row_id] += 1
                if (count := self._seen[table, row_id]) > 1:
                    row_id = digest128(f"{row_id}_{count}", DLT_ID_LENGTH_BYTES)
        flattened_row[self.c_dlt_id] = row_id
        return row_id

    def _key(self, table: str) -> list[str]:
        """The primary key of a table whose rows it makes unique; nothing for others."""
        schema: Any = self.schema.tables.get(table, {})
        if schema.get("write_disposition") != "merge" or schema.get("x-merge-strategy") == "scd2":
            return []
        return self._get_primary_key(table)
