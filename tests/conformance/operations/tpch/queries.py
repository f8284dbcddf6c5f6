"""TPC-H's 22 queries as ibis expressions, each by the name that `queries.sql` has it under.

They are given the tables as attributes, and say nothing of the type of a number, so that the same query is asked of
decimals and of floats.
"""

from __future__ import annotations

import datetime as d
from collections.abc import Callable
from typing import Any

from ibis import _

REVENUE = _.l_extendedprice * (1 - _.l_discount)


def _day(text: str) -> d.date:
    return d.date.fromisoformat(text)


def _from(column: Any, first: str, behind: str) -> Any:
    """Whether a date is in a half-open interval."""
    return (column >= _day(first)) & (column < _day(behind))


def q01(t: Any) -> Any:
    return (
        t.lineitem.filter(_.l_shipdate <= _day("1998-09-02"))
        .group_by("l_returnflag", "l_linestatus")
        .aggregate(
            sum_qty=_.l_quantity.sum(),
            sum_base_price=_.l_extendedprice.sum(),
            sum_disc_price=REVENUE.sum(),
            sum_charge=(REVENUE * (1 + _.l_tax)).sum(),
            avg_qty=_.l_quantity.mean(),
            avg_price=_.l_extendedprice.mean(),
            avg_disc=_.l_discount.mean(),
            count_order=_.count(),
        )
        .order_by("l_returnflag", "l_linestatus")
    )


def _suppliers_of(t: Any, region: str) -> Any:
    nations = t.nation.join(t.region.filter(_.r_name == region), _.n_regionkey == t.region.r_regionkey)
    return t.supplier.join(nations, t.supplier.s_nationkey == nations.n_nationkey)


def q02(t: Any) -> Any:
    offers = t.partsupp.join(_suppliers_of(t, "EUROPE"), _.ps_suppkey == t.supplier.s_suppkey)
    least = offers.group_by("ps_partkey").aggregate(least=_.ps_supplycost.min()).rename(least_of="ps_partkey")
    return (
        t.part.filter(_.p_size == 15, _.p_type.like("%BRASS"))
        .join(offers, _.p_partkey == offers.ps_partkey)
        .join(least, [_.p_partkey == least.least_of, _.ps_supplycost == least.least])
        .select("s_acctbal", "s_name", "n_name", "p_partkey", "p_mfgr", "s_address", "s_phone", "s_comment")
        .order_by(_.s_acctbal.desc(), "n_name", "s_name", "p_partkey")
        .limit(100)
    )


def q03(t: Any) -> Any:
    return (
        t.customer.filter(_.c_mktsegment == "BUILDING")
        .join(t.orders.filter(_.o_orderdate < _day("1995-03-15")), _.c_custkey == t.orders.o_custkey)
        .join(t.lineitem.filter(_.l_shipdate > _day("1995-03-15")), _.o_orderkey == t.lineitem.l_orderkey)
        .group_by("l_orderkey", "o_orderdate", "o_shippriority")
        .aggregate(revenue=REVENUE.sum())
        .select("l_orderkey", "revenue", "o_orderdate", "o_shippriority")
        .order_by(_.revenue.desc(), "o_orderdate", "l_orderkey")
        .limit(10)
    )


def q04(t: Any) -> Any:
    late = t.lineitem.filter(_.l_commitdate < _.l_receiptdate)
    return (
        t.orders.filter(_from(_.o_orderdate, "1993-07-01", "1993-10-01"))
        .semi_join(late, _.o_orderkey == late.l_orderkey)
        .group_by("o_orderpriority")
        .aggregate(order_count=_.count())
        .order_by("o_orderpriority")
    )


def q05(t: Any) -> Any:
    suppliers = _suppliers_of(t, "ASIA")
    return (
        t.customer.join(t.orders, _.c_custkey == t.orders.o_custkey)
        .join(t.lineitem, _.o_orderkey == t.lineitem.l_orderkey)
        .join(suppliers, [_.l_suppkey == suppliers.s_suppkey, _.c_nationkey == suppliers.s_nationkey])
        .filter(_from(_.o_orderdate, "1994-01-01", "1995-01-01"))
        .group_by("n_name")
        .aggregate(revenue=REVENUE.sum())
        .order_by(_.revenue.desc())
    )


