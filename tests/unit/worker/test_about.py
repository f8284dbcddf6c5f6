"""Whose work something is: told from messages and from the JSON that they travel as."""

from __future__ import annotations

from typing import Any

import pytest

from entrepot.protocol.maintenance import GcInput
from entrepot.protocol.messages import Batch, Context, Load, LoadRequest, RunInput, StepRef
from entrepot.worker.telemetry.about import about

CONTEXT = Context(tenant="acme", pipeline="shop", run="r1")
WHOSE = {"tenant": "acme", "pipeline": "shop", "environment": "prod", "run": "r1"}


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        (StepRef(context=CONTEXT, step="model", versions={}), {**WHOSE, "step": "model"}),
        (Batch(context=CONTEXT, steps=tuple("abcd"), versions={}), {**WHOSE, "step": "a,b,c"}),
        (LoadRequest(context=CONTEXT, load=Load(step="orders")), {**WHOSE, "step": "orders"}),
        (RunInput(tenant="acme", pipeline="shop"), {n: WHOSE[n] for n in ("tenant", "pipeline", "environment")}),
        (GcInput(tenant="acme"), {"tenant": "acme"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_message_and_its_json_tell_the_same(message: Any, wanted: dict[str, str]) -> None:
    assert about([message]) == wanted
    assert about([message.model_dump(mode="json")]) == wanted


@pytest.mark.parametrize("nothing", [None, 3, "acme", [], {"tenant": 3, "context": "x", "steps": [None]}])
def test_what_people_write_may_be_anything(nothing: Any) -> None:
    assert about([nothing]) == {}
    assert about([]) == {}
