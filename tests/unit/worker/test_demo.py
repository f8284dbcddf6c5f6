"""What the demo says to do next."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrepot.worker.local import demo


@pytest.mark.parametrize("offered", [{}, {"sales": "acme.sales:sales"}])
def test_it_names_only_commands_that_a_worker_can_do(offered: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "installed", lambda: offered)
    commands = [command for command, _ in demo._hints(Path("state"))]
    assert ("entrepot run flights" in commands) is not bool(offered)
    assert ('flights = "entrepot.examples.flights.pipeline:flights"' in commands) is bool(offered)
