"""What a source answers when it has nothing, too little, or something else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from tests.activities.ingest.loading import Warehouse, warehouse


@pytest.fixture
def made() -> Iterator[Warehouse]:
    with warehouse() as made:
        yield made


def load(made: Warehouse, step: str, rows: list[dict[str, Any]], *, refresh: bool = False, **options: Any) -> int:
    """The number of rows of a step's table after a load of these."""
    (made.folder / f"{step}.rows").write_text(json.dumps(rows))
    made.load(step, options, refresh=refresh)
    return len(made.rows(step))


def refusal(made: Warehouse, step: str, rows: list[dict[str, Any]], **options: Any) -> str:
    before = made.cursor(step).tables
    with pytest.raises(ApplicationError) as raised:
        load(made, step, rows, **options)
    assert made.cursor(step).tables == before
    return str(raised.value)


TWO = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]


@pytest.mark.parametrize(
    "how", [{}, {"write_disposition": "replace"}, {"write_disposition": "merge", "primary_key": "id"}]
)
def test_nothing_is_a_table_without_rows_or_nothing_new(made: Warehouse, how: dict[str, Any]) -> None:
    step = "keyed" if how else "plain"
    assert load(made, step, TWO, **how) == 2
    assert load(made, step, [], **how) == (2 if "primary_key" in how else 0)
    assert load(made, step, TWO, **how) == 2


def test_nothing_ends_all_rows_that_are_remembered(made: Warehouse) -> None:
    how = {"write_disposition": {"disposition": "merge", "strategy": "scd2"}, "primary_key": "id"}
    load(made, "keyed", TWO, **how)
    load(made, "keyed", [], **how)
    assert all(row["valid_to"] for row in made.rows("keyed"))


def test_files_without_rows_are_nothing(made: Warehouse) -> None:
    for text, rows in [('[{"id": 1}]', 1), ("[]", 0), ('[{"id": 2}]', 1)]:
        (made.folder / "texts.json").write_text(text)
        made.load("texts", {"path": "texts.json"})
        assert len(made.rows("texts")) == rows


@pytest.mark.parametrize("disposition", ["replace", "append"])
def test_an_error_in_the_place_of_rows_is_refused(made: Warehouse, disposition: str) -> None:
    load(made, "keyed", TWO, write_disposition=disposition)
    error = [{"status": 500, "message": "try again"}]
    refused = refusal(made, "keyed", error, write_disposition=disposition)
    assert "table 'keyed' has lost all its columns ('id', 'name'): the source now brings 'message', 'status'" in refused
    assert load(made, "keyed", error, write_disposition=disposition, refresh=True) == 1


def test_a_table_keeps_the_rows_that_it_must_have(made: Warehouse) -> None:
    assert "table 'guarded' would have 1 rows, and its `min_rows` is 2" in refusal(made, "guarded", TWO[:1])
    five = [{"id": number} for number in range(5)]
    load(made, "guarded", five)
    sentence = "table 'guarded' would have 2 rows instead of 5; its `max_shrink` is 0.5; if that is right"
    assert sentence in refusal(made, "guarded", five[:2])
    assert load(made, "guarded", five[:3]) == 3
    assert "would have 0 rows, and its `min_rows` is 2" in refusal(made, "guarded", [])
    assert load(made, "guarded", [*five, {"id": 5}]) == 6
    assert load(made, "guarded", five[:2], refresh=True) == 2


def test_a_key_that_one_of_several_files_has_twice_is_refused(made: Warehouse) -> None:
    options = {"path": "*.csv", "disposition": "merge", "key": ["id"]}
    (made.folder / "1.csv").write_text("id,name\n1,a\n")
    (made.folder / "2.csv").write_text("id,name\n1,b\n1,c\n")
    with pytest.raises(ApplicationError, match="1 keys are not unique in what the source brought: id=1"):
        made.load("texts", options)
    (made.folder / "2.csv").write_text("id,name\n1,b\n2,c\n")
    made.load("texts", options)
    assert sorted((row["id"], row["name"]) for row in made.rows("texts")) == [(1, "b"), (2, "c")]


def test_a_row_far_in_the_future_is_told_with_every_load(made: Warehouse) -> None:
    options = {"incremental": {"cursor_path": "at"}, "primary_key": "id"}
    rows = [{"id": 1, "at": "2020-01-01T00:00:00Z"}, {"id": 2, "at": "2099-01-01T00:00:00Z"}]
    for _ in range(2):
        (made.folder / "keyed.rows").write_text(json.dumps(rows))
        result = made.load("keyed", options)
        assert result is not None
        assert "keyed: 1 row is beyond where the cursor 'at' may move to" in result.note
        assert sorted(row["id"] for row in made.rows("keyed")) == [1, 2]
    assert result.unchanged
    rows.append({"id": 3, "at": "2021-01-01T00:00:00Z"})
    assert load(made, "keyed", rows, **options) == 3


def test_names_in_other_scripts_are_columns_as_any(made: Warehouse) -> None:
    row = {"Straße": "a", "名前": "b", "Имя клиента": "c", "اسم": "d", "नाम": "e"}
    names = ["straße", "名前", "имя_клиента", "اسم", "नाम"]
    how = {"write_disposition": "merge", "primary_key": "Straße"}
    for number in range(3):
        load(made, "keyed", [row, {**row, "Straße": str(number)}], **how)
    assert {tuple(its[name] for name in names) for its in made.rows("keyed")} == {
        (street, "b", "c", "d", "e") for street in ("a", "0", "1", "2")
    }


def test_rows_that_are_marked_as_gone_do_not_count(made: Warehouse) -> None:
    how = {"write_disposition": "append", "columns": {"gone": {"hard_delete": True, "data_type": "bool"}}}
    for number in range(2):
        load(made, "keyed", [{"id": number, "gone": False}, {"id": number + 10, "gone": True}], **how)
    assert sorted(row["id"] for row in made.rows("keyed")) == [0, 1]
