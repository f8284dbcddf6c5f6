"""What every step of a pipeline computes, from the schemas of its raw tables alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ibis
import pytest
from ibis import _
from sklearn.base import BaseEstimator
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from entrepot import Model, Pipeline, PipelineError, Table, split
from entrepot.identity.expression import schema_from
from entrepot.language.step import PublishStep
from entrepot.planning.resolve import publish_identity, resolve
from tests.unit.entrepot.seeds import printed

SALES = {"id": "int64", "shop": "string", "price": "float64", "day": "date"}


def resolved(define: Callable[[Pipeline], object], raw: dict[str, str] = SALES, **parameters: Any) -> dict[str, str]:
    """The identities of the steps that `define` adds to a pipeline with one raw table."""
    p = Pipeline("shop", parameters=parameters)
    p.ingest(name="sales")(lambda: None)
    define(p)
    return dict(resolve(p.graph, {"sales": schema_from(raw)}, parameters).identities)


def transform(function: Callable[..., Any], **options: Any) -> Callable[[Pipeline], object]:
    return lambda p: p.transform(name="a", **options)(function)


def test_a_transform_is_what_it_computes() -> None:
    def one(sales: Table) -> Table:
        dear = sales.filter(sales.price > 1)  # only the dear ones
        return dear.select("id")

    def same(sales: Table) -> Table:
        """The dear ones."""
        return sales.filter(_.price > 1).select(_.id)

    assert resolved(transform(one)) == resolved(transform(same))
    assert resolved(transform(one)) != resolved(transform(lambda sales: sales.filter(_.price > 2).select("id")))


def test_a_parameter_counts_where_it_is_used() -> None:
    def define(p: Pipeline) -> None:
        p.transform(name="uses")(lambda sales, most: sales.limit(most))
        p.transform(name="does_not")(lambda sales: sales)
        p.transform(name="rows", engine="python", schema={"id": "int64"})(lambda sales, most: [])

    three, four = resolved(define, most=3), resolved(define, most=4)
    assert three["uses"] != four["uses"]
    assert three["rows"] != four["rows"]
    assert three["does_not"] == four["does_not"]


def test_types_of_raw_columns_do_not_count() -> None:
    define = transform(lambda sales: sales.filter(_.price > 1))
    wider = {"id": "int32", "shop": "!string", "price": "decimal(9, 2)", "day": "timestamp"}
    assert resolved(define) == resolved(define, wider)


def test_whether_a_column_may_be_null_does_not_reach_the_steps_downstream() -> None:
    def chain(made: Callable[[Table], Table]) -> str:
        def define(p: Pipeline) -> None:
            p.transform(name="a")(made)
            p.transform(name="b")(lambda a: a.mutate(id=_.id.cast("int64")))

        return resolved(define)["b"]

    assert chain(lambda sales: sales.mutate(id=_.id.cast("!int64"))) == chain(lambda sales: sales)


def test_python_is_its_code_and_its_declared_columns() -> None:
    def rows(sales: Any) -> Any:
        yield from sales

    def other_rows(sales: Any) -> Any:
        yield from reversed(sales)

    made = [
        resolved(transform(rows, engine="python", schema={"id": "int64", "n": "int64"}))["a"],
        resolved(transform(rows, engine="python", schema={"n": "int64", "id": "int64"}))["a"],
        resolved(transform(rows, engine="python", schema={"id": "int64", "n": "float64"}))["a"],
        resolved(transform(rows, engine="python", schema={"id": "int64", "n": "int64"}, depends=["numpy"]))["a"],
        resolved(transform(other_rows, engine="python", schema={"id": "int64", "n": "int64"}))["a"],
    ]
    assert len(set(made)) == len(made)


def test_python_that_takes_its_inputs_the_other_way_round_is_other_python() -> None:
    def made(function: Callable[..., Any]) -> str:
        def define(p: Pipeline) -> None:
            p.transform(name="a")(lambda sales: sales)
            p.transform(name="b", engine="python", schema={"id": "int64"})(function)

        return resolved(define)["b"]

    assert made(lambda a, sales: a - sales) != made(lambda sales, a: sales - a)


def test_a_library_that_a_warehouse_transform_depends_on_counts() -> None:
    assert resolved(transform(lambda sales: sales)) != resolved(transform(lambda sales: sales, depends=["numpy"]))


def test_a_check_is_its_expression_and_its_severity() -> None:
    def made(severity: Any, most: int) -> str:
        return resolved(lambda p: p.check("sales", name="c", severity=severity)(lambda sales: sales.limit(most)))["c"]

    assert len({made("block", 1), made("warn", 1), made("block", 2)}) == 3


class Own(BaseEstimator):  # type: ignore[misc]
    _estimator_type = "regressor"

    def fit(self, x: Any, y: Any) -> Own:
        return self

    def predict(self, x: Any) -> Any:
        return x


def training(estimator: Any = None, **options: Any) -> dict[str, str]:
    asked = {"features": "sales", "target": "price", "columns": ["id"], "score": "r2", **options}
    return resolved(lambda p: p.train(name="m", **asked)(lambda: estimator or Own()))


@pytest.mark.parametrize(
    "options",
    [
        {"estimator": LogisticRegression()},
        {"estimator": LogisticRegression(C=2)},
        {"target": "id", "columns": ["price"]},
        {"columns": ["id", "shop"]},
        {"columns": ["shop", "id"]},
        {"score": "neg_mean_squared_error"},
        {"split": split.Share(0.5)},
        {"split": split.Share(seed=1)},
        {"split": split.Time("day")},
        {"split": split.Group("shop")},
        {"split": split.Where(lambda t: t.id > 1)},
        {"split": split.Where(lambda t: t.id > 2)},
        {"depends": ["numpy"]},
    ],
    ids=" ".join,
)
def test_a_training_is_all_that_shapes_its_model(options: dict[str, Any]) -> None:
    assert training(**options) == training(**options)
    assert training(**options) != training()


def test_the_names_in_a_splits_test_leave_no_trace() -> None:
    assert training(split=split.Where(lambda t: t.id > 1)) == training(split=split.Where(lambda rows: rows.id > 1))


def test_a_model_that_is_not_fitted_yet_has_a_schema() -> None:
    p = Pipeline("shop")
    p.ingest(name="sales")(lambda: None)
    p.train(name="m", features="sales", target="shop", columns=["price"], score="accuracy")(
        lambda: make_pipeline(LogisticRegression())
    )

    @p.transform
    def guessed(sales: Table, m: Model) -> Table:
        return m.predict(sales, keep="id", classes=["Berlin"])

    @p.transform
    def sure(guessed: Table) -> Table:
        assert guessed.schema() == ibis.schema({"id": "int64", "prediction": "string", "probability_berlin": "float64"})
        return guessed.filter(_.probability_berlin > 0.9)

    assert "sure" in resolve(p.graph, {"sales": schema_from(SALES)}, {}).identities


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"target": "prize"}, "unknown column 'prize'; did you mean 'price'?"),
        ({"columns": ["idd"]}, "unknown column 'idd'; did you mean 'id'?"),
        ({"columns": ["price"]}, "the target 'price' is among its own features"),
        ({"columns": ["id", "day"]}, "its feature 'day' is of type date; features are numbers, booleans and text"),
        ({"columns": None, "split": split.Share(key="id")}, "its feature 'day' is of type date"),
        ({"split": split.Time("date")}, "unknown column 'date'"),
        ({"split": split.Time("price")}, "the split reads the target 'price'"),
        ({"split": split.Share(key="price")}, "the split reads the target 'price'"),
        ({"split": split.Where(lambda t: (t.id > 1) & (t.price > 2))}, "the split reads the target 'price'"),
        ({"score": "acuracy"}, "unknown score 'acuracy'; did you mean 'accuracy'"),
        ({"estimator": "a guess"}, "it must return an unfitted scikit-learn estimator, and returned a str"),
        ({"depends": ["nothing-such"]}, "the distribution 'nothing-such', named in `depends`, is not installed"),
    ],
)
def test_a_training_that_cannot_be_is_refused_before_anything_runs(options: dict[str, Any], said: str) -> None:
    with pytest.raises(PipelineError) as caught:
        training(**options)
    assert said in str(caught.value)


STACKED = StackingClassifier([("one", LogisticRegression())])  # shows no `predict` before it is fitted


@pytest.mark.parametrize(
    ("estimator", "has_probabilities"),
    [
        (LogisticRegression(), True),
        (STACKED, True),
        (make_pipeline(StandardScaler(), STACKED), True),
        (VotingClassifier([("one", LogisticRegression())], voting="soft"), True),
        (VotingClassifier([("one", LogisticRegression())]), False),
        (LinearSVC(), False),
        (make_pipeline(StandardScaler(), SVC()), False),
        (GridSearchCV(LinearSVC(), {"C": [1, 2]}), False),
        (GridSearchCV(LogisticRegression(), {"C": [1, 2]}), True),
        (Own(), False),
    ],
)
def test_probabilities_are_asked_of_what_has_some_or_refused_in_the_plan(
    estimator: Any, has_probabilities: bool
) -> None:
    def define(p: Pipeline) -> None:
        p.train(name="m", features="sales", target="shop", columns=["id"], score="accuracy")(lambda: estimator)
        p.transform(name="scored")(lambda sales, m: m.predict(sales, classes=["Rome"]))

    if has_probabilities:
        assert "scored" in resolved(define)
    else:
        with pytest.raises(PipelineError, match="model 'm' has no probabilities, so none of 'Rome'"):
            resolved(define)


@pytest.mark.parametrize("estimator", [StandardScaler(), make_pipeline(StandardScaler()), LogisticRegression])
def test_what_predicts_nothing_is_no_estimator(estimator: Any) -> None:
    with pytest.raises(PipelineError, match="it must return an unfitted scikit-learn estimator"):
        training(estimator)


def test_the_columns_that_tell_rows_apart_belong_to_a_share_of_them() -> None:
    def made() -> Any:
        return Own()

    def identity(raw: dict[str, str], how: Any) -> str:
        asked = {"features": "sales", "target": "price", "columns": ["id"], "score": "r2", "split": how}
        return resolved(lambda p: p.train(name="m", **asked)(made), raw)["m"]

    wider = {**SALES, "place": "string"}
    assert identity(SALES, split.Share()) != identity(wider, split.Share())
    assert identity(SALES, split.Share(key="id")) == identity(wider, split.Share(key="id"))


def test_steps_downstream_of_unknown_tables_are_left_out() -> None:
    p = Pipeline("shop")
    p.ingest(name="source", tables=["sales", "shops"])(lambda: None)
    p.transform(name="a")(lambda sales: sales)
    p.transform(name="b")(lambda a, shops: a.join(shops, "shop"))
    assert set(resolve(p.graph, {"sales": schema_from(SALES)}, {}).identities) == {"a"}


def test_a_declared_schema_gives_way_to_the_real_one() -> None:
    p = Pipeline("shop")
    p.ingest(name="sales", tables={"sales": {"id": "int64"}})(lambda: None)
    seen = []

    @p.transform
    def a(sales: Table) -> Table:
        seen.append(sales.schema())
        return sales

    resolve(p.graph, {"sales": schema_from({"id": "string"})}, {})
    assert seen == [schema_from({"id": "int64"}), schema_from({"id": "string"})]


def test_a_pipeline_has_one_identity_in_all_processes(tmp_path: Path) -> None:
    (tmp_path / "kinds").write_text("a b c d e")
    script = (
        "from entrepot.identity.expression import schema_from\nfrom entrepot.planning.resolve import resolve\n"
        "from tests.pipelines.shop import shop\nfrom tests.pipelines.watched import watched\n"
        "raw = {'orders_raw': dict(id='int64', country='string', amount='float64', day='int64', returned='boolean'),"
        " 'countries': dict(code='string', name='string'),"
        " 'events': dict(id='int64', kind='string', fresh_until='int64')}\n"
        "raw = {name: schema_from(columns) for name, columns in raw.items()}\n"
        f"given = {{**watched.parameters, 'folder': {str(tmp_path)!r}}}\n"
        "made = [resolve(shop.graph, raw, shop.parameters), resolve(watched.graph, raw, given)]\n"
        "print([each.identities for each in made], len(made[0].identities) + len(made[1].identities))"
    )
    seen = printed(script, ["1", "random"])
    assert len(seen) == 1
    assert seen.pop().endswith(" 16\n")


def test_what_is_published_is_code_and_parameters() -> None:
    def made(function: Callable[..., Any], most: int) -> str:
        p = Pipeline("shop", parameters={"most": most})
        p.ingest(name="sales")(lambda: None)
        step = p.publish(name="page")(function)
        assert isinstance(step, PublishStep)
        identity = publish_identity(step, p.parameters)
        assert resolve(p.graph, {"sales": schema_from(SALES)}, p.parameters).identities["page"] == identity
        return identity

    assert made(lambda sales: 1, 3) == made(lambda sales: 1, 4)
    assert (
        len(
            {
                made(lambda sales: 1, 3),
                made(lambda sales: 2, 3),
                made(lambda sales, most: 1, 3),
                made(lambda sales, most: 1, 4),
            }
        )
        == 4
    )
