"""Payloads are encrypted before they leave the process, where `ENTREPOT_PAYLOAD_KEYS` says where the keys are.

It names them by reference, as secrets of tenants are: `file:PATH` or `env:NAME`, or several with commas. Behind a
reference are lines `ID:KEY`, of which the key is 32 bytes in base64. The first key encrypts; all of them decrypt, and
what was never encrypted stays readable. They are read each time, so a key can be added and removed while workers run.

A key whose id begins with a tenant's name and a point (`acme.2`) is that tenant's: it encrypts the payloads of
workflows, and of activities without one, whose ids begin with that name, as those of all commands do. So one tenant's
histories can be made unreadable alone, and be read by somebody who can read no other's.
"""

from __future__ import annotations

import base64
import binascii
import functools
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    ActivitySerializationContext,
    PayloadCodec,
    SerializationContext,
    WithSerializationContext,
    WorkflowSerializationContext,
)

from entrepot.errors import BadInput, listed
from entrepot.secrets import PAYLOAD_KEYS, REFERENCES, Secret, register

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SETTING = PAYLOAD_KEYS
ENCODING = b"binary/encrypted"
KEY_ID = "encryption-key-id"
_KEY_BYTES, _NONCE_BYTES = 32, 12
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_TENANT = re.compile(r"[a-z0-9][a-z0-9_-]*")

Keys = Mapping[str, "AESGCM"]
"""Ciphers by the ids of their keys, in order."""


class CannotDecrypt(BadInput):
    """A payload was encrypted with a key that this process does not have."""


def is_on() -> bool:
    """Whether payloads are encrypted."""
    return bool(os.environ.get(SETTING, "").strip())


def keys() -> Keys:
    """The keys that the setting leads to; none where it is not set.

    Raises:
        BadInput: if there is anything wrong with one, without telling it.
    """
    texts = []
    for reference in filter(None, map(str.strip, os.environ.get(SETTING, "").split(","))):
        if not reference.startswith(REFERENCES):
            raise BadInput(f"{SETTING} must be a reference such as 'env:NAME' or 'file:PATH', never a key itself")
        texts.append((reference, Secret(reference, SETTING).read()))
    return _parsed(tuple(texts)) if texts else {}


@functools.lru_cache(maxsize=8)
def _parsed(texts: tuple[tuple[str, str], ...]) -> Keys:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        raise BadInput(f"{SETTING} is set, which needs `pip install 'entrepot[encryption]'`") from None
    made: dict[str, AESGCM] = {}
    for reference, text in texts:
        for number, entry in enumerate(text.split(), 1):
            where = f"{SETTING}, {reference}, key {number}"
            name, _, coded = entry.partition(":")
            if not _ID.fullmatch(name) or not coded:
                raise BadInput(f"{where}: write ID:KEY, of which the id has letters, digits, '.', '-' and '_'")
            if name in made:
                raise BadInput(f"{where}: another key has the id {name!r}, too; give each its own")
            register(coded, f"{reference}, {name}")
            made[name] = AESGCM(_key(coded, f"{where} ({name!r})"))
        if not text.strip():
            raise BadInput(f"{SETTING}, {reference}: there is no key")
    return made


def _key(coded: str, where: str) -> bytes:
    try:
        key = base64.b64decode(coded, validate=True)
    except binascii.Error:
        raise BadInput(f"{where} is not base64; `openssl rand -base64 32` makes one") from None
    if len(key) != _KEY_BYTES:
        raise BadInput(
            f"{where} has {len(key)} bytes, and must have {_KEY_BYTES}; `openssl rand -base64 {_KEY_BYTES}` makes one"
        )
    return key


@dataclass(frozen=True)
class Codec(PayloadCodec, WithSerializationContext):
    """AES-GCM with the keys of the setting. Without it, payloads stay as they are.

    The format is that of Temporal's samples: the whole payload, encrypted behind its nonce, with the key's id in the
    metadata.
    """

    tenant: str = ""
    """Whose payloads they are, as far as the id of the workflow tells, or of the activity that is in none."""

    def with_context(self, context: SerializationContext) -> Codec:
        """The codec for the payloads of a workflow or activity."""
        match context:
            case WorkflowSerializationContext(workflow_id=name):
                pass
            case ActivitySerializationContext(workflow_id=workflow_id, activity_id=activity_id):
                name = workflow_id or activity_id or ""
            case _:
                name = ""
        found = _TENANT.match(name)
        return Codec(found[0] if found else "")

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encrypts payloads with the tenant's key, if it has one, else with the first that is no tenant's."""
        if not (known := keys()):
            return list(payloads)
        name = self._chosen(known)
        return [each if _is_encrypted(each) else _encrypted(each, name, known[name]) for each in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Decrypts what is encrypted.

        Raises:
            CannotDecrypt: if its key is not known, or another has the same id.
        """
        if not any(map(_is_encrypted, payloads)):
            return list(payloads)
        known = keys()
        return [_decrypted(each, known) if _is_encrypted(each) else each for each in payloads]

    def _chosen(self, known: Keys) -> str:
        own = (name for name in known if self.tenant and name.startswith(f"{self.tenant}."))
        common = (name for name in known if "." not in name)
        if (name := next(own, None) or next(common, None)) is None:
            raise BadInput(
                f"{SETTING} has keys of tenants alone ({listed(known)}); "
                "add one for the rest, without a point in its id"
            )
        return name


def _is_encrypted(payload: Payload) -> bool:
    return bytes(payload.metadata.get("encoding", b"")) == ENCODING


def _encrypted(payload: Payload, name: str, cipher: AESGCM) -> Payload:
    nonce = os.urandom(_NONCE_BYTES)
    data = nonce + cipher.encrypt(nonce, payload.SerializeToString(), None)
    return Payload(metadata={"encoding": ENCODING, KEY_ID: name.encode()}, data=data)


def _decrypted(payload: Payload, known: Keys) -> Payload:
    from cryptography.exceptions import InvalidTag

    name = payload.metadata.get(KEY_ID, b"").decode(errors="replace")
    if name not in known:
        here = f"known here: {listed(known)}" if known else f"{SETTING} is not set here"
        raise CannotDecrypt(f"the payload was encrypted with the key {name!r}; {here}")
    nonce, data = payload.data[:_NONCE_BYTES], payload.data[_NONCE_BYTES:]
    plain = Payload()
    try:
        plain.ParseFromString(known[name].decrypt(nonce, data, None))
    except (InvalidTag, ValueError):
        raise CannotDecrypt(
            f"the payload was encrypted with another key {name!r} than the one to which {SETTING} leads here, "
            "or was changed since"
        ) from None
    return plain
