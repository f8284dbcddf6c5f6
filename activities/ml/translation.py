"""A fitted scikit-learn estimator as an ibis expression, and what tells whether that expression may be trusted.

The translation is orbital's, over the ONNX graph that skl2onnx makes. Around it stands what was found to be needed for
the same numbers as scikit-learn's: NaN is NULL to SQL, trees compare in float32, labels are taken from probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import numpy as np
import pandas as pd
import pyarrow as pa

from entrepot.errors import BadInput, EntrepotError, unknown
from entrepot.language.model import PREDICTION, probability_column

TOLERANCE = 1e-6
"""The largest difference of a probability (of a prediction, relative to max(1, |prediction|)) that counts as equal."""
MOST_NODES = 1_000
"""Tree nodes beyond which SQL does not pay: it takes a second to compile, and DuckDB is slower on it than NumPy."""
MOST_NUMBERS = 600
"""Weights, scales and categories beyond which SQL does not pay: to write and plan it takes seconds."""
MOST_CATEGORIES = 1_000
"""Values of one feature, each of which is held against the estimator."""
_TIE = 1e-6
"""Leaf weights are float32 in ONNX: a tie of 0.5 to 0.5 comes out 1e-8 apart."""


class NotTranslatable(EntrepotError):
    """The estimator has no SQL form; the message says why."""


@dataclass(frozen=True)
class Agreement:
    """What a comparison of two ways to score the same rows found."""

    rows: int
    largest: float | None
    """The largest difference that is a number, if there is one."""
    beyond: int
    """Rows that differ by more than the tolerance, or are NULL on one side only."""
    labels: int
    """Rows with another label, near ties left out."""

    @property
    def agrees(self) -> bool:
        """Whether the two ways may stand for each other."""
        return self.rows > 0 and self.beyond == 0 and self.labels == 0


def labels_of(estimator: Any) -> list[Any]:
    """The classes of a classifier as Python values; none for a regressor."""
    return [_python(label) for label in getattr(estimator, "classes_", [])]


def check_classes(estimator: Any, classes: Sequence[Any]) -> None:
    """Raises BadInput for a class that the estimator does not know, or whose probability it does not say."""
    if classes and not hasattr(estimator, "predict_proba"):
        raise BadInput(f"predict(classes=...): a {_class_name(estimator)} has no probabilities; leave out `classes`")
    for label in classes:
        if label not in labels_of(estimator):
            raise BadInput(f"predict(classes=...): {unknown('class', label, map(str, labels_of(estimator)))}")


def translate(
    estimator: Any,
    table: ibis.Table,
    features: Sequence[str],
    keep: Sequence[str],
    classes: Sequence[Any],
    dtype: dt.DataType,
) -> ibis.Table:
    """The scores of a table as an ibis expression: kept columns, `prediction`, `probability_<class>`.

    Raises:
        NotTranslatable: for everything that orbital cannot express, with the reason.
    """
    import orbital

    if labels_of(estimator) and not hasattr(estimator, "predict_proba"):
        raise NotTranslatable("labels are taken from probabilities in SQL, and it has none")
    _check_parts(estimator)
    types, values = _typed_features(estimator, table, features)
    try:
        parsed = orbital.parse_pipeline(estimator, features=types)
    except Exception as error:  # skl2onnx raises RuntimeError, NameError, ValueError, TypeError and its own
        raise NotTranslatable(f"it has no SQL form ({type(error).__name__}: {_first_line(error)})") from error
    graph = parsed._model.graph
    inputs = [str(item.name) for item in graph.input]  # skl2onnx renames columns: "a b" is "a_b"
    if len(inputs) != len(values):
        raise NotTranslatable("its ONNX graph does not have one input for each feature")
    _check_size(graph)
    _compare_in_float32(graph)
    # A table with nothing but the graph's inputs and the kept columns, under names that nobody else uses.
    aliases = {name: f"entrepot_keep_{number}" for number, name in enumerate(keep)}
    source = table.select(
        **dict(zip(inputs, values.values(), strict=True)), **{alias: table[name] for name, alias in aliases.items()}
    )
    try:
        scored = orbital.translate(source, parsed, projection=orbital.ResultsProjection(list(aliases.values())))
    except Exception as error:
        raise NotTranslatable(
            f"orbital cannot write it as SQL ({type(error).__name__}: {_first_line(error)})"
        ) from error
    kept = {name: scored[alias] for name, alias in aliases.items()}
    if labels_of(estimator):
        return _classified(estimator, scored, aliases, classes, dtype)
    outputs = [n for n in scored.columns if n not in aliases.values() and n not in inputs]
    if len(outputs) != 1:
        raise NotTranslatable(f"it has {len(outputs)} outputs, and one was expected")
    return scored.select(**kept, **{PREDICTION: scored[outputs[0]].cast(dtype)})


def _within(part: Any) -> Iterator[Any]:
    """An estimator and all fitted ones that it is made of."""
    if isinstance(part, list | tuple | np.ndarray):
        for each in part:
            yield from _within(each)
    elif hasattr(part, "__dict__") and (hasattr(part, "get_params") or type(part).__module__.startswith("sklearn.")):
        yield part
        for value in vars(part).values():
            yield from _within(value) if not _is_plain_array(value) else ()


def _is_plain_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype != object


def _check_parts(estimator: Any) -> None:
    """What has to be known before there is a graph: skl2onnx takes long to make it for some, and for some forever."""
    parts = list(_within(estimator))
    if any(_class_name(part) == "QuantileTransformer" for part in parts):
        raise NotTranslatable("it has a QuantileTransformer")
    # Their values could not be told from those that it has not seen without reading every value of every number.
    known = [values for part in parts for values in getattr(part, "categories_", ())]
    if any(not isinstance(value, str) for values in known for value in np.asarray(values)[:1]):
        raise NotTranslatable("it encodes numbers as categories")
    trees = [part.tree_ for part in parts if hasattr(part, "tree_")]
    if not all(bool(np.isfinite(tree.threshold).all()) for tree in trees):
        raise NotTranslatable("its trees ask whether a value is missing")
    _check_nodes(sum(tree.node_count for tree in trees))


def _check_nodes(nodes: int) -> None:
    if nodes > MOST_NODES:
        raise NotTranslatable(f"its trees have {nodes:,} nodes, and SQL is slower than streaming beyond {MOST_NODES:,}")


def _check_size(graph: Any) -> None:
    inputs = [math.prod(each.dims) for each in graph.initializer]
    within = [
        len(each.floats) + len(each.ints) + len(each.strings)
        for node in graph.node
        if not node.op_type.startswith("TreeEnsemble")
        for each in node.attribute
    ]
    if (numbers := sum(inputs) + sum(within)) > MOST_NUMBERS:
        raise NotTranslatable(
            f"it is made of {numbers:,} weights, scales and categories, and SQL is slower than streaming "
            f"beyond {MOST_NUMBERS:,}"
        )


def _typed_features(
    estimator: Any, table: ibis.Table, features: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The features in the estimator's order: their orbital types, and their values as SQL should see them."""
    from orbital import types as orbital_types

    types: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for name in [str(n) for n in getattr(estimator, "feature_names_in_", features)]:
        value: Any = table[name]
        if value.type().is_string():
            types[name] = orbital_types.StringColumnType()
        elif value.type().is_numeric() or value.type().is_boolean():
            # All numbers go in as float64: with whole numbers orbital computes in float32.
            types[name] = orbital_types.DoubleColumnType()
            is_float = value.type().is_floating()
            value = value.cast("float64")
            value = ibis.ifelse(value.isnan(), ibis.null("float64"), value) if is_float else value
        else:
            raise NotTranslatable(f"its feature {name!r} is of type {value.type()}")
        values[name] = value
    return types, values


