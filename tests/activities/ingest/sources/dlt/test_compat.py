"""The inner parts of dlt that Entrepot uses are there, and of the shape that it needs. Whoever tries another dlt begins
here: a failure says what of an ingest would break."""

from __future__ import annotations

import ast
import datetime
import inspect
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dlt
import pytest
from dlt.common import json as dlt_json
from dlt.common.configuration import utils
from dlt.common.configuration.container import Container
from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext
from dlt.common.data_writers.writers import TypedJsonlListWriter
from dlt.common.json import DECODERS
from dlt.common.normalizers.json.relational import DataItemNormalizer
from dlt.common.runtime.run_context import RunContext
from dlt.extract import DltResource, Incremental, decorators, hints
from dlt.extract.incremental import IncrementalResourceWrapper
from dlt.extract.items_transform import ItemTransform
from dlt.extract.pipe import Pipe

from entrepot.activities.ingest.sources.dlt import compat, setup
from entrepot.activities.ingest.sources.dlt import rows as rows_of_dlt

setup.install()

FOLDER = Path(compat.__file__).parent


def rows(cursor: Any = dlt.sources.incremental("n")) -> Iterator[Any]:  # noqa: B008
    yield from [{"n": 1}, {"n": 2}]


def test_dlt_notes_nothing_of_its_settings() -> None:
    broke = "a worker would keep a thousand notes of each load, with values that may be secret, for as long as it lives"
    found = of_dlt("get_resolved_traces", getattr(utils, "get_resolved_traces", None), broke)
    before = len(found().all_traces)
    dlt.pipeline("noted")
    assert len(found().all_traces) == before, broke


def resource(**said: Any) -> DltResource:
    return dlt.resource(rows, name="r", **said)()


def of_dlt(name: str, found: Any, broke: str) -> Any:
    assert found, f"dlt {dlt.__version__} has no {name} any more: {broke}"
    return found


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


NORMALIZER = [
    ("_reset", ["self"], "Entrepot's own state of a normalizer is made anew with each schema"),
    ("_flatten", ["self", "table", "dict_row", "_r_lvl"], "two keys with the same name would be one column unnoticed"),
    (
        "_add_row_id",
        ["self", "table", "dict_row", "flattened_row", "parent_row_id", "pos", "is_root"],
        "the same rows would have other ids with each load, so that nothing would ever be unchanged",
    ),
]


@pytest.mark.parametrize(("name", "takes", "broke"), NORMALIZER, ids=[name for name, *_ in NORMALIZER])
def test_the_normalizer_has_its_hook(name: str, takes: list[str], broke: str) -> None:
    hook = of_dlt(f"DataItemNormalizer.{name}", getattr(DataItemNormalizer, name, None), broke)
    assert parameters(hook) == takes, broke


HELPERS = [
    ("_normalize_identifier", "a key's name would not be known before dlt writes it"),
    ("_shorten_fragments", "the name of a nested object would not be known"),
    ("_is_nested_type", "names within an object that stays JSON would be refused"),
    ("_get_primary_key", "rows that are merged by a key would have other ids with each change"),
]


@pytest.mark.parametrize(("name", "broke"), HELPERS, ids=[name for name, _ in HELPERS])
def test_the_normalizer_has_its_helper(name: str, broke: str) -> None:
    of_dlt(f"DataItemNormalizer.{name}", callable(getattr(DataItemNormalizer(dlt.Schema("s")), name, None)), broke)


def test_nested_rows_are_told_of_their_root() -> None:
    broke = "nested rows would not know their root, so that they could not follow it"
    normalizer = rows_of_dlt.DataItemNormalizer(dlt.Schema("s"))
    told = of_dlt("_get_propagated_values", getattr(normalizer, "_get_propagated_values", None), broke)
    assert told("t", {"_dlt_id": "a"}, True) == {"_dlt_root_id": "a"}, broke
    assert told("t__items", {"_dlt_id": "b"}, False) is None, broke


def test_ids_of_rows_are_the_hashes_that_they_were() -> None:
    broke = "every table with nested rows would be loaded anew, and rows merged by key would not find their nested ones"
    assert compat.get_row_hash({"a": 1, "b": None}) == "JKWqsQ2c/R7Vsg", broke
    assert compat.get_row_hash({"a": 1, "b": 2}, subset=["a"]) == "Ec9HPMTWWD8wGA", broke
    assert compat.digest128("a", compat.DLT_ID_LENGTH_BYTES) == "hcjeiNKIZr8IaA", broke


def test_a_resource_shows_its_pipe() -> None:
    broke = "neither cursors nor the ends of chunks could be found before a resource is read"
    of_dlt("DltResource._pipe", isinstance(getattr(resource(), "_pipe", None), Pipe), broke)
    for name in ("gen", "parent", "get_by_type", "remove_by_type", "replace_gen"):
        of_dlt(f"Pipe.{name}", hasattr(resource()._pipe, name), broke)


def test_the_generator_of_a_resource_is_a_function_until_it_is_read() -> None:
    assert callable(compat.generator_of(resource())), "a load that can be asked for again would not be cut into chunks"
    assert not callable(compat.generator_of(dlt.resource(iter([1]), name="r"))), "rows that come once would be lost"


def test_a_cursor_is_found_in_hints_and_in_the_function() -> None:
    broke = "an incremental resource without a write disposition would replace its table instead of adding to it"
    hinted = dlt.resource([{"n": 1}], name="r")
    hinted.apply_hints(incremental=dlt.sources.incremental("n"))
    found = of_dlt("Incremental in the steps", compat.cursor_of(hinted), broke)
    assert found.cursor_path == "n", broke
    of_dlt(
        "IncrementalResourceWrapper.get_incremental_arg",
        hasattr(IncrementalResourceWrapper, "get_incremental_arg"),
        broke,
    )
    parameter = of_dlt("the parameter", compat.cursor_parameter(resource()), broke)
    assert (parameter.name, parameter.default.cursor_path) == ("cursor", "n"), broke
    assert hasattr(Incremental, "EMPTY"), broke


