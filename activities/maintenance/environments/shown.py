"""What an environment shows, for who asks for it by its name; or a sentence."""

from __future__ import annotations

from entrepot.activities.catalog.catalog import PipelineCatalog
from entrepot.activities.catalog.environment import Publish
from entrepot.errors import BadInput, unknown
from entrepot.language.names import FAILED


def shown_by(catalog: PipelineCatalog, name: str) -> Publish:
    """What an environment points at.

    Raises:
        BadInput: if it shows nothing, or there is none of that name.
    """
    head = catalog.head(name)
    if head.pointers:
        return head
    where = f"pipeline {catalog.name!r}"
    if name.startswith(FAILED):
        raise BadInput(f"{where}: no run has left {name!r}, or it was collected since; see `entrepot env list`")
    showing = sorted(environment for environment, pointers in catalog.pointers().items() if pointers)
    if name not in catalog.environments():
        raise BadInput(f"{where}: {unknown('environment', name, showing)}")
    why = "shows nothing any more" if head.sequence else "was never published"
    raise BadInput(f"{where}: environment {name!r} {why}. {_those(showing)}")


def check_two(one: str, other: str) -> None:
    """Raises BadInput if they are one."""
    if one == other:
        raise BadInput(f"{one!r} is named twice: two environments are needed")


def _those(showing: list[str]) -> str:
    return f"Those that show something: {', '.join(map(repr, showing)) or 'none'}"
