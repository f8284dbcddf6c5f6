"""How rows are divided into those a model learns from and those it is scored on.

Every split depends on the rows' values alone, never on the order in which a warehouse returns them, so that the same
table gives the same two parts everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd


@dataclass(frozen=True)
class Share:
    """A share of the rows, chosen by a hash of the row (or of `key`), is kept for scoring."""

    test: float = 0.25
    seed: int = 0
    key: str | None = None

    def columns(self) -> tuple[str, ...]:
        return (self.key,) if self.key else ()

    def mask(self, frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
        return _hashed_share(frame[[self.key]] if self.key else frame, self.test, self.seed)


@dataclass(frozen=True)
class Time:
    """The latest rows are kept for scoring: those from `start` on, or the last `test` share by `column`."""

    column: str
    test: float = 0.25
    start: str | None = None

    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    def mask(self, frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
        import pandas as pd

        times = frame[self.column]
        if self.start is None:
            border = times.quantile(1 - self.test, interpolation="lower")
            return np.asarray(times > border, dtype=bool)
        moment = pd.Timestamp(self.start)
        zone = getattr(times.dt, "tz", None) if pd.api.types.is_datetime64_any_dtype(times) else None
        if zone is not None and moment.tzinfo is None:
            moment = moment.tz_localize("UTC")
        return np.asarray(pd.to_datetime(times) >= moment, dtype=bool)


@dataclass(frozen=True)
class Group:
    """Whole groups (all rows with one value of `column`) are kept for scoring, about `test` of them."""

    column: str
    test: float = 0.25
    seed: int = 0

    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    def mask(self, frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
        return _hashed_share(frame[[self.column]], self.test, self.seed)


@dataclass(frozen=True)
class Where:
    """The rows for which an ibis expression is true are kept for scoring: `Where(lambda t: t.month == 12)`."""

    test: Callable[[Any], Any]

    def columns(self) -> tuple[str, ...]:
        return (TEST_COLUMN,)

    def mask(self, frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
        return np.asarray(frame[TEST_COLUMN].fillna(False), dtype=bool)


Split = Share | Time | Group | Where

TEST_COLUMN = "entrepot_test"
"""The column in which the warehouse answers a `Where` split."""


def _hashed_share(frame: pd.DataFrame, share: float, seed: int) -> npt.NDArray[np.bool_]:
    import pandas as pd

    hashes = pd.util.hash_pandas_object(frame, index=False).to_numpy(dtype=np.uint64)
    mixed = (hashes ^ np.uint64(seed)) * np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing: spreads the seed
    return np.asarray((mixed >> np.uint64(11)) < np.uint64(share * 2**53))
