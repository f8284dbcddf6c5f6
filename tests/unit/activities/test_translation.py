"""A fitted estimator as SQL, held against the estimator itself, in a real DuckDB."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import ElasticNet, LinearRegression, LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from entrepot import BadInput
from entrepot.activities.ml.translation import (
    MOST_NODES,
    Agreement,
    NotTranslatable,
    check_classes,
    compare,
    frame,
    labels_of,
    score_batches,
    translate,
)
from entrepot.identity.expression import input_table, schema_from
from entrepot.language.model import PREDICTION, probability_column

ROWS = 500
NUMBERS = ["x", "y", "n"]


def _rows(*, nulls: bool = False, seed: int = 0) -> pa.Table:
    random = np.random.default_rng(seed)
    data: dict[str, Any] = {
        "id": np.arange(ROWS),
        "x": random.normal(size=ROWS),
        "y": np.round(random.uniform(0, 10, ROWS), 1),  # on a grid of 0.1, where float32 and float64 disagree
        "n": random.integers(0, 20, ROWS),
        "city": random.choice(["Rome", "New York", "Köln"], ROWS),
        "late": random.random(ROWS) < 0.4,
    }
    if nulls:
        data["y"] = pa.array([None if n % 7 == 0 else v for n, v in enumerate(data["y"])], pa.float64())
    return pa.table(data)


def _target(rows: pa.Table, kind: str) -> Any:
    strength = rows["x"].to_numpy() + rows["n"].to_numpy() / 5
    return {
        "bool": strength > 1.5,
        "int": (strength > 1.5).astype(int),
        "three": np.digitize(strength, [1, 3]),
        "text": np.where(strength > 1.5, "late", "in time"),
        "number": 3 * strength + 1,
    }[kind]


def _by_sql(estimator: Any, rows: pa.Table, features: Sequence[str], classes: Sequence[Any], dtype: Any) -> pa.Table:
    made = translate(estimator, ibis.memtable(rows), features, ["id"], classes, dtype)
    return ibis.duckdb.connect().to_pyarrow(made).sort_by("id")


def _agreement(estimator: Any, rows: pa.Table, features: Sequence[str], dtype: Any) -> Agreement:
    labels = labels_of(estimator)
    return compare(_by_sql(estimator, rows, features, labels, dtype), estimator, frame(rows, features), labels)


def _fitted(estimator: Any, rows: pa.Table, features: Sequence[str], target: str) -> Any:
    return estimator.fit(frame(rows, features), _target(rows, target))


DTYPES = {"bool": dt.boolean, "int": dt.int64, "three": dt.int64, "text": dt.string, "number": dt.float64}

CLASSIFIERS = {
    "logistic": LogisticRegression,
    "scaled logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression()),
    "min-max": lambda: make_pipeline(MinMaxScaler(), LogisticRegression()),
    "tree": lambda: DecisionTreeClassifier(max_depth=4),
    "forest": lambda: RandomForestClassifier(8, max_depth=4, random_state=0),
    "boosting": lambda: GradientBoostingClassifier(n_estimators=8, max_depth=2),
}
REGRESSORS = {
    "linear": LinearRegression,
    "ridge": lambda: make_pipeline(StandardScaler(), Ridge()),
    "elastic net": lambda: ElasticNet(alpha=0.1),
    "tree": lambda: DecisionTreeRegressor(max_depth=4),
    "forest": lambda: RandomForestRegressor(8, max_depth=4, random_state=0),
    "boosting": lambda: GradientBoostingRegressor(n_estimators=8, max_depth=2),
}


@pytest.mark.parametrize("target", ["bool", "int", "three", "text"])
@pytest.mark.parametrize("family", CLASSIFIERS)
def test_classifiers_agree_with_their_sql(family: str, target: str) -> None:
    rows = _rows()
    fitted = _fitted(CLASSIFIERS[family](), rows, NUMBERS, target)
    assert _agreement(fitted, _rows(seed=1), NUMBERS, DTYPES[target]).agrees


@pytest.mark.parametrize("family", REGRESSORS)
def test_regressors_agree_with_their_sql(family: str) -> None:
    fitted = _fitted(REGRESSORS[family](), _rows(), NUMBERS, "number")
    assert _agreement(fitted, _rows(seed=1), NUMBERS, dt.float64).agrees


@pytest.mark.parametrize("target", ["bool", "text"])
def test_an_imputer_fills_nulls_in_sql_too(target: str) -> None:
    rows = _rows(nulls=True)
    fitted = _fitted(make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()), rows, NUMBERS, target)
    assert _agreement(fitted, rows, NUMBERS, DTYPES[target]).agrees


def test_text_is_encoded_in_sql_too() -> None:
    features = ["x", "n", "city"]
    encoder = ColumnTransformer([("city", OneHotEncoder(), ["city"]), ("numbers", StandardScaler(), ["x", "n"])])
    fitted = _fitted(make_pipeline(encoder, LogisticRegression()), _rows(), features, "bool")
    assert _agreement(fitted, _rows(seed=1), features, dt.boolean).agrees


def test_features_may_be_boolean_and_have_odd_names() -> None:
    rows = _rows().rename_columns(["id", "The x", "y", "n", "city", "late"])
    features = ["The x", "late"]
    fitted = LogisticRegression().fit(frame(rows, features), rows["The x"].to_numpy() > 0)
    assert _agreement(fitted, rows, features, dt.boolean).agrees


def test_the_order_of_features_is_the_estimators() -> None:
    rows = _rows()
    fitted = _fitted(LogisticRegression(), rows, NUMBERS, "bool")
    scored = _by_sql(fitted, rows, list(reversed(NUMBERS)), labels_of(fitted), dt.boolean)
    assert compare(scored, fitted, frame(rows, NUMBERS), labels_of(fitted)).agrees


def test_probabilities_stand_in_columns_of_their_classes() -> None:
    rows = _rows()
    fitted = _fitted(LogisticRegression(), rows, NUMBERS, "text")
    table = _by_sql(fitted, rows, NUMBERS, ["late", "in time"], dt.string)
    assert table.column_names == ["id", "prediction", "probability_late", "probability_in_time"]
    assert np.add(table["probability_late"], table["probability_in_time"]) == pytest.approx(1)


def test_a_null_that_nobody_fills_is_a_null() -> None:
    rows = _rows(nulls=True)
    fitted = _fitted(LogisticRegression(), _rows(), NUMBERS, "bool")
    scored = _by_sql(fitted, rows, NUMBERS, [True], dt.boolean)
    assert scored["prediction"].null_count == rows["y"].null_count


def test_a_tree_that_sends_nulls_left_is_caught_by_the_comparison() -> None:
    rows = _rows(nulls=True)
    low = np.nan_to_num(rows["y"].to_numpy(), nan=0.0) < 5
    fitted = DecisionTreeClassifier(max_depth=1).fit(frame(rows, NUMBERS), low)
    agreement = _agreement(fitted, rows, NUMBERS, dt.boolean)
    assert agreement.beyond == rows["y"].null_count
    assert not agreement.agrees


@pytest.mark.parametrize("family", ["tree", "forest"])
def test_a_tree_that_asks_whether_a_value_is_missing_is_refused(family: str) -> None:
    rows = _rows(nulls=True)
    fitted = CLASSIFIERS[family]().fit(frame(rows, NUMBERS), rows["y"].is_null().to_numpy())
    with pytest.raises(NotTranslatable, match="its trees ask whether a value is missing"):
        _agreement(fitted, rows, NUMBERS, dt.boolean)


def test_a_mistranslation_is_caught_by_the_comparison() -> None:
    fitted = _fitted(LinearDiscriminantAnalysis(), _rows(), NUMBERS, "bool")
    assert not _agreement(fitted, _rows(seed=1), NUMBERS, dt.boolean).agrees


def test_no_row_is_no_agreement() -> None:
    assert not Agreement(rows=0, largest=0.0, beyond=0, labels=0).agrees


@pytest.mark.parametrize(
    ("estimator", "said"),
    [
        (KNeighborsClassifier(), ""),
        (SVC(), "labels are taken from probabilities in SQL, and it has none"),
        (LinearSVC(), "labels are taken from probabilities in SQL, and it has none"),
        (RandomForestClassifier(60), f"and SQL is slower than streaming beyond {MOST_NODES:,}"),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "fit") else "",
)
def test_what_has_no_sql_form_says_why(estimator: Any, said: str) -> None:
    fitted = _fitted(estimator, _rows(), NUMBERS, "three")
    table = input_table("t", schema_from(dict.fromkeys(NUMBERS, "float64")))
    with pytest.raises(NotTranslatable) as caught:
        translate(fitted, table, NUMBERS, [], labels_of(fitted), dt.int64)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 400


def test_times_and_other_types_have_no_sql_form() -> None:
    fitted = LogisticRegression().fit(pd.DataFrame({"day": [1.0, 2.0]}), [0, 1])
    table = input_table("t", schema_from({"day": "date"}))
    with pytest.raises(NotTranslatable, match="its feature 'day' is of type date"):
        translate(fitted, table, ["day"], [], [0], dt.int64)


def test_words_have_no_sql_form() -> None:
    fitted = make_pipeline(CountVectorizer(), LogisticRegression()).fit(["one two", "two three"], [0, 1])
    table = input_table("t", schema_from({"text": "string"}))
    with pytest.raises(NotTranslatable):
        translate(fitted, table, ["text"], [], [0], dt.int64)


def test_a_class_that_the_model_does_not_know_is_told() -> None:
    fitted = _fitted(LogisticRegression(), _rows(), NUMBERS, "text")
    with pytest.raises(BadInput, match=r"predict\(classes=...\): unknown class 'lat'; did you mean 'late'"):
        check_classes(fitted, ["lat"])


# Streamed through the estimator itself.

STREAMED = {
    **CLASSIFIERS,
    "neighbours": KNeighborsClassifier,
    "hist": lambda: HistGradientBoostingClassifier(max_iter=5),
}


def _streamed(fitted: Any, rows: pa.Table, classes: Sequence[Any], dtype: Any) -> pa.Table:
    fields = {
        "id": pa.int64(),
        PREDICTION: dtype.to_pyarrow(),
        **{probability_column(c): pa.float64() for c in classes},
    }
    batches = iter(rows.to_batches(max_chunksize=70))
    return pa.Table.from_batches(score_batches(fitted, batches, NUMBERS, ["id"], classes, pa.schema(fields)))


@pytest.mark.parametrize("target", ["bool", "three", "text"])
@pytest.mark.parametrize("family", STREAMED)
def test_streamed_scores_are_the_estimators(family: str, target: str) -> None:
    fitted, rows = _fitted(STREAMED[family](), _rows(), NUMBERS, target), _rows(seed=1)
    labels = labels_of(fitted)
    scored = _streamed(fitted, rows, labels, DTYPES[target])
    assert scored["id"].to_pylist() == rows["id"].to_pylist()
    assert scored[PREDICTION].to_pylist() == fitted.predict(frame(rows, NUMBERS)).tolist()
    chances = np.column_stack([scored[probability_column(label)] for label in labels])
    assert chances == pytest.approx(fitted.predict_proba(frame(rows, NUMBERS)), abs=1e-12)


@pytest.mark.parametrize("family", REGRESSORS)
def test_streamed_predictions_are_the_regressors(family: str) -> None:
    fitted, rows = _fitted(REGRESSORS[family](), _rows(), NUMBERS, "number"), _rows(seed=1)
    assert np.asarray(_streamed(fitted, rows, [], dt.float64)[PREDICTION]) == pytest.approx(
        fitted.predict(frame(rows, NUMBERS))
    )


def test_streaming_takes_nulls_where_the_estimator_does() -> None:
    rows = _rows(nulls=True)
    fitted = _fitted(HistGradientBoostingClassifier(max_iter=5), rows, NUMBERS, "bool")
    assert (
        _streamed(fitted, rows, [], dt.boolean)[PREDICTION].to_pylist() == fitted.predict(frame(rows, NUMBERS)).tolist()
    )


class Halved(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Takes its columns by name, and does not say that it has seen them."""

    def fit(self, rows: pd.DataFrame, target: Any = None) -> Halved:
        return self

    def transform(self, rows: pd.DataFrame) -> Any:
        return rows[["x"]] / 2


