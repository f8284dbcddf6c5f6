"""What lists say of runs and publishes."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from entrepot.activities.catalog.environment import PUBLISH, Publish
from entrepot.activities.catalog.records import Run
from entrepot.activities.maintenance.environments.listing import _code, _ended, _published, _why
from entrepot.protocol.messages import OF_RUN

TIME = datetime.datetime(2026, 11, 30, 6, 0)


def published(sequence: int, *names: str) -> Publish:
    return Publish(sequence, dict.fromkeys(names, "v"), run=f"run{sequence}", action=PUBLISH, moved=names)


def run(number: int, *computed: str, **more: Any) -> Run:
    return Run(
        "shop", "prod", f"run{number}", "completed", TIME, TIME, {name: {"seconds": 0.1} for name in computed}, **more
    )


@pytest.mark.parametrize(
    ("names", "computed", "said"),
    [
        (("a", "b"), ("b",), "computed b"),
        (("a",), (), "removed b"),
        (("a",), ("a",), "computed a; removed b"),
        ((), (), "removed a, b"),
        (("a", "b"), (), "computed nothing"),
    ],
)
def test_a_publish_says_what_it_computed_and_took_away(
    names: tuple[str, ...], computed: tuple[str, ...], said: str
) -> None:
    before, now = published(1, "a", "b"), published(2, *names)
    assert _why(now, run(2, *computed), [before]) == said
    row = _ended(run(2, *computed), _published({"prod": [now, before], "dev": [published(3, "x")]}))
    assert (row.status, row.what) == ("published", said)
    assert _ended(run(4), _published({"prod": [now, before]})).status == "nothing to do"


def about(number: int, code: str, status: str = "completed", **summary: Any) -> Run:
    told = {"cause": "trigger", "why": "acme/shop published 1 table", "code": code}
    return Run("shop", "prod", f"run{number}", status, TIME, TIME, {**summary, OF_RUN: told} if code else summary)


def test_a_publish_says_by_which_code_what_it_shows_was_made() -> None:
    one, two = published(1, "a"), published(2, "a", "b")
    back = Publish(3, dict(one.pointers), run="run3", action="rollback", moved=("b",))
    promoted = Publish(4, {"a": "w"}, run="run4", action="promote", moved=("a",))
    runs = {each.run: each for each in (about(1, "c1"), about(2, ""), about(4, "", "promoted", run="run9"))}
    codes = {"run1": "c1", "run2": "", "run9": "c9"}  # `run2` is older than codes were recorded
    history = [promoted, back, two, one]
    found = [_code(each, runs, codes, history[number + 1 :]) for number, each in enumerate(history)]
    assert found == ["c9", "c1", "", "c1"]


def test_a_run_says_what_caused_it_if_that_was_recorded() -> None:
    assert _ended(about(1, "c1"), {}).cause == "trigger: acme/shop published 1 table"
    assert _ended(run(1, "a"), {}).cause == ""
    assert _ended(about(1, "c1"), {"run1": ""}).what == "computed nothing"
    assert _ended(about(1, "c1"), {"run1": "removed a"}).what == "removed a"
