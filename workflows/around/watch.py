"""`Watch`: tells when a table's promise to be fresh is broken, and when it is kept again. One for each pipeline.

A promise is broken because nothing runs, so nothing else could tell. It asks when the next promise is due, looks again
just then, and more often while one is broken. What it has told is one message, with which it continues as new.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta

from temporalio import workflow
from temporalio.common import VersioningBehavior
from temporalio.exceptions import ActivityError, is_cancelled_exception

from entrepot.language.limits import duration
from entrepot.protocol import activities
from entrepot.protocol.environments import Breach, FreshnessRow, Watched, WatchInput, WatchState, breach_id
from entrepot.protocol.hooks import EventName
from entrepot.protocol.messages import Target, TenantInput
from entrepot.protocol.triggers import Look
from entrepot.workflows.around.hooks import event_of, tell
from entrepot.workflows.around.looks import AT_LEAST, LONG_LOOK, SOONEST, failed, is_long, text_of, time_of, trouble
from entrepot.workflows.around.publishes import MOST_TOLD
from entrepot.workflows.calls import call, check_not_cancelled, failure_of, priority
from entrepot.workflows.search_attributes import label

WHILE_NOT_FRESH = timedelta(minutes=5)
"""How often it is looked whether a promise is kept again, or is known to be, unless half of the promise is shorter: so
none is broken between two looks of which nobody knew that it was made."""
KEPT = timedelta(days=1)
"""So long a breach is known of which nothing is heard: for a while, a worker may have code without the promise."""
_SECOND = timedelta(seconds=1)
_SHOWN = 20


@workflow.defn(name="Watch")
class Watch:
    """Tells hooks of promises to be fresh that are broken, and kept again: once each."""

    @workflow.init
    def __init__(self, state: WatchState) -> None:
        self._state = state
        self._is_asked = False

    @workflow.query
    def state(self) -> WatchState:
        """Which promises are broken, of which somebody was told, and when it looks again."""
        return self._state

    @workflow.signal
    def look(self) -> None:
        """Looks now."""
        self._is_asked = True

    @workflow.run
    async def run(self, state: WatchState) -> None:
        """Goes on until it is cancelled."""
        label(TenantInput(tenant=state.tenant, pipeline=state.pipeline))
        while True:
            check_not_cancelled()
            if is_long():
                workflow.continue_as_new(self._state, memo={"made_by": workflow.info().task_queue})
            self._show()
            next = time_of(self._state.look.next) if self._state.look.next else workflow.now()
            if (pause := next - workflow.now()) > timedelta() and not self._is_asked:
                with suppress(TimeoutError):
                    await workflow.wait_condition(
                        lambda: self._is_asked, timeout=pause, timeout_summary="something may be late"
                    )
            else:
                await self._look()

    async def _look(self) -> None:
        self._is_asked = False
        state = self._state
        asked = WatchInput(tenant=state.tenant, pipeline=state.pipeline)
        try:
            watched = await call(activities.WATCHED, asked, priority=priority(state.tenant), limits=LONG_LOOK)
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            changes = failed(state.look, failure_of(error, LONG_LOOK).message, SOONEST)
            self._state = state.model_copy(update={"look": state.look.model_copy(update=changes)})
            return
        now = workflow.now()
        late, kept, self._state = judged(state, watched.rows, now)
        for rows in _by_environment(late).values():
            since = {row.table: row.due for row in rows}
            await self._tell(watched, "late", since, rows, [_late(row) for row in rows])
        for rows in _by_environment(kept).values():
            was = {each.table: each.since for each in state.breaches if each.environment == rows[0].environment}
            since = {row.table: was[row.table] for row in rows}
            await self._tell(watched, "fresh", since, rows, [f"{row.table}: until {row.due} UTC" for row in rows])

    async def _tell(
        self, watched: Watched, event: EventName, since: dict[str, str], rows: list[FreshnessRow], reasons: list[str]
    ) -> None:
        environment = rows[0].environment
        target = Target(tenant=self._state.tenant, pipeline=self._state.pipeline, environment=environment)
        said = event_of(
            target,
            event,
            tables=tuple(since)[:MOST_TOLD],
            since=min(since.values()),
            reasons=tuple(reasons[:MOST_TOLD]),
            breach=breach_id(environment, since),
        )
        await tell(watched.hooks, said)

    def _show(self) -> None:
        state = self._state
        lines = [f"tells when a promise of **{state.pipeline}** for **{state.tenant}** is broken, and kept again", ""]
        late = [f"- **{each.table}** in {each.environment} is late since {each.since} UTC" for each in state.breaches]
        lines += late[:_SHOWN] + ([f"- and {len(late) - _SHOWN} more"] if len(late) > _SHOWN else [])
        lines += [trouble("freshness", state.look)] if state.look.failures else []
        if state.look.next and not state.look.failures:
            lines.append(f"- it looks again at {state.look.next[:19]} UTC")
        workflow.set_current_details("\n".join(lines))


@workflow.defn(name="Watch", versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class VersionedWatch(Watch):
    """The same, in workers that are versions of a deployment: it goes on with the code that is current."""

    @workflow.init
    def __init__(self, state: WatchState) -> None:
        super().__init__(state)

    @workflow.run
    async def run(self, state: WatchState) -> None:
        """As `Watch`."""
        await super().run(state)


def judged(
    state: WatchState, rows: tuple[FreshnessRow, ...], now: datetime.datetime
) -> tuple[list[FreshnessRow], list[FreshnessRow], WatchState]:
    """What is to be told after a look: what is late now, and what is kept again; and what is known then.

    What is unknown is neither: a promise that was broken stays so.
    """
    known = {(each.environment, each.table): each for each in state.breaches}
    found = {(row.environment, row.table): row for row in rows}
    late = [row for key, row in found.items() if row.state == "late" and key not in known]
    kept = [row for key, row in found.items() if row.state == "fresh" and key in known]
    at = text_of(now)
    stay = [
        each.model_copy(update={"seen": at}) if key in found else each
        for key, each in known.items()
        if (found[key].state != "fresh" if key in found else time_of(each.seen) + KEPT > now)
    ]
    new = [Breach(environment=row.environment, table=row.table, since=row.due, seen=at) for row in late]
    breaches = tuple(sorted((*stay, *new), key=lambda each: (each.environment, each.table)))
    next = next_look(rows, now)
    return late, kept, state.model_copy(update={"breaches": breaches, "look": Look(next=text_of(next))})


def next_look(rows: Iterable[FreshnessRow], now: datetime.datetime) -> datetime.datetime:
    """When something may have changed."""
    return max(now + SOONEST, min([now + AT_LEAST, *(_may_change(row, now) for row in rows)]))


def _may_change(row: FreshnessRow, now: datetime.datetime) -> datetime.datetime:
    if row.state == "fresh":
        return time_of(row.due) + _SECOND  # which is told in whole seconds
    return now + min(WHILE_NOT_FRESH, duration(row.fresh_within) / 2)


def _by_environment(rows: list[FreshnessRow]) -> dict[str, list[FreshnessRow]]:
    found: dict[str, list[FreshnessRow]] = {}
    for row in sorted(rows, key=lambda row: (row.environment, row.due, row.table)):
        found.setdefault(row.environment, []).append(row)
    return found


def _late(row: FreshnessRow) -> str:
    return f"{row.table} (promised within {row.fresh_within}) since {row.due} UTC: {row.reason}"
