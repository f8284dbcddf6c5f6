"""Versions, and the names that carry them."""

from __future__ import annotations

from entrepot.version import environment_schema, version_of, version_schema, version_table


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
    from entrepot.code import HASH_LENGTH
    from entrepot.graph import LONGEST_NAME

    assert len(version_table("a" * LONGEST_NAME, "0" * HASH_LENGTH)) <= 63
