"""A lake says its format; one of a newer version is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from entrepot.activities.storage import lake_format
from entrepot.errors import BadInput


def test_it_is_written_once(tmp_path: Path) -> None:
    marker = tmp_path / "lake" / lake_format.MARKER
    lake_format.ensure(str(marker))
    written = marker.stat().st_mtime_ns
    lake_format.ensure(str(marker))
    assert marker.stat().st_mtime_ns == written
    assert json.loads(marker.read_text()) == {"format": 1, "release": "0.1.0"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"format": 2, "release": "0.2.0"}', "the lake is in format 2, which Entrepot 0.2.0 has made, and this one"),
        ('{"format": "new"}', "does not say which format the lake has"),
        ("[]", "does not say which format the lake has"),
        ("{", "does not say which format the lake has"),
    ],
)
def test_what_it_does_not_understand_is_refused(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / lake_format.MARKER).write_text(content)
    with pytest.raises(BadInput, match=said):
        lake_format.ensure(str(tmp_path / lake_format.MARKER))
