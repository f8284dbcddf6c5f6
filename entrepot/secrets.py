"""Secrets: given by reference, and never told. In what a process says, their values are `***`.

Every value that a `Secret` gives is known from then on, and every text that leaves the process passes `scrub`, at few
places: sentences made of exceptions (`tracebacks.cut`), the failures that Temporal records
(`worker/payloads/failures.py`), and what the process prints (`scrub_output`). What user code raises or prints passes
there, too.

Secrets are: that to which a reference led, environment variables that the tenant file names or whose own name tells
(`..._PASSWORD`, `..._TOKEN`), and the passwords in the URLs of any. What stands in a secret's place (`password=...`,
`://user:...@`) is hidden whatever it is. A secret that is short, or a word such as `production`, is hidden in such
places alone: elsewhere the same text means something else, and hiding it would tell what it is.
"""

from __future__ import annotations

import functools
import html
import json
import os
import re
import sys
import threading
from base64 import b64encode
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast
from urllib.parse import quote, quote_plus, unquote

from entrepot.errors import BadInput

MASK = "***"
REFERENCES = ("env:", "file:")
"""How a text begins that says where a secret stands."""
PAYLOAD_KEYS = "ENTREPOT_PAYLOAD_KEYS"
"""The setting that says where the keys are with which payloads are encrypted: see `worker/payloads/codec.py`."""

_KEPT = 3
"""Values that are kept of one reference: the present one, and those before it, of which connections may still tell."""
_SHORTEST, _SHORTEST_WORD, _SHORTEST_NUMBER, _SHORTEST_LINE = 6, 12, 10, 16

_NAME = (
    r"pass(?:word|wd|phrase|code)|pwd|secret|token(?!s|iz)|api[_-]?key|(?:access|account|encryption|private|shared"
    r"|signing)[_-]?key|signature"
)
"""What is in the name of something secret."""
_TELLING = re.compile(rf"{_NAME}|credential|connection_?string|_dsn$", re.IGNORECASE)
_VALUE = r"\"[^\"]*\"|'[^']*'|[^\s&;,'\"<>()\[\]{}]+"
_IN_URL = re.compile(r"(://[^\s/:@'\"]{0,200}):([^\s/'\"]+)@")
_IN_PAIR = re.compile(
    rf"(?<![\w.-])([\w.-]{{0,60}}?(?:{_NAME})[\w-]{{0,20}}=|(?<=[?&])sig=)(?!env:|file:|\*)({_VALUE})", re.IGNORECASE
)
_IN_MAPPING = re.compile(
    r"(['\"][\w.-]{0,60}?(?:password|passphrase|api_key|access_key|private_key|client_secret|access_token|refresh_token)"
    r"['\"]: ?)(\"[^\"]+\"|'[^']+')",
    re.IGNORECASE,
)
"""Of names that no table has: `plan --json` maps those to their versions."""
_IN_HEADER = re.compile(
    r"(\bauthorization['\"]?\s?[:=]\s?['\"]?(?:basic |bearer )?|\bbearer (?=\S{16}))([^\s'\",]+)", re.I
)

_lock = threading.Lock()
_resolved: dict[str, deque[str]] = {}
_named: set[str] = set()


@dataclass(frozen=True)
class Secret:
    """Where a secret stands: `env:NAME` or `file:PATH`. Read each time it is used, so that it can be rotated."""

    reference: str
    where: str

    def read(self) -> str:
        """The secret itself, for a client and nobody else: from now on it is known as one.

        Raises:
            BadInput: if it is not there.
        """
        value = self._value()
        register(value, self.reference)
        return value

    def _value(self) -> str:
        kind, _, place = self.reference.partition(":")
        if kind == "env":
            if place not in os.environ:
                raise BadInput(f"{self.where}: the environment variable {place} is not set for this worker")
            return os.environ[place]
        try:
            return Path(place).expanduser().read_text().strip()
        except OSError as error:
            raise BadInput(f"{self.where}: the file {place} cannot be read: {error.strerror}") from error


