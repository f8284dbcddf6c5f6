"""The comment of a change: what it tells, what it keeps to itself, how long it may be, and the exit code."""

from __future__ import annotations

from typing import Any

import pytest

from entrepot.planning.plan import Plan, PlannedStep
from entrepot.protocol.environments import ChangedName, ColumnChanges, EnvironmentDiff, RowChanges, ShownName
from entrepot.protocol.messages import EXAMPLE
from entrepot.protocol.parity import Cell
from entrepot.worker.cli.comment import LONGEST, Change, comment
from entrepot.worker.local.change import Built
from entrepot.workflows.progress import Progress, StepProgress

SECRET = "Ada Lovelace"
GONE = ColumnChanges(removed={"mean": "float64"})
NEW = ColumnChanges(added={"delay": "int64"})


def changed(name: str = "orders", columns: ColumnChanges = NEW) -> ChangedName:
    cell = Cell(key={"id": "7"}, column="name", left=SECRET, right=None)
    rows = RowChanges(equal=False, why="12 rows differ, in 'name'", cells=(cell,), only_left=({"name": SECRET},))
    return ChangedName(
        name=name, kind="transform", left="a", right="b", why="its code or a parameter changed", columns=columns,
        impact=columns.kind, left_rows=10, right_rows=12, rows=rows,
    )  # fmt: skip


def diff(*changes: ChangedName, **more: Any) -> EnvironmentDiff:
    about = {"tenant": "acme", "pipeline": "shop", "environment": "pr_12", "against": "prod"}
    return EnvironmentDiff(
        **about, seen={"pr_12": "0123456789abcdef", "prod": "fedcba9876543210"}, changed=changes, **more
    )


def built(found: EnvironmentDiff | None = None, **more: Any) -> Built:
    check = StepProgress(
        name="known", kind="check", state="done", warned=True, note=f'2 violating rows{EXAMPLE}{{"name": "{SECRET}"}}'
    )
    plan = Plan(
        steps=(PlannedStep(name="orders", kind="transform", action="run", why="new"),), versions={"orders": "v"}
    )
    progress = Progress(run="r", steps=[check, StepProgress(name="fine", kind="check", state="skipped")])
    return Built("shop", diff=found, progress=progress, plan=plan, **more)


def change(*each: Built, **more: Any) -> Change:
    return Change("acme", "pr_12", "prod", each, **more)


def test_it_tells_what_changes_why_and_what_is_next() -> None:
    gone = ShownName(name="old", kind="publish", version="1")
    new = ShownName(name="fresh", kind="transform", version="1", rows=3)
    text = comment(change(built(diff(changed(), only_left=(new,), only_right=(gone,), same=4))))
    assert text.startswith(
        "<!-- entrepot ci: acme -->\n### ✗ What `prod` shows would break, and nobody has allowed that\n"
    )
    assert "**Breaking** (fails unless it is allowed): `old`" in text
    assert "| + | `fresh` | transform | new | 3 |" in text
    assert "| − | `old` | publish | goes from prod |  |" in text
    assert "additive: `delay` is new (int64) | 12 → 10 · 12 rows differ, in 'name' |" in text
    assert "- ⚠ check `known` warns: 2 violating rows\n" in text
    assert "1 check passes." in text
    expected = "--pipeline shop --tenant acme --expect pr_12=0123456789abc,prod=fedcba9876543"
    assert f"entrepot env promote pr_12 prod {expected}" in text
    assert "entrepot show shop orders --environment pr_12 --tenant acme" in text


def test_rows_and_values_are_told_only_to_who_asks() -> None:
    failed = StepProgress(name="known", kind="check", state="failed", why=f"check 'known' blocks: 1{EXAMPLE}{SECRET}")
    broken = Built(
        "shop", f"check 'known' blocks: 1 violating row{EXAMPLE}{SECRET}", progress=Progress(run="r", steps=[failed])
    )
    for each in (built(diff(changed())), broken):
        assert SECRET not in comment(change(each))
        assert SECRET in comment(change(each, with_rows=True))
    assert "| `id` = `7` | `name` | NULL | `Ada Lovelace` |" in comment(change(built(diff(changed())), with_rows=True))


@pytest.mark.parametrize(
    ("each", "allows", "code"),
    [
        ([built(diff())], False, 0),
        ([built(diff(changed()))], False, 0),
        ([built(diff(changed(columns=GONE)))], False, 1),
        ([built(diff(changed(columns=GONE)))], True, 0),
        ([built(diff(only_right=(ShownName(name="old", kind="train", version="1"),)))], False, 1),
        ([built(diff(only_right=(ShownName(name="old", kind="train", version="1", stays=True),)))], False, 0),
        ([Built("a", "it failed"), built(diff())], True, 1),
        ([Built("a", "it failed"), Built("b", "no such step", is_refused=True)], False, 2),
        ([Built("a", is_first=True)], False, 0),
        ([], False, 0),
    ],
)
def test_the_exit_code_says_what_is_to_be_done(each: list[Built], allows: bool, code: int) -> None:
    told = change(*each, allows_breaking=allows)
    assert told.exit_code == code
    assert comment(told).splitlines()[1].startswith("### ✗" if code else "### ✓")


def test_it_is_never_too_long() -> None:
    wide = diff(
        *(changed(f"table_{n}", ColumnChanges(added={f"{n}|{c}" * 9: "int64" for c in range(30)})) for n in range(900))
    )
    failed = [StepProgress(name=f"s{n}", kind="transform", state="failed", why="`" * 3_000) for n in range(50)]
    many = [Built(f"pipeline_{n}", "x" * 2_500, progress=Progress(run="r", steps=failed)) for n in range(100)]
    for each in ([built(wide)], many, [Built(f"p{n}", diff=diff()) for n in range(9_000)]):
        text = comment(change(*each, with_rows=True))
        assert len(text) <= LONGEST
        assert text.startswith("<!-- entrepot ci: acme -->")
    assert "more names" in comment(change(built(wide)))
    assert "for which a comment has no room" in comment(change(*many))


def test_the_same_change_has_the_same_comment() -> None:
    assert comment(change(built(diff(changed())))) == comment(change(built(diff(changed()))))
