"""What a pandera contract may say: what a check of a table cannot hold is refused when the pipeline is built."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_WITHOUT = {  # an option, and what is said of it
    "coerce": "casts values",
    "parsers": "changes values",
    "default": "fills in values",
    "drop_invalid_rows": "leaves out rows",
}


def schema_of(contract: Any) -> Any:
    """The schema of a pandera model, or the schema itself."""
    return contract.to_schema() if hasattr(contract, "to_schema") else contract


def problems(contract: Any) -> Iterator[str]:
    """What a contract says that a check of a table cannot hold, as sentences."""
    schema = schema_of(contract)
    if not type(schema).__module__.startswith("pandera.api.ibis"):
        yield f"its contract is a {type(schema).__name__}; use a model or schema of `pandera.ibis`"
        return
    if schema.strict == "filter":
        yield "its contract leaves out columns (`strict='filter'`); leave them out in the transform"
    for where, part in [("", schema), *((f" of column {name!r}", column) for name, column in schema.columns.items())]:
        for option, does in _WITHOUT.items():
            if getattr(part, option, None) not in (None, False, []):
                yield f"its contract {does} (`{option}`{where}); a contract only looks: do it in the transform"
        for check in part.checks:
            yield from (
                f"the check {name_of(check)}{where} of its contract {problem}" for problem in _check_problems(check)
            )


def _check_problems(check: Any) -> Iterator[str]:
    if check.raise_warning:
        yield "only warns; write it as a check with severity='warn'"
    if check.element_wise:
        yield "calls Python for every value; write it as an ibis expression of the column"
    if getattr(check, "groupby", None) or getattr(check, "groups", None):
        yield "asks for groups; write it as a check of its own"
    if type(check).__name__ == "Hypothesis":
        yield "is a hypothesis test; write it as a check of its own"
    pattern = (check.statistics or {}).get("pattern")
    if isinstance(pattern, re.Pattern) and pattern.flags & ~re.UNICODE:
        yield "has a pattern with flags, which warehouses do not have; write them into the pattern, as in '(?i)'"


def name_of(check: Any) -> str:
    """What a check is called: as pandera tells it, with what it demands."""
    return str(check.error or check.name or "check")
