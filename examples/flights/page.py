"""The panels of the page: each takes tables of the pipeline and shows one thing."""

from __future__ import annotations

import altair as alt
import ibis
from ibis import _

from entrepot import Figure, Panel, Table

DAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
NEW_YORK = (-73.9, 40.7)
PERCENT = ".0%"
BY_LATE = alt.SortField("late")


def headline(daily_delays: Table, carrier_delays: Table, calibration: Table, late_after: int) -> list[Figure]:
    """The year in four numbers."""
    year = daily_delays.agg(flights=_.flights.sum(), cancelled=_.cancelled.sum()).to_pyarrow().to_pylist()[0]
    late = carrier_delays.late_overall.max().to_pyarrow().as_py()
    happened = {row["tenth"]: row["happened"] for row in calibration.filter(_.unseen).to_pyarrow().to_pylist()}
    return [
        Figure("flights were scheduled", f"{year['flights']:,}", "out of Newark, Kennedy and LaGuardia"),
        Figure("arrived late", f"{late:.1%}", f"by more than {late_after} minutes"),
        Figure("were cancelled", f"{year['cancelled'] / year['flights']:.1%}", f"{year['cancelled']:,} flights"),
        Figure(
            "as often late", f"{happened[10] / happened[1]:.1f}×", "flights of the highest risk, against the lowest"
        ),
    ]


def delays_over_the_year(daily_delays: Table) -> Panel:
    """Each day's mean delay, its average over a week, and the worst days by name."""
    month = alt.Axis(format="%b", tickCount="month", grid=False)
    base = alt.Chart(daily_delays).encode(x=alt.X("date:T", title=None, axis=month))
    legend = alt.Legend(title=None, orient="top", symbolType="square", symbolOpacity=1)
    color = alt.Color("what:N", legend=legend, sort=["each day", "average of seven days"])
    days = (
        base.transform_calculate(what="'each day'")
        .mark_bar(opacity=0.5)
        .encode(
            y=alt.Y("delay:Q", title="minutes late"),
            color=color,
            tooltip=[
                alt.Tooltip("date:T", format="%A, %-d %B"),
                alt.Tooltip("delay:Q", title="minutes late", format=".1f"),
                alt.Tooltip("flights:Q"),
                alt.Tooltip("cancelled:Q"),
            ],
        )
    )
    averages = base.transform_calculate(what="'average of seven days'")
    week = averages.mark_line(strokeWidth=2.5).encode(y="delay_7_days:Q", color=color)
    worst = (
        base.transform_filter("datum.rank <= 3")
        .transform_calculate(day="timeFormat(datum.date, '%-d %b')")
        .mark_text(dy=-7, fontSize=11)
        .encode(y="delay:Q", text="day:N")
    )
    return Panel(
        "Delays come in waves",
        days + week + worst,
        "The mean delay at arrival, day by day. Summer storms and the weeks before Christmas are bad, autumn is calm.",
        wide=True,
    )


