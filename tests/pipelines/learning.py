"""Trainings that go well, that are worse than a guess, and that cannot be kept."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from ibis import _
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin

from entrepot import Model, Pipeline, Table, split

learning = Pipeline("learning")


@learning.ingest
def visits() -> list[dict[str, Any]]:
    """Few different rows: 4,000 visits on three days, of which about a third ends in a sale."""
    dice = random.Random(5)
    rows = [{"day": n % 3, "city": dice.choice(["Rome", "Köln"]), "sold": dice.random() < 0.345} for n in range(4_000)]
    return [{**row, "hours": None if n % 9 == 0 else float(n % 24), "one": 1} for n, row in enumerate(rows)]


class Typed(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Asks its input for columns by name, and for their types, as people's own transformers do."""

    def fit(self, rows: Any, target: Any = None) -> Typed:
        self.types_ = [str(dtype) for dtype in rows.dtypes]
        return self

    def transform(self, rows: Any) -> Any:
        assert [str(dtype) for dtype in rows.dtypes] == self.types_, f"{list(rows.dtypes)} are not {self.types_}"
        return np.column_stack([rows["day"], rows["hours"].fillna(0)])


class Contrary(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Says the opposite of what is most common."""

    def fit(self, rows: Any, target: Any) -> Contrary:
        self.classes_, counts = np.unique(target, return_counts=True)
        self.rarest_ = self.classes_[counts.argmin()]
        return self

    def predict(self, rows: Any) -> Any:
        return np.full(len(rows), self.rarest_)


class Forgetful(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Keeps what it learns where no file has it."""

    classes_ = np.array([False, True])

    def fit(self, rows: Any, target: Any) -> Forgetful:
        self.__dict__["often"] = target.mean() > 0.3
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def predict(self, rows: Any) -> Any:
        return np.full(len(rows), bool(self.__dict__.get("often")))


@learning.train(features=visits, target="sold", columns=["day", "one"], score=["roc_auc", "neg_log_loss"])
def rate() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression()


@learning.train(features=visits, target="sold", columns=["day"], score="accuracy")
def contrary() -> Any:
    return Contrary()


@learning.train(features=visits, target="sold", columns=["day", "hours"], score="accuracy")
def typed() -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline

    return make_pipeline(Typed(), HistGradientBoostingClassifier(max_iter=3))


@learning.transform
def by_typed(visits: Table, typed: Model) -> Table:
    return typed.predict(visits.filter(_.hours.notnull()), keep="day", classes=[True])


@learning.transform
def no_visit(visits: Table, typed: Model, rate: Model) -> Table:
    nobody = visits.filter(_.day > 9)
    return typed.predict(nobody, keep="day").union(rate.predict(nobody, keep="day"))


@learning.train(features=visits, target="sold", columns=["day"], score="accuracy")
def unnamed() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    return make_pipeline(FunctionTransformer(lambda rows: rows + 1), LogisticRegression())


@learning.train(features=visits, target="sold", columns=["day"], score="accuracy")
def forgetful() -> Any:
    return Forgetful()


@learning.transform
def rome(visits: Table) -> Table:
    return visits.mutate(sold=(_.city == "Rome") & _.sold)


@learning.train(
    features=rome, target="sold", columns=["day"], split=split.Where(lambda t: t.city == "Köln"), score="roc_auc"
)
def undecided() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression()
