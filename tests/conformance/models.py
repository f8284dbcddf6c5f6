"""Estimators of every family that has an SQL form, and rows to fit and score them on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import numpy as np
import pyarrow as pa
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

ROWS = 200
NUMBERS = ("x", "y", "n")
SCHEMA = ibis.schema(
    {"id": "int64", "x": "float64", "y": "float64", "n": "int64", "city": "string", "gap": "float64", "flag": "boolean"}
)


def rows(seed: int) -> pa.Table:
    """Rows that differ from seed to seed; `gap` has NULL in every seventh."""
    random = np.random.default_rng(seed)
    gap = [None if n % 7 == 0 else float(v) for n, v in enumerate(random.normal(size=ROWS))]
    return pa.table(
        {
            "id": pa.array(range(ROWS), pa.int64()),
            "x": random.normal(size=ROWS),
            "y": np.round(random.uniform(0, 10, ROWS), 1),  # on a grid of 0.1, where float32 and float64 disagree
            "n": random.integers(0, 20, ROWS),
            "city": random.choice(["Rome", "New York", "Köln", "it's"], ROWS),
            "gap": pa.array(gap, pa.float64()),
            "flag": random.random(ROWS) < 0.4,
        }
    )


def target(table: pa.Table, kind: str) -> Any:
    """What is to be learnt from the rows."""
    strength = (
        table["x"].to_numpy() + table["n"].to_numpy() / 5 + (table["city"].to_numpy(zero_copy_only=False) == "Rome")
    )
    return {
        "boolean": strength > 2,
        "three": np.digitize(strength, [1, 3]),
        "text": np.where(strength > 2, "it's late", "in time"),
        "number": 3 * strength + 1,
    }[kind]


DTYPES = {"boolean": dt.boolean, "three": dt.int64, "text": dt.string, "number": dt.float64}


@dataclass(frozen=True)
class ModelCase:
    """An estimator, the features that it is fitted on, and what it learns."""

    id: str
    group: str
    make: Callable[[], Any]
    target: str
    features: Sequence[str] = NUMBERS


def _encoded(*steps: Any) -> Any:
    return make_pipeline(ColumnTransformer([(type(s[0]).__name__, *s) for s in steps]), LogisticRegression())


_CITY = ("x", "n", "city")

CASES = [
    ModelCase("linear", "Linear regression", LinearRegression, "number"),
    ModelCase("ridge", "Linear regression", lambda: make_pipeline(StandardScaler(), Ridge()), "number"),
    ModelCase("lasso", "Linear regression", lambda: Lasso(alpha=0.05), "number"),
    ModelCase("elastic_net", "Linear regression", lambda: ElasticNet(alpha=0.05), "number"),
    ModelCase("logistic", "Logistic regression", LogisticRegression, "boolean"),
    ModelCase("logistic_text", "Logistic regression", LogisticRegression, "text"),
    ModelCase("logistic_three", "Logistic regression", LogisticRegression, "three"),
    ModelCase("logistic_boolean_feature", "Logistic regression", LogisticRegression, "boolean", ("x", "flag")),
    ModelCase("standard_scaler", "Scalers", lambda: make_pipeline(StandardScaler(), LogisticRegression()), "boolean"),
    ModelCase("min_max_scaler", "Scalers", lambda: make_pipeline(MinMaxScaler(), LogisticRegression()), "boolean"),
    ModelCase("max_abs_scaler", "Scalers", lambda: make_pipeline(MaxAbsScaler(), LogisticRegression()), "boolean"),
    ModelCase("robust_scaler", "Scalers", lambda: make_pipeline(RobustScaler(), LogisticRegression()), "boolean"),
    ModelCase(
        "one_hot",
        "Encoders",
        lambda: _encoded((OneHotEncoder(), ["city"]), (StandardScaler(), ["x", "n"])),
        "boolean",
        _CITY,
    ),
    ModelCase(
        "ordinal",
        "Encoders",
        lambda: _encoded((OrdinalEncoder(), ["city"]), (StandardScaler(), ["x", "n"])),
        "boolean",
        _CITY,
    ),
    ModelCase(
        "imputer_mean",
        "Imputers",
        lambda: make_pipeline(SimpleImputer(), LogisticRegression()),
        "boolean",
        ("x", "gap"),
    ),
    ModelCase(
        "imputer_median",
        "Imputers",
        lambda: make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), Ridge()),
        "number",
        ("x", "gap"),
    ),
    ModelCase("tree", "Decision trees", lambda: DecisionTreeClassifier(max_depth=4, random_state=0), "boolean"),
    ModelCase("tree_three", "Decision trees", lambda: DecisionTreeClassifier(max_depth=4, random_state=0), "three"),
    ModelCase("tree_number", "Decision trees", lambda: DecisionTreeRegressor(max_depth=4, random_state=0), "number"),
    ModelCase("forest", "Random forests", lambda: RandomForestClassifier(6, max_depth=4, random_state=0), "boolean"),
    ModelCase(
        "forest_number", "Random forests", lambda: RandomForestRegressor(6, max_depth=4, random_state=0), "number"
    ),
    ModelCase(
        "boosting",
        "Gradient boosting",
        lambda: GradientBoostingClassifier(n_estimators=8, max_depth=2, random_state=0),
        "boolean",
    ),
    ModelCase(
        "boosting_number",
        "Gradient boosting",
        lambda: GradientBoostingRegressor(n_estimators=8, max_depth=2, random_state=0),
        "number",
    ),
    ModelCase(
        "imputed_scaled_encoded",
        "A whole preprocessing pipeline",
        lambda: _encoded(
            (OneHotEncoder(), ["city"]), (make_pipeline(SimpleImputer(), StandardScaler()), ["x", "gap", "n"])
        ),
        "text",
        ("x", "gap", "n", "city"),
    ),
]
