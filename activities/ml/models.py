"""Fitted models in the lake: written with skops, found again by hash, loaded once in a worker."""

from __future__ import annotations

import hashlib
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import ibis.expr.datatypes as dt
import ibis.expr.schema as sch
import numpy as np

from entrepot.activities.catalog.details import ModelDetails, ModelFile
from entrepot.activities.catalog.version import Version
from entrepot.activities.storage import lake
from entrepot.errors import StepFailed, Unavailable, listed
from entrepot.identity.expression import schema_from
from entrepot.language.model import Model
from entrepot.language.step import KINDS

if TYPE_CHECKING:
    import pandas as pd

CHECKED_ROWS = 500
"""Rows for which a model that was read back must predict the same."""


def details_of(version: Version) -> ModelDetails:
    """What the catalog keeps of a model."""
    assert isinstance(version.details, ModelDetails)
    return version.details


def model_of(version: Version) -> Model:
    """The model as an expression sees it."""
    details = details_of(version)
    return Model(version.name, details.features, dt.dtype(details.dtype), details.classifier)


def known_of(version: Version) -> sch.Schema | Model:
    """A version as the steps that read it are planned: a table's columns as ibis inferred them, or a model."""
    return model_of(version) if KINDS[version.kind].produces == "Model" else schema_from(version.inferred)


def save(estimator: Any, folder: str, rows: pd.DataFrame) -> ModelFile:
    """Writes a fitted estimator to a folder.

    The file is named by its hash: skops writes other bytes each time, and two runs may fit the same version at once.

    Args:
        rows: Rows of features. What is read back from the file must predict the same for them.

    Raises:
        StepFailed: if the estimator cannot be written, or comes back as another one, or not at all.
    """
    import skops.io

    try:
        data = skops.io.dumps(estimator)
    except Exception as error:  # whatever the user's classes raise, and skops' own
        raise StepFailed(f"the model cannot be written: {type(error).__name__}: {error}") from error
    _check_readable(data, estimator, rows.head(CHECKED_ROWS))
    sha256 = hashlib.sha256(data).hexdigest()
    path = f"{folder}/{sha256[:16]}.skops"
    lake.write(data, path)
    return ModelFile(path=path, bytes=len(data), sha256=sha256)


def _check_readable(data: bytes, estimator: Any, rows: pd.DataFrame) -> None:
    import skops.io

    if strange := [name for name in skops.io.get_untrusted_types(data=data) if not _is_importable(name)]:
        raise StepFailed(
            f"the model could not be loaded again, since it holds {listed(strange)}: a function or class in a model "
            "must stand in a module under its own name, so no lambda, and nothing that is made within a function"
        )
    try:
        again = _read(data)
        same = _alike(estimator, again, rows)
    except Exception as error:
        raise StepFailed(f"the model cannot be loaded again: {type(error).__name__}: {error}") from error
    if not same:
        raise StepFailed(
            "the model predicts otherwise when it is loaded again; what it learns must be in attributes of the "
            "estimator, and what it does must not change from call to call"
        )


def _is_importable(name: str) -> bool:
    """Whether another process would find what skops calls by this name: a module, and something in it."""
    module, _, attribute = name.rpartition(".")
    home = sys.modules.get(module)
    if home is None:  # a method, or nothing that is looked up by its name; loading it tells
        return not attribute.startswith("<")
    return hasattr(home, attribute) and getattr(home, "__spec__", None) is not None


def _alike(one: Any, other: Any, rows: pd.DataFrame) -> bool:
    """Whether two estimators predict the same, up to the order in which threads add."""
    answers = [name for name in ("predict_proba", "predict") if hasattr(one, name)]
    return all(_equal(np.asarray(getattr(one, a)(rows)), np.asarray(getattr(other, a)(rows))) for a in answers)


def _equal(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    if one.dtype.kind == "f" and other.dtype.kind == "f":
        return one.shape == other.shape and np.allclose(one, other, rtol=1e-9, atol=1e-12, equal_nan=True)
    return np.array_equal(one, other)


def load(version: Version) -> Any:
    """The fitted estimator of a version.

    skops refuses types that it does not know, since a file may come from anywhere. This one is ours: it is trusted
    if its SHA-256 is the one that the catalog recorded when it was written.

    Raises:
        Unavailable: if the file is missing or another one.
    """
    file = details_of(version).file
    return _load(file.path, file.sha256, version.name)


@lru_cache(maxsize=16)
def _load(path: str, sha256: str, name: str) -> Any:
    try:
        data = lake.read(path)
    except FileNotFoundError:
        raise Unavailable(f"the file of model {name!r} is missing from the lake: {path}") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise Unavailable(f"the file of model {name!r} is not the one that was written, so it is not loaded: {path}")
    return _read(data)


def _read(data: bytes) -> Any:
    import skops.io

    return skops.io.loads(data, trusted=skops.io.get_untrusted_types(data=data))
