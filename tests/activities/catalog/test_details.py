"""What the catalog keeps of a version comes back from JSON as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest

from entrepot.activities.catalog.details import (
    CopyDetails,
    Details,
    FilesDetails,
    GrowingTableDetails,
    ModelDetails,
    ModelFile,
    PageDetails,
    ScoredModel,
    Scoring,
    TableDetails,
    parse,
    serialise,
)
from entrepot.activities.catalog.growing_table import InInterval, SameKey, Segment, WithValue
from entrepot.language.interval import Interval

SUPERSEDED = [
    None,
    SameKey(schema_name="s", table="t", columns={"id": "id"}),
    InInterval(column="n", interval=Interval(1, 2.5)),
    InInterval(column="at", interval=Interval(None, "2026-01-01T00:00:00")),
    WithValue(column="_file", values=("a.csv",)),
]
SEGMENTS = [Segment(schema_name="s", table="t", columns={}, rows=1, supersedes=each) for each in SUPERSEDED]
EVIDENCE = {"rows": 3, "largest": None}
SCORED = ScoredModel(model="m", version="1", path="sql", why="", tolerance=1e-6, agreement=EVIDENCE, said="as SQL")


@pytest.mark.parametrize(
    "details",
    [
        TableDetails(),
        TableDetails(scoring=Scoring(said="as SQL", models=(SCORED,))),
        GrowingTableDetails(segments=tuple(SEGMENTS)),
        ModelDetails(
            file=ModelFile(path="m.skops", bytes=1, sha256="00"),
            features=("x",),
            dtype="boolean",
            classifier=True,
            scores={"roc_auc": 0.5},
        ),
        PageDetails(path="page.html", title="it's"),
        FilesDetails(path="rows.csv"),
        CopyDetails(schema_name="s", name="t", to="other", digest="00"),
    ],
    ids=lambda details: details.kind,
)
def test_details_come_back_as_they_were(details: Details) -> None:
    assert parse(json.loads(json.dumps(serialise(details)))) == details


@pytest.mark.parametrize(
    "kept",
    [
        {"kind": "files", "path": "rows.csv", "sha256": None, "compression": "zstd", "parts": [{"rows": 1}]},
        {
            "kind": "growing table",
            "segments": [{**SEGMENTS[1].model_dump(mode="json"), "sorted_by": "id"}],
            "manifest": None,
            "scoring": None,
            "contents": None,
            "same_as": "",
            "intervals": {"column": "day", "planned": {"day": "date"}},
            "frozen": {"origin": "0123456789abcdef", "before": "2024-01-01T00:00:00"},
        },
    ],
    ids=["of a file", "of a segment"],
)
def test_what_a_newer_version_keeps_is_written_back(kept: dict[str, Any]) -> None:
    assert serialise(parse(kept)) == kept
