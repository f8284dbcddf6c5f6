"""`entrepot init`: what it makes runs at once, and nothing of anybody's is written over."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.worker.processes import Place, said

ORDERS = "Order ID,Größe,When,Paid,nothing\n1,1.5,2026-01-01,true,\n2,,2026-01-02,false,\n3,2.5,2026-01-02,false,\n"
COUNTRIES = 'code;name\nDE;Germany\nFR;France\nIT;"It""aly"\n'
CLASSES = "x\n1.5\n1.5\n"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A folder with three files of data, and a server's ports."""
    folder = tmp_path / "corner-shop"
    (folder / "data").mkdir(parents=True)
    made = Place(folder, keeps_tenants=True)
    for name, text in {"My orders.csv": ORDERS, "countries.csv": COUNTRIES, "class.csv": CLASSES}.items():
        (folder / "data" / name).write_text(text)
    return made


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def own_tests(folder: Path) -> str:
    """What the project's own tests say."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore"]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_a_project_of_files_runs_at_once(place: Place) -> None:
    data = sorted(str(path.relative_to(place.folder)) for path in (place.folder / "data").iterdir())
    out = said(place.entrepot("init", "--from", *data), 0)  # as a shell writes `--from data/*.csv`
    assert "✓ corner_shop/pipeline.py" in out
    assert "entrepot run corner_shop" in out
    assert {".gitignore", "README.md", "pyproject.toml", "tenants.toml", "tests/test_pipeline.py"} <= files(
        place.folder
    )
    assert "9 passed" in own_tests(place.folder)
    assert "2 examples, all as expected" in said(place.entrepot("test", "corner_shop"), 0)
    with place.dev():
        ran = said(place.entrepot("run", "corner_shop"), 0)
        assert "✓ transform my_orders · 3 rows" in ran
        assert "✓ check countries_unique" in ran
        assert "✓ published 7 names to prod" in ran
        assert "✓ nothing to do" in said(place.entrepot("run", "corner_shop"), 0)
        with (place.folder / "data" / "countries.csv").open("a") as file:
            file.write("DE;Deutschland\n")
        failed = said(place.entrepot("run", "corner_shop"), 1)
        assert "check 'countries_unique' of countries" in failed
        assert "1 violating row" in failed


def test_a_shop_runs_at_once(place: Place) -> None:
    said(place.entrepot("init", "--template", "shop"), 0)
    assert "5 passed" in own_tests(place.folder)
    assert "1 example, all as expected" in said(place.entrepot("test", "corner_shop"), 0)
    with place.dev():
        ran = said(place.entrepot("run", "corner_shop"), 0)
        assert "✓ train return_model" in ran
        assert "✓ published 7 names to prod" in ran


def test_a_model_of_customers_runs_at_once(place: Place) -> None:
    said(place.entrepot("init", "--template", "ml"), 0)
    assert "5 passed" in own_tests(place.folder)
    assert "1 example, all as expected" in said(place.entrepot("test", "corner_shop"), 0)
    ran = place.entrepot("ci", "--number", "1", TEMPORAL_ADDRESS="")  # as its first pull request does
    assert (ran.returncode, ran.stderr) == (0, "✓ corner_shop in pr_1\n")
    assert "3 checks pass." in ran.stdout


def test_a_blank_one_is_made_by_default(place: Place) -> None:
    out = said(place.entrepot("init", "json"), 0)  # Python has a module of that name
    assert "✓ json/json_pipelines/pipeline.py" in out
    assert "  cd json\n" in out
    assert "3 passed" in own_tests(place.folder / "json")


def test_nothing_is_written_over_and_nothing_is_half_written(place: Place) -> None:
    there = place.folder / "there"
    there.mkdir()
    (there / "README.md").write_text("mine")
    (there / "tests").write_text("a file")
    sentence = "the folder 'there' has these files already, which stay as they are: README.md, tests; choose another"
    assert sentence in said(place.entrepot("init", "there"), 2)
    assert files(there) == {"README.md", "tests"}
    assert (there / "README.md").read_text() == "mine"
    assert "'there/tests' is a file, and no folder" in said(place.entrepot("init", "there/tests"), 2)
    said(place.entrepot("init", "once"), 0)
    before = files(place.folder)
    again = said(place.entrepot("init", "once", "--template", "shop"), 2)
    assert "once/pipeline.py, pyproject.toml, tenants.toml, tests/test_pipeline.py; choose another" in again
    assert files(place.folder) == before


def test_files_that_cannot_be_understood_are_told_all_at_once(place: Place) -> None:
    bad = place.folder / "bad"
    bad.mkdir()
    (bad / "binary.csv").write_bytes(b"\xfd" * 100)
    (bad / "empty.csv").write_text("")
    (bad / "heads.csv").write_text("a,b\n")
    (bad / "ragged.csv").write_text("a,b\n1,2,3\n")
    (bad / "twice.csv").write_text("a,A\n1,2\n")
    (bad / "日本.csv").write_text("a\n1\n")
    (bad / "void.csv").write_text("a,b\n,\n")
    told = said(place.entrepot("init", "new", "--from", "bad/*.csv"), 2)
    for sentence in (
        "these files cannot be used:",
        "the file 'bad/日本.csv' has no letter from a to z and no digit in its name: a table needs one",
        "bad/binary.csv:1: the names of the columns cannot be read",
        "bad/empty.csv' is empty; the first line of a CSV file names its columns",
        "the file 'bad/heads.csv' has no row, so its columns have no types",
        "bad/ragged.csv:2: too many fields: '1,2,3'",
        "'a' and 'A' have one name: 'a'; tell them apart by `rename`",
        "the file 'bad/void.csv' has no value in any row",
    ):
        assert sentence in told
    assert not (place.folder / "new").exists()
    (bad / "My-Orders.csv").write_text(ORDERS)
    twins = said(place.entrepot("init", "new", "--from", "data/My orders.csv", "bad/My-Orders.csv"), 2)
    assert "'data/My orders.csv' and 'bad/My-Orders.csv' something would have the same name" in twins


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--template", "shpo"], "unknown template 'shpo'; did you mean 'shop'? Known: 'blank', 'ml', 'shop'"),
        (["--template", "shop", "--from", "data/class.csv"], "leave out --from or --template"),
        (["--from", "data/nothing*.csv"], "there is no file 'data/nothing*.csv'"),
        (["--from", "data"], "'data' is a folder; name its files, such as data/*.csv"),
        (["one", "two"], "a project has one folder, and 'one', 'two' are 2; files go behind --from"),
    ],
)
def test_what_cannot_be_meant_is_told(place: Place, arguments: list[str], sentence: str) -> None:
    before = files(place.folder)
    assert sentence in said(place.entrepot("init", *arguments), 2)
    assert files(place.folder) == before
