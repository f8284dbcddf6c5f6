"""Data from outside is refused in sentences: each names its place, and what is known there."""

from __future__ import annotations

from typing import Any

import pytest

from entrepot import BadInput
from entrepot.protocol.messages import RunInput
from entrepot.protocol.parsing import parse

SHOP = {"tenant": "acme", "pipeline": "shop"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tenant": "acme"}, "Pipeline: the field 'pipeline' is missing"),
        ({**SHOP, "backfill": {"end": 3}}, "Pipeline: the field 'backfill.start' is missing"),
        (
            {**SHOP, "backfill": {"start": 1, "end": 3, "ende": 2}},
            "Pipeline: the field 'backfill': unknown field 'ende'; did you mean 'end'? Known: 'end', 'start'",
        ),
        ({**SHOP, "force": 3}, "Pipeline: the field 'force' is wrong: it should be a valid string, and is 3"),
    ],
)
def test_every_sentence_names_its_place(given: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse(RunInput, given, "Pipeline")
    assert str(caught.value) == said
