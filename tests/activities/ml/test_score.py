"""What is rare in a table is scored as scikit-learn scores it, or refused as it refuses it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ibis.expr.datatypes as dt
import numpy as np
import pyarrow as pa
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, QuantileTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from entrepot.activities.catalog.details import ModelDetails
from entrepot.activities.catalog.version import Version
from entrepot.activities.ml import models
from entrepot.activities.ml.score import Scorer
from entrepot.activities.ml.translation import frame
from entrepot.activities.runtime.context import ActivityContext
from entrepot.activities.runtime.isolation.builder import Builder
from entrepot.activities.runtime.isolation.processes import StepProcesses
from entrepot.activities.runtime.tenant import PipelineSettings, Tenant, Tenants
from entrepot.backends import TableName
from entrepot.backends.base import physical
from entrepot.errors import StepFailed
from entrepot.language.model import Model
from entrepot.language.step import TransformStep
from entrepot.registry import Registry
from tests.pipelines.shop import shop

ROWS = 10_000
FEATURES = ["x", "y", "shop", "city"]


def rows(count: int, seed: int, **rare: Any) -> pa.Table:
    """Random rows; of the last one, some values are given."""
    random = np.random.default_rng(seed)
    data: dict[str, list[Any]] = {
        "x": random.normal(size=count).tolist(),
        "y": random.uniform(0, 10, count).tolist(),
        "shop": random.integers(1, 5, count).tolist(),
        "city": random.choice(["Rome", "Köln", "it's"], count).tolist(),
    }
    for name, value in rare.items():
        data[name][-1] = value
    kinds = {"x": pa.float64(), "y": pa.float64(), "shop": pa.int64(), "city": pa.string()}
    return pa.table({name: pa.array(values, kinds[name]) for name, values in data.items()})


def encoding(*transformers: Any) -> Any:
    return make_pipeline(ColumnTransformer(list(transformers)), LogisticRegression())


NUMBERS = ("numbers", StandardScaler(), ["x", "y"])
ESTIMATORS: dict[str, Callable[[], Any]] = {
    "text": lambda: encoding(("city", OneHotEncoder(), ["city"]), NUMBERS),
    "text, others ignored": lambda: encoding(("city", OneHotEncoder(handle_unknown="ignore"), ["city"]), NUMBERS),
    "text as numbers": lambda: encoding(("city", OrdinalEncoder(), ["city"]), NUMBERS),
    "whole numbers": lambda: encoding(("shop", OneHotEncoder(), ["shop"]), NUMBERS),
    "whole numbers as numbers": lambda: encoding(("shop", OrdinalEncoder(), ["shop"]), NUMBERS),
    "filled": lambda: encoding(("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["x", "y"])),
    "a tree": lambda: encoding(("numbers", "passthrough", ["x", "y"])).set_params(
        logisticregression=DecisionTreeClassifier(max_depth=3, random_state=0)
    ),
    "a search": lambda: GridSearchCV(encoding(("city", OneHotEncoder(), ["city"]), NUMBERS), {}, cv=2),
}
RARE: dict[str, dict[str, Any]] = {
    "nothing": {},
    "a city": {"city": "Oslo"},
    "no city": {"city": None},
    "a shop": {"shop": 99},
    "no shop": {"shop": None},
    "NULL": {"y": None},
    "NaN": {"y": float("nan")},
    "infinity": {"y": float("inf")},
    "minus infinity": {"x": float("-inf")},
    "NaN and infinity": {"y": float("nan"), "x": float("inf")},
    "beyond float32": {"x": -1e39},
    "a large number": {"x": 1e9},
}


class Warehouse:
    """A tenant's DuckDB file, with tables to score and a model in the lake."""

    def __init__(self, folder: Path) -> None:
        settings = {"type": "duckdb", "path": str(folder / "acme.duckdb")}
        self.tenant = Tenant("acme", settings, str(folder / "lake"), {"shop": PipelineSettings("shop")})
        self._tenants = Tenants({"acme": self.tenant}, Registry({"shop": "tests.pipelines.shop:shop"}))
        self._lake = str(folder / "lake")

    def score(self, estimator: Any, table: pa.Table) -> tuple[pa.Table, str]:
        """The table, scored, and how."""
        names = [name for name in table.column_names if name != "id"]
        file = models.save(estimator, self._lake, frame(table.slice(0, 5), names))
        known = ModelDetails(file=file, features=tuple(names), dtype="boolean", classifier=True)
        version = Version("m", "1", "train", "", None, {}, {}, 0, known, "r")
        model = Model("m", tuple(names), dt.boolean, has_probabilities=True)
        work = ActivityContext(self.tenant, "r", "s")
        step = next(each for each in shop.graph.steps.values() if isinstance(each, TransformStep))
        processes = StepProcesses(work, self._tenants, "shop", step)
        with work.session() as session, Builder(work, self._tenants, "shop") as builder:
            session.create_schema("s")
            connection: Any = session._connection  # type: ignore[attr-defined]
            connection.register("given", table)
            connection.execute("CREATE OR REPLACE TABLE s.rows AS SELECT row_number() OVER () AS id, * FROM given")
            connection.execute("DROP TABLE IF EXISTS s.scored")
            source = physical(TableName("s", "rows"), session.describe(TableName("s", "rows")))
            scored = model.predict(source, keep="id", classes=[True])
            _, scoring = Scorer(session, {"m": version}, builder, processes).create(TableName("s", "scored"), scored)
            found = session.fetch(physical(TableName("s", "scored"), scored.schema()).order_by("id"))
        assert scoring is not None
        return found, scoring.said


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    made = Warehouse(tmp_path_factory.mktemp("warehouse"))
    yield made
    made.tenant.close()