def q06(t: Any) -> Any:
    return t.lineitem.filter(
        _from(_.l_shipdate, "1994-01-01", "1995-01-01"),
        _.l_discount.between(0.05, 0.07),
        _.l_quantity < 24,
    ).aggregate(revenue=(_.l_extendedprice * _.l_discount).sum())


def q07(t: Any) -> Any:
    sellers = t.nation.select(supp_nation="n_name", supp_key="n_nationkey")
    buyers = t.nation.select(cust_nation="n_name", cust_key="n_nationkey")
    return (
        t.supplier.join(t.lineitem, _.s_suppkey == t.lineitem.l_suppkey)
        .join(t.orders, _.l_orderkey == t.orders.o_orderkey)
        .join(t.customer, _.o_custkey == t.customer.c_custkey)
        .join(sellers, _.s_nationkey == sellers.supp_key)
        .join(buyers, _.c_nationkey == buyers.cust_key)
        .filter(
            ((_.supp_nation == "FRANCE") & (_.cust_nation == "GERMANY"))
            | ((_.supp_nation == "GERMANY") & (_.cust_nation == "FRANCE")),
            _.l_shipdate.between(_day("1995-01-01"), _day("1996-12-31")),
        )
        .group_by("supp_nation", "cust_nation", l_year=_.l_shipdate.year())
        .aggregate(revenue=REVENUE.sum())
        .order_by("supp_nation", "cust_nation", "l_year")
    )


def q08(t: Any) -> Any:
    sellers = t.nation.select(supp_nation="n_name", supp_key="n_nationkey")
    nations = t.nation.join(t.region.filter(_.r_name == "AMERICA"), _.n_regionkey == t.region.r_regionkey)
    return (
        t.part.filter(_.p_type == "ECONOMY ANODIZED STEEL")
        .join(t.lineitem, _.p_partkey == t.lineitem.l_partkey)
        .join(t.supplier, _.l_suppkey == t.supplier.s_suppkey)
        .join(t.orders, _.l_orderkey == t.orders.o_orderkey)
        .join(t.customer, _.o_custkey == t.customer.c_custkey)
        .join(nations, _.c_nationkey == nations.n_nationkey)
        .join(sellers, _.s_nationkey == sellers.supp_key)
        .filter(_.o_orderdate.between(_day("1995-01-01"), _day("1996-12-31")))
        .group_by(o_year=_.o_orderdate.year())
        .aggregate(mkt_share=REVENUE.sum(where=_.supp_nation == "BRAZIL") / REVENUE.sum())
        .order_by("o_year")
    )


def q09(t: Any) -> Any:
    return (
        t.lineitem.join(t.supplier, _.l_suppkey == t.supplier.s_suppkey)
        .join(t.partsupp, [_.l_suppkey == t.partsupp.ps_suppkey, _.l_partkey == t.partsupp.ps_partkey])
        .join(t.part, _.l_partkey == t.part.p_partkey)
        .join(t.orders, _.l_orderkey == t.orders.o_orderkey)
        .join(t.nation, _.s_nationkey == t.nation.n_nationkey)
        .filter(_.p_name.like("%green%"))
        .group_by(nation="n_name", o_year=_.o_orderdate.year())
        .aggregate(sum_profit=(REVENUE - _.ps_supplycost * _.l_quantity).sum())
        .order_by("nation", _.o_year.desc())
    )


def q10(t: Any) -> Any:
    return (
        t.customer.join(t.orders, _.c_custkey == t.orders.o_custkey)
        .join(t.lineitem, _.o_orderkey == t.lineitem.l_orderkey)
        .join(t.nation, _.c_nationkey == t.nation.n_nationkey)
        .filter(_from(_.o_orderdate, "1993-10-01", "1994-01-01"), _.l_returnflag == "R")
        .group_by("c_custkey", "c_name", "c_acctbal", "n_name", "c_address", "c_phone", "c_comment")
        .aggregate(revenue=REVENUE.sum())
        .select("c_custkey", "c_name", "revenue", "c_acctbal", "n_name", "c_address", "c_phone", "c_comment")
        .order_by(_.revenue.desc(), "c_custkey")
        .limit(20)
    )


