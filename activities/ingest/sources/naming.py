"""What columns are called in the warehouse, whatever brings them: as dlt's `snake_case` says it, in every script.

Letters and digits of all scripts stay, letters become small ones, and everything else an underscore. Where two columns
would have one name they are refused. dlt finds this module by its name, and the class in it by its.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache

from dlt.common.normalizers.naming import snake_case

from entrepot.errors import StepFailed

TELL_APART = "give one of them another name before it is yielded"
"""What to do where Python code gives rows."""


class NamingConvention(snake_case.NamingConvention):
    """dlt's, which keeps Latin letters alone."""

    def normalize_identifier(self, identifier: str) -> str:
        """The name of a column, or of a part of one."""
        return super().normalize_identifier(identifier) if identifier.isascii() else _of_any_script(identifier)

    def normalize_path(self, path: str) -> str:
        """The name of a column, of which `__` parts the names. What is nothing but that has a name, too."""
        return super().normalize_path(path) or self.normalize_identifier(path)


@lru_cache(maxsize=16_384)
def _of_any_script(identifier: str) -> str:
    text = unicodedata.normalize("NFC", identifier).strip().translate(NamingConvention._TR_REDUCE_ALPHABET)
    # Marks are parts of letters: vowels of Hindi, for example.
    kept = "".join(c if c == "_" or unicodedata.category(c)[0] in "LMN" else "_" for c in text)
    return unicodedata.normalize("NFC", NamingConvention._to_snake_case(kept))


_NAMING = NamingConvention()


def name_of(column: str, rename: Mapping[str, str] | None = None) -> str:
    """A column's name in the warehouse: the one that a user gave it, or the one that its own becomes."""
    return (rename or {}).get(column) or _NAMING.normalize_path(column) or "_"


def check_apart(names: Iterable[tuple[str, str]], where: str, remedy: str) -> None:
    """Raises StepFailed if two columns, each with its name in the warehouse, would be one there."""
    seen: dict[str, str] = {}
    for column, name in names:
        if name.lower() in seen:
            raise StepFailed(one_name(seen[name.lower()], column, name, where, remedy))
        seen[name.lower()] = column


def one_name(one: str, other: str, name: str, where: str, remedy: str) -> str:
    """The sentence for two columns that would be one."""
    which = f"the column {one!r} is there twice" if one == other else f"{one!r} and {other!r} have one name: {name!r}"
    return f"{where}: {which}; {remedy}"
