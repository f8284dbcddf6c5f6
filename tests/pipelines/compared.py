"""Tables whose columns and rows change with parameters, one way each: for tests of what two environments differ in."""

from __future__ import annotations

from typing import Any

import ibis
from ibis import _

from entrepot import Pipeline, Table

ROWS = 12_000
"""More than are looked at one by one at once."""

compared = Pipeline(
    "compared", parameters={"columns": "", "at": -1, "price": 0.0, "least": 0, "late": False, "worst": 1000.0}
)


@compared.ingest(tables={"raw": {"id": "int64", "price": "float64"}})
def source() -> Any:
    yield [{"id": number, "price": number / 8} for number in range(ROWS)]


@compared.transform
def priced(raw: Table, at: int, price: float, least: int) -> Table:
    """One price is another one; some rows are gone."""
    return raw.filter(_.id >= least).mutate(price=ibis.ifelse(_.id == at, price, _.price))


@compared.transform
def reshaped(raw: Table, columns: str) -> Table:
    """Its columns are more, fewer, or of another type."""
    return {
        "": raw,
        "more": raw.mutate(twice=_.price * 2),
        "fewer": raw.drop("price"),
        "text": raw.mutate(price=_.price.cast("string")),
    }[columns]


@compared.transform
def listed(raw: Table, least: int) -> Table:
    """With values that have no schema of columns."""
    return raw.filter(_.id < 50).mutate(ids=ibis.array([_.id, _.id + least]))


@compared.transform
def summed(raw: Table, at: int) -> Table:
    """The same sums, but for their last digits, added up in another order."""
    order = _.id if at < 0 else -_.id
    return raw.group_by(g=_.id % 3).agg(
        total=((_.price + 0.1) * (1 if at < 0 else 3) / (1 if at < 0 else 3)).sum(), n=order.nunique()
    )


@compared.check(priced)
def not_dear(priced: Table, worst: float) -> Table:
    return priced.filter(_.price > worst * 10)


@compared.check(reshaped)
def in_time(reshaped: Table, late: bool, nominal_time: Any) -> Table:
    """Its rule is another one at each run, as of what looks at the clock."""
    return reshaped.filter(
        (_.id < 1) & (ibis.literal(nominal_time) < ibis.timestamp("2100-01-01")) & ibis.literal(late)
    )
