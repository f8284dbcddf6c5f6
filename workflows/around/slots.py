"""A tenant's slots: how many of its steps run at once, over all workers, so that it leaves room for the others.

Each tenant has one `Slots` workflow, and each run has a `Claim`. A run keeps one slot from its first step to its last,
and takes further ones for steps side by side. What a run has is known in two places, both durable: a worker that dies
takes nothing with it, and a run that is terminated is found to be closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial

from temporalio import workflow
from temporalio.common import VersioningBehavior
from temporalio.exceptions import ActivityError, ApplicationError

from entrepot.language.limits import StepLimits
from entrepot.protocol import activities
from entrepot.protocol.messages import TenantInput
from entrepot.protocol.slots import Holders, Share, SlotsAsked, SlotsGranted, SlotsRequest, SlotsState
from entrepot.workflows.calls import call, failure_of, priority
from entrepot.workflows.search_attributes import label

GRANTED = "slots"
"""The signal by which a run learns that it has more slots than when it asked."""
LOOK_AFTER = timedelta(seconds=1)
"""When a run begins to lack slots, it is looked so soon whether those that have some are still there; then later ..."""
LOOK_AT_MOST_AFTER = timedelta(seconds=30)
"""... up to this."""
PATIENT = StepLimits(timeout=timedelta(minutes=10), attempts=1000, backoff=timedelta(seconds=1))
"""Of asking for slots: no run fails since many ask at once."""
IDLE = timedelta(days=1)
"""Who has heard nothing for so long, and has no run, ends; the next run starts it again."""


@workflow.defn(name="Slots")
class Slots:
    """Hands out a tenant's slots: first to runs that have none, then to those that have fewest."""

    @workflow.init
    def __init__(self, state: SlotsState) -> None:
        self._tenant, self._most = state.tenant, state.most
        self._shares = {share.request.run: share for share in state.shares}
        self._news: set[str] = set()
        """The runs that have more than they know of, or do not know that others wait."""

    @workflow.query
    def shares(self) -> list[Share]:
        """Which runs have how many slots, and want how many."""
        return list(self._shares.values())

    @workflow.update
    def want(self, asked: SlotsAsked) -> SlotsGranted:
        """What a run has and wants; how many slots it has now. A request that is not its newest changes nothing."""
        if (known := self._shares.get(asked.run)) is not None and known.request.number >= asked.number:
            return self._answer(asked.run)
        self._most = asked.most
        if asked.wanted:
            self._shares[asked.run] = Share(request=asked, granted=asked.held)
        else:
            self._shares.pop(asked.run, None)
        self._hand_out()
        self._news.discard(asked.run)
        return self._answer(asked.run) if asked.wanted else SlotsGranted(number=asked.number, slots=0)

    @workflow.run
    async def run(self, state: SlotsState) -> None:
        """Tells runs what they got, and takes back what belonged to runs that are closed."""
        label(TenantInput(tenant=self._tenant))
        lacked, pause, looked = False, IDLE, workflow.now()
        while True:
            if (lacks := self._somebody_lacks()) != lacked:
                lacked, pause, looked = lacks, LOOK_AFTER if lacks else IDLE, workflow.now()
            if (left := looked + pause - workflow.now()) > timedelta():  # however much happens meanwhile
                with suppress(TimeoutError):
                    await workflow.wait_condition(partial(self._is_called, lacks), timeout=left)
            else:
                await self._let_go()
                if not self._shares:
                    return
                pause, looked = min(2 * pause, LOOK_AT_MOST_AFTER) if lacks else IDLE, workflow.now()
            await self._tell()
            if _is_long() and not self._news:
                state = SlotsState(tenant=self._tenant, most=self._most, shares=tuple(self._shares.values()))
                workflow.continue_as_new(state)

    def _is_called(self, lacked: bool) -> bool:
        return bool(self._news) or lacked != self._somebody_lacks() or _is_long()

    def _hand_out(self) -> None:
        free = self._most - sum(share.granted for share in self._shares.values())
        hungry = [share for share in self._shares.values() if share.granted < share.request.wanted]
        while free > 0 and hungry:
            least = min(hungry, key=lambda share: share.granted)  # of several, who asked first
            hungry.remove(least)
            more = self._granted(least, least.granted + 1)
            free -= 1
            if more.granted < more.request.wanted:
                hungry.append(more)
        if self._others_wait():
            self._news |= {run for run, share in self._shares.items() if share.granted > 1 and not share.told}

    def _granted(self, share: Share, slots: int) -> Share:
        run = share.request.run
        self._shares[run] = share = share.model_copy(update={"granted": slots})
        self._news.add(run)
        return share

    def _somebody_lacks(self) -> bool:
        return any(share.granted < share.request.wanted for share in self._shares.values())

    def _others_wait(self) -> bool:
        return any(not share.granted for share in self._shares.values())

    def _answer(self, run: str) -> SlotsGranted:
        waits = self._others_wait()
        share = self._shares[run] = self._shares[run].model_copy(update={"told": waits})
        return SlotsGranted(number=share.request.number, slots=share.granted, others_wait=waits)

    async def _tell(self) -> None:
        while self._news:
            run = min(self._news)
            self._news.discard(run)
            if run not in self._shares:
                continue
            asked, answer = self._shares[run].request, self._answer(run)
            try:
                await workflow.get_external_workflow_handle(asked.workflow_id, run_id=run).signal(GRANTED, answer)
            except ApplicationError:  # it is closed
                self._forget([run])

    async def _let_go(self) -> None:
        """Takes back the slots of runs that were terminated: they could not say that they end."""
        having = {run: share.request.workflow_id for run, share in self._shares.items() if share.granted}
        if not having:
            return
        asked = Holders(tenant=self._tenant, workflow_ids=having)
        try:
            self._forget(await call(activities.CLOSED_RUNS, asked, priority=priority(self._tenant)))
        except ActivityError:
            workflow.logger.warning("it cannot be seen which runs of %s are closed", self._tenant)

    def _forget(self, runs: list[str]) -> None:
        for run in runs:
            self._shares.pop(run, None)
        self._hand_out()


