"""How a plan's steps are run: each as soon as what it reads is there, so many at a time, tiny ones together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from entrepot.language.step import KINDS
from entrepot.planning.plan import PlannedStep
from entrepot.protocol.messages import StepResult

LARGE_PIPELINE = 40
"""Up to so many steps, each transform is an activity of its own, which reads best. Beyond, they go in batches: an
activity costs the server and the worker about 30 ms, a tiny transform 5 ms."""
MOST_IN_BATCH = 50


class Ready:
    """Which steps may start: those whose inputs are all made.

    Args:
        steps: The steps that run, in an order in which each comes after what it reads.
        made: Those of them that are made already.
        taken: Those that run.
    """

    def __init__(self, steps: Iterable[PlannedStep], made: Iterable[str] = (), taken: Iterable[str] = ()) -> None:
        self._made = set(made)
        self._steps = {step.name: step for step in steps if step.name not in self._made}
        self._waiting = {s.name: {i for i in s.inputs if i in self._steps} for s in self._steps.values()}
        self._users: dict[str, list[str]] = {name: [] for name in self._steps}
        for name, inputs in self._waiting.items():
            for each in inputs:
                self._users[each].append(name)
        self._taken = set(taken)
        self._batches = len(self._steps) > LARGE_PIPELINE
        self.names = [name for name, inputs in self._waiting.items() if not inputs and name not in self._taken]

    def take(self, slots: int) -> list[str]:
        """The next piece of work for one of so many free slots: one step, or a batch of transforms and checks.

        In a batch each step comes after what it reads. Whoever computes it stops early where steps are not tiny.
        """
        first = self.names[0]
        if not self._batches or not self._is_table_work(first):
            chosen = [first]
        else:
            small = [name for name in self.names if self._is_table_work(name)]
            chosen = self._with_users(small[: min(MOST_IN_BATCH, -(-len(small) // slots))])
        self._taken.update(chosen)
        self.names = [name for name in self.names if name not in self._taken]
        return chosen

    def done(self, name: str) -> None:
        """A step is made; those that waited for it alone become ready."""
        self._made.add(name)
        for user in self._users[name]:
            self._waiting[user].discard(name)
            if not self._waiting[user] and user not in self._taken:
                self.names.append(user)

    def give_back(self, names: Iterable[str]) -> None:
        """The rest of a batch that was cut short waits again; what is ready of it goes first."""
        rest = list(names)
        self._taken.difference_update(rest)
        self.names[:0] = [name for name in rest if not self._waiting[name]]

    @property
    def made(self) -> frozenset[str]:
        """What is made."""
        return frozenset(self._made)

    @property
    def running(self) -> frozenset[str]:
        """What was dealt out and is not made; it may still wait for a slot."""
        return frozenset(self._taken - self._made)

    def replanned(self, steps: Iterable[PlannedStep]) -> Ready:
        """What is left of other steps, after what is made, and beside what runs."""
        return Ready(steps, self._made, self.running)

    def _with_users(self, batch: list[str]) -> list[str]:
        """A batch, and the steps that need nothing but what is made or in it."""
        chosen = dict.fromkeys(batch)
        for name in batch:  # grows while it is walked
            for user in self._users[name]:
                fits = len(batch) < MOST_IN_BATCH and user not in chosen and user not in self._taken
                if fits and self._is_table_work(user) and self._waiting[user] <= chosen.keys():
                    chosen[user] = None
                    batch.append(user)
        return batch

    def _is_table_work(self, name: str) -> bool:
        return KINDS[self._steps[name].kind].is_batched


async def run_steps(
    steps: Iterable[PlannedStep],
    parallel: int,
    start: Callable[[list[str]], Awaitable[list[StepResult]]],
    finished: Callable[[StepResult], None],
    plan_again: Callable[[frozenset[str], frozenset[str]], Awaitable[Iterable[PlannedStep]]] | None = None,
) -> None:
    """Runs steps until all are made or one fails; then what runs is let finish, and the failure is raised.

    Args:
        start: Runs a batch and returns the results of some of its steps, at least one.
        plan_again: Says which steps run, once one has made the rows of before; it is told which are made, and which
            are dealt out. None that waits begins meanwhile.
    """
    ready = Ready(steps)
    running: dict[asyncio.Task[list[StepResult]], list[str]] = {}
    failure: BaseException | None = None
    try:
        while running or (ready.names and failure is None):
            while ready.names and len(running) < parallel and failure is None:
                batch = ready.take(parallel - len(running))
                running[asyncio.create_task(_awaited(start(batch)))] = batch
            done, _ = await workflow.wait(running, return_when=asyncio.FIRST_COMPLETED)
            is_same = False
            for task in done:
                batch = running.pop(task)
                if (error := task.exception()) is not None:
                    failure = failure or error
                    continue
                results = task.result()
                for result in results:
                    finished(result)
                    ready.done(result.name)
                ready.give_back(without(batch, results))
                is_same |= any(result.same for result in results)
            if is_same and plan_again is not None and failure is None:
                try:
                    ready = ready.replanned(await plan_again(ready.made, ready.running))
                except ActivityError as error:
                    if is_cancelled_exception(error):
                        raise
                    failure = error
    except (asyncio.CancelledError, ActivityError):
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        raise
    if failure is not None:
        raise failure


def without(batch: Iterable[str], results: Iterable[StepResult]) -> list[str]:
    """The steps of a batch that it left."""
    made = {result.name for result in results}
    return [name for name in batch if name not in made]


async def _awaited(made: Awaitable[Any]) -> Any:
    return await made
