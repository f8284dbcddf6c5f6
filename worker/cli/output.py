"""What people see on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from json import dumps
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from entrepot.language.names import CONTRACT_SUFFIX
from entrepot.planning.plan import Plan, Verdict, short
from entrepot.protocol.messages import ParityReport, Side
from entrepot.workflows.progress import Progress, RunSummary, StepProgress

_MARKS = {"done": "✓", "running": "…", "failed": "✗", "waiting": " ", "skipped": "·", "held": "·"}
_STYLES = {"done": "green", "running": "cyan", "failed": "bold red", "waiting": "dim", "skipped": "dim", "held": "dim"}
_MOST_LIVE = 24
_LONGEST_NOTE = 160
_FEW = 3
"""Values and rows that a terminal shows of a difference; the report has more."""

_WIDE = 200
"""Columns where there is no terminal that would tell."""

# Without markup: what users and warehouses say may have brackets.
out = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _WIDE)
err = Console(stderr=True, highlight=False, markup=False, width=None if sys.stderr.isatty() else _WIDE)


def failure(text: str) -> None:
    """One problem, on standard error."""
    err.print(Text("✗ ", style="bold red") + Text(text), soft_wrap=True)


def heading(text: str, rest: str = "") -> None:
    """A heading, after an empty line."""
    out.print(Text.assemble("\n", (text, "bold"), rest))


def progress(state: Progress) -> Group:
    """A run that is going on."""
    steps = state.steps
    if len(steps) > _MOST_LIVE:
        interesting = [s for s in steps if s.state in ("running", "failed") or s.warned]
        done = [s for s in steps if s.state == "done"]
        steps = [*done[-(_MOST_LIVE - min(len(interesting), _MOST_LIVE)) :], *interesting][:_MOST_LIVE]
    total = len(state.steps)
    done_count = total - state.count("waiting") - state.count("running")
    head = Text(
        f"{state.tenant}/{state.pipeline} in {state.environment} · {state.stage} · {done_count} of {total} steps"
    )
    return Group(head, _steps(steps))


@dataclass(frozen=True)
class Retry:
    """An attempt that failed, and is not the last."""

    activity: str
    attempt: int
    why: str


class Lines:
    """What happens to a run, a line for each thing, once."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._seen: set[object] = set()

    def states(self, steps: Iterable[StepProgress]) -> None:
        """A line for every step that has ended since the last call."""
        for step in steps:
            if step.state in ("done", "failed"):
                self._print((step.name, step.state), _line(step))

    def retries(self, retries: Iterable[Retry]) -> None:
        """A line for every attempt that has failed since the last call."""
        for retry in retries:
            self._print((retry.activity, retry.attempt), f"↻ {retry.why}")

    def _print(self, what: object, line: str) -> None:
        if what not in self._seen:
            self._seen.add(what)
            self._console.print(line, soft_wrap=True)


def summary(run: RunSummary) -> None:
    """How a run ended."""
    if run.steps and out.is_terminal:  # elsewhere each step had its line when it ended
        out.print(_steps(run.steps))
    skipped = f", {run.skipped} step{'s' if run.skipped != 1 else ''} unchanged" if run.skipped else ""
    held = f", {run.held} not selected" if run.held else ""
    words = {
        "published": f"published {count(len(run.moved), 'name')} to {run.environment}",
        "nothing to do": f"nothing to do: {run.environment} is up to date",
        "planned": "planned only",
    }
    warned = [step.name for step in run.steps if step.warned]
    line = f"{words[run.outcome]}{skipped}{held} · {run.seconds:.2f} s · run {run.run}"
    out.print(Text("✓ ", style="green") + Text(line), soft_wrap=True)
    if warned:
        out.print(Text("⚠ ", style="yellow") + Text(f"warned: {', '.join(warned)}"))
    _standing({step.name: step.stands for step in run.standing if step.stands})
    for name, path in run.links.items():
        if any(name == step.name for step in run.steps):
            out.print(f"  {name}: {path}", soft_wrap=True)


def _standing(verdicts: Mapping[str, Verdict]) -> None:
    """What checks that are not run have found before."""
    for name, verdict in verdicts.items():
        if verdict.violations:
            out.print(Text("⚠ ", style="yellow") + Text(f"still warns: {name}: {verdict}"), soft_wrap=True)
    if passing := [verdict.since for verdict in verdicts.values() if not verdict.violations]:
        out.print(f"  {count(len(passing), 'other check')} passed before, the last {max(passing)} UTC")


def plan(made: Plan) -> None:
    """What a run would do, and why."""
    table = _table("step", "kind", "", "why", "version")
    styles = {"run": "green", "skip": "dim", "hold": "dim"}
    for step in made.steps:
        version = made.versions.get(step.name, "")
        table.add_row(step.name, step.kind, Text(step.action, style=styles[step.action]), step.why, version)
    out.print(table)
    runs = len(made.to_run())
    moves = f", {count(len(made.moves), 'name')} would be published" if made.moves else ""
    gone = f", and {', '.join(made.removed)} would go" if made.removed else ""
    out.print(f"{count(runs, 'step')} of {len(made.steps)} would run{moves}{gone}.")
    _standing({step.name: step.stands for step in made.steps if step.stands})


