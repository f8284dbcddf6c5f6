"""What a backfill says of itself."""

from __future__ import annotations

from entrepot.protocol.backfills import BackfillProgress


def test_one_that_was_cancelled_while_it_was_paused_is_cancelled() -> None:
    paused = BackfillProgress(stage="load", paused=True, total=9, done=2)
    assert paused.line == "2 of 9 intervals · paused"
    assert paused.model_copy(update={"stage": "cancelled"}).line == "2 of 9 intervals · cancelled"