def rush_hours(hourly_delays: Table) -> Panel:
    """Weekday against hour of departure."""
    by_hour = (
        hourly_delays.group_by("weekday", "hour")
        .agg(flights=_.flights.sum(), late=_.late.sum() / _.arrived.sum().nullif(0))
        .filter(_.hour >= 5)
    )
    chart = (
        alt.Chart(by_hour)
        .mark_rect(cornerRadius=2)
        .encode(
            x=alt.X("hour:O", title="scheduled hour of departure", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("weekday:O", sort=DAYS, title=None),
            color=alt.Color("late:Q", title="late", legend=alt.Legend(format=PERCENT, gradientLength=200)),
            tooltip=["weekday", "hour", alt.Tooltip("late:Q", format=".1%"), alt.Tooltip("flights:Q", format=",")],
        )
    )
    text = "The share of late arrivals grows through the day, as one delay begets the next. Saturdays recover."
    return Panel("Fly early", chart, text)


def weather(weather_delays: Table) -> Panel:
    """Late and cancelled flights by the weather at departure."""
    reported = weather_delays.filter(_.sky != "not reported").mutate(order=_.late)
    late = reported.select("sky", "flights", "order", what=ibis.literal("arrived late"), share=_.late)
    cancelled = reported.select("sky", "flights", "order", what=ibis.literal("were cancelled"), share=_.cancelled)
    shares = late.union(cancelled)
    chart = (
        alt.Chart(shares)
        .mark_bar(cornerRadiusEnd=3)
        .encode(
            x=alt.X("share:Q", title="share of flights", axis=alt.Axis(format=PERCENT, tickCount=5)),
            y=alt.Y("sky:N", sort=alt.SortField("order", order="ascending"), title=None),
            yOffset="what:N",
            color=alt.Color("what:N", legend=alt.Legend(title=None, orient="top")),
            tooltip=["sky", "what", alt.Tooltip("share:Q", format=".1%"), alt.Tooltip("flights:Q", format=",")],
        )
    )
    return Panel("Snow beats everything", chart, "What the weather in the hour of departure does to flights.")


def destinations(routes: Table, airports: Table) -> Panel:
    """A map drawn from the data alone: the list of airports is the land."""
    land = airports.filter(_.lon.between(-168, -60), _.lat.between(18, 70)).select("lon", "lat")
    places = (
        routes.filter(_.lat.notnull())
        .group_by("dest", "airport", "lon", "lat")
        .agg(late=(_.late * _.flights).sum() / _.flights.sum(), flights=_.flights.sum())
        .filter(_.flights >= 50)
        .mutate(from_lon=NEW_YORK[0], from_lat=NEW_YORK[1])
    )
    ground = (
        alt.Chart(land)
        .mark_circle(size=7, color="#8a97a6", opacity=0.6, tooltip=False)
        .encode(longitude="lon:Q", latitude="lat:Q")
    )
    base = alt.Chart(places)
    color = alt.Color(
        "late:Q",
        title=None,
        scale=alt.Scale(type="quantile"),
        legend=alt.Legend(format=PERCENT, orient="bottom", direction="horizontal", symbolOpacity=1),
    )
    lines = base.mark_rule(opacity=0.35, tooltip=False).encode(
        longitude="from_lon:Q", latitude="from_lat:Q", longitude2="lon:Q", latitude2="lat:Q", color=color
    )
    dots = base.mark_circle(opacity=0.95).encode(
        longitude="lon:Q",
        latitude="lat:Q",
        color=color,
        size=alt.Size("flights:Q", legend=None, scale=alt.Scale(range=[15, 320])),
        tooltip=["airport", alt.Tooltip("late:Q", format=".1%"), alt.Tooltip("flights:Q", format=",")],
    )
    chart = (ground + lines + dots).project("albersUsa").properties(height=340)
    return Panel(
        "Where they go",
        chart,
        "Destinations with at least 50 flights, by how many of them arrive late. The grey dots are all airports.",
    )


def carriers(carrier_delays: Table) -> Panel:
    """Airlines by the share of late arrivals."""
    large = carrier_delays.filter(_.flights >= 300)
    most = large.late.max().to_pyarrow().as_py()
    base = alt.Chart(large)
    bars = base.mark_bar(cornerRadiusEnd=3).encode(
        x=alt.X(
            "late:Q",
            title="share of late arrivals",
            axis=alt.Axis(format=PERCENT, tickCount=5),
            scale=alt.Scale(domain=[0, 1.15 * most], nice=False),
        ),
        y=alt.Y("name:N", sort=BY_LATE, title=None, axis=alt.Axis(labelLimit=200)),
        tooltip=[
            alt.Tooltip("name:N", title="airline"),
            alt.Tooltip("late:Q", format=".1%"),
            alt.Tooltip("cancelled:Q", format=".1%"),
            alt.Tooltip("flights:Q", format=","),
        ],
    )
    labels = base.mark_text(align="right", fontSize=11).encode(
        x=alt.value("width"), y=alt.Y("name:N", sort=BY_LATE), text=alt.Text("late:Q", format=PERCENT)
    )
    overall = base.mark_rule(strokeDash=[4, 4]).encode(x="max(late_overall):Q")
    text = "Airlines with at least 300 flights; the dashed line is all of them."
    return Panel("Who is late", (bars + overall + labels).properties(height=340), text)


def cancellations(daily_delays: Table) -> Panel:
    """A calendar of cancelled flights."""
    days = daily_delays.mutate(week=_.date.truncate("W"))
    first_of_month = "date(datum.value) <= 7 ? timeFormat(datum.value, '%b') : ''"
    weeks = alt.Axis(labelExpr=first_of_month, labelAngle=0, labelOverlap=False, ticks=False, domain=False)
    chart = (
        alt.Chart(days)
        .mark_rect(cornerRadius=2)
        .encode(
            x=alt.X("yearmonthdate(week):O", title=None, axis=weeks, scale=alt.Scale(padding=0.12)),
            y=alt.Y(
                "weekday:O",
                sort=DAYS,
                title=None,
                axis=alt.Axis(ticks=False, domain=False),
                scale=alt.Scale(padding=0.12),
            ),
            color=alt.Color(
                "cancelled_share:Q",
                title="cancelled",
                scale=alt.Scale(type="sqrt"),
                legend=alt.Legend(format=PERCENT, gradientLength=130),
            ),
            tooltip=[
                alt.Tooltip("date:T", format="%A, %-d %B"),
                "cancelled:Q",
                alt.Tooltip("cancelled_share:Q", title="share", format=".1%"),
            ],
        )
    )
    text = (
        "The share of each day's flights that never left. The two that stand out are a blizzard, on 8 and 9 February."
    )
    return Panel("Cancellations, day by day", chart.properties(height=170), text, wide=True)


def trust(calibration: Table) -> Panel:
    """Expected against true lateness, on seen and unseen months."""
    groups = calibration.mutate(
        months=ibis.ifelse(_.unseen, "unseen: October to December", "learned from: January to September")
    )
    share = alt.Axis(format=PERCENT, tickCount=6)
    perfect = alt.Chart(ibis.memtable({"x": [0.0, 0.7], "y": [0.0, 0.7]})).mark_line(
        strokeDash=[4, 4], strokeWidth=1.5, color="#8a97a6", tooltip=False
    )
    points = (
        alt.Chart(groups)
        .mark_line(point=alt.OverlayMarkDef(size=55, filled=True), strokeWidth=1.5)
        .encode(
            x=alt.X("expected:Q", title="risk, as the model says", axis=share),
            y=alt.Y("happened:Q", title="share that was late", axis=share),
            color=alt.Color("months:N", legend=alt.Legend(title=None, orient="top-left", labelLimit=300)),
            tooltip=[
                "months",
                "tenth",
                alt.Tooltip("expected:Q", format=".1%"),
                alt.Tooltip("happened:Q", format=".1%"),
                alt.Tooltip("flights:Q", format=","),
            ],
        )
    )
    text = "Flights in ten groups by risk. On the dashed line, a risk of 30% means that 30 of 100 flights are late."
    return Panel("Risks come true", perfect.encode(x="x:Q", y="y:Q") + points, text)


def risky_departures(risk_by_route: Table) -> Panel:
    """The routes and hours of highest risk, as a table."""
    worst = (
        risk_by_route.filter(_.flights >= 60)
        .order_by(_.expected.desc(), "origin", "dest", "hour")
        .limit(9)
        .select(
            "origin",
            "dest",
            "hour",
            "flights",
            **{"expected late, %": 100 * _.expected, "were late, %": 100 * _.happened},
        )
    )
    text = (
        "October to December, routes and hours with at least 60 flights: what the model expected, and what came true."
    )
    return Panel("Departures to avoid", worst, text)
