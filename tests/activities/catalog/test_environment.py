"""What an environment points at, and what it remembers of its ingest steps: as lists that only a next state extends."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.activities.catalog.catalog import Catalog
from entrepot.activities.catalog.ingest_state import IngestState
from entrepot.errors import BadInput, Conflict

NUMBERS = itertools.count()

pointers = st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from(["1", "2"]))
attempts = st.lists(st.tuples(st.integers(0, 4), pointers), max_size=5)


@settings(max_examples=10, deadline=None)
@given(attempts)
def test_publishes_are_a_list(catalog: Catalog, some: list[tuple[int, dict[str, str]]]) -> None:
    environment = catalog.pipeline(f"p{next(NUMBERS)}").environment("prod")
    environment.create()
    expected: list[dict[str, str]] = []
    for number, (sequence, wanted) in enumerate(some):
        if sequence == len(expected):
            environment.publish(str(number), "publish", wanted, wanted, expected=sequence)
            expected.append(wanted)
        else:
            with pytest.raises(Conflict):
                environment.publish(str(number), "publish", wanted, wanted, expected=sequence)
        assert environment.head().pointers == (expected[-1] if expected else {})
        assert [publish.pointers for publish in environment.history()] == expected[::-1]


@settings(max_examples=10, deadline=None)
@given(attempts)
def test_ingest_states_are_a_list(catalog: Catalog, some: list[tuple[int, dict[str, str]]]) -> None:
    pipeline = catalog.pipeline(f"p{next(NUMBERS)}")
    environment = pipeline.environment("prod")
    expected: list[dict[str, str]] = []
    for number, (sequence, tables) in enumerate(some):
        new = IngestState(sequence, load=str(number), tables=tables, run=str(number))
        if sequence == len(expected):
            environment.replace_ingest_state("source", new)
            expected.append(tables)
        else:
            with pytest.raises(Conflict):
                environment.replace_ingest_state("source", new)
        own = environment.own_ingest_state("source")
        assert (own.tables if own else None) == (expected[-1] if expected else None)
        assert [load.tables for load in pipeline.loads().get("source", [])] == expected[::-1]


def test_a_rollback_goes_back_to_another_state_each_time(catalog: Catalog) -> None:
    environment = catalog.pipeline("back").environment("prod")
    environment.create()
    for sequence, (run, version) in enumerate([("one", "1"), ("two", "2"), ("again", "2")]):
        environment.publish(run, "publish", {"a": version}, ["a"], expected=sequence)
    assert environment.earlier(None).run == "one"
    assert environment.earlier("tw").run == "two"
    with pytest.raises(BadInput, match=r"no publish of run 'none'. Runs that published there: 'again', 'one', 'two'"):
        environment.earlier("none")


def test_nothing_is_earlier_than_no_publish(catalog: Catalog) -> None:
    pipeline = catalog.pipeline("unpublished")
    pipeline.environment("dev").create()
    pipeline.environment("prod").create()
    pipeline.environment("prod").publish("one", "publish", {"a": "1"}, ["a"], expected=0)
    with pytest.raises(BadInput, match=r"nothing was published there yet. Environments that have a publish: 'prod'"):
        pipeline.environment("dev").earlier(None)


def test_an_environment_that_was_published_meanwhile_is_not_deleted(catalog: Catalog) -> None:
    environment = catalog.pipeline("deleted").environment("pr_1")
    environment.create()
    environment.publish("one", "publish", {"a": "1"}, ["a"], expected=0)
    with pytest.raises(Conflict, match="'pr_1' was published while it was dropped"):
        environment.delete(expected=0)
    environment.delete(expected=1)
    assert (environment.head().sequence, environment.history()) == (0, [])
