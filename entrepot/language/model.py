"""A model inside an expression: where rows are to be scored, said before the model is even fitted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
from ibis.common.annotations import attribute
from ibis.common.collections import FrozenOrderedDict

from entrepot.errors import BadInput, listed, unknown

PREDICTION = "prediction"


class Predict(ops.Relation):  # type: ignore[misc]
    """The rows of `parent`, scored by the model called `model`.

    It stands in an expression until the step runs. Then it is replaced by what computes it: the model as an expression,
    or a table that was scored in Python.
    """

    parent: ops.Relation
    model: str
    features: tuple[str, ...]
    keep: tuple[str, ...]
    classes: tuple[Any, ...]
    dtype: dt.DataType

    @attribute  # type: ignore[untyped-decorator]
    def schema(self) -> ibis.Schema:
        """The kept columns, and the scores."""
        columns = {name: self.parent.schema[name] for name in self.keep}
        columns[PREDICTION] = self.dtype
        columns |= dict.fromkeys(map(probability_column, self.classes), dt.float64)
        return ibis.schema(columns)

    @attribute  # type: ignore[untyped-decorator]
    def values(self) -> FrozenOrderedDict[str, Any]:
        """None: no column is computed from the parent's by an expression."""
        return FrozenOrderedDict()


@dataclass(frozen=True)
class Model:
    """The model of a train step, as an input of a transform. You annotate a parameter with it, and never make one.

    When the step runs, the model is translated to SQL and scored in the warehouse if that SQL agrees with the estimator
    on a sample of the rows, else it is scored in Python, in Arrow batches.

    Attributes:
        name: The train step's name.
        features: The columns that the model was, or will be, fitted on.
        dtype: The ibis type of what it predicts.
        has_probabilities: Whether it is a classifier that gives the probability of each class.

    Examples:
        ```python
        from sklearn.linear_model import LogisticRegression
        from entrepot import Model, Pipeline, Table

        shop = Pipeline("shop")


        @shop.ingest(tables={"orders": {"order_id": "int64", "amount": "float64", "returned": "boolean"}})
        def orders(): ...


        @shop.train(features="orders", target="returned", columns=["amount"], score="roc_auc")
        def return_model():
            return LogisticRegression()


        @shop.transform
        def return_risk(orders: Table, return_model: Model) -> Table:
            return return_model.predict(orders, keep=["order_id"], classes=[True])
        ```
    """

    name: str
    features: tuple[str, ...]
    dtype: dt.DataType
    has_probabilities: bool

    def predict(
        self, table: ibis.Table, *, keep: str | Sequence[str] | None = None, classes: Sequence[Any] = ()
    ) -> ibis.Table:
        """Scores the rows of a table. The result is a lazy expression, which is computed when its step runs.

        Args:
            table: A table that has the model's feature columns.
            keep: The columns to keep beside the scores. Default: all.
            classes: Class labels whose probabilities are wanted. Default: none.

        Returns:
            A table with the kept columns, `prediction`, and `probability_<class>` for each of `classes`.

        Raises:
            BadInput: If the table lacks a feature or a kept column, a column would be there twice, or `classes` are
                given though the model has no probabilities.

        Examples:
            ```python
            import ibis
            from entrepot import Model

            model = Model("return_model", features=("amount",), dtype=ibis.dtype("boolean"), has_probabilities=True)
            orders = ibis.table({"order_id": "int64", "amount": "float64"}, name="orders")
            scored = model.predict(orders, keep=["order_id"], classes=[True])
            assert scored.columns == ("order_id", "prediction", "probability_true")
            ```
        """
        if missing := [name for name in self.features if name not in table.columns]:
            columns = f"column{'s' if len(missing) > 1 else ''} {listed(missing)}"
            raise BadInput(f"model {self.name!r} needs the feature {columns}, which the table lacks")
        kept = tuple(table.columns) if keep is None else (keep,) if isinstance(keep, str) else tuple(keep)
        for name in kept:
            if name not in table.columns:
                raise BadInput(f"predict(keep=...): {unknown('column', name, table.columns)}")
        if len({*map(probability_column, classes)}) < len(classes):
            raise BadInput(f"predict(classes=...): two of {list(classes)} would have the same column")
        if clash := {PREDICTION, *map(probability_column, classes)} & set(kept):
            raise BadInput(f"predict would write the column {min(clash)!r}, which it was told to keep; rename it first")
        if classes and not self.has_probabilities:
            raise BadInput(f"model {self.name!r} has no probabilities, so none of {classes[0]!r}; leave out `classes`")
        return Predict(table.op(), self.name, self.features, kept, tuple(classes), self.dtype).to_expr()


def probability_column(label: Any) -> str:
    """The column in which the probability of a class is found: `probability_true` for `True`."""
    return "probability_" + re.sub(r"\W+", "_", str(label).lower()).strip("_")