def versions(rows: Iterable[dict[str, Any]]) -> None:
    """The versions of a pipeline."""
    table = _table("name", "kind", "version", "rows", "made at (UTC)", "run", "in", "")
    for row in rows:
        shown = ", ".join(row["environments"])
        rows_text = f"{row['rows']:,}" if row["rows"] is not None else ""
        style = None if shown else "dim"
        table.add_row(
            row["name"],
            row["kind"],
            row["version"],
            rows_text,
            row["made_at"],
            short(row["run"]),
            shown,
            Text(row["note"], overflow="ellipsis", no_wrap=True),
            style=style,
        )
    out.print(table)


def checks(rows: Iterable[dict[str, Any]]) -> None:
    """Verdicts with violating rows, and those that were kept."""
    for row in rows:
        what = "rule" if row["check"].endswith(CONTRACT_SUFFIX) else "row"
        where = ", ".join(row["environments"]) or "no environment"
        found = count(row["violations"], f"violating {what}")
        when = f"{row['checked_at']} UTC · run {short(row['run'])}"
        heading(row["check"], f" of {', '.join(row['guards'])} · {found} ({row['severity']}) · {when} · {where}")
        for each in row["sample"]:
            out.print(f"  {dumps(each, ensure_ascii=False, default=str)}", soft_wrap=True)


def rows(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    """A plain table."""
    table = _table(*heads)
    for line in lines:
        table.add_row(*line)
    out.print(table)


def json(value: Any) -> None:
    """A pydantic model or plain data as JSON, on standard output alone."""
    from pydantic_core import to_json

    sys.stdout.write(to_json(value, indent=2).decode() + "\n")


def count(number: int, what: str) -> str:
    """A number and its noun: `1 step`, `2 steps`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _steps(steps: Iterable[StepProgress]) -> Table:
    table = _table("", "step", "kind", "rows", "seconds", "")
    for step in steps:
        table.add_row(
            Text(_MARKS[step.state], style=_STYLES[step.state]),
            step.name,
            Text(step.kind, style="dim"),
            f"{step.rows:,}" if step.rows is not None else "",
            f"{step.seconds:.2f}" if step.seconds is not None else "",
            Text(step.said, style="yellow" if step.warned else "dim", overflow="ellipsis", no_wrap=True),
        )
    return table


def _line(step: StepProgress) -> str:
    rows_text = f" · {step.rows:,} rows" if step.rows is not None else ""
    seconds = f" · {step.seconds:.2f} s" if step.seconds is not None else ""
    note = f" · {step.note[:_LONGEST_NOTE]}{'…' if len(step.note) > _LONGEST_NOTE else ''}" if step.note else ""
    why = f" · {step.why}" if step.state == "failed" and step.why else ""
    return f"{_MARKS[step.state]} {step.kind} {step.name}{rows_text}{seconds}{note}{why}"


def _table(*heads: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in heads:
        # The last column has the notes, which may be cut; names and numbers may not.
        table.add_column(
            head, justify="right" if head in ("rows", "seconds") else "left", no_wrap=head is not heads[-1]
        )
    return table


def parity(report: ParityReport) -> None:
    """What a comparison found, and where its report is."""
    first, *others = report.on
    lines = []
    for table in report.tables:
        counted = f"{table.rows:,}" if table.rows is not None else ""
        lines.append((table.name, counted, table.digest[:12], *(_mark(side) for side in table.sides)))
    rows(("table", "rows", first, *others), lines)
    for table in report.tables:
        for side in table.sides:
            if not side.agrees:
                out.print(f"{table.name} on {side.backend}: {side.why or side.verdict}", style="red", soft_wrap=True)
                _difference(side, first)
    for run in dict.fromkeys((s.certified_by, s.certified_at) for t in report.tables for s in t.sides if s.certified):
        certified = [t.name for t in report.tables for s in t.sides if (s.certified_by, s.certified_at) == run]
        named = ", ".join(dict.fromkeys(certified))
        out.print(f"certified by run {run[0]} on {run[1]}: {named}", style="dim", soft_wrap=True)
    agree = sum(table.agrees for table in report.tables)
    mark = "✓" if report.agrees else "✗"
    said = f"{mark} {agree} of {count(len(report.tables), 'table')} agree ({report.seconds:.1f} s)"
    out.print(f"{said}: {report.link or 'its page could not be written'}", soft_wrap=True)


def _difference(side: Side, first: str) -> None:
    """Some of what differs: values, rows that one side alone has, and the statement that failed."""
    for cell in side.cells[:_FEW]:
        key = ", ".join(f"{name} = {value}" for name, value in cell.key.items())
        line = f"  {cell.column} where {key}: {cell.left} on {first}, {cell.right} on {side.backend}"
        out.print(line, soft_wrap=True)
    for where, alone in ((first, side.only_left), (side.backend, side.only_right)):
        for row in alone[:_FEW]:
            cells = ", ".join(f"{name} = {'NULL' if value is None else value}" for name, value in row.items())
            out.print(f"  only on {where}: {cells}", soft_wrap=True)
        if len(alone) > _FEW:
            out.print(f"  only on {where}: {len(alone) - _FEW} more are in the report")
    if side.verdict == "not compared" and side.sql:
        out.print(f"  the statement that failed: {' '.join(side.sql.split())[:_LONGEST_NOTE]}… (whole in the report)")


def _mark(side: Side) -> str:
    return f"{'✓' if side.agrees else '✗'} {side.verdict}"
