"""The parts of the benchmarks that compute rather than measure; no time is asserted."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as every
from benchmarks import chain, ingest, planning, scoring, startup
from benchmarks.peers import projects
from benchmarks.timing import Row, table, timed
from entrepot.registry import Registry


def test_a_process_is_timed_with_its_memory_and_output(tmp_path: Path) -> None:
    run = timed([sys.executable, "-c", "import os; print(os.getcwd(), os.environ['X'])"], tmp_path, {"X": "y"})
    assert run.output.split() == [str(tmp_path), "y"]
    assert run.seconds > 0
    assert run.peak_bytes > 1_000_000


def test_a_process_that_fails_is_no_measurement(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="failed with 3:\nno"):
        timed([sys.executable, "-c", "print('no'); raise SystemExit(3)"], tmp_path)


def test_a_ratio_is_our_median_as_a_share_of_theirs(capsys: pytest.CaptureFixture[str]) -> None:
    mine = Row("ours", "task", [1.0, 3.0, 2.0], None)
    theirs = Row("theirs", "task", [8.0, 4.0, 5.0], mine.median, 0.3)
    assert (mine.median, mine.ratio, theirs.ratio) == (2.0, None, 0.4)
    table("title", [mine, theirs])
    shown = capsys.readouterr().out
    assert "0.40" in shown
    assert "≤ 0.3 ✗" in shown


def test_the_same_graph_is_written_for_everybody(tmp_path: Path) -> None:
    shape = projects.Shape(3, 4)
    chain.write_entrepot(tmp_path, shape)
    text = (tmp_path / "bench.py").read_text()
    assert text.count("@bench.transform") == len(list(shape.transforms())) == 12
    for peer in chain.PEERS:
        chain.PEERS[peer](tmp_path / peer, shape.layers, shape.width)
        assert projects.read_shape(tmp_path / peer) == shape


def test_what_is_downstream_of_the_changed_transform() -> None:
    assert chain._descendants(projects.Shape(3, 3), "t_1_0") == {"t_1_0", "t_2_0", "t_2_2"}


def test_planning_says_what_a_plan_takes() -> None:
    assert set(planning.ours(planning.OURS, 2, 3)) == {planning.FIRST, planning.AGAIN}
    assert set(planning.ours(planning.BARE, 2, 3)) == {planning.FIRST}


@pytest.mark.parametrize("name", ingest.SOURCES)
def test_every_ingest_is_a_valid_pipeline(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ingest.write_pipeline(tmp_path, ingest.Task(name, ("x.csv",), 1, {}, ("rows", "rows__nested")))
    monkeypatch.syspath_prepend(str(tmp_path))
    graph = Registry({"bench": "bench:bench"}).load("bench").graph
    assert set(graph.steps) == {"rows", "none_is_missing"}


def test_ours_comes_first_in_every_task() -> None:
    seconds = {(task, name): [1.0] for task in (planning.FIRST, planning.AGAIN) for name in ("entrepot", "sqlmesh")}
    assert [row.name for row in planning.rows_of(seconds)] == ["entrepot", "sqlmesh"] * 2


def test_every_contender_scores_the_same() -> None:
    measured = scoring.measure(3_000, 1)
    assert set(measured) == set(scoring.CONTENDERS)
    rows = scoring.rows_of({name: each.whole for name, each in measured.items()})
    assert [row.name for row in rows if row.ours is None] == [scoring.SQL, scoring.STREAMED]


def test_a_contender_that_took_the_other_way_is_refused() -> None:
    said = f"{scoring._SECONDS}0.5\nscored in the warehouse as SQL: ..."
    assert scoring.scoring_seconds(scoring.SQL, said) == 0.5
    with pytest.raises(RuntimeError, match="was not measured"):
        scoring.scoring_seconds(scoring.STREAMED, said)


def test_heavy_modules_are_found_among_those_imported() -> None:
    printed = "import time:       150 |        150 |   sklearn.base\nimport time: 1 | 2 | json\nUsage: import ibis"
    assert startup.imported(printed) == {"sklearn.base", "json"}
    assert startup.heavy({"sklearn.base", "json", "ibis_like"}) == ["sklearn"]


def test_an_unknown_benchmark_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        every.main(["spelling"])
    assert "unknown benchmark: spelling; the benchmarks are startup" in capsys.readouterr().err
