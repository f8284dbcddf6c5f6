"""Versions, and the names that carry them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.errors import BadInput
from entrepot.identity.version import environment_schema, version_of, version_schema, version_table
from entrepot.language.names import ENVIRONMENT


def test_a_version_is_what_is_computed_from_what() -> None:
    made = version_of("transform", "a", {"x": "1", "y": "2"})
    assert made == version_of("transform", "a", {"y": "2", "x": "1"})
    others = [
        version_of("train", "a", {"x": "1", "y": "2"}),
        version_of("transform", "b", {"x": "1", "y": "2"}),
        version_of("transform", "a", {"x": "2", "y": "1"}),
        version_of("transform", "a", {"x": "1"}),
    ]
    assert len({made, *others}) == 5


def test_physical_names() -> None:
    assert version_schema("shop") == "shop__v"
    assert version_table("sales", "0123456789abcdef") == "sales__0123456789abcdef"
    assert environment_schema("shop", "prod") == "shop"
    assert environment_schema("shop", "pr_12") == "shop__pr_12"


def test_the_longest_name_leaves_room_for_a_version() -> None:
    from entrepot.identity.code import HASH_LENGTH
    from entrepot.language.names import LONGEST_NAME

    assert len(version_table("a" * LONGEST_NAME, "0" * HASH_LENGTH)) <= 63


@pytest.mark.parametrize("name", ["v", "", "pr_A", "PROD", "pr 1", "pr/1", "pr__1", "_x", "1x", "é", "pr-1", "a" * 41])
def test_what_cannot_be_an_environment_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="cannot be an environment"):
        ENVIRONMENT.check(name)


def _is_taken(name: str) -> bool:
    try:
        ENVIRONMENT.check(name)
    except BadInput:
        return False
    return True


NAMES = st.one_of(
    st.from_regex(r"(?i)[a-z_0-9]{1,6}", fullmatch=True), st.sampled_from(["prod", "dev", "v", "V", "x__v"])
)


@settings(max_examples=200)
@given(NAMES, NAMES)
def test_no_two_environments_have_one_schema(one: str, other: str) -> None:
    """Whatever a warehouse makes of large and small letters; and none has the versions' own."""
    names = {name for name in (one, other) if _is_taken(name)}
    schemas = [environment_schema("shop", name).lower() for name in names] + [version_schema("shop").lower()]
    assert len(set(schemas)) == len(schemas)
