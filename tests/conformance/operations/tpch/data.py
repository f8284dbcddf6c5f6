"""Rows in the shape of TPC-H: the same each time, a few thousand, and of each what some query asks for.

The columns that no query reads are left out. Words are drawn from fewer than the specification has, so that so few rows
meet every condition; keys, dates, prices and states are made as it says.
"""

from __future__ import annotations

import datetime as d
import itertools
from collections.abc import Iterator
from decimal import Decimal as D
from random import Random
from typing import Any

import ibis

from tests.conformance.operations.tables import Table

SUPPLIERS, PARTS, CUSTOMERS, ORDERS = 24, 160, 120, 1000

FIRST, LAST, CURRENT = d.date(1992, 1, 1), d.date(1998, 8, 2), d.date(1995, 6, 17)

REGIONS = ["AFRICA", "AMERICA", "ASIA", "EUROPE", "MIDDLE EAST"]
NATIONS = [
    ("ALGERIA", 0), ("ARGENTINA", 1), ("BRAZIL", 1), ("CANADA", 1), ("EGYPT", 4), ("ETHIOPIA", 0), ("FRANCE", 3),
    ("GERMANY", 3), ("INDIA", 2), ("INDONESIA", 2), ("IRAN", 4), ("IRAQ", 4), ("JAPAN", 2), ("JORDAN", 4), ("KENYA", 0),
    ("MOROCCO", 0), ("MOZAMBIQUE", 0), ("PERU", 1), ("CHINA", 2), ("ROMANIA", 3), ("SAUDI ARABIA", 4), ("VIETNAM", 2),
    ("RUSSIA", 3), ("UNITED KINGDOM", 3), ("UNITED STATES", 1),
]  # fmt: skip
AT_HOME = [2, 3, 6, 7, 8, 12, 18, 20]
"""The nations that suppliers and customers are of."""

COLOURS = ["almond", "chocolate", "forest", "green", "ivory", "lace", "navy", "plum"]
TYPES = [
    f"{size} {finish} {metal}"
    for size in ("ECONOMY", "MEDIUM", "PROMO", "STANDARD")
    for finish in ("ANODIZED", "POLISHED")
    for metal in ("BRASS", "STEEL")
]
BRANDS = ["Brand#12", "Brand#23", "Brand#34", "Brand#45"]
CONTAINERS = ["SM CASE", "SM BOX", "MED BAG", "MED BOX", "LG CASE", "LG BOX", "JUMBO PKG"]
SIZES = [1, 3, 5, 9, 14, 15, 23, 49]
SEGMENTS = ["AUTOMOBILE", "BUILDING", "FURNITURE", "MACHINERY", "HOUSEHOLD"]
PRIORITIES = ["1-URGENT", "2-HIGH", "3-MEDIUM", "4-NOT SPECIFIED", "5-LOW"]
MODES = ["REG AIR", "AIR", "RAIL", "SHIP", "TRUCK", "MAIL", "FOB"]
INSTRUCTIONS = ["DELIVER IN PERSON", "COLLECT COD", "NONE", "TAKE BACK RETURN"]
WORDS = ["carefully", "deposits", "furiously", "packages", "pending", "special", "requests", "unusual"]

Rows = list[tuple[Any, ...]]


def _cents(random: Random, low: int, high: int) -> D:
    return D(random.randint(low, high)).scaleb(-2)


def _phone(random: Random, nation: int) -> str:
    return f"{nation + 10}-{random.randint(100, 999)}-{random.randint(100, 999)}-{random.randint(1000, 9999)}"


def _comment(random: Random) -> str:
    return " ".join(random.sample(WORDS, 4))


def _suppliers(random: Random) -> Iterator[tuple[Any, ...]]:
    for key in range(1, SUPPLIERS + 1):
        nation = AT_HOME[key % len(AT_HOME)]
        comment = "the Customer has many Complaints" if key % 7 == 0 else _comment(random)
        balance = _cents(random, -99999, 999999)
        yield key, f"Supplier#{key:09}", f"{key} Quay", nation, _phone(random, nation), balance, comment


def _parts(random: Random) -> Iterator[tuple[Any, ...]]:
    for key in range(1, PARTS + 1):
        name = " ".join(random.sample(COLOURS, 5))
        words = [random.choice(words) for words in (BRANDS, TYPES, SIZES, CONTAINERS)]
        yield key, name, f"Manufacturer#{key % 5 + 1}", *words