def _compare_in_float32(graph: Any) -> None:
    """scikit-learn's trees compare float32(x) with their thresholds; orbital would compare the double."""
    import onnx

    nodes: list[Any] = []
    size = 0
    for number, node in enumerate(graph.node):
        if node.op_type.startswith("TreeEnsemble"):
            size += sum(len(a.ints) for a in node.attribute if a.name == "nodes_nodeids")
            name = f"entrepot_float32_{number}"
            nodes.append(onnx.helper.make_node("Cast", [node.input[0]], [name], to=onnx.TensorProto.FLOAT))
            node.input[0] = name
        nodes.append(onnx.NodeProto.FromString(node.SerializeToString()))
    _check_nodes(size)
    del graph.node[:]
    graph.node.extend(nodes)


def _classified(
    estimator: Any, scored: ibis.Table, aliases: Mapping[str, str], classes: Sequence[Any], dtype: dt.DataType
) -> ibis.Table:
    labels = labels_of(estimator)
    prefix = "output_probability."
    found = {n[len(prefix) :]: scored[n].cast("float64") for n in scored.columns if n.startswith(prefix)}
    # orbital names the classes by their ONNX label: booleans are 0 and 1.
    ordered = [found.get(str(int(label)) if isinstance(label, bool) else str(label)) for label in labels]
    if len(found) != len(labels) or any(value is None for value in ordered):
        raise NotTranslatable(f"its SQL form has the classes {list(found)}, and not {labels}")
    staged = scored.select(
        **{alias: scored[alias] for alias in aliases.values()},
        **{f"entrepot_p{number}": value for number, value in enumerate(ordered)},
    )
    chances: list[Any] = [staged[f"entrepot_p{number}"] for number in range(len(labels))]
    has_trees = any("Forest" in n or "Tree" in n or "Boosting" in n for n in map(_class_name, _parts(estimator)))
    highest: Any = chances[1] if len(chances) == 2 else ibis.greatest(*chances)
    highest = highest - _TIE if has_trees else highest
    nothing: Any = chances[0].isnull()
    for chance in chances[1:]:
        nothing = nothing | chance.isnull()
    # scikit-learn takes the first class with the highest probability; NULL in, NULL out.
    branches: list[Any] = [(nothing, ibis.null(dtype))]
    branches += [(c >= highest, ibis.literal(label, dtype)) for c, label in zip(chances[:-1], labels[:-1], strict=True)]
    columns: dict[str, Any] = {name: staged[alias] for name, alias in aliases.items()}
    columns[PREDICTION] = ibis.cases(*branches, else_=ibis.literal(labels[-1], dtype))
    columns |= {probability_column(label): chances[labels.index(label)] for label in classes}
    return staged.select(**columns)


