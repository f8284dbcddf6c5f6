"""`entrepot dev --standins`: local stand-ins for cloud warehouses, beside each tenant's own, to try them all."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from entrepot import backends
from entrepot.errors import BadInput, Unavailable, unknown
from entrepot.worker.cli import output
from entrepot.worker.config.settings import Settings


def check(names: Sequence[str]) -> None:
    """Raises BadInput for a stand-in that is not known, or where the package with them is not installed."""
    for name in names:
        if name not in (known := _standins().STANDINS):
            raise BadInput(unknown("stand-in", name, known))


@contextmanager
def beside(settings: Settings, names: Sequence[str]) -> Iterator[Settings]:
    """The settings, with the stand-ins as further warehouses of every tenant, while they run.

    Raises:
        Unavailable: if one cannot be set up, with what it needs.
    """
    if not names:
        yield settings
        return
    standins = _standins()
    with ExitStack() as stack:
        further: dict[str, dict[str, Any]] = {}
        for name in names:
            output.out.print(f"stand-in     {name} (the first time it is installed, which takes a minute or more)")
            folder = settings.state / "standins" / name
            folder.mkdir(parents=True, exist_ok=True)
            try:
                further[name] = stack.enter_context(standins.running(name, standins.default_home(), folder))
            except standins.NotAvailable as error:
                raise Unavailable(f"the stand-in for {name} cannot be set up: {error}") from None
            backends.create(further[name], f"stand-in {name}")
        yield replace(settings, further=further)


def _standins() -> Any:
    if importlib.util.find_spec("entrepot_standins") is None:
        raise BadInput(
            "the stand-ins are a package of their own, in a checkout of Entrepot: pip install -e tests/standins"
        )
    return importlib.import_module("entrepot_standins")
