"""What a run is doing: one state, from which queries, the Web UI's details and the final summary are read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Literal, get_args

from pydantic import BaseModel, PrivateAttr

from entrepot.planning import stages
from entrepot.planning.plan import Plan, PlannedStep, Verdict
from entrepot.protocol.backfills import BackfillProgress, told
from entrepot.protocol.messages import FailedAttempt, StepResult
from entrepot.protocol.parity import ParityInput, PreparedParity, TableParity

Outcome = Literal["published", "nothing to do", "planned"]
State = Literal["done", "running", "waiting", "skipped", "held", "failed"]

_BEGUN: tuple[State, ...] = ("done", "running", "failed")

_MARKS: dict[State, str] = {
    "done": "✓",
    "running": "…",
    "failed": "✗",
    "waiting": "○",
    "skipped": "·",
    "held": "·",
}
_FIRM = "\u00a0"
"""A space at which no line is broken."""
_SHORT, _LONGEST, _MOST_BELOW = 60, 300, 10
"""Characters of a note in the table, and below it; and how many stand there."""
_SHOWN = 60
"""Steps in the Web UI's table; of a larger pipeline, those that have something to tell."""


WAITS = "**Waits:** "


def waiting_for(what: str) -> str:
    """What a workflow waits for, as a line of its current details."""
    return WAITS + " ".join(what.split())


class StepProgress(BaseModel):
    """One step, as people watch it."""

    name: str
    kind: str
    state: State
    why: str = ""
    rows: int | None = None
    bytes: int | None = None
    scanned: int | None = None
    """Bytes that it read in the warehouse, where the warehouse says so."""
    seconds: float | None = None
    note: str = ""
    warned: bool = False
    tried: str = ""
    """While it is tried again: what the attempt before failed with."""
    attempts: int = 0
    """And how many have failed."""
    stands: Verdict | None = None
    """Of a check that is not run: what it has found before on what is shown."""

    @property
    def said(self) -> str:
        """What there is to tell of it."""
        return str(self.stands) if self.stands else self.tried or self.note or self.why

    @property
    def mark(self) -> str:
        """Its state at a glance."""
        if self.warned:
            return "⚠ warned"
        return "↻ again" if self.tried else f"{_MARKS[self.state]} {self.state}"


class Progress(BaseModel):
    """A run, as people watch it. The answer to the query `progress`."""

    run: str
    tenant: str = ""
    pipeline: str = ""
    environment: str = ""
    stage: str = "start"
    steps: list[StepProgress] = []
    error: str = ""
    waits: str = ""
    """What the run waits for, if it does: a worker that knows its tenant."""
    stages: list[str] = []
    """What is left to do when the run is planned, each in a sentence."""
    _index: dict[str, StepProgress] = PrivateAttr(default_factory=dict)
    _plan: Plan | None = PrivateAttr(default=None)

    @property
    def plan(self) -> Plan | None:
        """The plan, once there is one."""
        return self._plan

    def count(self, state: State) -> int:
        """How many steps are in a state."""
        return len(self.in_state(state))

    def in_state(self, state: State) -> list[StepProgress]:
        """The steps that are in a state."""
        return [step for step in self.steps if step.state == state]

    def set(self, name: str, state: State, why: str = "") -> StepProgress:
        """Puts a step into a state; a step that is not known yet is added."""
        step = self._named(name)
        if step is None:
            step = StepProgress(name=name, kind="ingest", state=state)
            self.steps.append(step)
        step.state, step.tried, step.attempts = state, "", 0
        step.why = why or step.why
        return step

    def _named(self, name: str) -> StepProgress | None:
        if len(self._index) != len(self.steps):
            self._index = {step.name: step for step in self.steps}
        return self._index.get(name)

    def finished(self, result: StepResult) -> None:
        """A step ended well. One that found nothing new counts as skipped."""
        step = self.set(result.name, "skipped" if result.unchanged else "done", result.note if result.unchanged else "")
        step.rows, step.bytes, step.seconds = result.rows, result.bytes, round(result.seconds, 3)
        step.scanned = result.scanned
        step.note, step.warned = result.note, result.warned

    def tried(self, failed: FailedAttempt) -> None:
        """An attempt failed, and there is another. Of several steps together, its sentence says which."""
        named = [name for name in failed.steps if repr(name) in failed.why]
        for name in named or failed.steps:
            if (step := self._named(name)) is not None and step.state == "running":
                step.tried, step.attempts = failed.why, failed.attempt

    def planned(self, plan: Plan, parity: str | None = None) -> None:
        """Takes a plan's steps, keeping what is known of those that have begun, and the stages that are left to do."""
        self._plan, self.stages = plan, [stages.explain(stage) for stage in stages.stages(plan, parity)]
        before = {step.name: step for step in self.steps if step.kind == "ingest" or step.state in _BEGUN}
        self.steps = [before.get(step.name) or _planned(step) for step in plan.steps]
        self._index = {}

    def markdown(self) -> str:
        """A table for the Web UI."""
        steps = self.steps
        if len(steps) > _SHOWN:
            steps = [s for s in steps if s.state in ("running", "failed") or s.warned or s.rows is not None][-_SHOWN:]
        counted = Counter("warned" if step.warned else step.state for step in self.steps)
        counts = ", ".join(f"{counted[s]} {s}" for s in ("warned", *get_args(State)) if counted[s])
        lines = [f"**{self.pipeline}** for **{self.tenant}** in **{self.environment}** · {self.stage} · {counts}", ""]
        if self.error:
            lines += [f"**Failed:** {self.error}", ""]
        if self.waits:
            lines += [waiting_for(self.waits), ""]
        if self.stages and self.stage == "plan":
            lines += [" → ".join(self.stages), ""]
        lines += ["| step | state | note |", "|---|---|---|"]
        # The Web UI leaves no space between columns; em spaces do. And it breaks numbers from their units.
        lines += [f"| {s.name}\u2003 | {s.mark.replace(' ', _FIRM)}\u2003 | {_note(s)} |" for s in steps]
        if long := [s for s in steps if _short(s) != _line(s.said)]:
            lines += ["", *(f"- **{s.name}**: {_cell(s.said)}" for s in long[:_MOST_BELOW])]
        return "\n".join(lines)