def q11(t: Any) -> Any:
    worth = (
        t.partsupp.join(t.supplier, _.ps_suppkey == t.supplier.s_suppkey)
        .join(t.nation, _.s_nationkey == t.nation.n_nationkey)
        .filter(_.n_name == "GERMANY")
        .mutate(value=_.ps_supplycost * _.ps_availqty)
    )
    return (
        worth.group_by("ps_partkey")
        .aggregate(value=_.value.sum())
        .filter(_.value > worth.value.sum().as_scalar() * 0.0125)
        .order_by(_.value.desc())
    )


def q12(t: Any) -> Any:
    is_urgent = _.o_orderpriority.isin(["1-URGENT", "2-HIGH"])
    return (
        t.orders.join(t.lineitem, _.o_orderkey == t.lineitem.l_orderkey)
        .filter(
            _.l_shipmode.isin(["MAIL", "SHIP"]),
            _.l_commitdate < _.l_receiptdate,
            _.l_shipdate < _.l_commitdate,
            _from(_.l_receiptdate, "1994-01-01", "1995-01-01"),
        )
        .group_by("l_shipmode")
        .aggregate(
            high_line_count=is_urgent.ifelse(1, 0).sum(),
            low_line_count=is_urgent.ifelse(0, 1).sum(),
        )
        .order_by("l_shipmode")
    )


def q13(t: Any) -> Any:
    usual = t.orders.filter(~_.o_comment.like("%special%requests%"))
    return (
        t.customer.left_join(usual, _.c_custkey == usual.o_custkey)
        .group_by("c_custkey")
        .aggregate(c_count=_.o_orderkey.count())
        .group_by("c_count")
        .aggregate(custdist=_.count())
        .order_by(_.custdist.desc(), _.c_count.desc())
    )


def q14(t: Any) -> Any:
    return (
        t.lineitem.join(t.part, _.l_partkey == t.part.p_partkey)
        .filter(_from(_.l_shipdate, "1995-09-01", "1995-10-01"))
        .aggregate(promo_revenue=100 * _.p_type.like("PROMO%").ifelse(REVENUE, 0).sum() / REVENUE.sum())
    )


def q15(t: Any) -> Any:
    revenue = (
        t.lineitem.filter(_from(_.l_shipdate, "1996-01-01", "1996-04-01"))
        .group_by("l_suppkey")
        .aggregate(total_revenue=REVENUE.sum())
    )
    return (
        t.supplier.join(revenue, _.s_suppkey == revenue.l_suppkey)
        .filter(_.total_revenue == _.total_revenue.max())
        .select("s_suppkey", "s_name", "s_address", "s_phone", "total_revenue")
        .order_by("s_suppkey")
    )


def q16(t: Any) -> Any:
    complained = t.supplier.filter(_.s_comment.like("%Customer%Complaints%"))
    return (
        t.partsupp.join(t.part, _.ps_partkey == t.part.p_partkey)
        .filter(
            _.p_brand != "Brand#45",
            ~_.p_type.like("MEDIUM POLISHED%"),
            _.p_size.isin([49, 14, 23, 45, 19, 3, 36, 9]),
            _.ps_suppkey.notin(complained.s_suppkey),
        )
        .group_by("p_brand", "p_type", "p_size")
        .aggregate(supplier_cnt=_.ps_suppkey.nunique())
        .order_by(_.supplier_cnt.desc(), "p_brand", "p_type", "p_size")
    )


def q17(t: Any) -> Any:
    usual = t.lineitem.group_by(usual_of="l_partkey").aggregate(usual=_.l_quantity.mean())
    return (
        t.lineitem.join(t.part, _.l_partkey == t.part.p_partkey)
        .join(usual, _.l_partkey == usual.usual_of)
        .filter(_.p_brand == "Brand#23", _.p_container == "MED BOX", _.l_quantity < 0.2 * _.usual)
        .aggregate(avg_yearly=_.l_extendedprice.sum() / 7.0)
    )


