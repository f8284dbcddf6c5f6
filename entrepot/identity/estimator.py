"""The identity of an unfitted scikit-learn estimator, and of a data contract: their classes and parameters."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from typing import Any

from entrepot.identity.code import Code, class_identity, function_code, function_identity, stable_hash, value_identity
from entrepot.language.promises.contract import schema_of


def estimator_identity(estimator: Any, home: str = "") -> str:
    """The hash of an estimator: class, parameters (followed into nested estimators), scikit-learn's version.

    Args:
        estimator: An unfitted one.
        home: The module whose package is the user's own: the code of classes and functions from there counts.
    """
    return stable_hash([_describe(estimator, home), importlib.metadata.version("scikit-learn")])


def contract_code(contract: Any) -> Code:
    """What a pandera contract demands, and why that is no function of the table, if so."""
    schema = schema_of(contract)
    checks = [*schema.checks, *(check for column in schema.columns.values() for check in column.checks)]
    own = [check._check_fn for check in checks if not _is_builtin(check._check_fn)]
    varies = next(filter(None, (function_code(each).varies for each in own)), "")
    return Code(contract_identity(contract), varies)


def contract_identity(contract: Any) -> str:
    """The hash of a pandera contract: columns, types, and what each check demands."""
    schema = schema_of(contract)
    own = class_identity(contract) if isinstance(contract, type) else ""
    columns = [[name, _field(column)] for name, column in schema.columns.items()]
    options = [schema.strict, schema.ordered, schema.unique, schema.coerce]
    return stable_hash([own, columns, [_check(c) for c in schema.checks], options])


def _field(column: Any) -> Any:
    options = [column.nullable, column.unique, column.required, column.regex, column.coerce]
    return [str(column.dtype), options, [_check(c) for c in column.checks]]


def _check(check: Any) -> Any:
    own = check._check_fn
    described = "" if _is_builtin(own) else function_identity(own)
    options = [check.ignore_na, check.element_wise, check.raise_warning]
    return [check.name, value_identity(check.statistics or {}, ""), options, described]


def _is_builtin(function: Any) -> bool:
    return (getattr(function, "__module__", None) or "pandera").partition(".")[0] == "pandera"


def _describe(value: Any, home: str) -> Any:
    if hasattr(value, "get_params") and not isinstance(value, type):
        parameters = value.get_params(deep=False)
        return [value_identity(type(value), home), {k: _describe(v, home) for k, v in parameters.items()}]
    if isinstance(value, Mapping):
        return [type(value).__name__, [[_describe(k, home), _describe(v, home)] for k, v in value.items()]]
    if isinstance(value, list | tuple):
        return [type(value).__name__, *(_describe(v, home) for v in value)]
    return value_identity(value, home)
