"""What killed workers have left for scratch is known by its age: no step lasts longer."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from entrepot.activities.maintenance import scratch
from entrepot.language.limits import LONGEST

HOUR = timedelta(hours=1)


def test_what_a_step_may_still_write_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ages = {"entrepot-new": HOUR, "entrepot-long": LONGEST - HOUR, "entrepot-left": LONGEST + 2 * HOUR}
    for name, age in {**ages, "others": 2 * LONGEST}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "rows").write_text("12345")
        for each in (tmp_path / name / "rows", tmp_path / name):
            os.utime(each, (time.time() - age.total_seconds(),) * 2)
    found = scratch.left()
    assert found == {tmp_path / "entrepot-left": 5}
    scratch.remove(found)
    assert {each.name for each in tmp_path.iterdir()} == {"entrepot-new", "entrepot-long", "others"}


def test_folders_that_come_and_go_meanwhile_disturb_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(scratch, "LONGEST_SECONDS", -3600.0)  # all are old enough
    work = tmp_path / "entrepot-work"
    ended = threading.Event()

    def come_and_go() -> None:
        while not ended.is_set():
            for name in "abcdef":
                (work / name / "load" / "loaded").mkdir(parents=True)
            shutil.rmtree(work)

    others = threading.Thread(target=come_and_go)
    others.start()
    try:
        for _ in range(3_000):
            assert scratch.left().keys() <= {work}
    finally:
        ended.set()
        others.join()
