"""Fitted models in the lake: written with skops, found again by hash, loaded once in a worker."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

import ibis.expr.datatypes as dt
import ibis.expr.schema as sch

from activities import lake
from activities.catalog import Version
from entrepot.errors import Unavailable
from entrepot.expression import schema_from
from entrepot.model import Model


def model_of(version: Version) -> Model:
    """The model as an expression sees it."""
    details = version.details
    return Model(version.name, tuple(details["features"]), dt.dtype(details["dtype"]), details["classifier"])


def known_of(version: Version) -> sch.Schema | Model:
    """A version as the steps that read it are planned: a table's columns as ibis inferred them, or a model."""
    return model_of(version) if version.kind == "train" else schema_from(version.inferred)


def save(estimator: Any, folder: str) -> dict[str, Any]:
    """Writes a fitted estimator to a folder; returns where it is, its size and its SHA-256.

    The file is named by its hash: skops writes other bytes each time, and two runs may fit the same version at once.
    """
    import skops.io

    data = skops.io.dumps(estimator)
    sha256 = hashlib.sha256(data).hexdigest()
    path = f"{folder}/{sha256[:16]}.skops"
    lake.write(data, path)
    return {"path": path, "bytes": len(data), "sha256": sha256}


def load(version: Version) -> Any:
    """The fitted estimator of a version.

    skops refuses types that it does not know, since a file may come from anywhere. This one is ours: it is trusted
    if its SHA-256 is the one that the catalog recorded when it was written.

    Raises:
        Unavailable: if the file is missing or another one.
    """
    return _load(version.details["path"], version.details["sha256"], version.name)


@lru_cache(maxsize=16)
def _load(path: str, sha256: str, name: str) -> Any:
    import skops.io

    try:
        data = lake.read(path)
    except FileNotFoundError:
        raise Unavailable(f"the file of model {name!r} is missing from the lake: {path}") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise Unavailable(f"the file of model {name!r} is not the one that was written, so it is not loaded: {path}")
    return skops.io.loads(data, trusted=skops.io.get_untrusted_types(data=data))
