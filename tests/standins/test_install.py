"""How stand-ins are installed, started and ended."""

from __future__ import annotations

import subprocess
import sys
import threading
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.waiting import until

import entrepot_standins as standins
from entrepot_standins import environments, processes

pytestmark = pytest.mark.timeout(900)


def test_two_at_once_install_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def make(standin: standins.Standin, target: Path) -> None:
        made.append(standin.name)
        target.mkdir()

    monkeypatch.setattr(environments, "_make", make)
    threads = [threading.Thread(target=standins.install, args=("snowflake", tmp_path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == ["snowflake"]


def test_changed_requirements_install_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def make(standin: standins.Standin, target: Path) -> None:
        made.append(standin.name)
        target.mkdir(exist_ok=True)

    monkeypatch.setattr(environments, "_make", make)
    standins.install("bigquery", tmp_path)
    monkeypatch.setattr(environments, "_fingerprint", lambda standin: "other")
    standins.install("bigquery", tmp_path)
    standins.install("bigquery", tmp_path)
    assert made == ["bigquery", "bigquery"]


def test_a_python_that_is_none_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(environments.STANDINS, "bigquery", replace(standins.STANDINS["bigquery"], python="3.99"))
    monkeypatch.setenv("ENTREPOT_PYTHON399", str(tmp_path / "none"))
    with pytest.raises(standins.NotAvailable, match=r"ENTREPOT_PYTHON399 is .*, which is no Python 3\.99"):
        standins.install("bigquery", tmp_path)


def test_the_end_of_the_log_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "install", lambda name, home: tmp_path / "environment")
    python = tmp_path / "environment" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho what went wrong\nexit 3\n")
    python.chmod(0o755)
    with (
        pytest.raises(RuntimeError, match=r"ended with 3.*\n.*what went wrong"),
        standins.running("snowflake", tmp_path, tmp_path / "run"),
    ):
        pass


def healthy(settings: dict[str, Any]) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{settings['port']}/health") as answer:
            return answer.status == 200
    except OSError:
        return False


def test_the_server_ends_with_the_block(tmp_path: Path) -> None:
    with standins.running("snowflake", standins.default_home(), tmp_path) as settings:
        assert healthy(settings)
        assert (tmp_path / "server.log").exists()
        assert Path(settings["password"].removeprefix("file:")).read_text() == "snow"
    assert not healthy(settings)


def test_the_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys; import entrepot_standins as standins\n"
        "with standins.running('snowflake', standins.default_home(), pathlib.Path(sys.argv[1])) as settings:\n"
        "    print(settings['port'], flush=True)\n"
        "    sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    settings = {"port": int(process.stdout.readline())}
    assert healthy(settings)
    process.kill()
    process.wait()
    process.communicate()
    until(lambda: not healthy(settings))
