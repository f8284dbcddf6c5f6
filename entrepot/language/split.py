"""How rows are divided into those a model learns from and those it is scored on.

Every split depends on the rows' values alone, never on the order in which a warehouse returns them, so that the same
table gives the same two parts everywhere. None depends on the target: rows chosen by what is to be learnt would bias
both the model and its scores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from entrepot.errors import BadInput

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd


@dataclass(frozen=True)
class Share:
    """Keeps a share of the rows for scoring, chosen by a hash of each row, or of one column.

    Rows that are equal in every column but the target are numbered, so that they are spread over both parts.

    Args:
        test: The share of rows that is kept for scoring, between 0 and 1. Default: 0.25.
        seed: Another number gives another choice. Default: 0.
        key: A column by whose values rows are chosen: rows with one value stay together, and stay where they are when
            others are added. Default: all columns but the target.

    Raises:
        BadInput: If `test` is not between 0 and 1.

    Examples:
        ```python
        import pandas as pd
        from entrepot import split

        orders = pd.DataFrame({"id": range(1_000)})
        assert 200 < split.Share(0.25, key="id").mask(orders).sum() < 300
        ```
    """

    test: float = 0.25
    seed: int = 0
    key: str | None = None

    def __post_init__(self) -> None:
        _check_share(self)

    def columns(self) -> tuple[str, ...]:
        """The columns that it reads, which are no features."""
        return (self.key,) if self.key else ()

    def mask(self, frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
        """Which rows are kept for scoring. Rows that are alike must come in an order that does not change."""
        hashes = _row_hashes(frame[[self.key]]) if self.key else _apart(_row_hashes(frame))
        return _chosen(hashes, self.test, self.seed)


@dataclass(frozen=True)
class Time:
    """Keeps the latest rows for scoring, as a model in production meets them.

    Args:
        column: A column of dates, times or numbers, by which rows are ordered.
        test: The share of rows that is kept for scoring, between 0 and 1. Ignored if `start` is given. Default: 0.25.
        start: The first date, time (UTC without a zone) or number that is kept for scoring. Default: given by `test`.

    Raises:
        BadInput: If `test` is not between 0 and 1, or, when the model is fitted, if `start` is not a date or time.

    Examples:
        ```python
        import pandas as pd
        from entrepot import split

        days = pd.DataFrame({"day": pd.date_range("2026-01-01", periods=4)})
        assert list(split.Time("day", start="2026-01-03").mask(days)) == [False, False, True, True]
        ```
    """

    column: str
    test: float = 0.25
    start: str | None = None

    def __post_init__(self) -> None:
        _check_share(self)

    def columns(self) -> tuple[str, ...]:
        """The columns that it reads, which are no features."""
        return (self.column,)

    def mask(self, frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
        """Which rows are kept for scoring."""
        import pandas as pd

        times = frame[self.column]
        start: Any = self.start
        if pd.api.types.is_numeric_dtype(times):  # a year, an epoch, a load number
            start = start and float(start)
        else:
            times = pd.to_datetime(times, utc=True)
            start = start and _utc(start)
        if start is not None:
            return np.asarray(times >= start, dtype=bool)
        return np.asarray(times > times.quantile(1 - self.test, interpolation="lower"), dtype=bool)


@dataclass(frozen=True)
class Group:
    """Keeps whole groups for scoring: all rows with one value of a column are on one side.

    Args:
        column: The column whose values are the groups. It is not a feature.
        test: The share of groups that is kept for scoring, between 0 and 1. Default: 0.25.
        seed: Another number gives another choice. Default: 0.

    Raises:
        BadInput: If `test` is not between 0 and 1.

    Examples:
        ```python
        import pandas as pd
        from entrepot import split

        orders = pd.DataFrame({"customer": ["ann", "bob", "ann", "bob"]})
        mask = split.Group("customer", test=0.5).mask(orders)
        assert mask[0] == mask[2]
        ```
    """

    column: str
    test: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        _check_share(self)

    def columns(self) -> tuple[str, ...]:
        """The columns that it reads, which are no features."""
        return (self.column,)

    def mask(self, frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
        """Which rows are kept for scoring."""
        return _chosen(_row_hashes(frame[[self.column]]), self.test, self.seed)


@dataclass(frozen=True)
class Where:
    """Keeps the rows for scoring for which an ibis expression is true. Where it is NULL, rows are learnt from.

    Args:
        test: A function from the table of features to a boolean column.

    Examples:
        ```python
        import ibis
        from entrepot import split

        december = split.Where(lambda table: table.month == 12)
        assert december.test(ibis.memtable({"month": [11, 12]})).execute().tolist() == [False, True]
        ```
    """

    test: Callable[[Any], Any]

    def columns(self) -> tuple[str, ...]:
        """The columns that it reads, which are no features."""
        return (TEST_COLUMN,)

    def mask(self, frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
        """Which rows are kept for scoring."""
        return np.asarray(frame[TEST_COLUMN].fillna(False), dtype=bool)


Split = Share | Time | Group | Where

TEST_COLUMN = "entrepot_test"
"""The column in which the warehouse answers a `Where` split."""


def _check_share(split: Share | Time | Group) -> None:
    if not 0 < split.test < 1:
        raise BadInput(f"{split}: `test` is a share of the rows, between 0 and 1")


def _utc(text: str) -> pd.Timestamp:
    import pandas as pd

    try:
        moment = pd.Timestamp(text)
    except ValueError:
        raise BadInput(f"a split cannot start at {text!r}: write a date or time, as in '2013-10-01'") from None
    return moment.tz_localize("UTC") if moment.tzinfo is None else moment.tz_convert("UTC")


def order_of(frame: pd.DataFrame) -> npt.NDArray[np.int64]:
    """An order of the rows that their values alone give, in which those that are alike are far apart."""
    return np.argsort(_mixed(_apart(_row_hashes(frame))), kind="stable")


def _row_hashes(frame: pd.DataFrame) -> npt.NDArray[np.uint64]:
    """A hash of each row, the same for equal values on every warehouse and in any order of the columns."""
    import pandas as pd

    plain = pd.DataFrame({name: _plain(frame[name]) for name in sorted(frame.columns)}, index=frame.index)
    return np.asarray(pd.util.hash_pandas_object(plain, index=False), dtype=np.uint64)


def _apart(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The hashes with a number among those that are equal counted in."""
    import pandas as pd

    number = pd.Series(hashes).groupby(hashes).cumcount().to_numpy(dtype=np.uint64)
    return np.asarray(hashes + number * np.uint64(0xD1B54A32D192ED03))


def _chosen(hashes: npt.NDArray[np.uint64], share: float, seed: int) -> npt.NDArray[np.bool_]:
    mixed = _mixed(hashes + np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64))
    return np.asarray((mixed >> np.uint64(11)) < np.uint64(share * 2**53))


def _mixed(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The end of SplitMix64: without it, two seeds would give shifted copies of one choice."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))


def _plain(values: pd.Series[Any]) -> pd.Series[Any]:
    """One type for all numbers, and one for all times: a value hashes alike, whatever width its warehouse stores."""
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(values):
        return pd.to_datetime(values, utc=True).dt.as_unit("us")
    if pd.api.types.is_numeric_dtype(values):
        return values.astype("float64") + 0.0  # so that -0.0 is 0.0
    return values.astype(object)
