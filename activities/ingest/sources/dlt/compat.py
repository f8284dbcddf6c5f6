"""What dlt does not promise to keep, and Entrepot needs: names of dlt's inner parts stand here and nowhere else.

Each has a test of its own (`test_compat.py`) that says what breaks without it, so that a new dlt is tried in a minute.
The other modules of this folder use what dlt documents: resources, sources, `incremental`, `apply_hints`, `add_step`,
`@dlt.destination`, a pipeline's packages and state, its settings, and its errors.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Self

from dlt.common.configuration.container import Container
from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext
from dlt.common.configuration.utils import TraceLogContext
from dlt.common.data_writers.writers import TypedJsonlListWriter
from dlt.common.json import DECODERS, PUA_START
from dlt.common.jsonpath import find_values
from dlt.common.normalizers.json import relational
from dlt.common.normalizers.json.helpers import get_row_hash
from dlt.common.normalizers.utils import DLT_ID_LENGTH_BYTES
from dlt.common.runtime.run_context import RunContext
from dlt.common.runtime.telemetry import stop_telemetry
from dlt.common.schema.utils import normalize_table_identifiers
from dlt.common.utils import digest128
from dlt.common.versioned_state import json_decode_state, json_encode_state
from dlt.extract import DltResource, decorators, hints
from dlt.extract.extract import data_to_sources
from dlt.extract.incremental import Incremental, IncrementalResourceWrapper
from dlt.extract.items_transform import BaseItemTransform, ItemTransform
from dlt.extract.pipe import Pipe
from dlt.extract.utils import wrap_iterator

__all__ = [
    "DLT_ID_LENGTH_BYTES", "RowNormalizer", "RunContext", "Step", "data_to_sources", "digest128", "find_values",
    "get_row_hash", "json_decode_state", "json_encode_state", "normalize_table_identifiers", "stop_telemetry",
]  # fmt: skip

Row = dict[str, Any]


# Resources: a resource does not show what its rows come from, nor the steps that they take.


def generator_of(resource: DltResource) -> Any:
    """What a resource's rows come from: a function until dlt evaluates it, then an iterator."""
    return resource._pipe.gen


def source_id(resource: DltResource) -> int:
    """The same for all resources that are one source of rows."""
    return id(resource._pipe)


def cursor_of(resource: DltResource) -> Incremental[Any] | None:
    """A resource's cursor, once dlt knows it."""
    return _cursor_in(resource._pipe)


def parents_cursor(resource: DltResource) -> Incremental[Any] | None:
    """The cursor of the resource from which a transformer gets what it transforms."""
    pipe = resource._pipe.parent
    while pipe is not None:
        if found := _cursor_in(pipe):
            return found
        pipe = pipe.parent
    return None


def _cursor_in(pipe: Pipe) -> Incremental[Any] | None:
    step: Any = pipe.get_by_type(Incremental, IncrementalResourceWrapper)
    found = step.incremental if isinstance(step, IncrementalResourceWrapper) else step
    return None if found is None or found is Incremental.EMPTY else found


def cursor_parameter(resource: DltResource) -> inspect.Parameter | None:
    """The parameter of a resource's function that takes its cursor."""
    function = generator_of(resource)
    if not callable(function):
        return None
    return IncrementalResourceWrapper.get_incremental_arg(inspect.signature(inspect.unwrap(function)))


class Step(ItemTransform[Any, Any]):
    """A step that each item of a resource takes: called with it, it returns what goes on.

    dlt places steps by their affinity: those of users have 0, and its cursor has 1.
    """

    placement_affinity: ClassVar[float] = 0

    def __init__(self, resource: DltResource) -> None:
        BaseItemTransform.__init__(self)
        self.resource = resource
        self._generator: Any = None

    def add(self) -> None:
        """Adds it to its resource, in the place of one of its kind from an extraction before."""
        self.resource._pipe.remove_by_type(type(self))
        self.resource.add_step(self)

    def bind(self, pipe: Any) -> Self:
        """dlt calls it when it has evaluated the resource."""
        if isinstance(pipe.gen, Iterator):
            pipe.replace_gen(wrap_iterator(pipe.gen))
        self._generator = pipe.gen
        return self

    def close(self) -> None:
        """Ends the resource: it is asked for no more items."""
        if inspect.isgenerator(self._generator):
            self._generator.close()


# Write dispositions: dlt writes "append" where nothing was said, and what was said cannot be told from it afterwards.


class Unsaid(str):
    """The write disposition of a resource for which the user gave none."""


