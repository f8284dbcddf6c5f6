"""Strings."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import ibis
from ibis import _

from tests.conformance.cases import Case, group
from tests.conformance.operations.tables import TEXTS
from tests.conformance.values import Row


def _each(build: Callable[[Any], Any], python: Callable[[str], Any]) -> tuple[Callable[[Any], ibis.Table], list[Row]]:
    """An expression over every text, and what Python makes of each."""
    return (
        lambda t: t.texts.select("id", v=build(t.texts.s)),
        [(row.id, None if row.s is None else python(row.s)) for row in TEXTS],
    )


STRINGS = group(
    "string",
    "Strings",
    [
        Case("upper", *_each(lambda s: s.re_replace("ß", "").upper(), lambda s: s.replace("ß", "").upper())),
        Case("lower", *_each(lambda s: s.lower(), str.lower)),
        Case(
            "capitalize",
            lambda t: t.people.filter(_.id == 1).select(v=ibis.literal("aBC dEF").capitalize()),
            [("Abc def",)],
        ),
        Case("length", *_each(lambda s: s.length(), len)),
        Case("strip", *_each(lambda s: s.strip(), str.strip)),
        Case("lstrip", *_each(lambda s: s.lstrip(), str.lstrip)),
        Case("rstrip", *_each(lambda s: s.rstrip(), str.rstrip)),
        Case("reverse", lambda t: t.people.filter(_.id < 3).select(v=_.name.reverse()), [("adA",), ("ecarG",)]),
        Case("contains", *_each(lambda s: s.contains("b"), lambda s: "b" in s)),
        Case("contains_percent", *_each(lambda s: s.contains("%"), lambda s: "%" in s)),
        Case("contains_underscore", *_each(lambda s: s.contains("a_"), lambda s: "a_" in s)),
        Case("contains_quote", *_each(lambda s: s.contains("'s \""), lambda s: "'s \"" in s)),
        Case("contains_backslash", *_each(lambda s: s.contains("\\"), lambda s: "\\" in s)),
        Case("like", *_each(lambda s: s.like("%o%"), lambda s: "o" in s)),
        Case("ilike", *_each(lambda s: s.ilike("HELLO%"), lambda s: s.startswith("Hello"))),
        Case("startswith", *_each(lambda s: s.startswith("a"), lambda s: s.startswith("a"))),
        Case("endswith", *_each(lambda s: s.endswith("d"), lambda s: s.endswith("d"))),
        Case("substr", *_each(lambda s: s.substr(1, 3), lambda s: s[1:4])),
        Case("substr_to_the_end", *_each(lambda s: s.substr(2), lambda s: s[2:])),
        Case("left", *_each(lambda s: s.left(2), lambda s: s[:2])),
        Case(
            "right",
            lambda t: t.people.select(v=_.name.right(2)),
            [("da",), ("ce",), ("er",), ("ra",), ("ld",), ("sz",)],
        ),
        Case("slice", lambda t: t.people.filter(_.id < 3).select(v=_.name[1:3]), [("da",), ("ra",)]),
        Case("find", *_each(lambda s: s.find("b"), lambda s: s.find("b"))),
        Case("replace", *_each(lambda s: s.replace("a", "<>"), lambda s: s.replace("a", "<>"))),
        Case("translate", lambda t: t.people.filter(_.id == 1).select(v=_.name.translate("Ad", "Xy")), [("Xya",)]),
        Case("lpad", lambda t: t.people.filter(_.id < 3).select(v=_.name.lpad(5, "*")), [("**Ada",), ("Grace",)]),
        Case("rpad", lambda t: t.people.filter(_.id < 3).select(v=_.name.rpad(5, "*")), [("Ada**",), ("Grace",)]),
        Case("repeat", lambda t: t.people.filter(_.id == 1).select(v=_.name.repeat(3)), [("AdaAdaAda",)]),
        Case("concat", *_each(lambda s: s + "|" + s, lambda s: f"{s}|{s}")),
        Case("concat_with_null", lambda t: t.people.filter(_.id == 5).select(v=_.name + _.team), [(None,)]),
        Case(
            "join",
            lambda t: t.people.filter(_.id == 1).select(v=ibis.literal("-").join([t.people.name, t.people.team])),
            [("Ada-red",)],
        ),
        Case(
            "split",
            lambda t: t.texts.filter(_.id == 9).select(
                a=_.s.split(",")[0], b=_.s.split(",")[2], n=_.s.split(",").length()
            ),
            [("a", "", 4)],
        ),
        Case(
            "re_search",
            *_each(
                lambda s: s.re_search(r"[a-z]{4,}"),
                lambda s: any(w in s for w in ("Hello", "quoted", "padded", "line", "back", "World")),
            ),
        ),
        Case("re_replace", *_each(lambda s: s.re_replace(r"[aeiou]+", "_"), lambda s: re.sub(r"[aeiou]+", "_", s))),
        Case("re_extract", lambda t: t.texts.filter(_.id == 6).select(v=_.s.re_extract(r"(\d+)%", 1)), [("100",)]),
        Case(
            "re_extract_without_match_is_empty",
            lambda t: t.texts.filter(_.id.isin([1, 2, 3])).select("id", v=_.s.re_extract(r"(\d+)%", 1)),
            [(1, ""), (2, ""), (3, None)],
        ),
        Case(
            "re_extract_group",
            lambda t: t.texts.filter(_.id == 1).select(v=_.s.re_extract(r"(\w+), (\w+)", 2)),
            [("World",)],
        ),
        Case("re_digit_class", *_each(lambda s: s.re_search(r"\d"), lambda s: any(c.isdigit() for c in s))),
        Case(
            "equality_is_exact",
            lambda t: t.texts.filter(
                (_.s == "hello, world") | (_.s == "äöß") | (_.s == "padded") | (_.s == "é")
            ).select("id"),
            [],
        ),
        Case(
            "equality_of_unicode",
            lambda t: t.texts.filter(_.s.isin(["👩‍🚀🎉", "שלום עולם", "e\u0301"])).select("id"),
            [(5,), (11,), (12,)],
        ),
        Case("empty_is_not_null", lambda t: t.texts.filter(_.s == "").select("id", n=_.s.isnull()), [(2, False)]),
        Case(
            "literals_with_everything",
            lambda t: t.wide.filter(_.id == 1).select(
                a=ibis.literal('it\'s "q" \\n %s {} $1 --;'),
                b=ibis.literal("a\nb\tc"),
                c=ibis.literal("👩‍🚀"),
                d=ibis.literal(""),
            ),
            [('it\'s "q" \\n %s {} $1 --;', "a\nb\tc", "👩‍🚀", "")],
        ),
        Case("compare", *_each(lambda s: s < "b", lambda s: s < "b")),
        Case("ascii_str", lambda t: t.people.filter(_.id == 1).select(v=_.name.ascii_str()), [(65,)]),
        Case("levenshtein", lambda t: t.people.filter(_.id == 1).select(v=_.name.levenshtein("Adam")), [(1,)]),
    ],
)
