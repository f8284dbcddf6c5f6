"""The digest that a warehouse computes in SQL is that of the reference over the rows as they were loaded.

One table of many types and drawn values, since a table costs a stand-in a second.
"""

from __future__ import annotations

import datetime
from decimal import Context, Decimal

import ibis
import ibis.expr.datatypes as dt
import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from entrepot.activities.parity.digests import DigestedTable, digest_of
from entrepot.backends.base import physical
from entrepot.identity.table_digest import FLOAT, TIMESTAMP, ColumnKind, common, kind, of_batches
from tests.conformance.target import Target, is_live, parquet

pytestmark = pytest.mark.area("Digests are the reference's")

DECIMALS = [(9, 2), (15, 2), (15, 15), (18, 4), (20, 12), (22, 18), (29, 0), (38, 0), (38, 9), (38, 18), (38, 37)]
MADE_OF_15 = st.integers(0, 10**15 - 1) | st.sampled_from([0, 1, 2**26, 10**14, 10**15 - 1])
ROWS = 12


def whole(digits: int) -> st.SearchStrategy[int]:
    """Numbers of up to so many digits, of every size, most of them with something in each of their parts."""
    parts = st.tuples(MADE_OF_15, MADE_OF_15, MADE_OF_15).map(lambda p: (p[0] * 10**15 + p[1]) * 10**15 + p[2])
    cut = st.tuples(parts, st.integers(0, digits)).map(lambda n: n[0] % 10 ** n[1]) | parts.map(
        lambda n: n % 10**digits
    )
    return st.tuples(cut, st.sampled_from([1, -1])).map(lambda n: n[0] * n[1])


def decimals(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    return whole(precision).map(lambda n: Decimal(n).scaleb(-scale, Context(prec=80)))


def types(target: Target) -> dict[str, tuple[dt.DataType, st.SearchStrategy[object]]]:
    """What this warehouse can hold: column to type and values."""
    found: dict[str, tuple[dt.DataType, st.SearchStrategy[object]]] = {
        "i": (dt.int64, whole(18)),
        "f": (dt.float64, st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)),
        "s": (dt.string, st.text("aé€😀'\\", max_size=5)),
        "o": (dt.boolean, st.booleans()),
        "d": (dt.date, st.dates()),
        "t": (dt.Timestamp(), st.datetimes(min_value=datetime.datetime(1600, 1, 1))),
    }
    is_standin = target.backend.name == "bigquery" and not is_live()
    for precision, scale in DECIMALS:
        if scale > 36 and target.backend.name == "databricks":
            continue  # refused: its decimals of 38 digits round the last places
        # The stand-in's BIGNUMERIC has 38 digits, and not 76.
        if not (is_standin and (precision - scale > 29 or scale > 18 or (scale > 9 and precision - scale > 20))):
            found[f"d{precision}_{scale}"] = (dt.Decimal(precision, scale), decimals(precision, scale))
    return found


@settings(max_examples=1, database=None, phases=[Phase.generate])
@given(data=st.data())
def test_every_type_has_the_digest_of_the_reference(target: Target, data: st.DataObject) -> None:
    columns = types(target)
    cells = st.fixed_dictionaries({name: st.none() | values for name, (_, values) in columns.items()})
    rows = data.draw(st.lists(cells, min_size=ROWS, max_size=ROWS))
    schema = ibis.schema({name: dtype for name, (dtype, _) in columns.items()})
    table = pa.Table.from_pylist(rows, schema=schema.to_pyarrow())
    with parquet(table) as path, target.session() as session:
        name = target.new_name()
        made = session.load(name, [path], schema)
        source = DigestedTable(session, name, made.columns)
        both = {n: common(kind(dtype), kind(made.columns[n])) for n, (dtype, _) in columns.items()}
        kinds = {n: found for n, found in both.items() if found is not None}
        assert kinds.keys() == columns.keys()
        # As other kinds: beside a warehouse that has them so.
        wide = {n: ColumnKind("decimal", 38, 38) for n in ("i", "d9_2", "d20_12")}
        few = [dict(list(kinds.items())[start : start + 4]) for start in range(0, len(kinds), 4)]
        for some in [*few, wide | {"d": TIMESTAMP}, {"d20_12": FLOAT}]:
            assert digest_of(source, some) == of_batches(table.to_batches(), some), some


def test_products_of_products_have_the_digest_of_their_values(target: Target) -> None:
    prices = [Decimal(cents) / 100 for cents in (0, 1, -1, 99, 100_001, 199_999, -123_456)]
    schema = ibis.schema({"price": "decimal(15, 2)"})
    with parquet(pa.table({"price": pa.array(prices, pa.decimal128(15, 2))})) as path, target.session() as session:
        name, products = target.new_name(), target.new_name()
        loaded = physical(name, session.load(name, [path], schema).columns)
        made = session.create_as(products, loaded.select(p=loaded.price * loaded.price * loaded.price))
        kinds = {"p": ColumnKind("decimal", 38, 38)}
        exact = Context(prec=80)
        cubes = [exact.multiply(exact.multiply(price, price), price) for price in prices]
        wanted = of_batches(pa.table({"p": pa.array(cubes, pa.decimal256(76, 38))}).to_batches(), kinds)
        assert digest_of(DigestedTable(session, products, made.columns), kinds) == wanted
