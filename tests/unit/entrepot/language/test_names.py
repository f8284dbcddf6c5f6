"""What may be called what: each kind of name, and how one that is none is told."""

from __future__ import annotations

import pytest

from entrepot.errors import BadInput
from entrepot.language.names import ENVIRONMENT, ID, PIPELINE, RAW, SCHEMA, SETTING, STEP, TABLE, TENANT, Kind, shown

KINDS = [TENANT, PIPELINE, ENVIRONMENT, STEP, RAW, TABLE, SETTING, SCHEMA, ID]


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (TENANT, ["acme", "a", "0", "acme-2_x", "a--b", "a" * 63]),
        (PIPELINE, ["flights", "a", "a_1", "a" * 40]),
        (ENVIRONMENT, ["prod", "pr_12", "v2"]),
        (STEP, ["orders", "select", "table", "order"]),
        (RAW, ["orders__items", "orders__items__tags"]),
        (TABLE, ["orders", "orders.contract", "orders__items"]),
        (ID, ["r1", "01a2288d-29fb-79cc-aea8-5ef9efe8b37f", "0123456789abcdef"]),
    ],
)
def test_what_is_a_name(kind: Kind, names: list[str]) -> None:
    assert [kind.check(name) for name in names] == names


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", ["", "a b", "a/b", "..", "a\n", "a\x00", "é", "\uff41", "a" * 101, 'a"', "a'", "nul", "com1"]
)
def test_what_is_none(kind: Kind, name: str) -> None:
    with pytest.raises(BadInput, match=f"{kind.refusal}: ") as caught:
        kind.check(name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "'a'"),
        ("a\n\x00", r"'a\n\x00'"),
        ("\u0440rod", r"'\u0440rod'"),
        ("x" * 3_000, "'" + "x" * 59 + "… (3,000 characters)"),
        (["x" * 3_000], "['" + "x" * 58 + "…"),
        (None, "None"),
    ],
)
def test_a_value_is_shown_so_that_it_can_be_seen(value: object, text: str) -> None:
    assert shown(value) == text
