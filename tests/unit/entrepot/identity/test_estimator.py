"""Which changes of an estimator or a contract are changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandera.ibis as pa
import pytest
from scipy import stats
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, make_scorer
from sklearn.model_selection import GridSearchCV, KFold, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from entrepot.identity.estimator import contract_identity, estimator_identity
from tests.unit.entrepot.seeds import printed


class Halved(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    def __init__(self, by: float = 2) -> None:
        self.by = by


class HalvedOtherwise(Halved):
    def transform(self, x: Any) -> Any:
        return x / self.by


def _double(x: Any) -> Any:
    return x * 2


def _triple(x: Any) -> Any:
    return x * 3


ESTIMATORS: dict[str, Callable[[], Any]] = {
    "plain": LogisticRegression,
    "a parameter": lambda: LogisticRegression(C=2),
    "a parameter of another type": lambda: LogisticRegression(C=1),
    "a parameter as NumPy's": lambda: LogisticRegression(C=np.float32(1)),
    "weights": lambda: LogisticRegression(class_weight={0: 1, 1: 2}),
    "weights by text": lambda: LogisticRegression(class_weight={"0": 1, "1": 2}),
    "another class": RandomForestClassifier,
    "a seed": lambda: RandomForestClassifier(random_state=1),
    "a random state": lambda: RandomForestClassifier(random_state=np.random.RandomState(1)),
    "another random state": lambda: RandomForestClassifier(random_state=np.random.RandomState(2)),
    "a pipeline": lambda: make_pipeline(StandardScaler(), LogisticRegression()),
    "a parameter in a pipeline": lambda: make_pipeline(StandardScaler(with_mean=False), LogisticRegression()),
    "more in a pipeline": lambda: make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()),
    "some columns": lambda: ColumnTransformer([("a", StandardScaler(), ["x"])]),
    "other columns": lambda: ColumnTransformer([("a", StandardScaler(), ["y"])]),
    "a search": lambda: GridSearchCV(LogisticRegression(), {"C": [1, 2]}),
    "another search": lambda: GridSearchCV(LogisticRegression(), {"C": [1, 3]}),
    "a search over folds": lambda: GridSearchCV(LogisticRegression(), {"C": [1, 2]}, cv=KFold(3)),
    "a search over more folds": lambda: GridSearchCV(LogisticRegression(), {"C": [1, 2]}, cv=KFold(4)),
    "a search by a score": lambda: GridSearchCV(LogisticRegression(), {"C": [1, 2]}, scoring=make_scorer(f1_score)),
    "a random search": lambda: RandomizedSearchCV(LogisticRegression(), {"C": stats.loguniform(0.1, 1)}),
    "a wider random search": lambda: RandomizedSearchCV(LogisticRegression(), {"C": stats.loguniform(0.1, 2)}),
    "an array": lambda: StandardScaler(copy=np.arange(5_000)),
    "an array, otherwise in the middle": lambda: StandardScaler(
        copy=np.where(np.arange(5_000) == 2_500, 0, np.arange(5_000))
    ),
    "an array of another type": lambda: StandardScaler(copy=np.arange(5_000, dtype="int32")),
    "an array of objects": lambda: StandardScaler(copy=np.array(["a", "b"], dtype=object)),
    "an array of other objects": lambda: StandardScaler(copy=np.array(["a", "c"], dtype=object)),
    "a function": lambda: FunctionTransformer(_double),
    "another function": lambda: FunctionTransformer(_triple),
    "a function of NumPy": lambda: FunctionTransformer(np.log1p),
    "another function of NumPy": lambda: FunctionTransformer(np.log),
    "a lambda": lambda: FunctionTransformer(lambda x: x + 1),
    "another lambda": lambda: FunctionTransformer(lambda x: x + 2),
    "a class of one's own": Halved,
    "its parameter": lambda: Halved(3),
    "another class of one's own": HalvedOtherwise,
}


def test_every_estimator_has_an_identity_of_its_own() -> None:
    by_hash: dict[str, list[str]] = {}
    for name, make in ESTIMATORS.items():
        by_hash.setdefault(estimator_identity(make(), __name__), []).append(name)
    assert [names for names in by_hash.values() if len(names) > 1] == []


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_estimator_made_again_is_the_same(name: str) -> None:
    assert estimator_identity(ESTIMATORS[name](), __name__) == estimator_identity(ESTIMATORS[name](), __name__)


def test_estimators_are_the_same_in_every_process() -> None:
    script = (
        "from tests.unit.entrepot.identity.test_estimator import *\n"
        "print({n: estimator_identity(m(), 'tests') for n, m in ESTIMATORS.items()})"
    )
    seen = printed(script, ["1", "2"])
    assert len(seen) == 1


def test_a_changed_class_of_ones_own_is_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(name: str, by: int) -> str:
        head = "from sklearn.base import BaseEstimator\nclass Own(BaseEstimator):\n"
        (tmp_path / f"{name}.py").write_text(head + f"    def predict(self, x): return x * {by}\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        return estimator_identity(__import__(name).Own(), name).replace(name, "")

    assert made("own_one", 1) != made("own_two", 2)


class Priced(pa.DataFrameModel):
    price: float = pa.Field(gt=0)


def contract(**changes: Any) -> Any:
    class Contract(pa.DataFrameModel):
        price: float = pa.Field(**{"gt": 0, **changes})

    return Contract


SCHEMAS: dict[str, Callable[[], Any]] = {
    "a column": lambda: pa.DataFrameSchema({"a": pa.Column(int)}),
    "another column": lambda: pa.DataFrameSchema({"b": pa.Column(int)}),
    "a column of another type": lambda: pa.DataFrameSchema({"a": pa.Column(float)}),
    "a column with NULL": lambda: pa.DataFrameSchema({"a": pa.Column(int, nullable=True)}),
    "a column of unique values": lambda: pa.DataFrameSchema({"a": pa.Column(int, unique=True)}),
    "a column that may be missing": lambda: pa.DataFrameSchema({"a": pa.Column(int, required=False)}),
    "no other column": lambda: pa.DataFrameSchema({"a": pa.Column(int)}, strict=True),
    "a key": lambda: pa.DataFrameSchema({"a": pa.Column(int)}, unique=["a"]),
    "a check": lambda: pa.DataFrameSchema({"a": pa.Column(int, pa.Check.gt(0))}),
    "a check with another bound": lambda: pa.DataFrameSchema({"a": pa.Column(int, pa.Check.gt(1))}),
    "another check": lambda: pa.DataFrameSchema({"a": pa.Column(int, pa.Check.ge(0))}),
    "a check that warns": lambda: pa.DataFrameSchema({"a": pa.Column(int, pa.Check.gt(0, raise_warning=True))}),
    "a set": lambda: pa.DataFrameSchema({"a": pa.Column(str, pa.Check.isin(["x", "y"]))}),
    "another set": lambda: pa.DataFrameSchema({"a": pa.Column(str, pa.Check.isin(["x", "z"]))}),
    "a check of one's own": lambda: pa.DataFrameSchema({"a": pa.Column(int, pa.Check(lambda d: d.table[d.key] > 0))}),
    "another check of one's own": lambda: pa.DataFrameSchema(
        {"a": pa.Column(int, pa.Check(lambda d: d.table[d.key] > 1))}
    ),
    "a check of the table": lambda: pa.DataFrameSchema({"a": pa.Column(int)}, checks=pa.Check(lambda d: d.table.a > 0)),
    "another check of the table": lambda: pa.DataFrameSchema(
        {"a": pa.Column(int)}, checks=pa.Check(lambda d: d.table.a > 1)
    ),
    "a model": lambda: Priced,
    "a model with a bound": contract,
    "a model with another bound": lambda: contract(gt=1),
    "a model with NULL": lambda: contract(nullable=True),
}


def test_every_contract_has_an_identity_of_its_own() -> None:
    by_hash: dict[str, list[str]] = {}
    for name, make in SCHEMAS.items():
        by_hash.setdefault(contract_identity(make()), []).append(name)
    assert [names for names in by_hash.values() if len(names) > 1] == []


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_contract_made_again_is_the_same(name: str) -> None:
    assert contract_identity(SCHEMAS[name]()) == contract_identity(SCHEMAS[name]())
