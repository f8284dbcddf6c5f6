"""Whose work an activity or a workflow does, as its first argument tells, which may be JSON or a message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_NAMES = ("tenant", "pipeline", "environment", "run")
_STEPS = 3
"""So many are named."""


def about(arguments: Iterable[Any]) -> dict[str, str]:
    """The tenant, pipeline, environment, run and step, as far as they are told. What people write may be anything."""
    asked = next(iter(arguments), None)
    context = _get(asked, "context") or asked
    found = {name: value for name in _NAMES if isinstance(value := _get(context, name), str)}
    steps = [_get(asked, "step") or _get(_get(asked, "load"), "step")]
    if steps == [None] and isinstance(several := _get(asked, "steps"), list | tuple):
        steps = list(several[:_STEPS])
    named = ",".join(step for step in steps if isinstance(step, str))
    return {**found, "step": named} if named else found


def _get(holder: Any, name: str) -> Any:
    return holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)
