"""An interruption is the error of whatever it stops, and of nothing that begins later if that may."""

from __future__ import annotations

import threading

import pytest

from entrepot.backends.sql.interruption import Interruption
from entrepot.errors import StepFailed


def test_what_is_interrupted_says_so_whatever_else_fails() -> None:
    interruption = Interruption()

    def fail() -> None:
        interruption.request()
        raise StepFailed("the statement was cancelled")

    with pytest.raises(InterruptedError, match="cancelled") as raised, interruption.heeded():
        fail()
    assert isinstance(raised.value.__cause__, StepFailed)


def test_what_came_to_its_end_says_so_too() -> None:
    interruption = Interruption()
    with pytest.raises(InterruptedError), interruption.heeded():
        interruption.request()


def test_without_an_interruption_a_failure_is_what_it_is() -> None:
    with pytest.raises(StepFailed, match="no such column"), Interruption().heeded():
        raise StepFailed("no such column")


def test_what_begins_later_may_run() -> None:
    interruption = Interruption()
    interruption.request()
    with interruption.heeded(since=interruption.count):
        pass
    with pytest.raises(InterruptedError), interruption.heeded():
        raise AssertionError("it began")


def test_the_warehouse_is_told_in_another_thread() -> None:
    told: list[int] = []
    done = threading.Event()

    def cancel() -> None:
        told.append(threading.get_ident())
        done.set()

    Interruption().request(cancel)
    assert done.wait(10)
    assert told != [threading.get_ident()]
