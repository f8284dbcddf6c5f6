"""What a publish step returns: a page of charts, files, or a copy in another schema."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ibis import Table


@dataclass(frozen=True)
class Figure:
    """One number worth reading at a glance."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Panel:
    """A chart or a small table with a title and a sentence that says what it shows.

    `content` is an Altair chart over at most 5,000 rows, or an ibis table of at most 500: aggregate before you show. An
    Altair chart takes an ibis table as its data. Colours that it does not set suit the page, light and dark.
    """

    title: str
    content: Any
    text: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Dashboard:
    """One self-contained HTML page: data and chart library are inside, so it needs no network."""

    title: str
    panels: Sequence[Panel]
    text: str = ""
    figures: Sequence[Figure] = field(default=())


@dataclass(frozen=True)
class Export:
    """A table as files in the lake."""

    table: Table
    format: Literal["parquet", "csv"] = "parquet"


@dataclass(frozen=True)
class Copy:
    """A table under another name, in another schema, as a table of its own.

    `to` names another warehouse of the tenant, to serve the table from there: it is streamed over, and published only
    if its digest there is that of the rows here.
    """

    table: Table
    schema: str
    name: str | None = None
    to: str = ""


Output = Dashboard | Export | Copy