@workflow.defn(name="Slots", versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class VersionedSlots(Slots):
    """The same, in workers that are versions of a deployment: others may not say how they are versioned.

    Runs of all versions ask it, so it stays with none of them: it goes on with the code that is current.
    """

    @workflow.init
    def __init__(self, state: SlotsState) -> None:
        super().__init__(state)

    @workflow.run
    async def run(self, state: SlotsState) -> None:
        """As `Slots`."""
        await super().run(state)


def _is_long() -> bool:
    return workflow.info().is_continue_as_new_suggested()


class Claim:
    """What a run has of its tenant's slots, and wants. It asks when that changes, and works with what it has."""

    def __init__(self, tenant: str) -> None:
        self._tenant = tenant
        self._used = self._waiting = self._least = 0
        self._number = self._wanted = self._granted = 0
        """What `Slots` was told and said last."""
        self._held = 0
        """What is left of what was granted: a slot that is given up is not used any more, whoever knows it by now."""
        self._others_wait = False
        self._asking: asyncio.Task[None] | None = None
        self._error: ActivityError | None = None
        workflow.set_signal_handler(GRANTED, self._was_granted)

    def open(self) -> None:
        """Asks for a first slot, which is kept until `close`. It is not waited for before there is a step."""
        self._least = 1
        self._settle()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """One of the slots while the block runs.

        Raises:
            ApplicationError: if nobody could be asked for one.
        """
        await self._take()
        try:
            yield
        finally:
            self._used -= 1
            if self._others_wait:  # not to the next step of this run
                self._held = min(self._held, max(self._used, self._least))
            self._settle()

    async def close(self) -> None:
        """Gives all of them back, since no step comes any more. Who is cancelled meanwhile has given them back, too."""
        self._least = 0
        self._settle()
        if (asking := self._asking) is not None:
            try:
                await asyncio.shield(asking)
            except asyncio.CancelledError:
                await asking  # a workflow is cancelled once: nobody interrupts it any more
                raise

    async def _take(self) -> None:
        self._waiting += 1
        self._settle()
        try:
            while self._used >= self._held:
                await workflow.wait_condition(lambda: self._used < self._held or self._error is not None)
                if self._error is not None:
                    raise failure_of(self._error, PATIENT)
            self._used += 1
        finally:
            self._waiting -= 1
            self._settle()

    def _wants(self) -> int:
        return max(self._used + self._waiting, self._least)

    def _is_settled(self) -> bool:
        return self._error is not None or (self._wants(), self._held) == (self._wanted, self._granted)

    def _settle(self) -> None:
        is_evicted = not workflow.in_workflow()  # it is thrown out of a worker's memory, and goes on elsewhere
        if self._asking is None and not self._is_settled() and not is_evicted:
            self._asking = asyncio.create_task(self._ask())

    async def _ask(self) -> None:
        try:
            while True:
                await workflow.wait_condition(lambda: True)  # until all that can go on has: a next step takes this slot
                self._held = min(self._held, self._wants())
                if self._is_settled():
                    break
                self._number, self._wanted, self._granted = self._number + 1, self._wants(), self._held
                asked = call(activities.SLOTS, self._request(), priority=priority(self._tenant), limits=PATIENT)
                self._was_granted(await asked)
        except ActivityError as error:
            self._error = error
        finally:
            self._asking = None

    def _request(self) -> SlotsRequest:
        info = workflow.info()
        return SlotsRequest(
            tenant=self._tenant,
            workflow_id=info.workflow_id,
            run=info.run_id,
            number=self._number,
            held=self._held,
            wanted=self._wanted,
        )

    def _was_granted(self, answer: SlotsGranted) -> None:
        """An answer counts for the newest request alone; of several to that, the largest, since they may overtake."""
        if answer.number == self._number:
            more = max(answer.slots - self._granted, 0)
            self._granted, self._held = self._granted + more, self._held + more
            self._others_wait = answer.others_wait
