"""Versions: content addresses, and the physical names that carry them."""

from __future__ import annotations

from collections.abc import Mapping

from entrepot.code import digest

VERSION_SCHEMA_SUFFIX = "__v"
DEFAULT_ENVIRONMENT = "prod"


def version_of(kind: str, identity: str, inputs: Mapping[str, str], run: str = "") -> str:
    """The version of what a step makes: what it computes, and the versions of all that it reads. Nothing else.

    Args:
        run: For what is no function of its inputs, the run that makes it: each run makes another version.
    """
    return digest([kind, identity, dict(inputs), *([run] if run else [])])


def version_schema(schema: str) -> str:
    """The schema in which the immutable tables stand."""
    return schema + VERSION_SCHEMA_SUFFIX


def version_table(name: str, version: str) -> str:
    """The physical table of one version."""
    return f"{name}__{version}"


def environment_schema(schema: str, environment: str) -> str:
    """The schema of the names that people query: the plain one for `prod`, one with a suffix for any other."""
    return schema if environment == DEFAULT_ENVIRONMENT else f"{schema}__{environment}"
