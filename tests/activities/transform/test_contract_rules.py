"""Every rule that a pandera schema can carry: as plain Python would have it, or refused when the pipeline is built."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandera.ibis as pandera
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandera import pandas as for_pandas

from entrepot import Pipeline, PipelineError
from entrepot.activities.runtime.context import ActivityContext
from entrepot.activities.runtime.tenant import PipelineSettings, Tenant
from entrepot.activities.transform.check import Found, check_contract
from entrepot.activities.transform.contract_rules import rules
from entrepot.backends import Session, TableName

KINDS = {"n": pa.int64(), "x": pa.float64(), "text": pa.string()}


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    folder: Path = tmp_path_factory.mktemp("contract")
    settings = {"type": "duckdb", "path": str(folder / "acme.duckdb")}
    tenant = Tenant("acme", settings, str(folder / "lake"), {"p": PipelineSettings("p")})
    with ActivityContext(tenant, "r", "s").session() as opened:
        opened.create_schema("s")
        yield opened
    tenant.close()


def found(session: Session, contract: Any, rows: list[dict[str, Any]], names: str = "n x text") -> Found:
    kinds = {name: KINDS[name] for name in names.split()}
    connection: Any = session._connection  # type: ignore[attr-defined]
    given = pa.table({name: pa.array([row.get(name) for row in rows], kind) for name, kind in kinds.items()})
    connection.register("given", given)
    connection.execute("CREATE OR REPLACE TABLE s.t AS SELECT * FROM given")
    name = TableName("s", "t")
    return check_contract(session, list(rules(contract, session.table(name, session.describe(name)))))


def is_na(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def column(name: str, **options: Any) -> Any:
    return pandera.DataFrameSchema({name: pandera.Column(**options)})


def held(check: Any, **options: Any) -> Any:
    return pandera.Column(checks=check, nullable=True, **options)


Check = pandera.Check
# Rules of one column, and what plain Python says of a value.
OF_VALUES: dict[str, tuple[str, Any, Callable[[Any], bool]]] = {
    "eq": ("n", Check.eq(1), lambda v: v == 1),
    "ne": ("n", Check.ne(1), lambda v: v != 1),
    "gt": ("n", Check.gt(1), lambda v: v > 1),
    "ge": ("x", Check.ge(1), lambda v: v >= 1),
    "lt": ("x", Check.lt(1), lambda v: v < 1),
    "le": ("x", Check.le(1), lambda v: v <= 1),
    "between": ("n", Check.in_range(0, 1), lambda v: 0 <= v <= 1),
    "between, open": ("n", Check.in_range(0, 2, False, False), lambda v: 0 < v < 2),
    "isin": ("text", Check.isin(["a", "ab"]), lambda v: v in ("a", "ab")),
    "notin": ("text", Check.notin(["a", "ab"]), lambda v: v not in ("a", "ab")),
    "matches": ("text", Check.str_matches("a|b"), lambda v: re.match("a|b", v) is not None),
    "matches, anchored": ("text", Check.str_matches("^a|b"), lambda v: re.match("^a|b", v) is not None),
    "contains": ("text", Check.str_contains("ab|c"), lambda v: re.search("ab|c", v) is not None),
    "starts": ("text", Check.str_startswith("a"), lambda v: v.startswith("a")),
    "ends": ("text", Check.str_endswith("b"), lambda v: v.endswith("b")),
    "length": ("text", Check.str_length(1, 2), lambda v: 1 <= len(v) <= 2),
    "own": ("n", Check(lambda data: data.table[data.key] % 2 == 0), lambda v: v % 2 == 0),
    "own, as a table": ("n", Check(lambda data: data.table.select(data.table.n % 2 == 0)), lambda v: v % 2 == 0),
    "own, as a dict": ("n", Check(lambda data: {"n": data.table.n % 2 == 0}), lambda v: v % 2 == 0),
}
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "n": st.none() | st.integers(-1, 3),
            "x": st.none() | st.sampled_from([0.0, 1.0, 2.5, math.nan, math.inf]),
            "text": st.none() | st.sampled_from(["", "a", "b", "ab", "xb", "cab", "abc", "é"]),
        }
    ),
    max_size=4,
)


@pytest.mark.parametrize("name", OF_VALUES)
def test_a_rule_of_values_is_that_of_python(name: str, session: Session) -> None:
    key, check, holds = OF_VALUES[name]
    contract = pandera.DataFrameSchema({key: held(check)})

    @settings(max_examples=12)
    @given(ROWS)
    def same(rows: list[dict[str, Any]]) -> None:
        values = [row[key] for row in rows if not is_na(row[key])]
        assert (found(session, contract, rows).violations > 0) == (not all(map(holds, values)))

    same()


KEYS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "a column": (column("n", unique=True, nullable=True), ("n",)),
    "a schema": (pandera.DataFrameSchema(unique=["n", "text"]), ("n", "text")),
    "a name": (pandera.DataFrameSchema(unique="text"), ("text",)),
}


@pytest.mark.parametrize("name", KEYS)
def test_what_must_be_unique_is(name: str, session: Session) -> None:
    contract, key = KEYS[name]

    @settings(max_examples=15)
    @given(ROWS)
    def same(rows: list[dict[str, Any]]) -> None:
        values = [tuple(row[each] for each in key) for row in rows]
        assert (found(session, contract, rows).violations > 0) == (len({*values}) < len(values))

    same()


@settings(max_examples=15)
@given(ROWS)
def test_what_may_not_be_null_is_not(session: Session, rows: list[dict[str, Any]]) -> None:
    for name in KINDS:
        expected = any(is_na(row[name]) for row in rows)
        assert (found(session, column(name), rows).violations > 0) == expected


A, B = {"n": 1, "x": 1.0, "text": "a"}, {"n": 2, "x": 2.0, "text": "b"}
NULLS: dict[str, Any] = {"n": None, "x": None, "text": None}
OWN = Check(lambda data: data.table.n < data.table.x)
MEAN = Check(lambda data: data.table[data.key].mean() > 1)

# Rules of a whole table: what they are held against, the columns of it, and whether they hold.
OF_TABLES: dict[str, tuple[Any, list[dict[str, Any]], str, bool]] = {
    "a type": (column("n", dtype=int), [A], "n", True),
    "another type": (column("n", dtype=str), [A], "n", False),
    "a type of all": (pandera.DataFrameSchema(dtype=int), [A], "n", True),
    "a type of all, and another": (pandera.DataFrameSchema(dtype=int), [A], "n text", False),
    "a missing column": (column("x"), [A], "n", False),
    "one that may be missing": (column("x", required=False), [A], "n", True),
    "one more": (column("n"), [A], "n x", True),
    "one more, strictly": (pandera.DataFrameSchema({"n": pandera.Column()}, strict=True), [A], "n x", False),
    "ordered": (pandera.DataFrameSchema({"n": held([]), "x": held([])}, ordered=True), [A], "n text x", True),
    "in another order": (pandera.DataFrameSchema({"x": held([]), "n": held([])}, ordered=True), [A], "n x", False),
    "by a pattern": (pandera.DataFrameSchema({"^(n|x)$": held(Check.gt(0), regex=True)}), [A, B], "n x text", True),
    "one by a pattern": (pandera.DataFrameSchema({"^(n|x)$": held(Check.gt(1), regex=True)}), [A], "n x", False),
    "none by a pattern": (pandera.DataFrameSchema({"^z": held([], regex=True)}), [A], "n", False),
    "none by a pattern, as may be": (
        pandera.DataFrameSchema({"^z": held([], regex=True, required=False)}), [A], "n", True,
    ),
    "over columns": (pandera.DataFrameSchema(checks=OWN), [{"n": 1, "x": 1.5}], "n x", True),
    "over columns, broken": (pandera.DataFrameSchema(checks=OWN), [{"n": 1, "x": 1.5}, B], "n x", False),
    "over columns with NULL": (pandera.DataFrameSchema(checks=OWN), [{"n": 1, "x": None}], "n x", True),
    "a NULL that counts": (column("n", nullable=True, checks=Check.gt(0, ignore_na=False)), [NULLS], "n", False),
    "an aggregate": (column("n", checks=MEAN), [A, B], "n", True),
    "an aggregate, broken": (column("n", checks=MEAN), [A], "n", False),
    "an aggregate of NULL": (column("n", nullable=True, checks=MEAN), [NULLS], "n", False),
    "these values": (column("n", checks=Check.unique_values_eq([1, 2])), [A, B, A], "n", True),
    "more values": (column("n", checks=Check.unique_values_eq([1, 2])), [A], "n", False),
    "fewer values": (column("n", checks=Check.unique_values_eq([1])), [A, B], "n", False),
    "no row": (
        pandera.DataFrameSchema(
            {"n": pandera.Column(int, [Check.gt(0), MEAN], unique=True), "x": held(Check.isin([1.0]))}, unique=["n"]
        ),
        [], "n x", True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OF_TABLES)
def test_a_rule_of_a_table(name: str, session: Session) -> None:
    contract, rows, names, holds = OF_TABLES[name]
    assert (found(session, contract, rows, names).violations == 0) == holds


def test_what_is_broken_is_told_with_an_example(session: Session) -> None:
    told = found(session, column("n", unique=True, checks=Check.gt(1)), [A, A, B])
    assert (told.violations, told.what) == (2, "rules")
    assert [each["said"] for each in told.sample] == [
        "'n' must be unique, and is not: 1, for example {\"n\": 1}",
        "column 'n' violates greater_than(1): 2, for example {\"n\": 1}",
    ]


REFUSED: dict[str, tuple[Any, str]] = {
    "coerce": (column("n", dtype=int, coerce=True), "casts values (`coerce` of column 'n')"),
    "coerce all": (pandera.DataFrameSchema(coerce=True), "casts values (`coerce`)"),
    "default": (column("n", dtype=int, default=1), "fills in values"),
    "parsers": (pandera.DataFrameSchema(parsers=for_pandas.Parser(lambda t: t)), "changes values"),
    "drop": (pandera.DataFrameSchema(drop_invalid_rows=True), "leaves out rows"),
    "filter": (pandera.DataFrameSchema(strict="filter"), "leaves out columns"),
    "warning": (column("n", checks=Check.gt(0, raise_warning=True)), "only warns; write it as a check with"),
    "element": (column("n", checks=Check(lambda v: v > 0, element_wise=True)), "calls Python for every value"),
    "groups": (
        pandera.DataFrameSchema({"n": held(Check(lambda d: d, groupby="x")), "x": held([])}),
        "asks for groups",
    ),
    "flags": (column("text", checks=Check.str_matches(re.compile("a", re.I))), "has a pattern with flags"),
    "pandas": (for_pandas.DataFrameSchema({}), "its contract is a DataFrameSchema; use a model or schema of"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_check_cannot_hold_is_refused_when_the_pipeline_is_built(name: str) -> None:
    contract, said = REFUSED[name]
    p = Pipeline("shop")
    p.ingest(name="sales")(lambda: None)
    p.transform(name="orders", contract=contract)(lambda sales: sales)
    with pytest.raises(PipelineError) as caught:
        _ = p.graph
    assert said in str(caught.value)
