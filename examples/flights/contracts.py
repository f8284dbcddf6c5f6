"""What two tables promise to whoever reads them. A run that would break a promise publishes nothing."""

from __future__ import annotations

import pandera.ibis as pa


class Departures(pa.DataFrameModel):
    """One row for every scheduled departure."""

    flight_id: str = pa.Field(unique=True)
    origin: str = pa.Field(isin=["EWR", "JFK", "LGA"])
    hour: int = pa.Field(in_range={"min_value": 0, "max_value": 23})
    distance: int = pa.Field(gt=0)
    dep_delay: int = pa.Field(gt=-60, nullable=True)
    wind_speed: float = pa.Field(in_range={"min_value": 0, "max_value": 200}, nullable=True)


class Risk(pa.DataFrameModel):
    """One row for every scheduled departure, with the probability that it arrives late."""

    flight_id: str = pa.Field(unique=True)
    risk: float = pa.Field(in_range={"min_value": 0, "max_value": 1})
