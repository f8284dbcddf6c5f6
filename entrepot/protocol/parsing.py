"""What a workflow was started with, as a message: or a sentence for each thing that is wrong with it."""

from __future__ import annotations

import re
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from entrepot.errors import BadInput, listed, unknown

M = TypeVar("M", bound=BaseModel)


def parse(message: type[M], value: Any, workflow: str) -> M:
    """A workflow's input, from whatever JSON it was started with.

    Raises:
        BadInput: with every problem, each a sentence that names the field and what is known.
    """
    fields = list(message.model_fields)
    if isinstance(value, message):
        return value
    if not isinstance(value, dict):
        what = "nothing" if value is None else f"{type(value).__name__} {value!r}"
        raise BadInput(f"{workflow} takes one JSON object with {listed(fields)}, and got {what}")
    try:
        return message.model_validate(value, strict=True)
    except ValidationError as error:
        problems = [_sentence(dict(e), fields) for e in error.errors(include_url=False)]
        raise BadInput(f"{workflow}: " + "; ".join(problems)) from None


def _sentence(error: dict[str, Any], fields: list[str]) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return unknown("field", where, fields)
    if error["type"] == "missing":
        return f"the field {where!r} is missing"
    said = re.sub(r"^Input should be", "it should be", error["msg"])
    return f"the field {where!r} is wrong: {said}, and is {error['input']!r}"
