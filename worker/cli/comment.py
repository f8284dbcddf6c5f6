"""The comment of a change: what `prod` would show otherwise, what was computed for that, what checks say, what is next.

One comment for a tenant, found again by its first line, which nobody sees, and the same for the same change. Rows and
values are told only where somebody asks for that: a comment is read by more people than a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from entrepot.worker.cli import markdown as md

if TYPE_CHECKING:
    from entrepot.protocol.environments import ChangedName, EnvironmentDiff, RowChanges
    from entrepot.worker.local.change import Built
    from entrepot.workflows.progress import StepProgress

LONGEST = 60_000
"""Characters of a comment. GitHub takes 65,536."""
_MOST = (200, 50, 15, 5, 1, 0)
"""So many names, steps and rows are told of each pipeline: the first of these that leaves the comment short enough."""
_MOST_ROWS = 5


@dataclass(frozen=True)
class Change:
    """What is told."""

    tenant: str
    environment: str
    against: str
    built: Sequence[Built]
    allows_breaking: bool = False
    """Whether somebody has said that `prod` may lose columns and names."""
    with_rows: bool = False
    """Whether rows and values are told, too."""

    @property
    def marker(self) -> str:
        """The first line, by which the comment is found again."""
        return f"<!-- entrepot ci: {self.tenant} -->"

    @property
    def exit_code(self) -> int:
        """0 where all is well, 1 for a run or check that failed or a change that breaks, 2 for bad input."""
        return max((_code(self, each) for each in self.built), default=0)


def comment(change: Change) -> str:
    """The whole comment."""
    for most in _MOST:
        made = md.joined(_lines(change, most))
        if len(made) <= LONGEST:
            return made
    lines, room = [], LONGEST - 200
    for line in made.splitlines():
        if (room := room - len(line) - 1) < 0:
            break
        lines.append(line)
    return md.joined([*lines, "", "… and more, for which a comment has no room: `entrepot env diff` tells it."])


def _code(change: Change, built: Built) -> int:
    if built.error:
        return 2 if built.is_refused else 1
    return 1 if built.breaking and not change.allows_breaking else 0


def _lines(change: Change, most: int) -> Iterator[str]:
    mark = "✓" if change.exit_code == 0 else "✗"
    yield change.marker
    yield f"### {mark} {_heading(change)}"
    yield ""
    yield f"tenant {md.code(change.tenant)} · environment {md.code(change.environment)}"
    alike = []
    for built in change.built:
        if _is_alike(built):
            alike.append(built.pipeline)
        else:
            yield from _of_pipeline(change, built, most)
    if alike:
        names = [md.code(each) for each in alike]
        yield from ("", f"Nothing else there than in {md.code(change.against)}: {_listed(names, most)}", "")


def _heading(change: Change) -> str:
    failed = sum(bool(each.error) for each in change.built)
    breaking = sum(bool(each.breaking) for each in change.built)
    if failed:
        return f"{_pipelines(failed)} could not be built" if failed > 1 else "A pipeline could not be built"
    if breaking:
        said = "" if change.allows_breaking else ", and nobody has allowed that"
        return f"What `{change.against}` shows would break{said}"
    changes = sum(not _is_alike(each) for each in change.built)
    return f"{_pipelines(changes)} would change" if changes else f"`{change.against}` would show the same"


def _pipelines(count: int) -> str:
    return f"{count:,} pipeline{'s' if count != 1 else ''}"


def _is_alike(built: Built) -> bool:
    """Whether there is nothing to tell: what `prod` shows is what this shows."""
    diff = built.diff
    if built.error or diff is None:
        return False
    warned = built.progress is not None and any(step.warned for step in built.progress.steps)
    return not (diff.changed or diff.only_left or diff.only_right or diff.left_out or warned)


def _of_pipeline(change: Change, built: Built, most: int) -> Iterator[str]:
    yield from ("", f"#### {'✗' if _code(change, built) else '✓'} {md.code(built.pipeline)}", "")
    yield from _failure(change, built, most)
    if built.breaking:
        names = _listed([md.code(each) for each in built.breaking], most)
        rule = "allowed" if change.allows_breaking else "fails unless it is allowed"
        yield from (f"**Breaking** ({rule}): {names}", "")
    if built.is_first:
        yield from (f"{md.code(change.against)} shows nothing of it yet: everything is new.", "")
    if built.diff is not None:
        yield from _difference(change, built.diff, most)
    if built.progress is not None:
        yield from _checks(change, built.progress.steps, most)
    if built.plan is not None:
        held = [md.code(step.name) for step in built.plan.steps if step.kind == "ingest" and step.action == "hold"]
        if held:
            loaded = f"it is made of what {md.code(change.against)} has loaded"
            yield from (f"Not asked for new rows: {_listed(held, most)}; {loaded}.", "")
        yield from md.folded("What was computed, and why", md.of_plan(built.plan, most=most))
    yield from _next(change, built)


def _failure(change: Change, built: Built, most: int) -> Iterator[str]:
    if not built.error:
        return
    failed = built.progress.in_state("failed") if built.progress else []
    sentences = [step.why for step in failed if step.why] or [built.error]
    yield f"**Failed**, so {md.code(change.environment)} shows nothing of the change:"
    for said in sentences[: max(most, 1)]:
        yield from md.block(said if change.with_rows else _without_rows(said))
    if len(sentences) > max(most, 1):
        yield f"… and {len(sentences) - max(most, 1):,} more"


def _difference(change: Change, diff: EnvironmentDiff, most: int) -> Iterator[str]:
    rows = [("+", each.name, each.kind, "new", _count(each.rows)) for each in diff.only_left]
    goes = f"goes from {change.against}"
    rows += [("−", e.name, e.kind, goes, _count(e.rows)) for e in diff.only_right if not e.stays]
    rows += [("~", each.name, each.kind, _why(each), _rows(each)) for each in diff.changed]
    told = [(sign, md.code(name), kind, what, count) for sign, name, kind, what, count in rows[:most]]
    if told:
        yield from md.table(("", "name", "kind", "change", "rows"), told)
    if (more := len(rows) - len(told) + diff.left_out) > 0:
        yield from (f"… and {more:,} more names", "")
    yield from (f"{diff.same:,} name{'s' if diff.same != 1 else ''} the same.", "")
    if stays := [md.code(each.name) for each in diff.only_right if each.stays]:
        yield from (f"Not made here, so {md.code(change.against)} keeps it: {_listed(stays, most)}", "")
    if diff.ahead:
        ahead = ", ".join(md.code(step) for step in diff.ahead)
        yield from (f"{md.code(change.against)} has loaded more than it shows: {ahead}", "")
    if change.with_rows and (samples := [e for e in diff.changed if e.rows and not e.rows.equal][:most]):
        yield from md.folded("Rows that differ", _samples(diff, samples))


def _why(changed: ChangedName) -> str:
    columns = changed.columns
    told = [md.text(changed.why), md.text(changed.note)]
    what = [f"{md.code(name)} is new ({md.text(kind)})" for name, kind in columns.added.items()]
    what += [f"{md.code(name)} is gone" for name in columns.removed]
    what += [f"{md.code(n)} was {md.text(was)} and is {md.text(now)}" for n, (was, now) in columns.retyped.items()]
    impact = f"**{changed.impact}**" if changed.impact == "breaking" else changed.impact
    return " · ".join(filter(None, [*told, f"{impact}: {_listed(what, 12)}" if what else ""]))


def _rows(changed: ChangedName) -> str:
    told = []
    if changed.left_rows is not None and changed.left_rows != changed.right_rows:
        told.append(f"{_count(changed.right_rows)} → {_count(changed.left_rows)}")
    if changed.rows is not None:
        beside = f" ({md.text(changed.rows.why)})" if changed.rows.equal and changed.rows.why else ""
        told.append(f"equal rows{beside}" if changed.rows.equal else md.text(changed.rows.why))
    return " · ".join(told)


def _samples(diff: EnvironmentDiff, changed: Iterable[ChangedName]) -> Iterator[str]:
    for each in changed:
        assert each.rows is not None
        yield from ("", f"{md.code(each.name)}:", "")
        yield from _cells(diff, each.rows)
        for where, alone in ((diff.environment, each.rows.only_left), (diff.against, each.rows.only_right)):
            for row in alone[:_MOST_ROWS]:
                shown = ", ".join(f"{md.code(name)} = {_value(value)}" for name, value in row.items())
                yield f"- only in {md.code(where)}: {shown}"


def _cells(diff: EnvironmentDiff, rows: RowChanges) -> Iterator[str]:
    cells = [
        (
            ", ".join(f"{md.code(name)} = {_value(value)}" for name, value in cell.key.items()),
            md.code(cell.column),
            _value(cell.right),
            _value(cell.left),
        )
        for cell in rows.cells
    ]
    if cells:
        yield from md.table(("row", "column", md.code(diff.against), md.code(diff.environment)), cells)


def _checks(change: Change, steps: Iterable[StepProgress], most: int) -> Iterator[str]:
    every = [step for step in steps if step.kind == "check" and step.state in ("done", "skipped", "failed")]
    said: Callable[[str], str] = str if change.with_rows else _without_rows
    warned = [step for step in every if step.warned]
    for step in warned[:most]:
        yield f"- ⚠ check {md.code(step.name)} warns: {md.text(said(step.stands.said if step.stands else step.note))}"
    if len(warned) > most:
        yield f"- … and {len(warned) - most:,} more checks that warn"
    if passed := sum(not step.warned and step.state != "failed" for step in every):
        yield from ("", f"{passed:,} check{'s pass' if passed != 1 else ' passes'}.", "")


def _next(change: Change, built: Built) -> Iterator[str]:
    """How to look at it, and what comes after."""
    from entrepot.planning.plan import short

    options = f"--pipeline {built.pipeline} --tenant {change.tenant}"
    here, there = change.environment, change.against
    table = _a_table(built)
    lines = [f"entrepot show {built.pipeline} {table} --environment {here} --tenant {change.tenant}"] if table else []
    if built.diff is not None:
        seen = ",".join(f"{name}={short(run)}" for name, run in built.diff.seen.items())
        lines.append(f"entrepot env diff {here} {there} {options}")
        lines.append(f"entrepot env promote {here} {there} {options} --expect {seen}   # once its code is deployed")
    if lines and not built.error:
        yield from md.folded("Look at it, and promote it", md.block(lines))


def _a_table(built: Built) -> str:
    """A table that is worth a look: one that changed, else any."""
    if built.diff is not None:
        changed = [each.name for each in built.diff.changed if each.kind == "transform"]
        changed += [each.name for each in built.diff.only_left if each.kind == "transform"]
        return next(iter(changed), "")
    made = [step.name for step in built.plan.steps if step.kind == "transform"] if built.plan else []
    return next(iter(made), "")


def _listed(shown: Sequence[str], most: int) -> str:
    more = f" and {len(shown) - most:,} more" if len(shown) > most else ""
    return f"{', '.join(shown[:most])}{more}"


def _without_rows(said: str) -> str:
    from entrepot.protocol.messages import without_example

    return without_example(said)


def _value(value: str | None) -> str:
    return "NULL" if value is None else md.code(value)


def _count(rows: int | None) -> str:
    return "" if rows is None else f"{rows:,}"
