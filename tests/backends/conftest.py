"""What tests of the drivers share: one stand-in of each warehouse for the whole session."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests import standins


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], dict[str, Any]]]:
    """Gives the settings that reach a warehouse's stand-in, which is started when it is first asked for."""
    with ExitStack() as stack:

        @functools.cache
        def started(name: str) -> dict[str, Any]:
            return stack.enter_context(standins.running(name, standins.default_home(), tmp_path_factory.mktemp(name)))

        def settings(name: str) -> dict[str, Any]:
            try:
                return dict(started(name))
            except standins.NotAvailable as error:
                pytest.skip(f"the stand-in for {name} cannot be set up: {error}")

        yield settings
