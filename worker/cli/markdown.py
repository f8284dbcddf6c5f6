"""Plans and what came of a change as Markdown, for comments of GitHub, GitLab and their like.

Everything that comes from outside is escaped: whatever a column, a value or an error is called, it stays text. Names
and values stand as code, where nobody is mentioned and nothing is linked; sentences of failures in blocks of code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from entrepot.planning.plan import Plan

LONGEST_VALUE = 80
"""Characters of a name or value."""
LONGEST_BLOCK = 2_500
"""Characters of a failure's sentence."""

_PLAIN = re.compile(r"[^`|\\]+")
_SPECIAL = re.compile(r"[\\`*\[\]<>&|~#@$!%]|(?<!\w)_|_(?!\w)|(?<=[A-Za-z]):(?=//)|(?<=\bwww)\.")
_MEANT = re.compile(r"(?<=[@#!~%$])(?=\w)")
"""Between a sign and a word, where forges would link or mention; they look for it in what is already shown."""


def text(said: str) -> str:
    """A sentence, in a line."""
    apart = _MEANT.sub("\u200b", _visible(said))
    return _SPECIAL.sub(lambda each: f"&#{ord(each[0])};", apart)


def code(value: str, most: int = LONGEST_VALUE) -> str:
    """A name or a value, as code within a line or a cell; cut, where it is long."""
    shown = _visible(value)
    shown = shown if len(shown) <= most else f"{shown[:most]}…"
    if _PLAIN.fullmatch(shown) and shown == shown.strip():
        return f"`{shown}`"
    # A backtick or a line of a cell would end the code, and a backslash means something else in cells.
    return f"<code>{re.sub('[^A-Za-z0-9 ]', lambda each: f'&#{ord(each[0])};', shown)}</code>"


def block(lines: str | Iterable[str], language: str = "") -> list[str]:
    """Lines of code, whatever is in them."""
    every = lines if isinstance(lines, str) else "\n".join(lines)
    every = every if len(every) <= LONGEST_BLOCK else f"{every[:LONGEST_BLOCK]}…"
    shown = [_visible(line) for line in every.splitlines()]
    longest = max((len(ticks) for line in shown for ticks in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return ["", f"{fence}{language}", *shown, fence, ""]


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table of cells that are Markdown already."""
    line = "|" + "---|" * len(heads)
    return ["", f"| {' | '.join(heads)} |", line, *(f"| {' | '.join(cells)} |" for cells in rows), ""]


def folded(summary: str, lines: Iterable[str]) -> list[str]:
    """Lines that are shown when somebody asks for them."""
    return ["", f"<details><summary>{text(summary)}</summary>", "", *lines, "", "</details>", ""]


def joined(lines: Iterable[str]) -> str:
    """Lines as one text, without empty lines that follow one another."""
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n") + "\n"


def of_plan(plan: Plan, stages: Iterable[str] = (), most: int = 200) -> list[str]:
    """What a run does, and why: a table of its steps, those that run first.

    Args:
        stages: What it does in turn, each in a sentence.
        most: Steps that are told.
    """
    order = {"run": 0, "hold": 1, "skip": 2}
    steps = sorted(plan.steps, key=lambda step: order[step.action])
    versions = {name: code(version) for name, version in plan.versions.items()}
    rows = [(code(s.name), s.kind, s.action, text(s.why), versions.get(s.name, "")) for s in steps[:most]]
    lines = table(("step", "kind", "", "why", "version"), rows)
    if len(steps) > most:
        lines += [f"… and {len(steps) - most:,} more steps", ""]
    runs = len(plan.to_run())
    moves = f", {len(plan.moves):,} name{'s' if len(plan.moves) != 1 else ''} published" if plan.moves else ""
    gone = f", {', '.join(code(name) for name in plan.removed[:most])} removed" if plan.removed else ""
    lines += [f"**{runs:,} of {len(plan.steps):,} steps** run{moves}{gone}.", ""]
    return [*lines, " → ".join(text(stage) for stage in stages)]


def _visible(value: str) -> str:
    """A text in one line, with what is invisible, or turns the direction, told apart."""
    shown = value.replace("\r\n", "↵").replace("\n", "↵").replace("\t", " ")
    return shown if shown.isprintable() else "".join(each if each.isprintable() else "\ufffd" for each in shown)
