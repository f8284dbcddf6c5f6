"""What a step reads of its inputs: the columns that it uses, and what decides over their rows.

A step's version counts that alone. So a table may change elsewhere, and what is made of it stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from entrepot.identity.code import stable_hash
from entrepot.identity.version import Frozen

if TYPE_CHECKING:  # a plan is explained where ibis cannot be loaded
    from entrepot.planning.expressions.lineage import Lineage, Part, Source

ROWS = ""
"""The name under which rows have their id, beside columns."""


@dataclass(frozen=True)
class Content:
    """What one version contains."""

    version: str
    ids: Mapping[str, str] | None = None
    """How its rows and each of its columns came about, as a hash; None: it is known as a whole only."""
    same_as: str = ""
    """The version whose rows it has, and whose ids: it was computed anew, and found to have the same."""

    @property
    def whole(self) -> str:
        """All that it is: two versions with the same rows are the same to whoever reads them."""
        return self.same_as or self.version

    def id_of(self, column: str | None) -> str:
        """The id of a column; of its rows, where there is none."""
        return self.whole if self.ids is None else self.ids[column or ROWS]

    def slice(self, columns: Iterable[str | None] | None) -> str:
        """The hash of some of its columns, and of its rows, if they are among them; None: of all that it is."""
        used = None if columns is None else sorted({column or ROWS for column in columns})
        if used and self.ids is not None:
            return stable_hash([[name, self.ids.get(name, "")] for name in used])
        return self.whole if used or used is None else ""

    def beside(self, frozen: Frozen | None) -> Content:
        """The same of a version of which some rows are another's: it has the same where these rows are the same."""
        if frozen is None or self.ids is None:
            return self
        ids = {name: stable_hash([id, frozen.origin, frozen.before]) for name, id in self.ids.items()}
        return Content(self.version, ids, self.same_as)

    def changed(self, before: Content) -> set[str]:
        """The columns that differ from those of another version; of versions that are known as a whole only, none."""
        if self.ids is None or before.ids is None:
            return set()
        names = {*self.ids, *before.ids} - {ROWS}
        return {name for name in names if self.ids.get(name) != before.ids.get(name)}


Contents = Mapping[str, Content]
"""Of tables and models, by name."""


def slices(uses: frozenset[Source] | None, inputs: Contents) -> dict[str, str]:
    """What a step reads of each of its inputs, as a hash.

    Args:
        uses: What it uses of them; None: all that they are.
    """
    if uses is None:
        return {name: content.whole for name, content in inputs.items()}
    return {
        name: content.slice([source.column for source in uses if source.table == name])
        for name, content in inputs.items()
    }


def content_of(version: str, lineage: Lineage | None, inputs: Contents) -> Content:
    """What a version contains that was made of these inputs."""
    if lineage is None:
        return Content(version)
    ids = {ROWS: _id(lineage.rows, inputs), **{name: _id(part, inputs) for name, part in lineage.columns.items()}}
    return Content(version, ids)


def _id(part: Part, inputs: Contents) -> str:
    used = sorted((table, column or ROWS, inputs[table].id_of(column)) for table, column in part.uses)
    return stable_hash([part.id, used])
