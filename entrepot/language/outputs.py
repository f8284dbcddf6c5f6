"""What a publish step returns: a page of charts, files, or a copy in another schema."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ibis import Table


@dataclass(frozen=True)
class Figure:
    """One number at the head of a `Dashboard`.

    Args:
        label: What the number is.
        value: The number as it is to be read: `"336,776"`.
        note: A few words below it. Default: empty.

    Examples:
        ```python
        from entrepot import Figure

        Figure("Flights", f"{336_776:,}", note="from three airports")
        ```
    """

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Panel:
    """A chart or a small table on a `Dashboard`.

    Args:
        title: The title of the panel.
        content: An Altair chart over at most 5,000 rows, or an ibis table of at most 500: aggregate before you show. A
            chart takes an ibis table as its data. Colours that it does not set suit the page, light and dark.
        text: A sentence that says what is to be seen. Default: empty.
        wide: Whether the panel takes the whole width of the page. Default: half of it, unless it would be alone there.

    Examples:
        ```python
        import altair as alt
        import ibis
        from entrepot import Panel

        delays = ibis.memtable({"month": [1, 2], "minutes": [10.0, 12.5]})
        chart = alt.Chart(delays).mark_bar().encode(x="month:O", y="minutes:Q")
        Panel("Delay by month", chart, text="February is worse.", wide=True)
        ```
    """

    title: str
    content: Any
    text: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Dashboard:
    """One HTML page of charts and tables. Data and chart library are inside, so it needs no network.

    Args:
        title: The title of the page.
        panels: Charts and tables, in the order in which they appear.
        text: An introduction below the title. Default: empty.
        figures: Numbers at the head of the page. Default: none.

    Examples:
        ```python
        import ibis
        from entrepot import Dashboard, Figure, Panel

        delays = ibis.memtable({"month": [1, 2], "minutes": [10.0, 12.5]})
        Dashboard("Delays", panels=[Panel("By month", delays)], figures=[Figure("Months", "2")])
        ```
    """

    title: str
    panels: Sequence[Panel]
    text: str = ""
    figures: Sequence[Figure] = field(default=())


@dataclass(frozen=True)
class Export:
    """A table as a file in the lake, under `published/<environment>/<pipeline>/`.

    Args:
        table: The table.
        format: `"parquet"` or `"csv"`. Default: `"parquet"`.

    Examples:
        ```python
        import ibis
        from entrepot import Export

        Export(ibis.memtable({"month": [1, 2]}), format="csv")
        ```
    """

    table: Table
    format: Literal["parquet", "csv"] = "parquet"


@dataclass(frozen=True)
class Copy:
    """A table in another schema, of the tenant's warehouse or of another one of its warehouses.

    A copy to another warehouse is streamed there, and published only if its digest there equals that of the rows here.

    Args:
        table: The table.
        schema: The schema in which people find it.
        name: Its name there. Default: the step's.
        to: The name of another warehouse of the tenant, as in its settings. Default: the tenant's own warehouse.

    Examples:
        ```python
        import ibis
        from entrepot import Copy

        Copy(ibis.memtable({"month": [1, 2]}), schema="reporting", name="months", to="snowflake")
        ```
    """

    table: Table
    schema: str
    name: str | None = None
    to: str = ""


Output = Dashboard | Export | Copy
