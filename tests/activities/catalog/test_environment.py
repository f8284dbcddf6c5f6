"""What an environment points at, and what it remembers of its ingest steps: as lists that only a next state extends."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.activities.catalog.catalog import Catalog
from entrepot.activities.catalog.ingest_state import IngestState, load_id
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


def loaded(load: str, before: str, sequence: int, environment: str) -> IngestState:
    tables, watermarks = {"orders": load}, f"at {load}"
    its = load_id("source", before, tables, watermarks)
    return IngestState(sequence, load=its, tables=tables, watermarks=watermarks, run=load, environment=environment)


def test_a_next_load_goes_on_behind_what_is_shown_unless_it_does_already(catalog: Catalog) -> None:
    pipeline = catalog.pipeline("promoted")
    prod, dev = pipeline.environment("prod"), pipeline.environment("dev")
    first = loaded("1", "", 0, "prod")
    prod.replace_ingest_state("source", first)
    longer = loaded("2", first.load, 0, "dev")
    dev.replace_ingest_state("source", longer)
    assert prod.continue_from(pipeline.loads(), {"orders": "2"}, run="one") == ()  # nothing is asked again
    assert prod.ingest_state("source").load == longer.load
    newer = loaded("3", longer.load, 2, "prod")
    prod.replace_ingest_state("source", newer)
    for shown in ("1", "2", "3", "unknown"):  # all come before what prod has loaded, or are nobody's
        assert prod.continue_from(pipeline.loads(), {"orders": shown}, run="two") == ()
        assert prod.ingest_state("source").load == newer.load
    beside = loaded("4", longer.load, 1, "dev")
    dev.replace_ingest_state("source", beside)
    assert prod.continue_from(pipeline.loads(), {"orders": "4"}, run="three") == ("source",)
    assert prod.ingest_state("source").load == beside.load


def test_an_environment_stands_with_its_sources_where_another_does(catalog: Catalog) -> None:
    pipeline = catalog.pipeline("created")
    prod, dev, pr = (pipeline.environment(name) for name in ("prod", "dev", "pr_1"))
    dev.replace_ingest_state("source", loaded("1", "", 0, "dev"))
    prod.replace_ingest_state("source", loaded("2", "", 0, "prod"))
    pr.stand_like(prod, ["source"], run="one")
    assert pr.own_ingest_state("source") is None  # the newest of all: its first load goes on where that is then
    pr.stand_like(dev, ["source"], run="two")
    assert pr.ingest_state("source").tables == {"orders": "1"}
