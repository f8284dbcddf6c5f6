"""What a worker registers is what the protocol declares."""

from __future__ import annotations

from typing import Any

import pytest
from temporalio import activity, workflow

from entrepot.activities.runtime.tenant import Tenants
from entrepot.protocol import activities
from entrepot.protocol.activities import Activity
from entrepot.protocol.messages import ATTEMPT_FAILED, RUNS
from entrepot.registry import Registry
from entrepot.worker import process

DECLARED = [value for value in vars(activities).values() if isinstance(value, Activity)]
IMPLEMENTED = process.implementations(Tenants({}, Registry({})))


def test_those_workflows_hear_of_attempts_that_are_told_of_them() -> None:
    definitions = [workflow._Definition.must_from_class(each) for each in process.WORKFLOWS]
    assert {each.name for each in definitions if ATTEMPT_FAILED in each.signals} == RUNS


def test_every_declared_activity_is_registered_and_no_other() -> None:
    assert set(IMPLEMENTED) == set(DECLARED)
    assert len({declared.name for declared in DECLARED}) == len(DECLARED)


@pytest.mark.parametrize("declared", DECLARED, ids=lambda declared: declared.name)
def test_an_activity_is_registered_with_the_declared_types(declared: Activity[Any, Any]) -> None:
    registered = activity._Definition.must_from_callable(IMPLEMENTED[declared])
    assert registered.name == declared.name
    assert registered.arg_types == [Any]  # which is read with sentences
    assert registered.ret_type == declared.result