def mark_unsaid_dispositions() -> None:
    """Has dlt write `Unsaid` where a resource says nothing."""
    for module in (decorators, hints):
        setattr(module, "DEFAULT_WRITE_DISPOSITION", Unsaid("append"))  # noqa: B010


def has_variants(resource: DltResource) -> bool:
    """Whether some of a resource's items go to tables with hints of their own."""
    return bool(resource._hints_variants)


def is_unsaid(resource: DltResource, variant: str) -> bool:
    """Whether a resource, or its variant of this name, says nothing of how its rows are written."""
    hints: Any = resource._hints_variants.get(variant)
    given = hints.get("write_disposition") if hints else resource.write_disposition
    return given is None or isinstance(given, Unsaid)


# Rows on their way: between its steps dlt keeps them as JSON, which has no NaN and no infinity.

_FLOAT = chr(PUA_START + len(DECODERS))
"""How dlt would mark a text that is a float; it has marks for other types only."""

_WRITE = TypedJsonlListWriter.write_data


def keep_all_floats() -> None:
    """Has dlt write floats that are no numbers as one of its marked texts."""
    DECODERS.append(float)
    TypedJsonlListWriter.write_data = _write_marked  # type: ignore[method-assign]


def _write_marked(self: TypedJsonlListWriter, items: Sequence[Any]) -> None:
    _WRITE(self, _marked(items))


def _marked(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else f"{_FLOAT}{value!r}"
    if isinstance(value, dict):
        changed = {key: made for key, each in value.items() if (made := _marked(each)) is not each}
        return {**value, **changed} if changed else value
    if isinstance(value, list | tuple):
        made = [_marked(each) for each in value]
        return made if any(new is not old for new, old in zip(made, value, strict=True)) else value
    return value


# The normalizer, which takes nested rows apart. dlt finds one by the name of its module; its hooks are private.


class RowNormalizer(relational.DataItemNormalizer):
    """dlt's own, in which every nested row knows its root, with public hooks."""

    def _reset(self) -> None:
        super()._reset()
        # Not by a setting: where a user calls a column the row's key, dlt would take the root's id from there.
        root: Any = {self.c_dlt_id: self.c_dlt_root_id}
        self.propagation_config: Any = {"root": root}
        self._get_propagation_mapping = lru_cache(maxsize=None)(lambda table, is_root: root if is_root else {})
        self.begin()

    def _flatten(self, table: str, dict_row: Row, _r_lvl: int) -> tuple[Row, dict[tuple[str, ...], Sequence[Any]]]:
        self.check(table, dict_row, _r_lvl)
        row, lists = super()._flatten(table, dict_row, _r_lvl)
        self.has_lists = bool(lists)
        return row, lists

    def _add_row_id(
        self, table: str, dict_row: Row, flattened_row: Row, parent_row_id: str, pos: int, is_root: bool
    ) -> str:
        if not is_root:
            return super()._add_row_id(table, dict_row, flattened_row, parent_row_id, pos, is_root)
        row_id = self.root_id(table, dict_row, flattened_row)
        flattened_row[self.c_dlt_id] = row_id
        return row_id

    has_lists = False
    """Whether the row that was flattened last has nested rows."""

    def begin(self) -> None:
        """Called before the first row of a schema."""

    def check(self, table: str, row: Row, level: int) -> None:
        """Called with each row, before it is taken apart."""

    def root_id(self, table: str, row: Row, flattened: Row) -> str:
        """The id of a root row."""
        raise NotImplementedError

    def name_of(self, key: str) -> str:
        """A key as the name of a column."""
        return self._normalize_identifier(key) if key.strip() else self.EMPTY_KEY_IDENTIFIER

    def is_kept_whole(self, table: str, path: tuple[str, ...], level: int) -> bool:
        """Whether a nested object is one value of type JSON, and is not taken apart."""
        return self._is_nested_type(table, self._shorten_fragments(*path), level)

    def primary_key(self, table: str) -> list[str]:
        """The columns of a table's primary key."""
        return self._get_primary_key(table)


# The run context: what dlt asks for settings, and where it writes. Its container is the only way to give it another.


def run_context() -> RunContext | None:
    """The one in place, if there is one already."""
    container = Container()
    context = container[PluggableRunContext].context if PluggableRunContext in container else None
    return context if isinstance(context, RunContext) else None


def keep_no_traces() -> None:
    """Has dlt not note where each of its settings came from: a thousand notes a load, with values that may be secret,
    for traces that we switch off; and what clears the notes is switched off with them."""
    TraceLogContext.logging_enabled = False


def use_run_context(make: Callable[[], RunContext]) -> None:
    """Puts another in its place."""
    Container()[PluggableRunContext] = PluggableRunContext(make())
