"""What lists say of runs and publishes."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from entrepot.activities.catalog.environment import PUBLISH, Publish
from entrepot.activities.catalog.records import Run
from entrepot.activities.maintenance.environments.listing import _ended, _published, _why

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
