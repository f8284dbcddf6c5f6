"""Names that mean the same everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class NameCase:
    """Names of columns that stand in one table, and of tables that stand in one schema."""

    id: str
    group: str
    names: Sequence[str]


CASES = [
    NameCase("plain", "Plain names", ["a", "total_2024", "_hidden"]),
    NameCase(
        "reserved",
        "Reserved words",
        ["order", "group", "select", "user", "table", "from", "date", "default", "values", "current_date"],
    ),
    NameCase("mixed_case", "Small and large letters", ["MixedCase", "lower", "Title_Case", "camelCase"]),
    NameCase("capitals", "Capitals only", ["UPPER", "LIKE_THIS"]),
    NameCase("spaces", "Spaces", ["two words", "rather more words"]),
    NameCase("spaces_around", "Spaces around", [" leading", "trailing "]),
    NameCase("unicode", "Letters beyond ASCII", ["größe", "日本", "имя", "Ünïcödé"]),
    NameCase("emoji", "Emoji", ["😀"]),
    NameCase("dollar", "Dollar signs", ["a$b", "$1"]),
    NameCase("leading_digit", "A digit first", ["1st", "2024"]),
    NameCase("quotes", "Quotes", ['quo"ted', "it's"]),
    NameCase("backticks", "Backticks and backslashes", ["back`tick", "back\\slash"]),
    NameCase("dots", "Dots", ["a.b", ".c"]),
    NameCase("signs", "Other signs", ["a-b", "a/b", "50%", "(x)", "a,b", "a;b", "c:d", "{e}"]),
]
