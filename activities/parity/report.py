"""The report of a comparison as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from entrepot.protocol.messages import ParityReport, Side, TableParity

_STYLE = """
:root { color-scheme: light dark; --line: #8883; --good: #1a7f37; --bad: #cf222e; --soft: #8881; }
@media (prefers-color-scheme: dark) { :root { --good: #3fb950; --bad: #ff7b72; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; } th { text-align: left; font-weight: 600; }
th, td { padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
.good { color: var(--good); } .bad { color: var(--bad); } code, pre { font: 13px/1.45 ui-monospace, monospace; }
pre { background: var(--soft); padding: .7rem; overflow-x: auto; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1rem; } .why { color: #888; }
.scroll { overflow-x: auto; }
"""


def page(report: ParityReport) -> str:
    """The whole page."""
    first, *others = report.on
    differing = [table for table in report.tables if not table.agrees]
    verdict = (
        f'<span class="bad">{len(differing)} of {len(report.tables)} tables do not agree</span>'
        if differing
        else f'<span class="good">all {len(report.tables)} tables agree</span>'
    )
    title = f"{report.pipeline}: {', '.join(others)} against {first}"
    facts = f"tenant {report.tenant} · environment {report.environment} · run {report.run} · {report.seconds:.1f} s"
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f"<h1>{escape(title)}</h1><p>{verdict}<br><span class=why>{escape(facts)}</span></p>",
        _overview(report, first, others),
        *(_details(table, first) for table in differing),
        "</html>",
    ]
    return "\n".join(parts)


def _overview(report: ParityReport, first: str, others: list[str]) -> str:
    head = "".join(f"<th>{escape(name)}" for name in ("table", "rows", f"digest on {first}", *others))
    rows = []
    for table in report.tables:
        count = f"{table.rows:,}" if table.rows is not None else ""
        sides = "".join(f"<td>{_verdict(side)}" for side in table.sides)
        name = f"<b>{escape(table.name)}</b>" if table.kind == "transform" else escape(table.name)
        rows.append(f"<tr><td>{name}<td class=n>{count}<td><code>{table.digest}</code>{sides}")
    return f"<div class=scroll><table><tr>{head}{''.join(rows)}</table></div>"


def _verdict(side: Side) -> str:
    mark = "good" if side.agrees else "bad"
    also = f" (certified by run {escape(side.certified_by)} on {side.certified_at})" if side.certified else ""
    why = f"<br><span class=why>{escape(side.why)}</span>" if side.why else ""
    return f'<span class="{mark}">{side.verdict}</span>{also}{why}'


def _details(table: TableParity, first: str) -> str:
    parts = [f"<h2>{escape(table.name)}</h2>"]
    for side in table.sides:
        if side.agrees:
            continue
        parts.append(f"<p>{escape(first)} ({escape(table.engine)}) and {escape(side.backend)} ({escape(side.engine)})")
        parts.append(f"<br>{_verdict(side)}</p>")
        if side.cells:
            parts.append(_table(("row", "column", first, side.backend), _cells(side)))
        for where, rows in ((first, side.only_left), (side.backend, side.only_right)):
            if rows:
                columns = list(rows[0])
                listed = [[_value(row.get(name)) for name in columns] for row in rows]
                parts.append(f"<p>Rows that only {escape(where)} has, for example:</p>{_table(columns, listed)}")
        if side.sql:
            both = ((first, table.sql), (side.backend, side.sql))
            parts.append("<div class=two>")
            parts += [f"<div><b>{escape(name)}</b><pre>{escape(sql)}</pre></div>" for name, sql in both]
            parts.append("</div>")
    if table.expression:
        parts.append(f"<details><summary>The expression</summary><pre>{escape(table.expression)}</pre></details>")
    return "".join(parts)


def _cells(side: Side) -> Iterable[list[str]]:
    for cell in side.cells:
        key = ", ".join(f"{name} = {value}" for name, value in cell.key.items())
        yield [escape(key), escape(cell.column), _value(cell.left), _value(cell.right)]


def _value(value: str | None) -> str:
    return "<i>NULL</i>" if value is None else f"<code>{escape(value)}</code>"


def _table(head: Iterable[str], rows: Iterable[list[str]]) -> str:
    """`rows` are HTML already."""
    titles = "".join(f"<th>{escape(name)}" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}" for cell in row) for row in rows)
    return f"<div class=scroll><table><tr>{titles}{body}</table></div>"
