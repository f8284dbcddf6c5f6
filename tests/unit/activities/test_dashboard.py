"""The page that a dashboard becomes."""

from __future__ import annotations

import datetime
import json
import re
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any

import altair as alt
import ibis
import ibis.expr.operations as ops
import pandas as pd
import pyarrow as pa
import pytest
import vl_convert
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup, escape

from entrepot.activities.publish.dashboard import MOST_CHART_ROWS, MOST_TABLE_ROWS, _Card, _in_rows, render
from entrepot.activities.runtime.isolation.tables import WorkerTables
from entrepot.backends import TableName
from entrepot.errors import StepFailed
from entrepot.language.outputs import Dashboard, Figure, Panel

FACTS = {"tenant": "acme", "pipeline": "flights", "run": "01a1ff23", "version": "c0ffee"}
HOSTILE = "</script><script>alert('&')</script><!-- <img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """What a browser would make of a page: its elements, and the text of its scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._in_script = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")
            self._in_script = True

    def handle_endtag(self, tag: str) -> None:
        self._in_script = self._in_script and tag != "script"

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts[-1] += data

    @property
    def charts(self) -> list[dict[str, Any]]:
        return json.loads(self.scripts[0])


def page_of(*panels: Panel, **options: Any) -> str:
    return render(Dashboard(title="Delays", panels=panels, **options), FACTS, {"departures": "abc123"})


def bars(data: Any) -> alt.Chart:
    return alt.Chart(data).mark_bar().encode(x="name:N", y="value:Q")


def rows(count: int = 2) -> ibis.Table:
    return ibis.memtable({"name": [f"n{i}" for i in range(count)], "value": [i / 7 for i in range(count)]})


