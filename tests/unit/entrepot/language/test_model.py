"""A model in an expression: rows to be scored, before the model is fitted."""

from __future__ import annotations

from typing import Any

import ibis
import ibis.expr.datatypes as dt
import pytest
from ibis import _

from entrepot import BadInput, Model
from entrepot.identity.expression import described, input_table, nodes_of, schema_from
from entrepot.language.model import Predict, probability_column

table = input_table("sales", schema_from({"id": "int64", "x": "float64", "y": "float64"}))
classifier = Model("late", ("x", "y"), dt.boolean, has_probabilities=True)
regressor = Model("price", ("x",), dt.float64, has_probabilities=False)


def test_scores_are_a_table_like_any_other() -> None:
    scored = classifier.predict(table, keep=["id"], classes=[True])
    assert scored.schema() == ibis.schema({"id": "int64", "prediction": "boolean", "probability_true": "float64"})
    assert scored.filter(_.prediction).agg(n=_.count()).op().find(Predict)


def test_all_columns_are_kept_unless_said_otherwise() -> None:
    assert regressor.predict(table).columns == ("id", "x", "y", "prediction")
    assert regressor.predict(table, keep="id").columns == ("id", "prediction")
    assert regressor.predict(table, keep=[]).columns == ("prediction",)


@pytest.mark.parametrize(
    ("model", "rows", "options", "said"),
    [
        (classifier, table.select("id"), {}, "model 'late' needs the feature columns 'x', 'y', which the table lacks"),
        (classifier, table.drop("y"), {}, "model 'late' needs the feature column 'y', which the table lacks"),
        (regressor, table, {"keep": ["ids"]}, "predict(keep=...): unknown column 'ids'; did you mean 'id'?"),
        (regressor, table, {"classes": [1]}, "model 'price' has no probabilities, so none of 1; leave out"),
        (regressor, table.mutate(prediction=1), {}, "would write the column 'prediction', which it was told to keep"),
        (classifier, table, {"classes": ["a b", "A-B"]}, "two of ['a b', 'A-B'] would have the same column"),
    ],
)
def test_what_cannot_be_scored_is_told(model: Model, rows: ibis.Table, options: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput) as caught:
        model.predict(rows, **options)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("label", "name"), [(True, "true"), (1, "1"), ("New York", "new_york"), (-1, "1"), ("É", "é"), ("a/b", "a_b")]
)
def test_a_probability_has_a_column_of_its_class(label: Any, name: str) -> None:
    assert probability_column(label) == f"probability_{name}"


def test_what_is_scored_by_which_model_counts() -> None:
    made = [
        classifier.predict(table),
        classifier.predict(table, keep=["id"]),
        classifier.predict(table, classes=[True]),
        classifier.predict(table, classes=[1]),
        classifier.predict(table.filter(_.x > 1)),
        Model("other", ("x", "y"), dt.boolean, has_probabilities=True).predict(table),
    ]
    assert len({described(nodes_of(each)).hash for each in made}) == len(made)
    assert described(nodes_of(made[0])) == described(nodes_of(classifier.predict(table)))
