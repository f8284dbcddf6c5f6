"""What steps' functions say before anything is computed: expressions, estimators, the rules of contracts.

They are the user's code as any other, and may hang, or end their process. One process answers all questions of a plan
or of a batch of steps, one after another. It is begun with the first question; what is remembered needs none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Hashable, Sequence
from contextlib import ExitStack
from functools import cached_property, lru_cache
from typing import Any, Self

from entrepot.activities.runtime.context import ActivityContext, attribute_errors
from entrepot.activities.runtime.isolation.call import Asked, Call, Question, answer
from entrepot.activities.runtime.isolation.processes import Read, Readers, conversation, server_of, started
from entrepot.activities.runtime.isolation.raised import Raised
from entrepot.activities.runtime.tenant import Tenants
from entrepot.errors import EntrepotError, PipelineError, Problem, StepFailed
from entrepot.language.limits import StepLimits
from entrepot.language.step import Step
from entrepot.planning import resolve
from entrepot.planning.graph import Graph
from entrepot.planning.resolve import Asking, Computed, Inputs


class Builder:
    """Asks a pipeline's steps, in a process that is there while the block runs.

    Functions that are asked stand in a module, and are given their `Call`, and the step as their process has it.

    Args:
        read: Reads what `Call.read` asks for.
    """

    def __init__(self, work: ActivityContext, tenants: Tenants, pipeline: str, read: Read | None = None) -> None:
        self._readers = Readers(read=read)
        self._work = work
        self._tenants = tenants
        self._pipeline = pipeline
        self._lock = threading.RLock()
        self._running = ExitStack()
        self._conversation: Generator[Any, Any, Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._end()

    def planned(self, graph: Graph, asked: Asking) -> list[Computed | EntrepotError]:
        """What each step computes, or why that cannot be said: how its process ended, if it did."""
        return [
            PipelineError(graph.name, [Problem(f"{step.kind} {step.name!r}: {found}", step.at)])
            if isinstance(found, StepFailed)
            else found
            for (step, _), found in zip(asked, self.given(asked, _planned), strict=True)
        ]

    def given(self, asked: Asking, function: Callable[..., Any], *arguments: Hashable) -> list[Any]:
        """What a function gives for each step and its inputs, or raises. It is asked once, where it sees nothing else.

        Raises:
            InterruptedError: if the work is stopped meanwhile.
            Unavailable: if the process was killed by others.
        """
        known = [_answers(step, inputs, function.__qualname__, arguments) for step, inputs in asked]
        given = [tuple(answers) for answers in known]
        unknown = [number for number, answers in enumerate(given) if not answers]
        questions = [self._question(asked[number][0], function, (asked[number][1], *arguments)) for number in unknown]
        for number, found in zip(unknown, self._ask(questions), strict=True):
            given[number] = (found,)
            if not isinstance(found, EntrepotError):  # another time that may be another
                known[number].append(found)
        return [answers[0] for answers in given]

    def computed(self, step: Step, inputs: Inputs) -> Computed:
        """What a step computes. What a plan has been told is not asked again.

        Raises:
            EntrepotError: as `ask` does, and if the step cannot be built.
        """
        answers = _answers(step, inputs, _planned.__qualname__, ())
        if not answers:
            answers.append(self.ask(step, _resolved, inputs))
        found: Computed = answers[0]
        return found

    def ask(self, step: Step, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function returns.

        Raises:
            InterruptedError: if the work is stopped meanwhile.
            LimitExceeded: if its process had more memory than the step may have.
            StepFailed: if its process ended itself or crashed, or was killed since it took too long.
            Unavailable: if it was killed by others.
        """
        [found] = self._ask([self._question(step, function, arguments)])
        if isinstance(found, EntrepotError):
            raise found
        return found

    def _ask(self, questions: Sequence[Question]) -> list[Any]:
        """The answers, or what was raised. The process goes from question to question without waiting; if it ends, the
        others are asked of a new one."""
        found: list[Any] = []
        with self._lock:
            while len(found) < len(questions):
                try:
                    conversation = self._conversation or self._begin()
                    found.append(conversation.send(questions[len(found) :]))
                    while len(found) < len(questions):
                        found.append(next(conversation))
                except StepFailed as error:
                    found.append(error)
                    self._end()
                except BaseException:
                    self._end()
                    raise
        return [each.again() if isinstance(each, Raised) else each for each in found]

    def _question(self, step: Step, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Question:
        return Question(function, step.name, arguments, step.limits.over(self._limits).memory)

    @cached_property
    def _limits(self) -> StepLimits:
        """Of steps that say nothing themselves. Asked once: whether the code has changed is looked for on the disk."""
        return self._work.tenant.limits_of(self._tenants.registry.load(self._pipeline))

    def _begin(self) -> Generator[Any, Any, Any]:
        process = server_of(self._tenants, self._pipeline).fork()
        self._running.enter_context(started(process, self._work, self._tenants.variables(self._work.tenant.name)))
        self._conversation = conversation(process, self._work, Asked(answer, ()), self._readers)
        next(self._conversation)
        return self._conversation

    def _end(self) -> None:
        with self._lock:
            if self._conversation is not None:
                self._conversation.close()
                self._conversation = None
            self._running.close()


def _planned(call: Call, step: Step, inputs: Inputs) -> Computed:
    """What a step computes, as a plan is told of it; asked of its process."""
    return resolve.planned(call.graph, step, inputs)


def _resolved(call: Call, step: Step, inputs: Inputs) -> Computed:
    """What a step computes; asked of its process."""
    with attribute_errors(step):
        return resolve.resolve_step(step, inputs)


def _answers(step: Step, inputs: Inputs, function: str, arguments: tuple[Hashable, ...]) -> list[Any]:
    """Where the answer to a question stands, once there is one."""
    beside = resolve.seen(step)
    return [] if beside is None else _remembered(step, inputs, beside, function, arguments)


@lru_cache(maxsize=20_000)
def _remembered(
    step: Step, inputs: Inputs, beside: Hashable, function: str, arguments: tuple[Hashable, ...]
) -> list[Any]:
    return []
