"""Names in SQL text: how to find them, and how to write them."""

from __future__ import annotations

import re

PART = r"(?:`(?:[^`]|``)+`|[\w$]+)"
NAME = rf"{PART}(?:\s*\.\s*{PART}){{0,2}}"
FLAGS = re.IGNORECASE | re.DOTALL


def parts(name: str) -> list[str]:
    """The parts of a name, without their quotes."""
    found = re.findall(PART, name)
    return [part[1:-1].replace("``", "`") if part.startswith("`") else part for part in found]


def quoted(*name: str) -> str:
    """A name from its parts."""
    return ".".join(f"`{part.replace('`', '``')}`" for part in name)


def unescaped(text: str) -> str:
    """The value of a text in SQL, from what stands between its quotes."""
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)
