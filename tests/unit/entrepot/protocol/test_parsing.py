"""Messages from JSON: each name is checked by its type, whatever it is, and everything wrong is told in a few words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from entrepot.errors import BadInput
from entrepot.protocol.maintenance import ChecksInput, DropInput, GcInput, RepairInput, RollbackInput
from entrepot.protocol.messages import Batch, Context, LoadRequest, RunInput, StepRef
from entrepot.protocol.parity import Comparison, ParityInput
from entrepot.protocol.parsing import parse
from tests.faults.test_names import CONTEXT, IDS, NAMES, SOUND

BY_HAND: list[type[BaseModel]] = [RunInput, RollbackInput, GcInput, DropInput, RepairInput, ChecksInput, ParityInput]
NAMED = ["tenant", "pipeline", "environment", "replay", "to", "run", "table"]


def said(message: Any, value: Any) -> str:
    with pytest.raises(BadInput) as caught:
        parse(message, value, "it")
    return str(caught.value)


@pytest.mark.parametrize(
    ("message", "field"),
    [(message, field) for message in BY_HAND for field in NAMED if field in message.model_fields],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_name_that_is_none_is_refused(message: Any, field: str) -> None:
    for name in NAMES if field not in ("to", "run") else set(NAMES) - IDS:
        text = said(message, {**SOUND, **({"environment": "dev"} if message is DropInput else {}), field: name})
        assert text.startswith(f"it: the field '{field}' is wrong: "), text
        assert len(text) < 320
        assert text.replace("…", "").isascii()
        assert text.isprintable()


@pytest.mark.parametrize(
    ("message", "value", "said_so"),
    [
        (StepRef, {"context": {**CONTEXT, "environment": "../x"}, "step": "a"}, "the field 'context.environment' is"),
        (Batch, {"context": CONTEXT, "steps": ["a", "b/c"], "versions": {}}, "the field 'steps.1' is wrong: 'b/c'"),
        (Batch, {"context": CONTEXT, "steps": ["a"], "versions": {"a": "../1"}}, "the field 'versions.a' is wrong"),
        (Comparison, {"context": CONTEXT, "name": "a", "version": "1", "on": ["x y"]}, "'x y' is no warehouse's name"),
        (LoadRequest, {"context": CONTEXT, "load": {"step": "a", "known": {"a": ".."}}}, "the field 'load.known.a'"),
    ],
)
def test_so_is_one_within_lists_tables_and_other_messages(message: Any, value: Any, said_so: str) -> None:
    assert said_so in said(message, value)


def test_lists_of_json_are_tuples_here() -> None:
    batch = parse(Batch, {"context": CONTEXT, "steps": ["a", "a.contract", "x__y"], "versions": {"a": "0f"}}, "it")
    assert batch.steps == ("a", "a.contract", "x__y")
    assert batch.context == Context(**CONTEXT)


def test_half_a_character_is_no_text() -> None:
    assert said(RunInput, {**SOUND, "select": "\ud800"}) == "it: it has half of a character, which is no text"


@settings(max_examples=200)
@given(st.text("av1_", max_size=6) | st.text(max_size=90))
def test_what_is_taken_is_small_ascii(name: str) -> None:
    try:
        taken = parse(RunInput, {**SOUND, "environment": name}, "it").environment
    except BadInput:
        return
    assert taken == name
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_")
