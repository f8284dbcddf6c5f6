"""A dashboard as one HTML page that needs no network.

`dashboard.html` is the page. It carries the chart library once, and each chart as its Vega-Lite specification with its
data; a policy in its head forbids the browser to fetch anything.
"""

from __future__ import annotations

import datetime
import html
import json
import math
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from string import Template
from typing import Any

import ibis

from entrepot.errors import StepFailed
from entrepot.language.outputs import Dashboard, Figure, Panel
from entrepot.tracebacks import said

MOST_CHART_ROWS = 5_000
"""Rows behind one chart: beyond it a page is slow, and its reader sees no more."""
MOST_TABLE_ROWS = 500
"""Rows of a table on a page."""
_HEIGHT = 280


def render(dashboard: Dashboard, facts: Mapping[str, str], inputs: Mapping[str, str]) -> str:
    """The page. `facts` are the tenant, pipeline, run and version that made it; `inputs` the versions it shows.

    Raises:
        StepFailed: if a panel cannot be shown, with its title and the reason.
    """
    charts: list[dict[str, Any]] = []
    cards = [_card(panel, charts) for panel in dashboard.panels]
    figures = "".join(map(_figure, dashboard.figures))
    shown = "".join(f"<li>{_escaped(name)} <code>{_escaped(version)}</code></li>" for name, version in inputs.items())
    return Template(files("entrepot.activities.publish").joinpath("dashboard.html").read_text()).substitute(
        title=_escaped(dashboard.title),
        text=f"<p>{_escaped(dashboard.text)}</p>" if dashboard.text else "",
        figures=f'<ul class="figures">{figures}</ul>' if figures else "",
        cards="\n".join(cards),
        facts=_facts(facts),
        inputs=shown,
        charts=_json(charts),
        library=_library() if charts else "",
    )


def _card(panel: Panel, charts: list[dict[str, Any]]) -> str:
    try:
        content = _table(panel.content) if isinstance(panel.content, ibis.Table) else _chart(panel, charts)
    except Exception as error:
        raise StepFailed(f"panel {panel.title!r}: {said(error)}") from error
    text = f"<p>{_escaped(panel.text)}</p>" if panel.text else ""
    css = "card wide" if panel.wide else "card"
    return f'<section class="{css}"><h2>{_escaped(panel.title)}</h2>{text}{content}</section>'


def _chart(panel: Panel, charts: list[dict[str, Any]]) -> str:
    """A place for a chart, whose specification is added to `charts`."""
    import altair

    if not isinstance(panel.content, altair.TopLevelMixin):
        kind = type(panel.content).__name__
        raise StepFailed(f"its content is a {kind}; a panel shows an Altair chart or an ibis table")
    with altair.data_transformers.enable("default", max_rows=MOST_CHART_ROWS):
        try:
            spec = panel.content.to_dict()
        except altair.MaxRowsError as error:
            raise StepFailed(f"its chart has more than {MOST_CHART_ROWS:,} rows; aggregate them first") from error
    if address := _fetched(spec):
        raise StepFailed(f"its chart fetches {address!r}; a page works without network, so give the chart its rows")
    if "mark" in spec or "layer" in spec:  # what is made of several charts keeps the sizes that it has
        spec.setdefault("width", "container")
        spec.setdefault("height", _HEIGHT)
    label = _escaped(f"{panel.title}. {panel.text}")
    charts.append(spec)
    return f'<div class="chart" id="chart-{len(charts) - 1}" role="img" aria-label="{label}"></div>'


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


def _table(table: ibis.Table) -> str:
    rows = table.limit(MOST_TABLE_ROWS + 1).to_pyarrow()
    if rows.num_rows > MOST_TABLE_ROWS:
        raise StepFailed(f"its table has more than {MOST_TABLE_ROWS} rows; show fewer")
    columns = []
    for name, dtype in table.schema().items():
        css = ' class="number"' if dtype.is_numeric() else ""
        head = f"<th{css}>{_escaped(name.replace('_', ' '))}</th>"
        cells = [f"<td{css}>{_escaped(text)}</td>" for text in _cells(rows[name].to_pylist())]
        columns.append([head, *cells])
    lines = ["".join(cells) for cells in zip(*columns, strict=True)]
    body = "".join(f"<tr>{line}</tr>" for line in lines[1:])
    return f'<div class="rows"><table><thead><tr>{lines[0]}</tr></thead><tbody>{body}</tbody></table></div>'


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
    return f"{value:,.{places}f}" if isinstance(value, float) else str(value)


def _figure(figure: Figure) -> str:
    note = f"<small>{_escaped(figure.note)}</small>" if figure.note else ""
    return f"<li><b>{_escaped(figure.value)}</b>{_escaped(figure.label)}{note}</li>"


def _facts(facts: Mapping[str, str]) -> str:
    made = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    told = [f"{_escaped(name)} <code>{_escaped(value)}</code>" for name, value in facts.items()]
    return " · ".join([*told, f"made {made}"])


def _escaped(text: object) -> str:
    return html.escape(str(text))


def _json(value: Any) -> str:
    """JSON that a browser reads, and that cannot end the script element in which it stands."""
    text = json.dumps(_known(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _known(value: Any) -> Any:
    """The same without NaN and infinity, which JSON does not have: one of them would break every chart of the page."""
    if isinstance(value, dict):
        return {key: _known(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_known(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@cache
def _library() -> str:
    """Vega, Vega-Lite and vega-embed, in the version that Altair writes for."""
    import altair
    import vl_convert

    version = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    code = str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", version))
    # Within strings, patterns and comments of JavaScript both mean what they meant.
    return code.replace("</script", "<\\/script").replace("<!--", "<\\!--")
