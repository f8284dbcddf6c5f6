"""What every test of the suite gets: a backend, and what is expected of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from entrepot.backends import Session
from tests.conformance import gaps
from tests.conformance.target import Target, chosen, is_live, opened, settings

AREA = "area(title): the row of docs/backends.md that a test belongs to"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", AREA)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "target" in metafunc.fixturenames:
        metafunc.parametrize("target", chosen(), indirect=True, scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    known, live = gaps.every(), is_live()
    for item in items:
        if not isinstance(item, pytest.Function) or "target" not in item.fixturenames:
            continue
        gap = gaps.gap_of(known, str(item.callspec.params["target"]), gaps.id_of(item), live=live)
        if gap is not None:
            reason = f"{gap.kind}: {gap.reason}"
            item.add_marker(pytest.mark.xfail(strict=True, reason=reason, raises=gap.raises))


@pytest.fixture(scope="session")
def target(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    standin: Callable[[str], dict[str, Any]],
) -> Iterator[Target]:
    """A backend, and schemas of this session's own within."""
    found = settings(request.param, tmp_path_factory.mktemp(request.param), standin)
    with opened(request.param, found) as made:
        yield made


@pytest.fixture(autouse=True)
def impatient(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """BigQuery's client does not wait for more rows where it need not."""
    if "target" not in request.fixturenames:
        return
    made: Target = request.getfixturevalue("target")
    if made.backend.name == "bigquery" and not is_live():
        # After the last rows its client waits so long before it looks whether more come: at each read.
        monkeypatch.setattr("google.cloud.bigquery._pandas_helpers._PROGRESS_INTERVAL", 0.01)


@pytest.fixture
def session(target: Target) -> Iterator[Session]:
    """A session of the test's own."""
    with target.session() as opened_session:
        yield opened_session


@pytest.fixture
def schema(target: Target) -> Iterator[str]:
    """A schema of the test's own."""
    made = target.new_schema()
    yield made
    target.drop(made)
