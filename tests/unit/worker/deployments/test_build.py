"""A build id changes when the code of Entrepot, of a pipeline or of what that imports does, and with nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from temporalio.common import VersioningBehavior

from entrepot.errors import BadInput
from entrepot.worker.deployments import build

REFERENCES = ["shop_of_mine.pipelines:shop"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a package that imports a module beside it; it raises, should anybody import it."""
    for name in (build.DEPLOYMENT, build.BUILD_ID):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    package = tmp_path / "shop_of_mine"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')\n")
    (package / "pipelines.py").write_text("import os, rules_of_mine as rules\nfrom ibis import _\n")
    (package / "query.sql").write_text("SELECT 1\n")
    (tmp_path / "rules_of_mine.py").write_text("def kept(): ...\n")
    (tmp_path / "not_of_mine.py").write_text("")
    return tmp_path


def test_it_is_short_and_the_same_each_time() -> None:
    made = build.build_id(REFERENCES)
    assert made == build.build_id([*REFERENCES, *REFERENCES])
    assert len(made) <= build.LONGEST
    assert made.startswith("0.1.0-")


@pytest.mark.parametrize("file", ["shop_of_mine/pipelines.py", "shop_of_mine/query.sql", "rules_of_mine.py"])
def test_it_changes_with_code(folder: Path, file: str) -> None:
    before = build.build_id(REFERENCES)
    (folder / file).write_text((folder / file).read_text() + "# more\n")
    assert build.build_id(REFERENCES) != before


@pytest.mark.parametrize("file", ["not_of_mine.py", "shop_of_mine/data.csv", "shop_of_mine/.hidden/x.py"])
def test_it_does_not_change_with_anything_else(folder: Path, file: str) -> None:
    before = build.build_id(REFERENCES)
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_text("# more\n")
    assert build.build_id(REFERENCES) == before


def test_a_module_that_stands_alone_and_one_that_is_missing(folder: Path) -> None:
    alone = build.build_id(["rules_of_mine:shop"])
    (folder / "rules_of_mine.py").write_text("# other\n")
    assert build.build_id(["rules_of_mine:shop"]) != alone
    assert build.build_id(["nowhere_of_mine:shop"]) == build.build_id([])


def test_entrepot_itself_counts() -> None:
    files = build._files(set())
    assert {"entrepot/pipeline.py", "entrepot/workflows/run.py", "entrepot/activities/html/dashboard.html"} <= {*files}


def test_a_worker_is_versioned_only_where_its_deployment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = build.deployment(REFERENCES)
    assert (plain.use_worker_versioning, plain.version.build_id) == (False, build.build_id(REFERENCES))
    monkeypatch.setenv(build.DEPLOYMENT, "analytics/entrepot")
    monkeypatch.setenv(build.BUILD_ID, "image-7")
    pinned = build.deployment(REFERENCES)
    assert pinned.use_worker_versioning
    assert pinned.version.to_canonical_string() == "analytics/entrepot.image-7"
    assert pinned.default_versioning_behavior is VersioningBehavior.PINNED


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        (build.DEPLOYMENT, "entrepot.eu", "no '.' or ':', and no '__' in front, and it is 'entrepot.eu'"),
        (build.DEPLOYMENT, "entrepot:eu", "and it is 'entrepot:eu'"),
        (build.DEPLOYMENT, "__entrepot", "and it is '__entrepot'"),
        (build.BUILD_ID, "x" * 64, "at most 63 characters, and this has 64"),
    ],
)
def test_what_temporal_would_refuse_at_each_poll_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(BadInput, match=said):
        build.deployment(REFERENCES)
