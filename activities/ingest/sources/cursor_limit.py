"""How far a cursor of times moves: to a day ahead of now, so that a wrong date does not hide all that come later."""

from __future__ import annotations

import datetime as d
from typing import Any

AHEAD = d.timedelta(days=1)
"""How far beyond now a cursor of times moves at most. No zone is as far from UTC."""


def beyond_note(count: int, cursor: str, greatest: Any, latest: Any) -> list[str]:
    """What people are told of rows beyond the greatest value that a cursor moves to."""
    what = f"{count:,} row{'s are' if count > 1 else ' is'}"
    return [f"{what} beyond where the cursor {cursor!r} may move to ({latest}), the furthest at {greatest}"]