CASES = [
    *(("text", rare) for rare in RARE),
    *(("filled", rare) for rare in ("nothing", "NULL", "NaN", "infinity")),
    *(("a tree", rare) for rare in ("nothing", "NULL", "NaN", "beyond float32")),
    *((name, "a city") for name in ("text, others ignored", "text as numbers", "a search")),
    ("text, others ignored", "no city"),
    ("whole numbers", "a shop"),
    ("whole numbers as numbers", "a shop"),
]


@pytest.mark.parametrize(("name", "rare"), dict.fromkeys(CASES))
def test_one_rare_row_in_thousands(name: str, rare: str, warehouse: Warehouse) -> None:
    seen = frame(rows(500, 0), FEATURES)
    fitted = ESTIMATORS[name]().fit(seen, seen["x"] + (seen["city"] == "Rome") + seen["shop"] / 3 > 1.5)
    table = rows(ROWS, 1, **RARE[rare])
    expected, refused = answer(fitted, frame(table, FEATURES))
    if refused:
        with pytest.raises(StepFailed, match="model 'm' refuses these rows: ValueError: ") as caught:
            warehouse.score(fitted, table)
        assert refused in str(caught.value)
        return
    scored, said = warehouse.score(fitted, table)
    assert np.asarray(scored["probability_true"]) == pytest.approx(expected, abs=1e-6), said
    if rare == "nothing":
        assert "in the warehouse as SQL" in said


def answer(fitted: Any, table: Any) -> tuple[Any, str]:
    """What scikit-learn says of a table: probabilities, or why it refuses it."""
    try:
        return fitted.predict_proba(table)[:, 1], ""
    except ValueError as error:
        return None, str(error).splitlines()[0]


@pytest.mark.parametrize(
    ("estimator", "columns", "said"),
    [
        (lambda: make_pipeline(StandardScaler(), LogisticRegression()), 200, "weights, scales and categories"),
        (lambda: MLPClassifier((500, 200), max_iter=1), 5, "weights, scales and categories"),
        (lambda: HistGradientBoostingClassifier(max_iter=60), 5, "nodes"),
        (lambda: make_pipeline(QuantileTransformer(), LogisticRegression()), 2, "it has a QuantileTransformer"),
    ],
    ids=["wide", "neural", "many trees", "quantiles"],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_what_would_be_long_as_sql_is_streamed(
    estimator: Callable[[], Any], columns: int, said: str, warehouse: Warehouse
) -> None:
    random = np.random.default_rng(0)
    table = pa.table({f"x{number}": random.normal(size=2_500) for number in range(columns)})
    seen = frame(table, table.column_names)
    _, how = warehouse.score(estimator().fit(seen, seen["x0"] > 0), table)
    assert "the model cannot be SQL: " in how
    assert said in how


def test_many_values_of_what_is_encoded_are_streamed(warehouse: Warehouse) -> None:
    seen = frame(pa.table({"city": [f"city {n % 3}" for n in range(300)]}), ["city"])
    encoder = OneHotEncoder(handle_unknown="ignore")
    fitted = make_pipeline(encoder, LogisticRegression()).fit(seen, seen["city"] == "city 1")
    _, how = warehouse.score(fitted, pa.table({"city": [f"city {n % 2_500}" for n in range(10_000)]}))
    assert "its feature 'city' is encoded, and has more than 1,000 values" in how
