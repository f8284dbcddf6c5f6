"""A tenant file that changes while it is served is read again: new tenants, parameters and pipelines.

What is wrong with it is logged, and the settings read before stay in effect. `watchfiles` would watch all the time;
here the file's stamp is read only when an activity asks for a tenant.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from entrepot.activities.runtime.tenant import Tenant, Tenants
from entrepot.errors import EntrepotError
from entrepot.identity.imported import stamp
from entrepot.worker.telemetry.logs import log


class Renewal:
    """Looks whether a tenant file has changed, and brings what is served up to date.

    Args:
        read: Reads the file: its tenants, and the references of its pipelines.
    """

    def __init__(self, file: Path, read: Callable[[], Tenants]) -> None:
        self._file = file
        self._read = read
        self._stamp = stamp(file)
        self._lock = threading.Lock()

    def __call__(self, served: Tenants) -> None:
        """Reads the file again, if it has changed since the last call."""
        with self._lock:
            if (now := stamp(self._file)) == self._stamp:
                return
            self._stamp = now
            try:
                newer = self._read()
            except EntrepotError as error:
                served.behind = (
                    f"{self._file} has changed but cannot be used, so the settings read before stay in effect: {error}"
                )
                log.warning("%s", served.behind)
                return
            served.behind = ""
            served.registry.refer(newer.registry.references)
            served.tenants = {name: _kept(served.tenants.get(name), made) for name, made in newer.tenants.items()}
            log.info("%s has changed and was read again: it serves %s", self._file, ", ".join(served.tenants))


def _kept(before: Tenant | None, now: Tenant) -> Tenant:
    """A tenant with the connections that it has open, where its warehouse is the same."""
    if before is None or before == now:
        return before or now
    if before.backend_settings == now.backend_settings and "backend" in (kept := vars(before)):
        vars(now)["backend"] = kept["backend"]
    return now
