"""A source that accepts a connection and never answers fails in time, in a sentence, and can be cancelled before."""

from __future__ import annotations

import pytest

from entrepot.activities.ingest.sources.postgres import client
from entrepot.errors import Unavailable
from tests.servers import silent


@pytest.mark.parametrize("welcomes", [True, False], ids=["after the login", "before it"])
def test_a_database_that_never_answers_fails_in_time(welcomes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "CONNECT_SECONDS", 2)
    monkeypatch.setattr(client, "ANSWER_SECONDS", 1)
    monkeypatch.setattr(client, "LEAVE_SECONDS", 1)
    said = r"^shop: (the server has not answered for 3 s|.*timeout expired)"
    with (
        silent.running(welcomes=welcomes) as url,
        pytest.raises(Unavailable, match=said),
        client.connected(url, "shop"),
    ):
        pytest.fail("nobody was connected")
