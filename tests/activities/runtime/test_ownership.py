"""A catalog and a lake are of the tenant who came first, whoever comes at the same time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from entrepot.activities.catalog.catalog import Catalog
from entrepot.activities.runtime.ownership import check_tenant, claim_tenant
from entrepot.activities.runtime.tenant import Tenant
from entrepot.backends import QueryTag, Session
from entrepot.errors import BadInput


@pytest.fixture
def acme(tmp_path: Path) -> Iterator[Tenant]:
    settings = {"type": "duckdb", "path": str(tmp_path / "a.duckdb")}
    tenant = Tenant("acme", settings, str(tmp_path / "lake"), {})
    yield tenant
    tenant.close()


@pytest.fixture
def session(acme: Tenant) -> Iterator[Session]:
    with acme.backend.session(QueryTag("acme", "test", "test")) as session:
        Catalog(session).ensure()
        yield session


def owners(session: Session) -> list[str]:
    return [row["tenant"] for row in session.query("SELECT tenant FROM entrepot.places")]


def test_whose_they_are_is_recorded_once(acme: Tenant, session: Session) -> None:
    for _ in range(2):
        claim_tenant(replace(acme), session)
    assert owners(session) == ["acme"]
    assert json.loads((Path(acme.lake) / "tenant.json").read_text()) == {"tenant": "acme"}
    assert Catalog(session).pipelines() == []


def test_who_comes_second_is_refused_and_leaves_nothing(acme: Tenant, session: Session, tmp_path: Path) -> None:
    globex = replace(acme, name="globex", lake=str(tmp_path / "other"))
    check_tenant(globex, session)  # it has looked, and nobody was there
    claim_tenant(acme, session)
    with pytest.raises(BadInput, match=r"the catalog in schema 'entrepot' of file .* belongs to tenant 'acme'"):
        claim_tenant(globex, session)
    assert owners(session) == ["acme"]
    check_tenant(replace(acme), session)


def test_a_lake_that_does_not_say_whose_it_is_is_not_taken(acme: Tenant, session: Session) -> None:
    for text in ("", "[]", '{"owner": "acme"}', '"acme"'):
        Path(acme.lake).mkdir(exist_ok=True)
        (Path(acme.lake) / "tenant.json").write_text(text)
        with pytest.raises(BadInput, match=r"tenant\.json does not say whose the lake is"):
            claim_tenant(acme, session)
    assert owners(session) == []
