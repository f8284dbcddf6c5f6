"""What commands print on a terminal, where several do."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.table import Column, Table
from rich.text import Text

from entrepot.planning.plan import Verdict
from entrepot.workflows.progress import Progress, RunSummary, StepProgress

_MARKS = {"done": "✓", "running": "…", "failed": "✗", "waiting": " ", "skipped": "·", "held": "·"}
_STYLES = {"done": "green", "running": "cyan", "failed": "bold red", "waiting": "dim", "skipped": "dim", "held": "dim"}
_MOST_LIVE = 24
_LONGEST_NOTE = 160
_WIDE = 200
"""Columns where there is no terminal that would tell."""
_WIDEST = 1_000_000
_LEAST_NOTE = 20
"""Columns of the column that is broken first; if there are fewer, the others are, too."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Who reads has seen enough. Rich would end the process, as if the command had failed."""
        raise BrokenPipeError


# Without markup: what users and warehouses say may have brackets.
out = _Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _WIDE)
err = _Console(stderr=True, highlight=False, markup=False, width=None if sys.stderr.isatty() else _WIDE)


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

    def lacking(self, what: str | None) -> None:
        """What a run waits for, if it does."""
        if what:
            self._print(what, what, style="yellow")

    def _print(self, what: object, line: str, style: str | None = None) -> None:
        if what not in self._seen:
            self._seen.add(what)
            self._console.print(line, soft_wrap=True, style=style)


def summary(run: RunSummary) -> None:
    """How a run ended."""
    if run.steps and out.is_terminal:  # elsewhere each step had its line when it ended
        show(_steps(run.steps))
    skipped = f", {run.skipped} step{'s' if run.skipped != 1 else ''} unchanged" if run.skipped else ""
    held = f", {run.held} not selected" if run.held else ""
    words = {
        "published": _published(run),
        "nothing to do": f"nothing to do: {run.environment} is up to date",
        "planned": "planned only",
    }
    warned = [step.name for step in run.steps if step.warned]
    line = f"{words[run.outcome]}{skipped}{held} · {run.seconds:.2f} s · run {run.run}"
    out.print(Text("✓ ", style="green") + Text(line), soft_wrap=True)
    if warned:
        out.print(Text("⚠ ", style="yellow") + Text(f"warned: {', '.join(warned)}"))
    behind(run.behind)
    standing({step.name: step.stands for step in run.standing if step.stands})
    for name, path in run.links.items():
        if name in run.moved:
            out.print(f"  {name}: {path}", soft_wrap=True)


def _published(run: RunSummary) -> str:
    if not run.removed:
        return f"published {count(len(run.moved), 'name')} to {run.environment}"
    moved = f"published {count(len(run.moved), 'name')} to {run.environment}, and removed" if run.moved else "removed"
    return f"{moved} {', '.join(run.removed)}" + ("" if run.moved else f" from {run.environment}; nothing else changed")


def behind(sentences: Iterable[str]) -> None:
    """What does not show yet what was published."""
    for each in sentences:
        told = f"published, but not shown yet: {each}; the next run finishes it, or `entrepot doctor --repair`"
        out.print(Text("⚠ ", style="yellow") + Text(told), soft_wrap=True)


def standing(verdicts: Mapping[str, Verdict]) -> None:
    """What checks that are not run have found before."""
    for name, verdict in verdicts.items():
        if verdict.violations:
            out.print(Text("⚠ ", style="yellow") + Text(f"still warns: {name}: {verdict}"), soft_wrap=True)
    if passing := [verdict.since for verdict in verdicts.values() if not verdict.violations]:
        out.print(f"  {count(len(passing), 'other check')} passed before, the last {max(passing)} UTC")


class _Table(Table):
    """A table of which nothing is lost: where a terminal is too narrow, cells go on in the next line.

    One column does so first; the others, as soon as too little is left for it. Without a terminal none has to.
    """

    yields: str
    is_of_records: bool
    """Whether it is better to have a line for each cell than words that are broken."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        whole = self.__rich_measure__(console, options.update_width(_WIDEST)).maximum
        if not console.is_terminal:
            return super().__rich_console__(console, options.update_width(max(whole, options.max_width)))
        yielding = max(self._width(console, column) for column in self.columns if column.header == self.yields)
        is_wide = options.max_width - (whole - yielding) >= min(yielding, _LEAST_NOTE)
        for column in self.columns:
            column.no_wrap = is_wide and column.header != self.yields
        if self.is_of_records and self.__rich_measure__(console, options.update_width(_WIDEST)).minimum > console.width:
            return self._records()
        return super().__rich_console__(console, options)

    def _records(self) -> RenderResult:
        """Each row as a table of its own: the heads beside the cells."""
        for number, cells in enumerate(zip(*(column.cells for column in self.columns), strict=True)):
            if number:
                yield Text()
            record = Table(box=None, pad_edge=False, show_header=False)
            record.add_column(style="dim", no_wrap=True)
            record.add_column(overflow="fold")
            for column, cell in zip(self.columns, cells, strict=True):
                record.add_row(column.header, cell)
            yield record

    @staticmethod
    def _width(console: Console, column: Column) -> int:
        return max(console.measure(each).maximum for each in (column.header, *column.cells))


def table(*heads: str, yields: str | None = None) -> _Table:
    """A plain table, to be filled.

    Args:
        yields: The head of the column that is broken first; default: the last one's.
    """
    made = _Table(box=None, pad_edge=False, header_style="dim")
    made.yields = heads[-1] if yields is None else yields
    made.is_of_records = False
    for head in heads:
        made.add_column(head, justify="right" if head in ("rows", "seconds") else "left", overflow="fold")
    return made


def rows(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    """A plain table of texts; where a terminal is too narrow for their words, a line for each."""
    made = table(*heads)
    made.is_of_records = True
    for line in lines:
        made.add_row(*line)
    show(made)


def show(made: Table) -> None:
    """A table, as wide as it is where there is no terminal."""
    out.print(made, crop=False)


def json(value: Any) -> None:
    """A pydantic model or plain data as JSON, on standard output alone."""
    from pydantic_core import to_json

    sys.stdout.write(to_json(value, indent=2).decode() + "\n")


def count(number: int, what: str) -> str:
    """A number and its noun: `1 step`, `2 steps`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _steps(steps: Iterable[StepProgress]) -> Table:
    made = table("", "step", "kind", "rows", "seconds", "")
    for step in steps:
        made.add_row(
            Text("⚠", style="yellow") if step.warned else Text(_MARKS[step.state], style=_STYLES[step.state]),
            step.name,
            Text(step.kind, style="dim"),
            f"{step.rows:,}" if step.rows is not None else "",
            f"{step.seconds:.2f}" if step.seconds is not None else "",
            Text(step.said, style="yellow" if step.warned else "dim", overflow="ellipsis", no_wrap=True),
        )
    return made


def _line(step: StepProgress) -> str:
    rows_text = f" · {step.rows:,} rows" if step.rows is not None else ""
    seconds = f" · {step.seconds:.2f} s" if step.seconds is not None else ""
    note = f" · {step.note[:_LONGEST_NOTE]}{'…' if len(step.note) > _LONGEST_NOTE else ''}" if step.note else ""
    why = f" · {step.why}" if step.state == "failed" and step.why else ""
    mark = "⚠" if step.warned else _MARKS[step.state]
    return f"{mark} {step.kind} {step.name}{rows_text}{seconds}{note}{why}"
