"""The identity of an unfitted scikit-learn estimator, and of a data contract: their classes and parameters."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from typing import Any

from entrepot.code import class_identity, digest, function_identity


def estimator_identity(estimator: Any) -> str:
    """The hash of an estimator: class, parameters (followed into nested estimators), scikit-learn's version."""
    return digest([_describe(estimator), importlib.metadata.version("scikit-learn")])


def contract_identity(contract: Any) -> str:
    """The hash of a pandera contract: columns, types, and what each check demands."""
    schema = contract.to_schema() if hasattr(contract, "to_schema") else contract
    own = class_identity(contract) if isinstance(contract, type) else ""
    columns = [[name, _field(column)] for name, column in schema.columns.items()]
    options = [schema.strict, schema.ordered, schema.unique, schema.coerce]
    return digest([own, columns, [_check(c) for c in schema.checks], options])


def _field(column: Any) -> Any:
    options = [column.nullable, column.unique, column.required, column.regex, column.coerce]
    return [str(column.dtype), options, [_check(c) for c in column.checks]]


def _check(check: Any) -> Any:
    own = check._check_fn
    described = function_identity(own) if not _is_builtin(own) else ""
    return [check.name, _describe(check.statistics or {}), check.ignore_na, described]


def _is_builtin(function: Any) -> bool:
    return (getattr(function, "__module__", None) or "pandera").partition(".")[0] == "pandera"


def _describe(value: Any) -> Any:
    if hasattr(value, "get_params") and not isinstance(value, type):
        parameters = value.get_params(deep=False)
        return [_qualified(type(value)), {k: _describe(v) for k, v in sorted(parameters.items())}]
    if isinstance(value, Mapping):
        return {str(k): _describe(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [type(value).__name__, *map(_describe, value)]
    if isinstance(value, type):
        return _qualified(value)
    if hasattr(value, "tobytes"):  # NumPy arrays and scalars
        return [str(value.dtype), list(value.shape), value.tobytes().hex()]
    if callable(value):
        return function_identity(value)
    return [type(value).__name__, repr(value)]


def _qualified(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
