"""Versions: content addresses, and the physical names that carry them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from entrepot.errors import BadInput
from entrepot.identity.code import stable_hash
from entrepot.language.names import DEFAULT_ENVIRONMENT, VERSIONS

CATALOG = "entrepot"
"""The schema of the catalog's tables."""


@dataclass(frozen=True)
class Frozen:
    """Which rows of a version are those of another, and not what its code makes of its inputs."""

    origin: str
    """The version whose rows they are."""
    before: str
    """Those in intervals that begin before this moment: UTC, as an ISO text."""


def version_of(kind: str, identity: str, inputs: Mapping[str, str], run: str = "", frozen: Frozen | None = None) -> str:
    """The version of what a step makes: what it computes, and the versions of all that it reads. Nothing else.

    Args:
        run: For what is no function of its inputs, the run that makes it: each run makes another version.
        frozen: Which rows are another version's.
    """
    its = [["frozen", frozen.origin, frozen.before]] if frozen else []
    return stable_hash([kind, identity, dict(inputs), *([run] if run else []), *its])


def version_schema(schema: str) -> str:
    """The schema in which the immutable tables stand."""
    return f"{schema}__{VERSIONS}"


def version_table(name: str, version: str) -> str:
    """The physical table of one version."""
    return f"{name}__{version}"


def check_schema(schema: str) -> None:
    """What people see stands in no schema of Entrepot's own.

    Raises:
        BadInput: for the catalog's, and for one of versions.
    """
    if schema.lower() == CATALOG:
        raise BadInput(f"the schema {schema!r} holds Entrepot's own tables; choose another")
    if schema.lower().endswith(version_schema("")):
        raise BadInput(f"the schema {schema!r} is named as those of versions are; choose another")


def prefixed(prefix: str, schema: str) -> str:
    """A schema of a tenant that shares its database with others: each has a prefix."""
    return f"{prefix}_{schema}" if prefix else schema


def environment_schema(schema: str, environment: str) -> str:
    """The schema of the names that people query: the plain one for `prod`, one with a suffix for any other."""
    return schema if environment == DEFAULT_ENVIRONMENT else f"{schema}__{environment}"
