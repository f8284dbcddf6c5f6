"""The report of a comparison as one self-contained HTML page: see `html/parity.html`."""

from __future__ import annotations

from entrepot.activities.html.templates import render
from entrepot.protocol.parity import ParityReport


def page(report: ParityReport) -> str:
    """The whole page."""
    return render("parity.html", report=report, differing=[table for table in report.tables if not table.agrees])
