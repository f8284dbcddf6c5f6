"""What was computed from given rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


@dataclass(frozen=True, eq=False)
class Result:
    """The rows of a computed table, the violating rows of a check, or the broken rules of a contract.

    It is iterated as dicts, and may be given for a table itself. Rows have no order, as in a warehouse.

    Attributes:
        name: The step's name.
        types: Names of columns to their ibis types.

    Examples:
        ```python
        from entrepot import Pipeline, Table
        from entrepot.testing import Result, compute

        shop = Pipeline("shop")


        @shop.ingest
        def sales(): ...


        @shop.transform
        def doubled(sales: Table) -> Table:
            return sales.mutate(amount=sales.amount * 2)


        found: Result = compute(shop, doubled, sales=[{"id": 1, "amount": 2.5}])
        assert found.types == {"id": "int64", "amount": "float64"}
        assert found.rows() == [{"id": 1, "amount": 5.0}]
        assert found.to_pandas()["amount"].sum() == 5.0
        ```
    """

    name: str
    types: dict[str, str]
    _table: pa.Table = field(repr=False)

    @property
    def columns(self) -> list[str]:
        """The names of the columns, in their order."""
        return [*self.types]

    def rows(self) -> list[dict[str, Any]]:
        """A dict for each row."""
        found: list[dict[str, Any]] = self._table.to_pylist()
        return found

    def to_arrow(self) -> pa.Table:
        """The rows as an Arrow table."""
        return self._table

    def to_pandas(self) -> pd.DataFrame:
        """The rows as a data frame."""
        frame: pd.DataFrame = self._table.to_pandas()
        return frame

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows())


@dataclass(frozen=True)
class FittedModel:
    """A model that was fitted on given rows.

    Attributes:
        name: The step's name.
        estimator: The fitted scikit-learn estimator.
        features: The columns that it was fitted on.
        scores: By name, on the rows that were kept for scoring.
        baseline: The scores of a guess that ignores the features.

    Examples:
        ```python
        from entrepot import Pipeline
        from entrepot.testing import FittedModel, fit

        shop = Pipeline("shop")


        @shop.ingest
        def sales(): ...


        @shop.train(features="sales", target="returned", columns=["amount"], score="accuracy")
        def returns():
            from sklearn.linear_model import LogisticRegression

            return LogisticRegression()


        model: FittedModel = fit(shop, returns, sales=[{"amount": float(n), "returned": n > 20} for n in range(40)])
        assert model.scores["accuracy"] > model.baseline["accuracy"]
        assert model.features == ("amount",)
        ```
    """

    name: str
    estimator: Any
    features: tuple[str, ...]
    scores: dict[str, float]
    baseline: dict[str, float]