def _planned(step: PlannedStep) -> StepProgress:
    states: dict[str, State] = {"run": "waiting", "skip": "skipped", "hold": "held"}
    warned = step.stands is not None and step.stands.violations > 0
    return StepProgress(
        name=step.name, kind=step.kind, state=states[step.action], why=step.why, warned=warned, stands=step.stands
    )


class RunSummary(BaseModel):
    """How a run ended: the workflow's result. Steps that had nothing to do are counted, not listed."""

    run: str
    tenant: str
    pipeline: str
    environment: str
    outcome: Outcome
    steps: list[StepProgress]
    standing: list[StepProgress] = []
    """The checks that were not run, with their verdicts on what is shown."""
    skipped: int = 0
    held: int = 0
    warned: list[str] = []
    """The checks and models that warn of what is shown now, whether this run made them or one before."""
    moved: list[str] = []
    removed: list[str] = []
    """The names that went, since no step makes them any more."""
    links: dict[str, str] = {}
    behind: list[str] = []
    """What does not show yet what was published, and why, each a sentence."""
    seconds: float = 0.0
    stages: list[str] = []
    """Of a dry run: what a run would do, each in a sentence."""
    plan: Plan | None = None


def parity_markdown(
    request: ParityInput, prepared: PreparedParity, stage: str, found: Mapping[str, TableParity]
) -> str:
    """A comparison as a table for the Web UI."""
    first, *others = prepared.on
    counts = f"{len(found)} of {len(prepared.tables)} tables compared"
    differing = [table.name for table in found.values() if not table.agrees]
    verdict = f", **{len(differing)} do not agree**" if differing else ", all agree" if found else ""
    heading = f"**{request.pipeline}** for **{request.tenant}**: {', '.join(others)} against **{first}**"
    lines = [f"{heading} · {stage} · {counts}{verdict}", ""]
    lines += ["| table | rows | digest | " + " | ".join(others) + " |", "|---|---:|---|" + "---|" * len(others)]
    shown = [name for name in prepared.tables if name in found]
    if len(shown) > _SHOWN:
        shown = [name for name in shown if not found[name].agrees][:_SHOWN]
    for name in shown:
        table = found[name]
        rows = f"{table.rows:,}" if table.rows is not None else ""
        sides = " | ".join(f"{side.verdict}{': ' + _cell(side.why) if side.why else ''}" for side in table.sides)
        lines.append(f"| {name}\u2003 | {rows} | \u2003`{table.digest[:12]}`\u2003 | {sides} |")
    return "\n".join(lines)


def backfill_markdown(progress: BackfillProgress) -> str:
    """A backfill for the Web UI."""
    whose = f"**{progress.pipeline}** for **{progress.tenant}** in **{progress.environment}**"
    lines = [f"{whose}, {progress.start} to {progress.end}", "", progress.line]
    lines += ["", *progress.notes] if progress.notes else []
    lines += ["", f"Now: {', '.join(progress.running)}"] if progress.running else []
    if progress.failed:
        lines += ["", "| failed | why |", "|---|---|"]
        lines += [f"| {told(each.interval)} | {_cell(each.why)} |" for each in progress.failed]
    return "\n".join(lines)


def _note(step: StepProgress) -> str:
    """What the table has of a step: numbers, and what is short. The rest stands below."""
    counted = [f"{step.rows:,}{_FIRM}rows"] if step.rows is not None else []
    counted += [f"{step.seconds:.2f}{_FIRM}s"] if step.seconds is not None else []
    return " · ".join([*counted, *([_escaped(said)] if (said := _short(step)) else [])])


def _short(step: StepProgress) -> str:
    """What is to be told of it without samples, and not too long. A failure's sentence has its place below."""
    if step.tried:
        return f"attempt {step.attempts} failed, see below".replace(" ", _FIRM, 2)
    if step.state == "failed" and step.said:
        return "see below"
    said, _, _ = _line(step.said).partition(", for example")
    return said if len(said) <= _SHORT else f"{said[:_SHORT].rsplit(' ', 1)[0]} …"


def _line(text: str) -> str:
    return " ".join(text.split())


def _escaped(text: str) -> str:
    """As it is, where Markdown would see a column, code, or a tag of HTML."""
    return re.sub(r"([|<`*])", r"\\\1", text)


def _cell(text: str) -> str:
    text = _line(text)
    return _escaped(text if len(text) <= _LONGEST else text[:_LONGEST] + "…")
