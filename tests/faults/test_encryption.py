"""Payloads are encrypted by one setting, for every command; whoever lacks the key is told so.

What must hold: the server keeps nothing that can be read without the key, commands and the plain CLI read everything
with it, a key can be replaced while runs go on, and what was encrypted with the old one stays readable.
"""

from __future__ import annotations

import json
import subprocess
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

import pytest

from entrepot.worker.payloads.codec import SETTING
from tests.worker.processes import Place

QUERY = ("workflow", "query", "--type", "progress", "-o", "json", "-w")
NAMED = "KeyError: 'colour'"
"""What a failure says."""


def key(name: str, number: int) -> str:
    return f"{name}:{b64encode(bytes([number]) * 32).decode()}\n"


@dataclass
class Encrypted(Place):
    """A place whose processes all know where the keys are."""

    def environment(self, **more: str) -> dict[str, str]:
        return super().environment(**{SETTING: f"file:{self.keys}", **more})

    @property
    def keys(self) -> Path:
        return self.folder / "keys"

    def decrypted(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """What the plain CLI shows with the codec server's help."""
        return self.temporal(*arguments, "--codec-endpoint", f"http://127.0.0.1:{self.ui_port + 1}")


@pytest.fixture
def place(tmp_path: Path) -> Encrypted:
    made = Encrypted(tmp_path)
    made.keys.write_text(key("one", 1))
    return made


def test_the_server_keeps_what_nobody_can_read_without_the_key(place: Encrypted) -> None:
    with place.dev():
        failed = place.entrepot("run", "wild", "-p", "where=transform", "-p", "what=key")
        assert failed.returncode == 2
        assert NAMED in failed.stderr
        hidden = place.temporal(*QUERY, "acme/wild")
        assert json.loads(hidden.stdout)["queryResult"]
        assert NAMED not in hidden.stdout
        assert NAMED in error_of(place.decrypted(*QUERY, "acme/wild"))

        # A start in JSON needs no key; with the codec server, its input is encrypted, too.
        asked = ["--type", "Pipeline", "--task-queue", "entrepot", "-w", "acme/shop", "--input"]
        asked.append('{"tenant": "acme", "pipeline": "shop"}')
        for execute in (place.temporal, place.decrypted):
            assert execute("workflow", "execute", *asked).returncode == 0

        # No process is restarted.
        place.keys.write_text(key("two", 2) + key("one", 1))
        assert place.entrepot("run", "shop").returncode == 0
        assert NAMED in error_of(place.decrypted(*QUERY, "acme/wild"))

        off = place.entrepot("versions", "shop", **{SETTING: ""})
        assert off.returncode == 2
        assert off.stderr == f"✗ the payload was encrypted with the key 'two'; {SETTING} is not set here\n"
        (place.folder / "other").write_text(key("two", 3))
        wrong = place.entrepot("versions", "shop", **{SETTING: f"file:{place.folder / 'other'}"})
        assert wrong.returncode == 2
        assert "was encrypted with another key 'two' than the one" in wrong.stderr
    kept = b"".join(path.read_bytes() for path in place.state.glob("temporal.db*"))
    assert [each for each in (b"acme/wild", b"prepare") if each not in kept] == []  # what is not encrypted is found
    assert [each for each in (b"colour", b"by_country", b"doubled") if each in kept] == []


def error_of(queried: subprocess.CompletedProcess[str]) -> str:
    """Why a run failed, as its progress says."""
    [progress] = json.loads(queried.stdout)["queryResult"]
    return str(progress["error"])