def frame(
    batch: pa.RecordBatch | pa.Table, features: Sequence[str], floats: Collection[str] = frozenset()
) -> pd.DataFrame:
    """Feature columns as scikit-learn wants them: numbers as float64 or whole, NULL as NaN, text as objects.

    Args:
        floats: Whole numbers and booleans that are to be float64 although these rows have no NULL: an estimator gets
            its rows in the types that it was fitted on.
    """
    data: dict[str, Any] = {}
    for name in features:
        column = batch.column(name)
        kind = column.type
        whole = (pa.types.is_integer(kind) or pa.types.is_boolean(kind)) and not column.null_count
        if pa.types.is_temporal(kind):
            data[name] = column.to_pandas()
            continue
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or (whole and name not in floats)):
            column = column.cast(pa.float64())
        data[name] = column.to_numpy(zero_copy_only=False) if isinstance(column, pa.Array) else column.to_numpy()
    return pd.DataFrame(data, copy=False)


def score_batches(
    estimator: Any,
    batches: Iterator[pa.RecordBatch],
    features: Sequence[str],
    keep: Sequence[str],
    classes: Sequence[Any],
    schema: pa.Schema,
    floats: Collection[str] = frozenset(),
) -> Iterator[pa.RecordBatch]:
    """Each batch read, scored by the estimator itself. `schema` has the kept columns, the prediction, probabilities."""
    labels = labels_of(estimator)
    wanted = [labels.index(label) for label in classes]
    # Where predict is the most probable class by construction, one pass gives both.
    one_pass = bool(wanted) and _class_name(_parts(estimator)[-1]) in _ARGMAX
    dictionary = pa.array(labels, schema.field(PREDICTION).type) if one_pass else None
    for batch in batches:
        if not batch.num_rows:
            continue
        rows = frame(batch, features, floats)
        chances = np.asarray(estimator.predict_proba(rows)) if wanted else None
        if dictionary is not None and chances is not None:
            predicted = dictionary.take(pa.array(chances.argmax(axis=1)))
        else:
            predicted = pa.array(np.asarray(estimator.predict(rows)).reshape(batch.num_rows)).cast(
                schema.field(PREDICTION).type
            )
        columns = [batch.column(name) for name in keep] + [predicted]
        if chances is not None:
            columns += [pa.array(np.ascontiguousarray(chances[:, number])) for number in wanted]
        yield pa.record_batch(columns, schema=schema)


_ARGMAX = {"DecisionTreeClassifier", "ExtraTreesClassifier", "LogisticRegression", "RandomForestClassifier"}


def compare(by_sql: pa.Table, estimator: Any, sample: pd.DataFrame, classes: Sequence[Any]) -> Agreement:
    """Holds scores made by SQL against the estimator's own, for the same rows in the same order."""
    if sample.empty:  # scikit-learn refuses to score no row
        return _agreement(np.zeros(0), 0)
    predicted = np.asarray(estimator.predict(sample)).reshape(len(sample))
    scored = by_sql[PREDICTION].to_pylist()
    if not labels_of(estimator):
        values = np.array([np.nan if value is None else float(value) for value in scored])
        gap = np.abs(values - predicted) / np.maximum(1.0, np.abs(predicted))
        return _agreement(gap, 0)
    chances = np.asarray(estimator.predict_proba(sample))
    columns = [by_sql[probability_column(label)].to_pylist() for label in classes]
    values = np.array([[np.nan if v is None else float(v) for v in column] for column in columns]).T
    gap = np.abs(values - chances).max(axis=1)
    ranked = np.sort(chances, axis=1)
    clear = (ranked[:, -1] - ranked[:, -2]) > 2 * TOLERANCE
    same = np.fromiter((a == _python(b) for a, b in zip(scored, predicted, strict=True)), bool, len(sample))
    return _agreement(gap, int((clear & ~same).sum()))


def _agreement(gap: np.ndarray[Any, Any], labels: int) -> Agreement:
    finite = gap[np.isfinite(gap)]
    largest = float(finite.max()) if finite.size else None
    return Agreement(len(gap), largest, int((~(gap <= TOLERANCE)).sum()), labels)


def _parts(estimator: Any) -> list[Any]:
    return [step for _, step in estimator.steps] if hasattr(estimator, "steps") else [estimator]


def _class_name(value: Any) -> str:
    return type(value).__name__


def _python(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]