def register(value: str, reference: str) -> None:
    """From now on a secret's value is not told.

    Args:
        value: The secret, or a text with secrets in it: a URL, a key of several lines, JSON.
        reference: Where it stood. Of what stood there before, only the last values are remembered.
    """
    with _lock:
        known = _resolved.setdefault(reference, deque(maxlen=_KEPT))
        if value not in known:
            known.append(value)


def register_all(values: Mapping[str, Iterable[str]]) -> None:
    """Registers what another process of this worker has `resolved`."""
    for reference, each in values.items():
        for value in each:
            register(value, reference)


def refer(reference: str) -> None:
    """What a reference leads to is a secret, whether or not it is ever resolved."""
    kind, _, place = reference.partition(":")
    if kind == "env":
        _named.add(place)
    elif kind == "file":
        with suppress(BadInput, UnicodeDecodeError):  # whoever needs it says so
            Secret(reference, "").read()


def scrub(text: str) -> str:
    """A text without secrets."""
    plain = str.__str__(text)  # a subclass may do otherwise
    forms, escaped = _known()
    for form in forms:
        if form in plain:
            plain = plain.replace(form, MASK)
    for pattern in escaped:
        plain = pattern.sub(MASK, plain)
    plain = _IN_URL.sub(rf"\1:{MASK}@", plain)
    for place in (_IN_PAIR, _IN_MAPPING, _IN_HEADER):
        plain = place.sub(_hidden, plain)
    return plain


def _hidden(found: re.Match[str]) -> str:
    """What stands in a secret's place, within its quotes."""
    quotes = found[2][0] if found[2][0] in "'\"" else ""
    return f"{found[1]}{quotes}{MASK}{quotes}"


def resolved() -> dict[str, tuple[str, ...]]:
    """The values that this process knows, by reference."""
    with _lock:
        return {reference: tuple(values) for reference, values in _resolved.items()}


def of_worker() -> frozenset[str]:
    """The environment variables with secrets of the worker itself, which user code has no use for."""
    keys = (each.strip().partition(":") for each in os.environ.get(PAYLOAD_KEYS, "").split(","))
    own = {place for kind, _, place in keys if kind == "env"}
    return frozenset({PAYLOAD_KEYS, "TEMPORAL_API_KEY", "TEMPORAL_TLS_CLIENT_KEY_DATA", *own})


def is_told(text: str) -> bool:
    """Whether a text has a secret in it, in a place where one stands, such as a URL's password."""
    return any(pattern.search(text) for pattern in (_IN_URL, _IN_PAIR))


