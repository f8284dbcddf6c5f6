"""A dashboard as one HTML page that needs no network.

`html/dashboard.html` is the page. It carries the chart library once, and each chart as its Vega-Lite specification with
its data; a policy in its head forbids the browser to fetch anything.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import ibis
import ibis.expr.operations as ops
from markupsafe import Markup

from entrepot.activities.html import templates
from entrepot.errors import StepFailed
from entrepot.language.outputs import Dashboard, Figure, Panel
from entrepot.tracebacks import describe

MOST_CHART_ROWS = 5_000
"""Rows behind one chart: beyond it a page is slow, and its reader sees no more."""
MOST_TABLE_ROWS = 500
"""Rows of a table on a page."""
_HEIGHT = 280
_PARTS = ("layer", "hconcat", "vconcat", "concat")
"""Where charts have charts."""


@dataclass(frozen=True)
class _Column:
    title: str
    is_number: bool


@dataclass(frozen=True)
class _Card:
    """A panel as the template wants it: with the number of its chart, or else with a table."""

    panel: Panel
    shows: frozenset[str] = frozenset()
    """The step's inputs of which it is made, as far as it tells."""
    wide: bool = False
    chart: int | None = None
    columns: Sequence[_Column] = ()
    rows: Iterable[Sequence[str]] = ()


def render(
    dashboard: Dashboard, facts: Mapping[str, str], inputs: Mapping[str, str], tables: Mapping[str, str] = {}
) -> str:
    """The page.

    Args:
        facts: The tenant, pipeline, run and version that made it.
        inputs: The versions that it shows.
        tables: The names of tables in the warehouse, to those of the inputs that they are.

    Raises:
        StepFailed: if a panel cannot be shown, with its title and the reason.
    """
    charts: list[dict[str, Any]] = []
    dashboard = _plain(dashboard)
    cards = _in_rows([_card(panel, charts, tables) for panel in dashboard.panels])
    return templates.render(
        "dashboard.html",
        dashboard=dashboard,
        cards=cards,
        facts=facts,
        inputs=inputs,
        made=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        charts=_finite(charts),
        library=_library() if charts else "",
    )


def _plain(dashboard: Dashboard) -> Dashboard:
    """The same with the author's texts as nothing but text, so that the template trusts none to be HTML already."""
    return replace(
        dashboard,
        title=_text(dashboard.title),
        text=_text(dashboard.text),
        figures=[Figure(_text(each.label), _text(each.value), _text(each.note)) for each in dashboard.figures],
        panels=[replace(each, title=_text(each.title), text=_text(each.text)) for each in dashboard.panels],
    )


def _text(value: Any) -> str:
    """A plain copy, whatever class of text it is; nothing of None."""
    return "" if value is None else str.__str__(str(value))


def _in_rows(cards: Iterable[_Card]) -> list[_Card]:
    """Two cards to a row; one that would be alone in its row takes all of it."""
    placed: list[_Card] = []
    is_open = False
    for card in cards:
        if card.panel.wide and is_open:
            placed[-1] = replace(placed[-1], wide=True)
        placed.append(replace(card, wide=card.panel.wide))
        is_open = not card.panel.wide and not is_open
    if is_open:
        placed[-1] = replace(placed[-1], wide=True)
    return placed


def _card(panel: Panel, charts: list[dict[str, Any]], tables: Mapping[str, str]) -> _Card:
    """A panel's card; the specification of a chart is added to `charts`."""
    shows = frozenset(tables[name] for name in _tables_of(panel.content) if name in tables)
    try:
        if isinstance(panel.content, ibis.Table):
            return _table(panel, panel.content, shows)
        charts.append(_chart(panel.content))
    except Exception as error:
        raise StepFailed(f"panel {panel.title!r}: {describe(error)}") from error
    return _Card(panel, shows, chart=len(charts) - 1)


def _tables_of(content: Any) -> set[str]:
    """The names of the warehouse's tables from which a panel is made; of a chart of rows that were read, none."""
    if isinstance(content, ibis.Table):
        return {table.name for table in content.op().find(ops.DatabaseTable)}
    import altair

    if not isinstance(content, altair.TopLevelMixin):
        return set()
    parts = [part for name in _PARTS for part in getattr(content, name, None) or () if part is not altair.Undefined]
    inner = [each for name in ("data", "spec") if (each := getattr(content, name, None)) is not None]
    return set().union(*map(_tables_of, [*parts, *inner]))


def _chart(content: Any) -> dict[str, Any]:
    """A chart's specification, with its data."""
    import altair

    if not isinstance(content, altair.TopLevelMixin):
        kind = type(content).__name__
        raise StepFailed(f"its content is a {kind}; a panel shows an Altair chart or an ibis table")
    with altair.data_transformers.enable("default", max_rows=MOST_CHART_ROWS):
        try:
            spec: dict[str, Any] = content.to_dict()
        except altair.MaxRowsError as error:
            raise StepFailed(f"its chart has more than {MOST_CHART_ROWS:,} rows; aggregate them first") from error
    if address := _fetched(spec):
        raise StepFailed(f"its chart fetches {address!r}; a page works without network, so give the chart its rows")
    if "mark" in spec or "layer" in spec:  # what is made of several charts keeps the sizes that it has
        spec.setdefault("width", "container")
        spec.setdefault("height", _HEIGHT)
    return spec


def _fetched(spec: Any) -> str | None:
    """The address of data that a specification would have the browser fetch."""
    if isinstance(spec, dict):
        data = spec.get("data")
        if isinstance(data, dict) and "url" in data:
            return str(data["url"])
        # Rows are data, whatever their columns are called.
        return next((found for key, value in spec.items() if key != "datasets" and (found := _fetched(value))), None)
    if isinstance(spec, list):
        return next((found for value in spec if (found := _fetched(value))), None)
    return None


def _table(panel: Panel, table: ibis.Table, shows: frozenset[str]) -> _Card:
    rows = table.limit(MOST_TABLE_ROWS + 1).to_pyarrow()
    if rows.num_rows > MOST_TABLE_ROWS:
        raise StepFailed(f"its table has more than {MOST_TABLE_ROWS} rows; show fewer")
    columns = [_Column(_text(name).replace("_", " "), dtype.is_numeric()) for name, dtype in table.schema().items()]
    cells = [_cells(column.to_pylist()) for column in rows.columns]
    return _Card(panel, shows, columns=columns, rows=list(zip(*cells, strict=True)))


def _cells(values: list[Any]) -> list[str]:
    """A column as text: fractions of one column have as many places as its largest needs to be told apart."""
    fractions = [abs(v) for v in values if isinstance(v, float) and math.isfinite(v)]
    largest = max(fractions, default=0.0)
    places = 3 if largest < 1 else 1 if largest < 1000 else 0
    return [_cell(value, places) for value in values]


def _cell(value: Any, places: int) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float) and math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.{places}f}" if isinstance(value, float) else _text(value)


def _finite(value: Any) -> Any:
    """The same without NaN and infinity, which JSON does not have: one of them would break every chart of the page."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@cache
def _library() -> Markup:
    """Vega, Vega-Lite and vega-embed, in the version that Altair writes for."""
    import altair
    import vl_convert

    version = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    code = str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", version))
    # Within strings, patterns and comments of JavaScript both mean what they meant.
    return Markup(code.replace("</script", "<\\/script").replace("<!--", "<\\!--"))