def q18(t: Any) -> Any:
    large = t.lineitem.group_by("l_orderkey").aggregate(quantity=_.l_quantity.sum()).filter(_.quantity > 300)
    return (
        t.customer.join(t.orders, _.c_custkey == t.orders.o_custkey)
        .join(t.lineitem, _.o_orderkey == t.lineitem.l_orderkey)
        .filter(_.o_orderkey.isin(large.l_orderkey))
        .group_by("c_name", "c_custkey", "o_orderkey", "o_orderdate", "o_totalprice")
        .aggregate(sum_qty=_.l_quantity.sum())
        .order_by(_.o_totalprice.desc(), "o_orderdate")
        .limit(100)
    )


def q19(t: Any) -> Any:
    def wanted(brand: str, containers: str, quantity: tuple[int, int], size: int) -> Any:
        return (
            (_.p_brand == brand)
            & _.p_container.isin(containers.split(", "))
            & _.l_quantity.between(*quantity)
            & _.p_size.between(1, size)
        )

    return (
        t.lineitem.join(t.part, _.l_partkey == t.part.p_partkey)
        .filter(
            _.l_shipmode.isin(["AIR", "AIR REG"]),
            _.l_shipinstruct == "DELIVER IN PERSON",
            wanted("Brand#12", "SM CASE, SM BOX, SM PACK, SM PKG", (1, 11), 5)
            | wanted("Brand#23", "MED BAG, MED BOX, MED PKG, MED PACK", (10, 20), 10)
            | wanted("Brand#34", "LG CASE, LG BOX, LG PACK, LG PKG", (20, 30), 15),
        )
        .aggregate(revenue=REVENUE.sum())
    )


def q20(t: Any) -> Any:
    sold = (
        t.lineitem.filter(_from(_.l_shipdate, "1994-01-01", "1995-01-01"))
        .group_by("l_partkey", "l_suppkey")
        .aggregate(half=0.5 * _.l_quantity.sum())
    )
    offers = (
        t.partsupp.join(sold, [_.ps_partkey == sold.l_partkey, _.ps_suppkey == sold.l_suppkey])
        .filter(_.ps_availqty > _.half)
        .semi_join(t.part.filter(_.p_name.startswith("forest")), _.ps_partkey == t.part.p_partkey)
    )
    return (
        t.supplier.join(t.nation, _.s_nationkey == t.nation.n_nationkey)
        .filter(_.n_name == "CANADA", _.s_suppkey.isin(offers.ps_suppkey))
        .select("s_name", "s_address")
        .order_by("s_name")
    )


def q21(t: Any) -> Any:
    late = t.lineitem.filter(_.l_receiptdate > _.l_commitdate)
    waited = (
        late.join(t.supplier, _.l_suppkey == t.supplier.s_suppkey)
        .join(t.orders, _.l_orderkey == t.orders.o_orderkey)
        .join(t.nation, _.s_nationkey == t.nation.n_nationkey)
        .filter(_.o_orderstatus == "F", _.n_name == "SAUDI ARABIA")
    )
    others, late_too = t.lineitem.view(), late.view()
    return (
        waited.semi_join(others, [_.l_orderkey == others.l_orderkey, _.l_suppkey != others.l_suppkey])
        .anti_join(late_too, [_.l_orderkey == late_too.l_orderkey, _.l_suppkey != late_too.l_suppkey])
        .group_by("s_name")
        .aggregate(numwait=_.count())
        .order_by(_.numwait.desc(), "s_name")
        .limit(100)
    )


def q22(t: Any) -> Any:
    asked = t.customer.mutate(cntrycode=_.c_phone.substr(0, 2)).filter(
        _.cntrycode.isin(["13", "31", "23", "29", "30", "18", "17"])
    )
    return (
        asked.filter(_.c_acctbal > asked.filter(_.c_acctbal > 0).c_acctbal.mean().as_scalar())
        .anti_join(t.orders, _.c_custkey == t.orders.o_custkey)
        .group_by("cntrycode")
        .aggregate(numcust=_.count(), totacctbal=_.c_acctbal.sum())
        .order_by("cntrycode")
    )


QUERIES: dict[str, Callable[[Any], Any]] = {
    query.__name__: query
    for query in (
        *(q01, q02, q03, q04, q05, q06, q07, q08, q09, q10, q11),
        *(q12, q13, q14, q15, q16, q17, q18, q19, q20, q21, q22),
    )
}
