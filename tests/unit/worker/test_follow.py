"""What a client says of what did not end well."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from temporalio.client import ActivityFailureError, WorkflowFailureError
from temporalio.exceptions import ApplicationError, CancelledError, TerminatedError

from entrepot.errors import BadInput
from entrepot.worker.cli import follow


@pytest.mark.parametrize(("cause", "end"), [(CancelledError(), "cancelled"), (TerminatedError(""), "terminated")])
def test_only_of_a_run_it_is_said_that_nothing_was_published(
    cause: CancelledError | TerminatedError, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise ActivityFailureError(cause=cause)

    monkeypatch.setattr(follow, "_wait_for_answer", fail)
    monkeypatch.setattr(follow, "connected", _Connected)
    with pytest.raises(follow.RunFailed) as caught:
        follow.execute_activity("versions", {"tenant": "acme", "pipeline": "shop"})
    assert str(caught.value) == f"'versions' was {end}"


@pytest.mark.parametrize(("kind", "becomes"), [("BadInput", BadInput), ("PipelineError", BadInput), ("Conflict", None)])
async def test_what_should_not_have_been_started_so_is_bad_input(kind: str, becomes: type | None) -> None:
    handle: Any = SimpleNamespace(result=_failing(WorkflowFailureError(cause=ApplicationError("no", type=kind))))
    with pytest.raises(becomes or follow.RunFailed, match=r"^no$"):
        await follow.result(handle)


def _failing(error: Exception) -> Callable[[], Awaitable[None]]:
    async def fail() -> None:
        raise error

    return fail


class _Connected:
    """A client that is never asked."""

    async def __aenter__(self) -> _Connected:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def execute_activity(self, *_: object, **__: object) -> None:
        pass