class _Scrubbed:
    """A stream, of which everything that is written passes `scrub`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(scrub(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        self._stream.writelines(map(scrub, lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def scrub_output() -> None:
    """Whatever this process prints or logs from now on is scrubbed: ours, libraries' and user code's."""
    for name in ("stdout", "stderr"):
        if not isinstance(stream := getattr(sys, name), _Scrubbed):
            setattr(sys, name, cast("TextIO", _Scrubbed(stream)))


# What is known --------------------------------------------------------------------------------------------------------


_Known = tuple[tuple[str, ...], tuple[re.Pattern[str], ...]]
"""Every way in which secrets may be written, the longest first: what is in another comes after it. And what finds
those that are written otherwise within texts."""


def _known() -> _Known:
    with _lock:
        resolved = tuple(value for values in _resolved.values() for value in values)
    return _forms_of(resolved, tuple(_environment()))


def _environment() -> Iterator[tuple[str, bool]]:
    """The values of environment variables that may be secrets, and whether they are so as a whole."""
    for name, value in os.environ.items():
        is_secret = name in _named or _is_telling(name)
        if is_secret or "://" in value:
            yield value, is_secret


@functools.lru_cache(maxsize=4096)
def _is_telling(name: str) -> bool:
    return _TELLING.search(name) is not None


@functools.lru_cache(maxsize=4)
def _forms_of(resolved: tuple[str, ...], environment: tuple[tuple[str, bool], ...]) -> _Known:
    values = set(resolved) | {v for v, is_secret in environment if is_secret and not _is_file(v)}
    parts = {part for value in values for part in (value, *_parts(value))}
    parts |= {password for value, _ in environment for password in _passwords(value)}
    found = sorted(filter(_is_distinctive, parts), key=lambda part: (-len(part), part))
    forms = {form for part in found for form in _forms(part)}
    escaped = (_escaped(part) for part in found if not _PLAIN.fullmatch(part))
    return tuple(sorted(forms, key=lambda form: (-len(form), form))), tuple(escaped)


def _is_file(value: str) -> bool:
    """Whether a variable such as GOOGLE_APPLICATION_CREDENTIALS says where a secret is, and not what."""
    return os.path.isabs(value) and os.path.exists(value)


def _is_distinctive(value: str) -> bool:
    """Whether a text, wherever it stands, is most likely the secret and nothing else."""
    if value.isdigit():
        return len(value) >= _SHORTEST_NUMBER
    is_word = value.isalpha() and (value.islower() or value.isupper() or value.istitle())
    return len(value) >= (_SHORTEST_WORD if is_word else _SHORTEST)


def _parts(value: str) -> Iterator[str]:
    """What in a secret is secret by itself: the lines of a key, fields of JSON, passwords."""
    if "\n" in value:
        lines = (line.strip() for line in value.splitlines())
        yield from (line for line in lines if len(line) >= _SHORTEST_LINE and not line.startswith("-----"))
    if value.lstrip().startswith("{"):
        with suppress(ValueError):
            yield from _fields(json.loads(value))
    yield from _passwords(value)


def _fields(found: Any, name: str = "") -> Iterator[str]:
    """The texts of JSON whose names say that they are secrets."""
    if isinstance(found, dict):
        for key, value in found.items():
            yield from _fields(value, str(key))
    elif isinstance(found, list):
        for each in found:
            yield from _fields(each, name)
    elif isinstance(found, str) and _is_telling(name):
        yield from (found, *_parts(found))


def _passwords(text: str) -> Iterator[str]:
    """The passwords in a URL or a connection string: as they stand there, and as they are."""
    found = [match[2] for pattern in (_IN_URL, _IN_PAIR) for match in pattern.finditer(text)]
    for password in found:
        plain = password.strip("'\"")
        yield from (plain, unquote(plain))


def _forms(value: str) -> Iterator[str]:
    """A value as it is, and as it is written in SQL, HTML, URLs, in hexadecimal digits and in base64."""
    yield from (value, value.replace("'", "''"), html.escape(value))
    for quoted in (quote(value, safe=""), quote(value), quote_plus(value)):
        yield from (quoted, re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), quoted))
    data = value.encode("utf-8", "surrogatepass")
    yield data.hex()
    for before in range(3):  # the bytes in front of it, as `user:` in a header, move its digits
        coded = b64encode(bytes(before) + data).decode()
        own = coded[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]
        yield from (own, own.translate(_URL_SAFE))


_PLAIN = re.compile(r"[ !#-&(-\[\]-~]*")
"""What Python and JSON write as it is."""


def _escaped(value: str) -> re.Pattern[str]:
    """Finds a value as Python or JSON write it, and as they write such texts in texts: with ever more backslashes."""
    shortest = re.sub(r"\\+(?=(['\"]?))", lambda run: "" if run[1] else "\\", value)
    return re.compile("".join(map(_character, shortest)))


def _character(one: str) -> str:
    if _PLAIN.fullmatch(one):
        return re.escape(one)
    if one == "\\":
        return r"\\{1,15}"
    if one in "'\"":
        return rf"\\{{0,15}}{one}"
    codes = {written(one)[1:-1].replace("\\", r"\\{1,15}") for written in (repr, json.dumps)}
    return f"(?:{'|'.join((re.escape(one), *sorted(codes)))})"


_URL_SAFE = str.maketrans("+/", "-_")
