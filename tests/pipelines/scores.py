"""Models that SQL can and cannot say, and predictions in the middle of an expression."""

from __future__ import annotations

import random
from typing import Any

from ibis import _

from entrepot import Model, Pipeline, Table, split

scores = Pipeline("scores")


@scores.ingest
def points() -> list[dict[str, Any]]:
    dice = random.Random(3)
    rows = []
    for number in range(1200):
        x, y = dice.gauss(0, 1), dice.gauss(0, 1)
        kind = "high" if x + y > 0.8 else "low" if x + y < -0.8 else "middle"
        rows.append({"id": number, "x": x, "y": None if number % 50 == 0 else y, "group": number % 12, "kind": kind})
    return rows


@scores.transform
def known(points: Table) -> Table:
    return points.filter(_.y.notnull())


@scores.train(features=known, target="kind", columns=["x", "y"], split=split.Group("group", 0.3), score="accuracy")
def neighbours() -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(5)


@scores.train(features=known, target="x", columns=["y"], split=split.Where(lambda t: t.id % 4 == 0), score="r2")
def line() -> Any:
    from sklearn.linear_model import LinearRegression

    return LinearRegression()


@scores.transform
def by_neighbours(known: Table, neighbours: Model) -> Table:
    return neighbours.predict(known, keep=["id", "kind"], classes=["high"])


@scores.transform
def by_both(known: Table, points: Table, neighbours: Model, line: Model) -> Table:
    kinds = neighbours.predict(known, keep="id").rename(said="prediction")
    values = line.predict(known, keep="id").rename(expected="prediction")
    joined = points.left_join(kinds, "id").drop("id_right").left_join(values, "id")
    return joined.group_by("kind").agg(rows=_.count(), said=_.said.count(), expected=_.expected.mean())


@scores.check("by_neighbours")
def is_probability(by_neighbours: Table) -> Table:
    return by_neighbours.filter((_.probability_high < 0) | (_.probability_high > 1))


@scores.check("known", severity="warn")
def surprising(known: Table, neighbours: Model) -> Table:
    return neighbours.predict(known, keep=["id", "kind"]).filter(_.prediction != _.kind)