def test_a_page_fetches_nothing() -> None:
    page = Page(page_of(Panel("Chart", bars(rows())), Panel("Table", rows()), figures=[Figure("flights", "3")]))
    for tag, attributes in page.elements:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base"}
        assert not {"src", "href", "srcset", "data", "action"} & set(attributes)
    policies = [
        a["content"] for t, a in page.elements if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert len(policies) == 1
    assert "default-src 'none'" in str(policies[0])
    assert "http" not in str(policies[0])
    assert "@import" not in page_of()
    assert "url(" not in page_of()


class Trusted(str):
    """A text that says of itself that it is HTML, and stays what it is when it is made a text."""

    def __html__(self) -> str:
        return self

    def __str__(self) -> str:
        return self


@pytest.mark.parametrize("kind", [Markup, Trusted])
def test_no_text_of_an_author_is_taken_for_html(kind: type[str]) -> None:
    text = kind("<i>Delays</i>")
    page = page_of(Panel(text, rows(), text=text), text=text, figures=[Figure(text, text, note=text)])
    page += render(Dashboard(text, panels=[]), FACTS, {})
    assert "<i>" not in page
    assert page.count(str(escape("<i>Delays</i>"))) == 8


def test_the_only_addresses_beside_the_library_are_names_of_schemas() -> None:
    page = page_of(Panel("Chart", bars(rows())))
    [_, library, _] = Page(page).scripts
    rest = page.replace(library, "")
    addresses = [word for word in rest.replace('"', " ").split() if "://" in word]
    assert addresses
    assert all(word.startswith("https://vega.github.io/schema/") for word in addresses)


def test_the_library_stands_in_the_page_once_and_only_where_there_are_charts() -> None:
    one, three = (page_of(*[Panel(f"p{i}", bars(rows())) for i in range(count)]) for count in (1, 3))
    assert len(three) - len(one) < 10_000
    assert len(page_of(Panel("Table", rows()))) < 20_000


@pytest.mark.parametrize("data", [rows(), rows().to_pyarrow(), rows().to_pandas()], ids=["ibis", "arrow", "pandas"])
def test_data_is_inlined_and_charts_can_be_drawn(data: Any) -> None:
    [spec] = Page(page_of(Panel("Chart", bars(data)))).charts
    [values] = spec["datasets"].values()
    assert [row["name"] for row in values] == ["n0", "n1"]
    assert spec["width"] == "container"
    svg = vl_convert.vegalite_to_svg({**spec, "width": 300})
    assert "n1" in svg


ODD = [1.5, float("nan"), float("inf"), float("-inf"), None]


@pytest.mark.parametrize("kind", ["ibis", "arrow", "pandas", "dicts", "decimals"])
def test_what_is_no_number_is_null_to_a_browser(kind: str) -> None:
    """Python writes NaN, which no browser reads; one would break every chart of the page."""
    table = pa.table({"name": [str(n) for n in range(len(ODD))], "value": pa.array(ODD, pa.float64())})
    data: Any = {
        "ibis": lambda: ibis.memtable(table),
        "arrow": lambda: table,
        "pandas": table.to_pandas,
        "dicts": lambda: alt.Data(values=table.to_pylist()),
        "decimals": lambda: table.to_pandas().assign(value=[Decimal("1.5"), *[Decimal("NaN")] * 4]),
    }[kind]()
    scale = alt.Scale(domain=[0, float("inf")])
    chart = alt.Chart(data).mark_bar().encode(x="name:N", y=alt.Y("value:Q", scale=scale))
    page = Page(page_of(Panel("Chart", chart), Panel("Other", bars(rows()))))
    [first, second] = json.loads(page.scripts[0], parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    [values] = [*first.get("datasets", {}).values()] or [first["data"]["values"]]
    assert [row["value"] for row in values][1:] == [None] * 4
    assert first["encoding"]["y"]["scale"]["domain"] == [0, None]
    assert second["datasets"]


def test_a_table_shows_infinity_and_keeps_its_places() -> None:
    page = page_of(Panel("Table", ibis.memtable({"value": [0.25, float("inf"), float("-inf"), float("nan")]})))
    for cell in (">0.250<", ">∞<", ">-∞<", ">–<"):
        assert cell in page


def test_charts_made_of_charts_keep_their_sizes() -> None:
    both = bars(rows()).properties(width=120) | bars(rows())
    [spec] = Page(page_of(Panel("Both", both))).charts
    assert "width" not in spec
    assert spec["hconcat"][0]["width"] == 120


def test_a_transformer_set_elsewhere_does_not_move_data_out_of_the_page() -> None:
    with alt.data_transformers.enable("json"):
        [spec] = Page(page_of(Panel("Chart", bars(rows())))).charts
    assert spec["datasets"]


def test_dates_stay_the_days_that_they_are_in_every_time_zone() -> None:
    days = ibis.memtable({"day": [datetime.date(2013, 1, 1)], "n": [1]})
    [spec] = Page(page_of(Panel("Chart", alt.Chart(days).mark_bar().encode(x="day:T", y="n:Q")))).charts
    [[row]] = spec["datasets"].values()
    assert row["day"] == "2013-01-01T00:00:00"  # with a time, and without a zone: JavaScript reads it as local time


def sources(*names: str) -> list[ibis.Table]:
    """Tables of a warehouse, as a publish function is given them."""
    schema = ibis.schema({"month": "int64", "minutes": "float64"})
    rows = pa.table({"month": [1, 2], "minutes": [10.0, 12.5]})
    tables = WorkerTables(lambda expression: ibis.duckdb.connect().to_pyarrow(_with_rows(expression, rows)), "duckdb")
    return [tables.table(TableName("v", name), schema) for name in names]


def _with_rows(expression: ibis.Table, rows: pa.Table) -> ibis.Table:
    """The expression over rows, in the place of every table of the warehouse."""
    found = expression.op().find(ops.PhysicalTable)
    return expression.op().replace({each: ibis.memtable(rows).op() for each in found}).to_expr()


def test_a_panel_says_of_which_inputs_it_is_made_as_far_as_it_can_be_seen() -> None:
    one, two, other = sources("one__1", "two__2", "other__3")
    layered = alt.layer(bars(one), bars(two))
    panels = [
        Panel("a table", one.filter(one.month > 1)),
        Panel("a join", one.join(two, "month").select(one.month)),
        Panel("a chart", bars(two)),
        Panel("layers", layered),
        Panel("charts side by side", alt.hconcat(bars(one), alt.vconcat(bars(two)))),
        Panel("rows that were read", bars(pd.DataFrame({"month": [1], "minutes": [1.0]}))),
        Panel("of something else", other),
    ]
    known = {"one__1": "first", "two__2": "second"}
    page = render(Dashboard("Inputs", panels), FACTS, {}, known)
    cards = [attributes for tag, attributes in Page(page).elements if tag == "section"]
    assert [card.get("data-shows") for card in cards] == [
        "first", "first second", "second", "first second", "first second", None, None,
    ]  # fmt: skip


@given(st.lists(st.booleans(), max_size=9))
def test_no_row_of_panels_is_half_empty(wide: list[bool]) -> None:
    table = ibis.memtable({"a": [1]})
    cards = [_Card(Panel(str(n), table, wide=each)) for n, each in enumerate(wide)]
    placed = _in_rows(cards)
    assert [card.panel for card in placed] == [card.panel for card in cards]
    assert all(card.wide for card in placed if card.panel.wide)
    rest, alone = 0, 0
    for card in placed:
        if card.wide:
            assert rest == 0, "it would begin a row, and leave half of the one before empty"
            alone += not card.panel.wide
        else:
            rest = 1 - rest
    assert rest == 0
    assert alone <= sum(wide) + 1  # nothing is wide without need


def test_cells_have_room_on_both_sides() -> None:
    """A column of numbers stands to the right of its cell, and texts to the left of theirs: they would touch."""
    page = page_of(Panel("Both", ibis.memtable({"n": [1], "text": ["a"], "m": [2.0]})))
    [padding] = re.findall(r"th, td \{ padding: ([^;]*);", page)
    assert re.fullmatch(r"\S+ 0?\.[1-9]\d*rem", padding)
    assert "number { text-align: right; }" in page


def test_hostile_text_stays_text() -> None:
    data = ibis.memtable({"name": [HOSTILE], "value": [1.0]})
    page = page_of(
        Panel(HOSTILE, bars(data), text=HOSTILE),
        Panel("Table", data),
        text=HOSTILE,
        figures=[Figure(HOSTILE, HOSTILE, HOSTILE)],
    )
    read = Page(page)
    assert len(read.scripts) == 3
    assert not [tag for tag, _ in read.elements if tag == "img"]
    [[row]] = read.charts[0]["datasets"].values()
    assert row["name"] == HOSTILE
    assert f"<td>{escape(HOSTILE)}</td>" in page


def test_templates_in_texts_are_not_filled_in() -> None:
    for text in ("costs $title and ${cards}", "costs {{ dashboard }} {% if %}{# and more #}"):
        assert text in page_of(text=text)


def test_tables_show_every_type_as_people_write_it() -> None:
    table = ibis.memtable(
        pd.DataFrame(
            {
                "some_name": ["a", None],
                "count": [12345, 7],
                "share": [0.25, 0.125],
                "mean": [10.04, None],
                "on": [True, False],
            }
        )
    )
    page = page_of(Panel("Table", table))
    assert "<th>some name</th>" in page
    for cell in ("<td>a</td>", "<td>–</td>", ">12,345<", ">0.250<", ">10.0<", "<td>yes</td>"):
        assert cell in page


def test_the_foot_says_where_the_page_comes_from() -> None:
    page = page_of(Panel("Table", rows()))
    for word in ("acme", "flights", "01a1ff23", "c0ffee", "departures", "abc123", "UTC"):
        assert word in page


class NoChart:
    pass


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (NoChart(), "its content is a NoChart; a panel shows an Altair chart or an ibis table"),
        (rows(MOST_TABLE_ROWS + 1), "more than 500 rows"),
        (bars(rows(MOST_CHART_ROWS + 1)), "more than 5,000 rows; aggregate them first"),
        (bars("https://example.com/data.csv"), "fetches 'https://example.com/data.csv'"),
        (alt.Chart(rows()).mark_bar().encode(x="nowhere"), 'the field "nowhere"'),
    ],
    ids=["not a chart", "long table", "long chart", "fetched data", "unknown column"],
)
def test_a_panel_that_cannot_be_shown_is_named(content: Any, said: str) -> None:
    with pytest.raises(StepFailed) as caught:
        page_of(Panel("Good", rows()), Panel("Bad one", content))
    assert str(caught.value).startswith("panel 'Bad one': ")
    assert said in str(caught.value)
