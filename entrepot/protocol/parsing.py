"""JSON as a message, or a sentence for each thing that is wrong with it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from entrepot.errors import BadInput, listed
from entrepot.language.names import shown
from entrepot.validation import Wording, sentences

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

M = TypeVar("M", bound=BaseModel)


def parse(message: type[M], payload: Any, name: str) -> M:
    """A request, from whatever JSON a workflow or an activity was started with.

    Raises:
        BadInput: with every problem, each a sentence that names the field and what is known.
    """
    if isinstance(payload, message):
        return payload
    if not isinstance(payload, dict):
        what = "nothing" if payload is None else f"{type(payload).__name__} {shown(payload)}"
        raise BadInput(f"{name} takes one JSON object with {listed(message.model_fields)}, and got {what}")
    try:
        # As JSON, where a list is what a tuple is written as; of Python's values a strict model takes tuples alone.
        return message.model_validate_json(json.dumps(payload), strict=True)
    except ValidationError as error:
        raise BadInput(f"{name}: " + "; ".join(sentences(error, message, _WORDING))) from None


def _name(place: list[str]) -> str:
    return f"the field {shown('.'.join(place))}" if place else ""


def _wrong(name: str, error: ErrorDetails) -> str:
    if error["type"] == "value_error":
        return f"{name} is wrong: {error['ctx']['error']}"
    if error["type"] == "json_invalid":
        return "it has half of a character, which is no text"
    reason = re.sub(r"^Input should be", "it should be", error["msg"])
    return f"{name} is wrong: {reason}, and is {shown(error['input'])}"


_WORDING = Wording("field", _name, _wrong)
