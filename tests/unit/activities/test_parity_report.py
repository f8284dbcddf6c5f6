"""The page of a comparison: what warehouses and users say stays text."""

from __future__ import annotations

from html.parser import HTMLParser

from entrepot.activities.parity.report import page
from entrepot.protocol.parity import Cell, ParityReport, Side, TableParity

HOSTILE = "</pre></style><script>alert('&')</script><!-- {{ report }} <img src=x onerror=alert(1)>"
WORD = "harmless"


class Page(HTMLParser):
    """The tags and the texts that a browser would see."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def report(text: str) -> ParityReport:
    """A table that differs, where every text is `text`."""
    rows: tuple[dict[str, str | None], ...] = ({text: text, "none": None},)
    side = Side(
        backend=text, verdict="differs", engine=text, why=text, sql=text, only_left=rows, only_right=rows,
        cells=(Cell(key={text: text}, column=text, left=text, right=None),),
    )  # fmt: skip
    table = TableParity(
        name=text, kind="transform", version="v", engine=text, digest=text, rows=1234, expression=text, sql=text,
        sides=(side,),
    )  # fmt: skip
    return ParityReport.model_construct(  # names are of a type that takes no such text; the page does not rest on it
        run=text, tenant=text, pipeline=text, environment=text, on=(text, text), agrees=False, tables=(table,)
    )


def test_hostile_text_stays_text_wherever_it_stands() -> None:
    hostile, harmless = Page(page(report(HOSTILE))), Page(page(report(WORD)))
    assert hostile.tags == harmless.tags
    assert hostile.tags.isdisjoint({"script", "img"})
    assert sum(text.count(HOSTILE) for text in hostile.texts) == sum(text.count(WORD) for text in harmless.texts) > 20


def test_values_are_told_apart_from_null() -> None:
    html = page(report("NULL"))
    assert "<code>NULL</code>" in html
    assert ">1,234<" in html
    assert "<i>NULL</i>" in html
