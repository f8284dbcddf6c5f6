"""A dashboard as one HTML page that needs no network."""

from __future__ import annotations

from collections.abc import Mapping

from entrepot.outputs import Dashboard


def render(dashboard: Dashboard, facts: Mapping[str, str], inputs: Mapping[str, str]) -> str:
    """The page. `facts` are the tenant, pipeline, run and version that made it; `inputs` the versions it shows."""
    return f"<html><title>{dashboard.title}</title></html>"
