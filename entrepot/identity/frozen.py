"""What stays of a table with `frozen_before`, and the version that is made of it and of what is computed anew.

Its rows before the date are those of the version that the environment shows. So its version counts which these are: by
the version in which they were first, as long as they are shown with the same columns, so that each run's does not count
the one before it. What is made of one version by one rule is one version, wherever, and however often it is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from entrepot.identity.version import Frozen, version_of
from entrepot.language.incremental import ByInterval
from entrepot.language.step import Step, TransformStep


class Kept(BaseModel):
    """What a run keeps of a table of which something is frozen."""

    model_config = ConfigDict(frozen=True)

    base: str
    """The version that the environment shows, of which a part stays."""
    before: str
    """What begins before this moment is not computed anew: UTC, as an ISO text."""
    frozen: Frozen | None = None
    """What the run's version records of it; None: the table was computed as a whole, and nothing has changed since."""


@dataclass(frozen=True)
class Base:
    """The version that an environment shows of a table of which something is to stay."""

    version: str
    columns: Mapping[str, Any]
    """As its plan knew them."""
    frozen: Frozen | None = None
    """Which of its rows are another version's."""


def frozen_by(step: Step) -> str:
    """The moment before which a table stays as it is, in UTC, as an ISO text; empty, if there is none."""
    by = step.incremental if isinstance(step, TransformStep) else None
    until = by.frozen_until if isinstance(by, ByInterval) else None
    return until.isoformat() if until is not None else ""


def date_of(before: str) -> str:
    """Such a moment for people."""
    return before.removesuffix("T00:00:00").removesuffix(":00").replace("T", " ")


def kept_of(step: Step, identity: str, columns: Mapping[str, Any], inputs: Mapping[str, str], base: Base) -> Kept:
    """What stays of a version that is shown.

    Args:
        columns: Those that the table has now.
        inputs: What is used of its inputs now.
    """
    before, its = frozen_by(step), base.frozen
    is_early = its is None or its.before <= before
    if is_early and version_of(step.kind, identity, inputs, frozen=its) == base.version:
        return Kept(base=base.version, before=before, frozen=its)  # what would be computed anew is there
    # With other columns they are not the same rows any more: a column that comes back is empty in them.
    is_passed_on = its is not None and before <= its.before and dict(columns) == dict(base.columns)
    origin = its.origin if its is not None and is_passed_on else base.version
    return Kept(base=base.version, before=before, frozen=Frozen(origin=origin, before=before))
