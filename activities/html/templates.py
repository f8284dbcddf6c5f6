"""Fills the templates beside it. Whatever is filled in is escaped, so that it stays text."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def render(template: str, /, **values: Any) -> str:
    """A template with values. A text that is HTML or JavaScript already is passed as `markupsafe.Markup`."""
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["counted"] = "{:,}".format
    # JSON has no NaN; people read the names in it.
    made.policies["json.dumps_kwargs"] = {
        "ensure_ascii": False, "allow_nan": False, "separators": (",", ":"), "default": str,
    }  # fmt: skip
    return made
