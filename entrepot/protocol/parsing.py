"""JSON as a message, or a sentence for each thing that is wrong with it."""

from __future__ import annotations

import re
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from entrepot.errors import BadInput, listed, unknown

M = TypeVar("M", bound=BaseModel)


def parse(message: type[M], payload: Any, name: str) -> M:
    """A request, from whatever JSON a workflow or an activity was started with.

    Raises:
        BadInput: with every problem, each a sentence that names the field and what is known.
    """
    fields = list(message.model_fields)
    if isinstance(payload, message):
        return payload
    if not isinstance(payload, dict):
        what = "nothing" if payload is None else f"{type(payload).__name__} {payload!r}"
        raise BadInput(f"{name} takes one JSON object with {listed(fields)}, and got {what}")
    try:
        return message.model_validate(payload, strict=True)
    except ValidationError as error:
        problems = [_sentence(dict(e), fields) for e in error.errors(include_url=False)]
        raise BadInput(f"{name}: " + "; ".join(problems)) from None


def _sentence(error: dict[str, Any], fields: list[str]) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return unknown("field", where, fields)
    if error["type"] == "missing":
        return f"the field {where!r} is missing"
    reason = re.sub(r"^Input should be", "it should be", error["msg"])
    return f"the field {where!r} is wrong: {reason}, and is {error['input']!r}"