def _price(part: int) -> D:
    """What a part costs, in retail."""
    return D(90000 + part // 10 % 20001 + 100 * (part % 1000)).scaleb(-2)


def _customers(random: Random) -> Iterator[tuple[Any, ...]]:
    for key in range(1, CUSTOMERS + 1):
        nation, segment = random.choice(AT_HOME), random.choice(SEGMENTS)
        address = f"{key} Harbour Road", nation, _phone(random, nation)
        yield key, f"Customer#{key:09}", *address, _cents(random, -99999, 999999), segment, _comment(random)


def _supplied(random: Random) -> Iterator[tuple[Any, ...]]:
    for part in range(1, PARTS + 1):
        for supplier in random.sample(range(1, SUPPLIERS + 1), 4):
            yield part, supplier, random.randint(1, 9999), _cents(random, 100, 100000)


def _lines(random: Random, order: int, date: d.date, supplied: Rows) -> Iterator[tuple[Any, ...]]:
    large = order % 60 == 0
    for _ in range(7 if large else random.randint(1, 7)):
        part, supplier, *_rest = random.choice(supplied)
        quantity = random.randint(44 if large else 1, 50)
        shipped = date + d.timedelta(random.randint(1, 121))
        promised = date + d.timedelta(random.randint(30, 90))
        received = shipped + d.timedelta(random.randint(1, 30))
        yield (
            *(order, part, supplier, D(quantity), quantity * _price(part)),
            *(_cents(random, 0, 10), _cents(random, 0, 8)),
            random.choice("RA") if received <= CURRENT else "N",
            "O" if shipped > CURRENT else "F",
            *(shipped, promised, received, random.choice(INSTRUCTIONS), random.choice(MODES)),
        )


def _orders(random: Random, supplied: Rows) -> Iterator[tuple[tuple[Any, ...], Rows]]:
    """Orders with their lines. A customer in three has none."""
    for key in range(1, ORDERS + 1):
        customer = random.choice([key for key in range(1, CUSTOMERS + 1) if key % 3])
        date = FIRST + d.timedelta(random.randint(0, (LAST - FIRST).days))
        lines = list(_lines(random, key, date, supplied))
        states = {line[8] for line in lines}
        total = sum(price * (1 + tax) * (1 - discount) for _, _, _, _, price, discount, tax, *_ in lines)
        order = (key, customer, states.pop() if len(states) == 1 else "P", total.quantize(D("0.01")), date)
        yield (*order, random.choice(PRIORITIES), 0, _comment(random)), lines


def _tables() -> dict[str, Table]:
    random = Random(22)
    supplied = list(_supplied(random))
    orders = list(_orders(random, supplied))
    rows: dict[str, Rows] = {
        "region": list(enumerate(REGIONS)),
        "nation": [(key, *nation) for key, nation in enumerate(NATIONS)],
        "supplier": list(_suppliers(random)),
        "part": list(_parts(random)),
        "partsupp": supplied,
        "customer": list(_customers(random)),
        "orders": [order for order, _ in orders],
        "lineitem": list(itertools.chain.from_iterable(lines for _, lines in orders)),
    }
    return {name: Table(ibis.schema(columns), rows[name]) for name, columns in COLUMNS.items()}


_MONEY = "decimal(15, 2)"
COLUMNS = {
    "region": {"r_regionkey": "int64", "r_name": "string"},
    "nation": {"n_nationkey": "int64", "n_name": "string", "n_regionkey": "int64"},
    "supplier": {
        "s_suppkey": "int64",
        "s_name": "string",
        "s_address": "string",
        "s_nationkey": "int64",
        "s_phone": "string",
        "s_acctbal": _MONEY,
        "s_comment": "string",
    },
    "part": {
        "p_partkey": "int64",
        "p_name": "string",
        "p_mfgr": "string",
        "p_brand": "string",
        "p_type": "string",
        "p_size": "int64",
        "p_container": "string",
    },
    "partsupp": {"ps_partkey": "int64", "ps_suppkey": "int64", "ps_availqty": "int64", "ps_supplycost": _MONEY},
    "customer": {
        "c_custkey": "int64",
        "c_name": "string",
        "c_address": "string",
        "c_nationkey": "int64",
        "c_phone": "string",
        "c_acctbal": _MONEY,
        "c_mktsegment": "string",
        "c_comment": "string",
    },
    "orders": {
        "o_orderkey": "int64",
        "o_custkey": "int64",
        "o_orderstatus": "string",
        "o_totalprice": _MONEY,
        "o_orderdate": "date",
        "o_orderpriority": "string",
        "o_shippriority": "int64",
        "o_comment": "string",
    },
    "lineitem": {
        "l_orderkey": "int64",
        "l_partkey": "int64",
        "l_suppkey": "int64",
        "l_quantity": _MONEY,
        "l_extendedprice": _MONEY,
        "l_discount": _MONEY,
        "l_tax": _MONEY,
        "l_returnflag": "string",
        "l_linestatus": "string",
        "l_shipdate": "date",
        "l_commitdate": "date",
        "l_receiptdate": "date",
        "l_shipinstruct": "string",
        "l_shipmode": "string",
    },
}

TABLES = _tables()
"""The eight tables."""
