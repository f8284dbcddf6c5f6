"""What all sections of the tenant file have in common."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticKnownError

from entrepot.language.limits import duration

LONGEST_DURATION = timedelta(days=3650)


class Section(BaseModel):
    """Immutable and closed. TOML has types, so text is never taken for a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _duration(text: Any) -> timedelta:
    """A duration such as `90s`, `30m`, `6h` or `1d`."""
    if not isinstance(text, str):
        raise PydanticKnownError("string_type")
    found = duration(text)
    if found > LONGEST_DURATION:
        raise ValueError(f"{text!r} is longer than ten years")
    return found


_Text = Annotated[str, Field(pattern=r"^[0-9]{1,9}[smhd]$")]
Duration = Annotated[timedelta, BeforeValidator(_duration, json_schema_input_type=_Text)]