def test_a_transformer_knows_the_cursor_of_its_parent() -> None:
    parent = dlt.resource([{"n": 1}], name="parent")
    parent.apply_hints(incremental=dlt.sources.incremental("n"))
    child = dlt.transformer(lambda item: item, name="child", data_from=parent)()
    found = of_dlt(
        "Pipe.parent", compat.parents_cursor(child), "rows of a transformer would be doubled when they come again"
    )
    assert found.cursor_path == "n"


class Last(compat.Step):
    """Notes what comes, and ends the resource after it."""

    placement_affinity = 0.9

    def __call__(self, item: Any, meta: Any = None) -> Any:
        self.seen = item
        self.close()
        return item


def test_a_step_stands_between_those_of_the_user_and_the_cursor_and_ends_a_resource() -> None:
    broke = "a long load could not be cut into chunks, so that a crash would read all of it again"
    assert ItemTransform.placement_affinity == 0, broke
    assert Incremental.placement_affinity == 1, broke
    numbers = dlt.resource(({"n": n} for n in (1, 2, 3)), name="r")
    numbers.apply_hints(incremental=dlt.sources.incremental("n"))
    numbers.add_map(lambda row: {"n": row["n"] * 10})
    for _ in range(2):
        step = Last(numbers)
        step.add()
    steps = [type(step).__name__ for step in numbers._pipe.steps]
    assert (steps.count("Last"), steps.index("MapItem") < steps.index("Last") < steps.index("Incremental")) == (
        1,
        True,
    ), broke
    found = list(numbers)
    assert (found, step.seen) == ([{"n": 10}], {"n": 10}), broke


def test_what_was_not_said_is_known_from_what_was() -> None:
    broke = "a resource that says nothing would be appended to with each load, and its rows doubled"
    for module in (decorators, hints):
        default = of_dlt("DEFAULT_WRITE_DISPOSITION", getattr(module, "DEFAULT_WRITE_DISPOSITION", None), broke)
        assert isinstance(default, compat.Unsaid), broke
    assert compat.is_unsaid(resource(), ""), broke
    assert not compat.is_unsaid(resource(write_disposition="append"), ""), broke


def test_variants_of_a_resource_are_known() -> None:
    broke = "what is said of one of a resource's tables would be taken to be unsaid"
    several = resource()
    assert not compat.has_variants(several), broke
    several.apply_hints(table_name="other", write_disposition="append", create_table_variant=True)
    assert compat.has_variants(several), broke
    assert (compat.is_unsaid(several, "other"), compat.is_unsaid(several, "")) == (False, True), broke


def test_floats_that_are_no_numbers_stay_what_they_are_between_dlts_steps() -> None:
    broke = "NaN and infinity would be NULL"
    of_dlt("TypedJsonlListWriter.write_data", TypedJsonlListWriter.write_data is compat._write_marked, broke)
    assert DECODERS[-1] is float, broke
    marked = compat._marked({"x": math.inf, "rows": [1.5, -math.inf]})
    assert dlt_json.typed_loads(dlt_json.dumps(marked)) == {"x": math.inf, "rows": [1.5, -math.inf]}, broke


def test_the_run_context_is_ours() -> None:
    broke = "dlt would write to the user's ~/.dlt, and load with settings that Entrepot does not stand for"
    of_dlt("PluggableRunContext", PluggableRunContext in Container(), broke)
    context = compat.run_context()
    assert isinstance(context, RunContext), broke
    assert "entrepot-dlt" in context.global_dir, broke


def test_the_state_of_cursors_keeps_its_types_in_json() -> None:
    broke = "a cursor would compare times with texts at its next load"
    state: Any = {"at": datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC), "n": 1}
    text = json.dumps(json.loads(compat.json_encode_state(state)))
    assert compat.json_decode_state(text) == state, broke


def test_a_cursor_in_a_nested_object_is_found() -> None:
    broke = "a wrong date in a nested cursor would hide all rows that come later"
    assert list(compat.find_values("a.b", {"a": {"b": 3}})) == [3], broke


def test_resources_become_sources_that_can_be_changed_before_they_are_read() -> None:
    broke = "no step could be added to what a user returns"
    (source,) = compat.data_to_sources([resource()], dlt.pipeline("compat"))
    assert [each.name for each in source.resources.extracted] == ["r"], broke


def test_a_resource_without_rows_has_a_table() -> None:
    broke = "a table for which no rows came would lose its columns"
    schema = dlt.Schema("s")
    table = compat.normalize_table_identifiers(resource(columns={"An Id": {}}).compute_table_schema(), schema.naming)
    assert (table["name"], "an_id" in table["columns"]) == ("r", True), broke


def test_telemetry_can_be_stopped() -> None:
    of_dlt("stop_telemetry", callable(compat.stop_telemetry), "dlt would tell of its users")


@pytest.mark.parametrize("path", sorted(set(FOLDER.glob("*.py")) - {FOLDER / "compat.py"}), ids=lambda path: path.name)
def test_private_names_are_used_in_one_module_alone(path: Path) -> None:
    tree = ast.parse(path.read_text())
    private = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
        if not (isinstance(node.value, ast.Name) and node.value.id == "self")
    ]
    assert private == [], f"{path.name} uses private names; those of dlt belong to compat.py"
