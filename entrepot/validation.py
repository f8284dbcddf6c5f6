"""What pydantic found wrong with data from outside, as sentences: each names its place, and what is known instead."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from pydantic import BaseModel, ValidationError

from entrepot.errors import unknown

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


@dataclass(frozen=True)
class Wording:
    """How sentences speak of one kind of data."""

    part: str
    """What an entry is called: a field, a setting."""
    name: Callable[[list[str]], str]
    """The name of what stands at a place; at the empty place stands the whole, whose name may be empty."""
    wrong: Callable[[str, ErrorDetails], str]
    """The sentence for a value of a named entry that is neither missing nor unknown."""


def sentences(error: ValidationError, model: type[BaseModel], wording: Wording) -> list[str]:
    """A sentence for each thing that is wrong with what should be a `model`."""
    return [_sentence(each, model, wording) for each in error.errors(include_url=False)]


def _sentence(error: ErrorDetails, model: type[BaseModel], wording: Wording) -> str:
    place = [str(part) for part in error["loc"] if part != "[key]"]
    if error["type"] == "extra_forbidden":
        *within, name = place
        known = [field.alias or key for key, field in _model_at(within, model).model_fields.items()]
        return ": ".join(filter(None, [wording.name(within), unknown(wording.part, name, known)]))
    if error["type"] == "missing":
        return f"{wording.name(place)} is missing"
    return wording.wrong(wording.name(place), error)


def _model_at(place: Iterable[str], model: type[BaseModel]) -> type[BaseModel]:
    """The model at a place in another; what is no field on the way is a name in a table of models, or a number."""
    for part in place:
        types = [field.annotation for name, field in model.model_fields.items() if part == (field.alias or name)]
        types += [each for annotation in types for each in get_args(annotation)]
        model = next((each for each in types if isinstance(each, type) and issubclass(each, BaseModel)), model)
    return model
