"""What operations mean that ibis leaves to each warehouse: rows of `docs/backends.md`.

Each is held by cases of `tests.conformance.operations`, whose ids begin as the row says.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Meaning:
    """One sentence about one operation."""

    operation: str
    says: str
    cases: tuple[str, ...]
    """The cases that hold it; `*` stands for any text."""


MEANINGS: tuple[Meaning, ...] = (
    Meaning(
        "a float, a decimal or a text cast to a whole number",
        "rounds, and halves away from zero, as `round()` does: 2.5 is 3, -2.5 is -3, `'12.5'` is 13. What is no number "
        "fails, and is NULL of `try_cast`. Snowflake's `try_cast` is refused for all but texts",
        ("hard-float_*to_whole", "hard-decimal_to_*", "hard-*text_to_whole*", "hard-try_cast_*"),
    ),
    Meaning(
        "`//`",
        "rounds down, as in Python: -7 // 2 is -4. Whole numbers and decimals are exact, floats are divided as such. "
        "By the whole number 0 it fails",
        ("hard-floor_divide*",),
    ),
    Meaning(
        "`%`",
        "has the sign of what is divided, as in SQL and unlike Python: -7 % 2 is -1. By the whole number 0 it fails",
        ("hard-modulo*",),
    ),
    Meaning(
        "`/`",
        "is a float64. By 0 it is infinite, and NaN of 0 / 0",
        ("number-divide_*",),
    ),
    Meaning(
        "`>>` and `<<`",
        "keep the sign: -7 >> 1 is -4, -7 << 2 is -28",
        ("hard-shift_*", "hard-bits_*"),
    ),
    Meaning(
        "`greatest`, `least`, `clip`",
        "leave out NULL, and are NULL where there is nothing else. NaN is more than all numbers",
        ("hard-greatest*", "hard-least*", "hard-clip_*"),
    ),
    Meaning(
        "logarithms and roots",
        "of 0, a logarithm is minus infinity; of negative numbers, both are NaN",
        ("hard-ln_*", "hard-log*", "hard-root_*"),
    ),
    Meaning(
        "mean, median, quantile and deviation of decimals",
        "are a float64, as those of whole numbers are; a sum of decimals is a decimal",
        ("hard-mean_*", "hard-median_*", "hard-quantile_*", "hard-deviation_*", "aggregate-sum_of_decimals"),
    ),
    Meaning(
        "`*`, `+` and `-` of decimals",
        "are exact: a product has the places of both factors. What has no room for its digits fails; on DuckDB, a "
        "product of factors of up to 18 digits has 18. A product that Databricks would round, since its factors may "
        "have more than 38 digits together, is refused there: cast them to decimals of fewer",
        ("hard-product_*", "hard-sum_of_decimals_*", "hard-difference_of_decimals_*", "tpch-*"),
    ),
    Meaning(
        "a decimal that is written down",
        "has its own digits: `Decimal('0.0125')` has four places. A cast to `decimal` without digits is one to "
        "decimal(38, 9)",
        ("hard-decimal_written_down*", "hard-decimal_without_digits"),
    ),
    Meaning(
        "an element of an array",
        "counts from 0, and from the end if the index is negative. NULL where there is none",
        ("hard-array_index_*",),
    ),
    Meaning("`hash`", "is refused: every warehouse has another function", ("hard-hash_*",)),
    Meaning(
        "a float cast to a text",
        "is the shortest that is read as the same float, on DuckDB. Elsewhere it is refused: cast it to a decimal "
        "first",
        ("hard-float_to_text",),
    ),
    Meaning(
        "`re_search`, `re_extract`, `re_replace`",
        "find the pattern anywhere in the text. `.` is any sign but a new line. What `re_replace` puts in is written "
        "down: `\\0` is all that was found, `\\1` the first group, `\\\\` a backslash, and `$` itself. `re_extract` of "
        "a group that is not there is empty",
        ("hard-search_*", "hard-replace_*", "hard-extract_*"),
    ),
    Meaning(
        "`like`, `ilike`",
        "have `%` and `_`. A backslash is a backslash, so neither can be escaped: use `contains`",
        ("hard-like_*",),
    ),
    Meaning("`left`, `right`", "of 0 letters are empty", ("hard-left_*", "hard-right_*")),
    Meaning(
        "`upper`, `lower`",
        "change letters one for one: ß becomes ẞ, and Σ is σ at the end of a word, too. What has no capital of one "
        "letter, such as ﬁ, is as the warehouse has it",
        ("hard-upper_*", "hard-lower_*"),
    ),
    Meaning(
        "parts, `date`, `time`, `truncate`, `strftime` of a timestamp in a zone",
        "are what clocks there show: `ts.cast(\"timestamp('Europe/Rome')\").hour()`. So is its cast to a date or to a "
        "timestamp without zone, and days, weeks, months and years between two. A column of a table is in UTC",
        ("hard-*_in_a_zone", "hard-truncate_to_an_hour_*"),
    ),
    Meaning(
        "a timestamp without zone",
        "is UTC where a point in time is asked for. Its cast to another zone is refused: some times come twice there, "
        "and some never",
        ("hard-a_clock_is_no_point_in_time", "zone-from_utc_without_zone"),
    ),
    Meaning(
        "`epoch_seconds`",
        "are the whole seconds that have passed, an int64: half a second before 1970 it is -1",
        ("hard-epoch_seconds*",),
    ),
    Meaning(
        "`delta`",
        "counts the borders between units that lie between, as SQL's DATEDIFF does; weeks begin on Mondays",
        ("hard-weeks_*", "hard-months_*", "hard-hours_*", "time-days_between*", "time-hours_between"),
    ),
    Meaning(
        "a timestamp cast to a text",
        "is `2024-01-31 23:59:59.9`: no zeros at the end of the fraction, and no point without one. In UTC, `+00` "
        "follows; in other zones it is refused",
        ("hard-timestamp_to_text", "hard-point_in_time_to_text", "hard-a_text_in_a_zone_*"),
    ),
    Meaning(
        "`strftime`",
        "knows `%Y %y %m %d %j %H %I %M %S %f %p %a %A %b %B %G %V %u %%`, and `%-d` and its like without zeros in "
        "front. Names are English. Other codes are refused",
        ("hard-strftime_*",),
    ),
)
