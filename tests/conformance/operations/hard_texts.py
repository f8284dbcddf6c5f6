"""The hard values of texts: what `docs/backends.md` says that operations mean which ibis leaves to each warehouse."""

from __future__ import annotations

import re
from collections.abc import Callable

import ibis

from tests.conformance.cases import Case, group
from tests.conformance.operations.hard import each, one, texts


def _like(pattern: str, *, ignoring: bool = False) -> Callable[[str], bool]:
    """LIKE in which a backslash is a backslash."""
    signs = {"%": ".*", "_": "."}
    made = re.compile("".join(signs.get(c, re.escape(c)) for c in pattern), re.DOTALL | (re.I if ignoring else 0))
    return lambda text: made.fullmatch(text) is not None


def _replaced(id: str, pattern: str, text: str) -> Case:
    python = re.sub(r"\\(\d)", r"\\g<\1>", text)  # in Python, a digit may belong to the group's number
    return Case(f"replace_{id}", *texts(lambda s: s.re_replace(pattern, text), lambda s: re.sub(pattern, python, s)))


def _extracted(id: str, pattern: str, number: int) -> Case:
    def python(text: str) -> str:
        found = re.search(pattern, text)
        return (found[number] or "") if found else ""

    return Case(f"extract_{id}", *texts(lambda s: s.re_extract(pattern, number), python))


def _matched(id: str, pattern: str, *, ignoring: bool = False) -> Case:
    return Case(
        f"like_{id}",
        *texts(lambda s: s.ilike(pattern) if ignoring else s.like(pattern), _like(pattern, ignoring=ignoring)),
    )


HARD_TEXTS = group(
    "hard",
    "Hard values of texts",
    [
        # Snowflake's REGEXP_LIKE is about the whole text.
        Case("search_alternatives", *texts(lambda s: s.re_search("a|z"), lambda s: bool(re.search("a|z", s)))),
        Case(
            "search_anchored_alternatives",
            *texts(lambda s: s.re_search("^b|d$"), lambda s: bool(re.search("^b|d$", s))),
        ),
        Case("search_after_a_line", *texts(lambda s: s.re_search("ed"), lambda s: "ed" in s)),
        Case("search_dot_is_no_new_line", *texts(lambda s: s.re_search("line.zed"), lambda s: False)),
        Case("search_ignoring_case", *texts(lambda s: s.re_search("(?i)A"), lambda s: "a" in s.lower())),
        Case("search_a_backslash", *texts(lambda s: s.re_search(r"\\"), lambda s: "\\" in s)),
        Case(
            "search_by_a_column",
            *texts(lambda s: ibis.literal("za|b").re_search(s.substr(0, 1)), lambda s: s[0] in "za|b"),
        ),
        # Databricks writes a group as `$1`. Snowflake's documentation has no group 0; its stand-in has.
        _replaced("with_groups", r"([a-z])(\d)", r"\2\1"),
        _replaced("with_all_of_it", r"[a-z]", r"<\0>"),
        _replaced("with_all_of_it_and_a_group", r"([a-z])(\d)", r"\0-\2"),
        _replaced("with_a_digit_after_a_group", r"([a-z])(\d)", r"\1" + "0"),
        _replaced("with_a_dollar", r"\d", "$1"),
        _replaced("with_a_backslash", "a", "\\\\"),
        _replaced("with_alternatives", "a|z", "-"),
        _extracted("a_group", "(a|z)(.)", 2),
        _extracted("all_of_it", r"\d+", 0),
        _extracted("alternatives", "b|z", 0),
        _extracted("after_a_line", "(z)e", 1),
        _extracted("a_group_of_an_alternative", "(n)|(z)", 2),
        # To BigQuery and Databricks a backslash takes the next sign's meaning away.
        _matched("a_backslash", "a\\z"),
        _matched("two_backslashes", "a\\\\z"),
        _matched("a_backslash_before_percent", "50\\%%"),
        _matched("a_backslash_in_the_middle", "%\\%"),
        _matched("a_backslash_before_an_underscore", "50%\\_x"),
        _matched("a_backslash_ignoring_case", "A\\Z", ignoring=True),
        _matched("over_lines", "line%d"),
        Case("like_of_a_column", *texts(lambda s: ibis.literal("a\\z").like(s), lambda s: s == "a\\z")),
        Case("right_nothing", *texts(lambda s: s.right(0), lambda s: "")),
        Case("right_more_than_there_is", *texts(lambda s: s.right(50), lambda s: s)),
        Case(
            "right_of_a_column",
            *each("s", lambda h: h.s.right(h.id % 4), lambda r: r.s[-(r.id % 4) :] if r.id % 4 else ""),
        ),
        Case("left_nothing", *texts(lambda s: s.left(0), lambda s: "")),
        # Databricks writes SS for ß, and so does BigQuery's stand-in. What Snowflake writes is not documented.
        Case("upper_beyond_ascii", *texts(lambda s: s.upper(), lambda s: s.replace("ß", "ẞ").upper())),
        Case("upper_of_other_alphabets", *one(lambda h: (h.s + "éœøñ çλж").upper(), "AÉŒØÑ ÇΛЖ")),
        Case("lower_beyond_ascii", *texts(lambda s: s.lower(), str.lower)),
        Case("lower_of_other_alphabets", *one(lambda h: (h.s + "ÉŒØÑ ÇΛЖ ẞ").lower(), "aéœøñ çλж ß")),
        Case("lower_of_a_last_sigma", *one(lambda h: (h.s + "ΑΣ").lower(), "aασ")),
        Case("lower_of_a_dotted_i", *one(lambda h: (h.s + "İ").lower(), "ai")),
    ],
)
