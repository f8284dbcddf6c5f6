"""What a backend does not do, and why. Each gap is a strict expectation: what works although it is a gap, fails."""

from __future__ import annotations

import fnmatch
import importlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ibis.common.exceptions import IbisError

from entrepot.errors import BadInput

Kind = Literal["notimpl", "notyet", "never", "standin", "live"]

KINDS: dict[Kind, str] = {
    "notimpl": "not implemented (ours)",
    "notyet": "not yet (engine)",
    "never": "never",
    "standin": "works on the real one, not on the stand-in",
    "live": "works on the stand-in, not on the real one",
}


@dataclass(frozen=True)
class Gap:
    """Cases that fail on one backend for one reason."""

    backend: str
    kind: Kind
    """`notimpl`: ours to do. `notyet`: the engine or ibis cannot, and might some day. `never`: it makes no sense there.
    `standin`: the real warehouse does it according to its documentation, and the stand-in does not. `live`: the other
    way round, where a driver should refuse what the warehouse will."""
    reason: str
    cases: tuple[str, ...]
    """Their ids, `area/case`; `*` stands for any text."""
    raises: type[Exception] | tuple[type[Exception], ...] = Exception
    """What the case must fail with, where that is part of the promise."""

    def covers(self, case: str) -> bool:
        """Whether a case is one of these."""
        return any(fnmatch.fnmatchcase(case, pattern) for pattern in self.cases)


def _of(backend: str) -> Callable[..., Gap]:
    def gap(kind: Kind, reason: str, *cases: str, raises: Any = Exception) -> Gap:
        return Gap(backend, kind, reason, cases, raises)

    return gap


_duckdb = _of("duckdb")
_snowflake = _of("snowflake")
_bigquery = _of("bigquery")
_databricks = _of("databricks")

