"""Conditionals, NULL, and what is nested: arrays, structs, maps and JSON."""

from __future__ import annotations

import ibis
from ibis import _

from tests.conformance.cases import Case, group
from tests.conformance.operations.tables import PEOPLE

CONDITIONALS = group(
    "case",
    "Conditionals and NULL",
    [
        Case(
            "cases",
            lambda t: t.people.select("id", v=ibis.cases((_.age < 30, "young"), (_.age < 60, "middle"), else_="old")),
            [(1, "middle"), (2, "middle"), (3, "middle"), (4, "old"), (5, "old"), (6, "young")],
        ),
        Case(
            "cases_without_else",
            lambda t: t.people.select("id", v=ibis.cases((_.age < 30, 1))),
            [(1, None), (2, None), (3, None), (4, None), (5, None), (6, 1)],
        ),
        Case(
            "cases_of_a_value",
            lambda t: t.people.select("id", v=_.team.cases(("red", 1), ("blue", 2), else_=0)),
            [(1, 1), (2, 1), (3, 2), (4, 2), (5, 0), (6, 0)],
        ),
        Case(
            "ifelse",
            lambda t: t.people.select("id", v=ibis.ifelse(_.active, "yes", "no")),
            [(1, "yes"), (2, "no"), (3, "no"), (4, "yes"), (5, "yes"), (6, "no")],
        ),
        Case(
            "coalesce",
            lambda t: t.people.select("id", v=ibis.coalesce(_.age, _.id * 100)),
            [(1, 36), (2, 45), (3, 45), (4, 400), (5, 86), (6, 20)],
        ),
        Case(
            "fill_null", lambda t: t.people.select("id", v=_.team.fill_null("")), [(p.id, p.team or "") for p in PEOPLE]
        ),
        Case(
            "nullif",
            lambda t: t.people.select("id", v=_.age.nullif(45)),
            [(1, 36), (2, None), (3, None), (4, None), (5, 86), (6, 20)],
        ),
        Case(
            "isnull",
            lambda t: t.people.select("id", a=_.rate.isnull(), b=_.rate.notnull()),
            [(p.id, p.rate is None, p.rate is not None) for p in PEOPLE],
        ),
        Case(
            "and_or_not_with_null",
            lambda t: t.people.filter(_.id == 3).select(
                a=_.active & (_.id == 3), b=_.active | (_.id == 3), c=~_.active, d=_.active & (_.id == 0)
            ),
            [(None, True, None, False)],
        ),
        Case(
            "xor",
            lambda t: t.people.select("id", v=_.active ^ (_.id < 3)),
            [(1, False), (2, True), (3, None), (4, True), (5, True), (6, False)],
        ),
        Case("filter_drops_null", lambda t: t.people.filter(_.age != 45).select("id"), [(1,), (5,), (6,)]),
        Case(
            "identical_to",
            lambda t: t.people.select("id", v=_.team.identical_to(ibis.null("string"))),
            [(1, False), (2, False), (3, False), (4, False), (5, True), (6, False)],
        ),
        Case(
            "null_literals",
            lambda t: t.wide.filter(_.id == 1).select(a=ibis.null("int64"), b=ibis.null("string"), c=ibis.null("date")),
            [(None, None, None)],
        ),
        Case(
            "boolean_literals",
            lambda t: t.wide.filter(_.id == 1).select(a=ibis.literal(True), b=ibis.literal(False)),
            [(True, False)],
        ),
        Case(
            "predicate_as_a_column",
            lambda t: t.people.select("id", v=(_.age > 40) & _.team.notnull()),
            [(1, False), (2, True), (3, True), (4, None), (5, False), (6, False)],
        ),
        Case(
            "substitute",
            lambda t: t.people.select("id", v=_.team.substitute({"red": "R", "blue": "B"})),
            [(1, "R"), (2, "R"), (3, "B"), (4, "B"), (5, None), (6, "green")],
        ),
    ],
)

NESTED = group(
    "nested",
    "Arrays, structs, maps and JSON",
    [
        Case("array_index", lambda t: t.arrays.filter(_.id == 1).select(v=_.value[0]), [(3,)]),
        Case("array_length", lambda t: t.arrays.select("id", n=_.value.length()), [(1, 3), (2, 0)]),
        Case("array_contains", lambda t: t.arrays.select("id", v=_.value.contains(2)), [(1, True), (2, False)]),
        Case("array_unnest", lambda t: t.arrays.select("id", v=_.value.unnest()), [(1, 3), (1, 1), (1, 2)]),
        Case("array_unnest_of_a_table", lambda t: t.arrays.unnest("value"), [(1, 3), (1, 1), (1, 2)]),
        Case("array_sort", lambda t: t.arrays.filter(_.id == 1).select(v=_.value.sort()[0]), [(1,)]),
        Case("array_join", lambda t: t.texts.filter(_.id == 9).select(v=_.s.split(",").join("+")), [("a+b++c",)]),
        Case("array_literal", lambda t: t.wide.filter(_.id == 1).select(v=ibis.array([_.q1, _.q2])[1]), [(20,)]),
        Case("array_map", lambda t: t.arrays.filter(_.id == 1).select(v=_.value.map(lambda x: x * 2)[0]), [(6,)]),
        Case(
            "array_filter",
            lambda t: t.arrays.filter(_.id == 1).select(v=_.value.filter(lambda x: x > 1).length()),
            [(2,)],
        ),
        Case(
            "struct_field",
            lambda t: t.structs.select("id", a=_.value.a, b=_.value["b"]),
            [(1, 1, "x"), (2, None, ""), (3, 3, None)],
        ),
        Case("struct_lift", lambda t: t.structs.unpack("value").select("id", "a"), [(1, 1), (2, None), (3, 3)]),
        Case(
            "struct_literal",
            lambda t: t.wide.filter(_.id == 1).select(v=ibis.struct({"x": _.q1, "y": _.q2}).y),
            [(20,)],
        ),
        Case("map_get", lambda t: t.maps.select("id", v=_.value["a"]), [(1, 1), (2, None)]),
        Case("map_length", lambda t: t.maps.select("id", v=_.value.length()), [(1, 2), (2, 0)]),
        Case("map_contains", lambda t: t.maps.select("id", v=_.value.contains("b")), [(1, True), (2, False)]),
        Case("json_text", lambda t: t.documents.select("id", v=_.value["t"].str), [(1, "text"), (2, None), (3, None)]),
        Case(
            "json_number",
            lambda t: t.documents.select("id", v=_.value["a"]["b"][0].int),
            [(1, 1), (2, None), (3, None)],
        ),
        Case("json_float", lambda t: t.documents.filter(_.id == 1).select(v=_.value["a"]["b"][1].float), [(2.5,)]),
        Case("json_boolean", lambda t: t.documents.filter(_.id == 1).select(v=_.value["yes"].bool), [(True,)]),
        Case("json_missing", lambda t: t.documents.filter(_.id == 1).select(v=_.value["nothing"].str), [(None,)]),
    ],
)