def test_a_transformer_that_remembers_no_names_gets_a_frame_all_the_same() -> None:
    rows = _rows()
    fitted = make_pipeline(Halved(), LogisticRegression()).fit(frame(rows, NUMBERS), _target(rows, "bool"))
    assert not hasattr(fitted, "feature_names_in_")
    assert _streamed(fitted, rows, [True], dt.boolean).num_rows == ROWS


def test_empty_batches_are_passed_over() -> None:
    fitted, rows = _fitted(LogisticRegression(), _rows(), NUMBERS, "bool"), _rows()
    batches = [rows.slice(0, 0).to_batches()[0]] if rows.slice(0, 0).to_batches() else []
    schema = pa.schema({"id": pa.int64(), PREDICTION: pa.bool_()})
    assert list(score_batches(fitted, iter(batches), NUMBERS, ["id"], [], schema)) == []


def test_a_frame_is_what_scikit_learn_wants() -> None:
    table = pa.table(
        {
            "whole": [1, 2],
            "with_null": pa.array([1, None], pa.int64()),
            "decimal": pa.array(["1.5", None]).cast(pa.decimal128(9, 2)),
            "yes": [True, False],
            "text": ["a", None],
        }
    )
    made = frame(table, table.column_names)
    assert [str(t) for t in made.dtypes[:4]] == ["int64", "float64", "float64", "bool"]
    assert np.isnan(made["with_null"][1])
    assert made["text"][0] == "a"


def test_rows_without_null_have_the_types_of_those_with_some() -> None:
    table = pa.table({"whole": [1, 2], "yes": [True, False], "text": ["a", "b"]})
    made = frame(table, table.column_names, floats=["whole", "yes"])
    assert [str(t) for t in made.dtypes[:2]] == ["float64", "float64"]
    assert made["yes"].tolist() == [1, 0]


def test_no_row_is_compared_without_the_estimator() -> None:
    fitted, rows = _fitted(LogisticRegression(), _rows(), NUMBERS, "bool"), _rows().slice(0, 0)
    assert _agreement(fitted, rows, NUMBERS, dt.boolean) == Agreement(rows=0, largest=None, beyond=0, labels=0)