GAPS: tuple[Gap, ...] = (
    # Snowflake
    _snowflake("never", "its decimals have 37 places at most", "types/decimal_38_38-*", raises=BadInput),
    _snowflake("never", "it has one type for whole numbers of any size", "operations/cast-narrow_fails"),
    _snowflake(
        "never",
        "names in capitals and in small letters are one name, and are listed in small letters",
        "names/capitals-table",
        raises=AssertionError,
    ),
    _snowflake(
        "standin",
        "quotes and dots within the names of schemas and tables",
        "names/quotes-table",
        "names/quotes-schema",
        "names/dots-schema",
    ),
    _snowflake("standin", "ASOF JOIN", "operations/join-asof"),
    _snowflake("standin", "how many bytes a table has", "lifecycle/bytes_of", raises=AssertionError),
    _snowflake(
        "standin",
        "FLATTEN, lambda functions, and functions over arrays",
        "operations/reshape-pivot_longer",
        "operations/nested-array_contains",
        "operations/nested-array_unnest*",
        "operations/nested-array_sort",
        "operations/nested-array_join",
        "operations/nested-array_map",
        "operations/nested-array_filter",
        "operations/aggregate-first_last",
    ),
    _snowflake(
        "standin",
        "a VARIANT that is cast to VARCHAR keeps the quotes of its JSON",
        "operations/string-split",
        "operations/nested-struct_field",
        raises=AssertionError,
    ),
    _snowflake("standin", "a text that is cast to VARIANT is read as JSON", "operations/nested-map_contains"),
    _snowflake(
        "standin",
        "DATE_TRUNC and TIMESTAMPADD of a DATE give a TIMESTAMP, and not a DATE",
        "operations/time-truncate_date_*",
        "operations/time-add_days",
        "operations/time-subtract_days",
        "operations/time-add_a_*",
        "operations/time-group_by_month",
        raises=AssertionError,
    ),
    _snowflake(
        "never",
        "a float's text has fewer digits than the float: round it, and cast it to a decimal first",
        "operations/hard-float_to_text",
        raises=IbisError,
    ),
    _snowflake(
        "standin",
        "a quotient of whole numbers is exact to six digits; DuckDB makes a DOUBLE of it",
        "operations/hard-floor_divide_beyond_doubles*",
        raises=AssertionError,
    ),
    # BigQuery
    _bigquery("never", "maps", "operations/nested-map_*", "types/map-*", raises=BadInput),
    _bigquery("never", "an array cannot hold NULL", "types/array_with_null-*"),
    _bigquery("never", "an array that is NULL is kept as an empty one", "types/array_or_null-*", raises=AssertionError),
    _bigquery(
        "never",
        "these signs cannot be in a column's name",
        "names/dollar-column",
        "names/quotes-column",
        "names/backticks-column",
        "names/dots-column",
        "names/signs-column",
        raises=BadInput,
    ),
    _bigquery(
        "never",
        "names of tables have letters, digits, spaces, dashes and `_` only",
        "names/emoji-table",
        "names/dollar-table",
        "names/quotes-table",
        "names/backticks-table",
        "names/dots-table",
        "names/signs-table",
        raises=BadInput,
    ),
    _bigquery(
        "never",
        "names of datasets have letters without accents, digits and `_` only",
        "names/spaces-schema",
        "names/spaces_around-schema",
        "names/unicode-schema",
        "names/emoji-schema",
        "names/dollar-schema",
        "names/quotes-schema",
        "names/backticks-schema",
        "names/dots-schema",
        "names/signs-schema",
        raises=BadInput,
    ),
    _bigquery("never", "it has one type for whole numbers of any size", "operations/cast-narrow_fails"),
    _bigquery(
        "notyet",
        "ibis has no exact median, quantile and mode: use approx_median and approx_quantile",
        "operations/aggregate-median*",
        "operations/aggregate-quantile",
        "operations/aggregate-mode",
        "operations/hard-median_of_*",
        "operations/hard-quantile_of_decimals",
        raises=IbisError,
    ),
    _bigquery(
        "never",
        "a float's text has its exponent elsewhere: round it, and cast it to a decimal first",
        "operations/hard-float_to_text",
        raises=IbisError,
    ),
    _bigquery("standin", "spaces around a column's name", "names/spaces_around-column"),
    _bigquery("standin", "TABLESAMPLE", "lifecycle/block_sample"),
    _bigquery("standin", "ORDER BY ... NULLS LAST", "operations/order-limit_keeps_nulls_last", raises=AssertionError),
    _bigquery("standin", "UNNEST of an array of STRUCTs beside a table", "operations/reshape-pivot_longer"),
    _bigquery(
        "standin",
        "BIGNUMERIC has 38 digits, 18 of them places",
        "types/decimal_38_0-*",
        "types/decimal_38_37-*",
        "types/decimal_38_38-*",
    ),
    _bigquery(
        "standin",
        "CAST of a STRING to BYTES with a FORMAT, which labels that are texts pass through",
        "scoring/logistic_text",
    ),
    # Databricks
    _databricks("never", "times of day", "types/time-*", "operations/time-time_of_a_timestamp"),
    _databricks(
        "never",
        "names of tables are kept in small letters",
        "names/mixed_case-table",
        "names/capitals-table",
        "names/unicode-table",
        raises=AssertionError,
    ),
    _databricks("notyet", "ibis has no asof join there", "operations/join-asof", raises=IbisError),
    _databricks(
        "notyet",
        "ibis has no aggregates that depend on an order there",
        "operations/aggregate-first_last",
        "operations/aggregate-group_concat",
        "operations/aggregate-collect",
        raises=IbisError,
    ),
    _databricks(
        "notyet", "ibis makes no timestamp of its parts", "operations/time-timestamp_from_parts", raises=IbisError
    ),
    _databricks(
        "never",
        "a float's text is as Java writes it: round it, and cast it to a decimal first",
        "operations/hard-float_to_text",
        raises=IbisError,
    ),
    _databricks(
        "never",
        "a product whose factors may have more than 38 digits together is rounded to as few as six places: cast them "
        "to decimals of fewer digits first",
        "operations/hard-product_of_decimals",
        "operations/hard-product_of_more_than_twelve_places",
        "operations/hard-product_of_united_products",
        "operations/hard-product_of_a_sum",
        raises=IbisError,
    ),
    _databricks("standin", "VARIANT and parse_json: Spark 3.5 has neither", "types/json-*", "operations/nested-json_*"),
    _databricks(
        "never",
        "names of schemas and tables have no spaces, dots and slashes",
        "names/spaces-schema",
        "names/spaces_around-schema",
        "names/dots-schema",
        "names/spaces-table",
        "names/spaces_around-table",
        "names/dots-table",
        "names/signs-table",
        raises=BadInput,
    ),
)


def every() -> Sequence[Gap]:
    """The gaps that are known here, and those that `ENTREPOT_GAPS` names."""
    given = os.environ.get("ENTREPOT_GAPS")
    if not given:
        return GAPS
    module, _, name = given.partition(":")
    return (*GAPS, *getattr(importlib.import_module(module), name))


def gap_of(gaps: Iterable[Gap], backend: str, case: str, *, live: bool | None) -> Gap | None:
    """The gap that a case falls into on a backend, if any. `live`: on a real account, on a stand-in, or on either."""
    other = {True: "standin", False: "live", None: None}[live]
    for gap in gaps:
        if gap.backend == backend and gap.covers(case) and gap.kind != other:
            return gap
    return None


def id_of(item: Any) -> str:
    """The id of a test's case: its module, then its parameter and what is done with it, or the function's name."""
    parameters = item.callspec.params
    what = item.originalname.removeprefix("test_")
    if "case" in parameters:
        case = parameters["case"].id
        return f"{area_of(item.path)}/{case}" + (f"-{what}" if item.cls is not None else "")
    return "-".join([f"{area_of(item.path)}/{what}", *(str(v) for k, v in parameters.items() if k != "target")])


def area_of(path: Path) -> str:
    """The first part of a case's id."""
    return path.stem.removeprefix("test_")
