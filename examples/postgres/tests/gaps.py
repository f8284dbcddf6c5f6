"""What PostgreSQL does not do, or not as the other warehouses do it: for `ENTREPOT_GAPS=gaps:POSTGRES`."""

from __future__ import annotations

from typing import Any

from entrepot.errors import BadInput
from ibis.common.exceptions import IbisError
from tests.conformance.gaps import Gap, Kind


def _gap(kind: Kind, reason: str, *cases: str, raises: Any = Exception) -> Gap:
    return Gap("postgres", kind, reason, cases, raises)


POSTGRES: tuple[Gap, ...] = (
    _gap(
        "never",
        "structs and maps: it has types of rows by name only, and JSON",
        "types/struct*",
        "types/array_of_structs-*",
        "types/map-*",
        "operations/nested-struct_field",
        "operations/nested-struct_lift",
        "operations/nested-map_*",
        raises=BadInput,
    ),
    _gap("never", "its smallest whole number has 16 bits", "operations/cast-narrow_fails", raises=AssertionError),
    _gap(
        "notyet",
        "ibis takes try_cast for a cast, and that fails",
        "operations/cast-try_cast_*",
        "operations/hard-try_cast_text_rounds",
        "operations/hard-try_cast_text_with_exponent",
        "operations/hard-try_cast_words",
        "operations/hard-try_cast_nothing",
    ),
    _gap(
        "notyet",
        "ibis counts whole days and hours between timestamps, and elsewhere those that begin between them",
        "operations/time-days_between_timestamps",
        "operations/time-hours_between",
        "operations/hard-days_between_in_a_zone",
        "operations/hard-weeks_between*",
        "operations/hard-months_between",
        raises=AssertionError,
    ),
    _gap(
        "notyet",
        "how far to shift, and how many letters to take, it asks in 32 bits",
        "operations/hard-shift_*_by_a_column",
        "operations/hard-right_of_a_column",
    ),
    _gap(
        "notyet",
        "in its patterns a dot is a new line, too",
        "operations/hard-search_dot_is_no_new_line",
        raises=AssertionError,
    ),
    _gap(
        "notimpl",
        "a NUMERIC without limits, such as a product, gets nine places",
        "operations/hard-product_of_decimals",
        "operations/hard-product_of_more_than_twelve_places",
        "operations/hard-product_of_united_products",
        "operations/hard-decimal_written_down",
        raises=AssertionError,
    ),
    _gap("notyet", "ibis makes no timestamp of seconds", "operations/time-from_epoch", raises=IbisError),
    _gap("notyet", "levenshtein is an extension (fuzzystrmatch)", "operations/string-levenshtein"),
    _gap(
        "notyet",
        "ibis unnests by way of JSON, and texts keep its quotes",
        "operations/reshape-pivot_longer",
        raises=AssertionError,
    ),
)
