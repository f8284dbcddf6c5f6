"""Versions: content addresses, and the physical names that carry them."""

from __future__ import annotations

from collections.abc import Mapping

from entrepot.errors import BadInput
from entrepot.identity.code import stable_hash
from entrepot.language.names import DEFAULT_ENVIRONMENT, LONGEST_NAME, NAME

VERSIONS = "v"
"""What the schemas of versions have behind the pipeline's; so no environment is called that."""
CATALOG = "entrepot"
"""The schema of the catalog's tables."""


def version_of(kind: str, identity: str, inputs: Mapping[str, str], run: str = "") -> str:
    """The version of what a step makes: what it computes, and the versions of all that it reads. Nothing else.

    Args:
        run: For what is no function of its inputs, the run that makes it: each run makes another version.
    """
    return stable_hash([kind, identity, dict(inputs), *([run] if run else [])])


def version_schema(schema: str) -> str:
    """The schema in which the immutable tables stand."""
    return f"{schema}__{VERSIONS}"


def check_environment(name: str) -> None:
    """An environment's name stands in those of schemas, where large and small letters may be one.

    Raises:
        BadInput: for what is no name, or would be the schema of versions.
    """
    if name == VERSIONS:
        raise BadInput(f"{name!r} cannot be an environment: the schemas of versions end in '__{VERSIONS}'")
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise BadInput(
            f"{name!r} cannot be an environment: use at most {LONGEST_NAME} lower-case letters, digits and single "
            "underscores, and begin with a letter; it stands in the names of schemas, where 'pr_A' and 'pr_a' are one"
        )


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


def environment_schema(schema: str, environment: str) -> str:
    """The schema of the names that people query: the plain one for `prod`, one with a suffix for any other."""
    return schema if environment == DEFAULT_ENVIRONMENT else f"{schema}__{environment}"
