"""How a plan's steps are run: each as soon as what it reads is there, so many at a time, tiny ones together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from temporalio import workflow

from activities.messages import PlannedStep, StepResult

MOST_IN_BATCH = 50
"""Steps handed to one activity. An activity costs about 10 ms of the server's time, a tiny transform 5 ms."""


class Ready:
    """Which steps may start: those whose inputs are all made.

    Args:
        steps: The steps that run, in an order in which each comes after what it reads.
    """

    def __init__(self, steps: Iterable[PlannedStep]) -> None:
        self._steps = {step.name: step for step in steps}
        self._waiting = {s.name: {i for i in s.inputs if i in self._steps} for s in self._steps.values()}
        self._users: dict[str, list[str]] = {name: [] for name in self._steps}
        for name, inputs in self._waiting.items():
            for each in inputs:
                self._users[each].append(name)
        self.names = [name for name, inputs in self._waiting.items() if not inputs]

    def done(self, name: str) -> None:
        """A step is made; those that waited for it alone become ready."""
        for user in self._users[name]:
            self._waiting[user].discard(name)
            if not self._waiting[user]:
                self.names.append(user)

    def give_back(self, names: Iterable[str]) -> None:
        """Steps of a batch that was cut short are ready again, before all others."""
        self.names[:0] = names

    def take(self, slots: int, parallel: int) -> list[str]:
        """The next piece of work: one step, or a batch of transforms and checks where many are ready.

        A batch is taken only when every slot has more than one step to do, so that long steps stay in parallel.
        """
        first = self.names[0]
        if not self._is_small(first):
            return [self.names.pop(0)]
        small = [name for name in self.names if self._is_small(name)]
        size = 1 if len(small) <= 2 * parallel else min(MOST_IN_BATCH, -(-len(small) // slots))
        batch = small[:size]
        chosen = set(batch)
        self.names[:] = [name for name in self.names if name not in chosen]
        return batch

    def _is_small(self, name: str) -> bool:
        return self._steps[name].kind in ("transform", "check")


async def run_steps(
    steps: Iterable[PlannedStep],
    parallel: int,
    start: Callable[[list[str]], Awaitable[list[StepResult]]],
    finished: Callable[[StepResult], None],
) -> None:
    """Runs steps until all are made or one fails; then what runs is let finish, and the failure is raised.

    Args:
        start: Runs a batch and returns the results of its first steps, at least one.
    """
    ready = Ready(steps)
    running: dict[asyncio.Task[list[StepResult]], list[str]] = {}
    failure: BaseException | None = None
    try:
        while running or (ready.names and failure is None):
            while ready.names and len(running) < parallel and failure is None:
                batch = ready.take(parallel - len(running), parallel)
                running[asyncio.create_task(_awaited(start(batch)))] = batch
            done, _ = await workflow.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                batch = running.pop(task)
                if (error := task.exception()) is not None:
                    failure = failure or error
                    continue
                results = task.result()
                for result in results:
                    finished(result)
                    ready.done(result.name)
                ready.give_back(batch[len(results) :])
    except asyncio.CancelledError:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        raise
    if failure is not None:
        raise failure


async def _awaited(made: Awaitable[Any]) -> Any:
    return await made
