"""Writes `docs/backends.md`, the support matrix, from the cases and the gaps: no server is needed.

python -m tests.conformance.matrix
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.gaps import GAPS, KINDS, Gap, gap_of, id_of
from tests.conformance.meanings import MEANINGS
from tests.conformance.target import BACKENDS

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "backends.md"

AREAS = {
    "lifecycle": "Sessions, tables and views",
    "catalog": "Catalog",
    "growing": "Ingest: tables that grow",
    "parts": "Transforms: tables that are computed by parts",
    "environments": "Environments",
    "types": "Types: into the warehouse and back",
    "names": "Names of columns, tables and schemas",
    "operations": "Operations of ibis",
    "scoring": "Models scored inside the warehouse",
}

TITLES = {"duckdb": "DuckDB", "snowflake": "Snowflake", "bigquery": "BigQuery", "databricks": "Databricks"}

HEAD = """# What works on which backend

Made by `python -m tests.conformance.matrix` from the cases and gaps of `tests/conformance`; do not edit. A test
checks that it is current, and what works although it is listed here as a gap fails the suite.

DuckDB is tested as it is. The others are tested with their real client against a local stand-in (`tests/standins`),
where another engine does the work: that shows that our side is right. What the warehouse itself does is known from its
documentation alone, until `make test-live BACKEND=...` has run against an account.

A cell says how many of a row's cases work. Numbers in brackets are the notes below:

| | |
|---|---|
| **works** | every case does |
| **standin** | works on the real one, not on the stand-in |
| **live** | works on the stand-in, not on the real one |
| **notyet** | not yet: the engine or ibis cannot do it |
| **notimpl** | not implemented: ours to do |
| **never** | makes no sense there, or is refused in a sentence |
"""

MEANING = """## What operations mean

ibis leaves some values to each warehouse. Entrepot does not: these mean the same on all four, or are refused when a run
is planned.
"""


@dataclass
class Collected:
    """A pytest plugin that keeps the suite's cases: area → group → ids."""

    areas: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def pytest_collection_modifyitems(self, items: Sequence[Any]) -> None:
        for item in items:
            if "target" not in item.fixturenames:
                continue
            case = item.callspec.params.get("case")
            group = case.group if case is not None else item.get_closest_marker("area").args[0]
            area, _, _ = (case_id := id_of(item)).partition("/")
            self.areas.setdefault(area, {}).setdefault(group, []).append(case_id)


def collected() -> dict[str, dict[str, list[str]]]:
    """Every case of the suite by area and group, as pytest finds them. Nothing runs."""
    plugin = Collected()
    with pytest.MonkeyPatch.context() as patch, Path(os.devnull).open("w") as nothing:
        patch.setenv("ENTREPOT_BACKEND", BACKENDS[0])
        with contextlib.redirect_stdout(nothing):
            arguments = ["--collect-only", "-q", "-p", "no:cacheprovider"]
            code = pytest.main(
                [*arguments, f"--rootdir={HERE.parents[1]}", f"--confcutdir={HERE}", str(HERE)], [plugin]
            )
    if code:
        raise RuntimeError(f"pytest could not collect the cases: exit code {code}")
    return plugin.areas


class Notes:
    """The reasons, numbered in the order in which cells need them."""

    def __init__(self) -> None:
        self.numbers: dict[Gap, int] = {}
        self.cases: dict[Gap, list[str]] = {}

    def number(self, gap: Gap, case: str) -> int:
        """The number of a gap's note."""
        self.cases.setdefault(gap, []).append(case)
        return self.numbers.setdefault(gap, len(self.numbers) + 1)

    def lines(self) -> list[str]:
        """The notes as a numbered list."""
        return [
            f"{n}. {TITLES[g.backend]}, {KINDS[g.kind]}: {g.reason} ({self._of(g)})" for g, n in self.numbers.items()
        ]

    def _of(self, gap: Gap) -> str:
        ids = [case.partition("/")[2] for case in self.cases[gap]]
        more = f" and {len(ids) - 8} more" if len(ids) > 8 else ""
        return ", ".join(f"`{name}`" for name in ids[:8]) + more


def cell(backend: str, cases: Sequence[str], notes: Notes) -> str:
    """How much of a row works on a backend."""
    found = {case: gap for case in cases if (gap := gap_of(GAPS, backend, case, live=None))}
    if not found:
        return "works"
    numbers = sorted({notes.number(gap, case) for case, gap in found.items()})
    kinds = [kind for kind in KINDS if kind in {gap.kind for gap in found.values()}]
    some = "" if len(found) == len(cases) else f"{len(cases) - len(found)} of {len(cases)}; "
    return f"{some}{', '.join(kinds)} {numbers}"


def render() -> str:
    """The page."""
    areas, notes = collected(), Notes()
    lines = [HEAD]
    for area, title in AREAS.items():
        lines += [f"## {title}", "", f"| | cases | {' | '.join(TITLES[b] for b in BACKENDS)} |", "|---" * 6 + "|"]
        for group, cases in areas[area].items():
            cells = [cell(backend, cases, notes) for backend in BACKENDS]
            lines.append(f"| {group} | {len(cases)} | {' | '.join(cells)} |")
        lines.append("")
    lines += [MEANING, "| | |", "|---|---|", *(f"| {m.operation} | {m.says} |" for m in MEANINGS), ""]
    lines += ["## Notes", "", *notes.lines()]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(render())
    print(f"wrote {PAGE}")
