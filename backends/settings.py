"""What a tenant's settings may say about a warehouse, and secrets: by reference only, never by value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from entrepot.errors import BadInput, listed, unknown
from entrepot.secrets import REFERENCES, Secret

__all__ = ["Secret", "checked", "is_local"]


def checked(
    settings: Mapping[str, Any], known: Mapping[str, type], required: Sequence[str], kind: str, where: str
) -> dict[str, Any]:
    """A backend's settings, of which nothing is unknown, missing or of the wrong type, and secrets as `Secret`.

    Raises:
        BadInput: for the first that is; `where` says whose settings they are.
    """
    made: dict[str, Any] = {}
    for key, value in settings.items():
        if key not in known:
            raise BadInput(f"{where}: {unknown(f'setting of a {kind} backend', key, known)}")
        made[key] = _secret(key, value, where) if known[key] is Secret else value
        if type(made[key]) is not known[key]:
            raise BadInput(f"{where}: `{key}` must be of type {known[key].__name__}, not {value!r}")
    if missing := [key for key in required if key not in settings]:
        raise BadInput(f"{where}: a {kind} backend needs {listed(missing)}")
    return made


def is_local(host: str) -> bool:
    """Whether a host is this machine: what answers there is no account, but a stand-in for one."""
    return host in ("localhost", "::1") or host.startswith("127.")


def _secret(key: str, value: Any, where: str) -> Secret:
    if not isinstance(value, str) or not value.startswith(REFERENCES):
        # The value is not repeated: it may be the secret.
        raise BadInput(
            f"{where}: `{key}` must be a reference such as 'env:NAME' or 'file:PATH', never the secret itself"
        )
    return Secret(value, f"{where}: `{key}`")
