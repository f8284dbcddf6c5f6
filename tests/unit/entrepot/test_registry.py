"""Pipelines are found by name, imported once, and in development imported anew when they change."""

from __future__ import annotations

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from entrepot import BadInput
from entrepot.registry import Registry

PIPELINE = "from entrepot import Pipeline\nshop = Pipeline('shop', description='{}')\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on Python's path. Bytecode is written, as in real life."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def said(registry: Registry, name: str = "shop") -> str:
    with pytest.raises(BadInput) as caught:
        registry.load(name)
    return str(caught.value)


def test_a_pipeline_in_a_module_of_its_own(folder: Path) -> None:
    write(folder / "alone.py", PIPELINE.format("one"))
    registry = Registry({"shop": "alone:shop"})
    assert registry.load("shop").description == "one"
    assert registry.load("shop") is registry.load("shop")


def test_a_pipeline_in_a_package(folder: Path) -> None:
    write(folder / "house" / "__init__.py", "")
    write(folder / "house" / "words.py", "TEXT = 'one'")
    write(folder / "house" / "pipeline.py", "from .words import TEXT\n" + PIPELINE.replace("'{}'", "TEXT"))
    assert Registry({"shop": "house.pipeline:shop"}).load("shop").description == "one"


def test_the_object_may_go_unnamed_if_it_is_called_like_the_pipeline(folder: Path) -> None:
    write(folder / "unnamed.py", PIPELINE)
    assert Registry({"shop": "unnamed"}).load("shop").name == "shop"


def test_settings_win_over_installed_pipelines(folder: Path) -> None:
    write(folder / "winning.py", "from entrepot import Pipeline\nflights = Pipeline('flights', description='mine')")
    assert Registry({"flights": "winning:flights"}).load("flights").description == "mine"


def test_an_unknown_pipeline_is_told_with_the_nearest() -> None:
    assert "unknown pipeline 'flight'; did you mean 'flights'?" in said(Registry({"flights": "a:flights"}), "flight")


def test_a_module_that_does_not_exist_is_told() -> None:
    assert said(Registry({"shop": "nowhere.pipeline:shop"})) == (
        "pipeline 'shop' (nowhere.pipeline:shop): there is no module 'nowhere' on the worker's Python path"
    )


def test_a_missing_import_is_told_with_file_and_line(folder: Path) -> None:
    file = write(folder / "lacking_more.py", "\nimport lacking\n")
    assert said(Registry({"shop": "lacking_more:shop"})) == (
        f"pipeline 'shop' (lacking_more:shop): its module fails to import at {file}:2: "
        "ModuleNotFoundError: No module named 'lacking'; install it where the worker runs"
    )


@pytest.mark.parametrize(
    ("text", "line", "error"),
    [
        ("x = 1\nx.y", 2, "AttributeError: 'int' object has no attribute 'y'"),
        ("def f(:", 1, "SyntaxError"),
        ("import sys\n\nsys.exit(3)", 3, "SystemExit: 3"),
        ("\nimport json\njson.loads('[')", 3, "JSONDecodeError"),  # raised within a library, at the author's line
    ],
)
def test_a_module_that_fails_is_told_with_file_and_line(folder: Path, text: str, line: int, error: str) -> None:
    file = write(folder / "failing.py", text)
    sentence = said(Registry({"shop": "failing:shop"}))
    assert sentence.startswith(f"pipeline 'shop' (failing:shop): its module fails to import at {file}:{line}: ")
    assert error in sentence


def test_a_wrong_object_is_told_with_those_that_are_there(folder: Path) -> None:
    write(folder / "other.py", PIPELINE)
    assert said(Registry({"shop": "other:shops"})).endswith(
        "module 'other': unknown pipeline object 'shops'; did you mean 'shop'? Known: 'shop'"
    )


def test_a_pipeline_under_another_name_is_told(folder: Path) -> None:
    write(folder / "renamed.py", PIPELINE)
    assert "the pipeline calls itself 'shop'; use that name in the settings" in said(
        Registry({"store": "renamed:shop"}), "store"
    )


def test_without_reload_an_edit_changes_nothing(folder: Path) -> None:
    file = write(folder / "steady.py", PIPELINE.format("one"))
    registry = Registry({"shop": "steady:shop"})
    before = registry.load("shop")
    write(file, PIPELINE.format("three"))
    assert registry.load("shop") is before


def test_an_edit_of_the_same_size_in_the_same_second_is_seen(folder: Path) -> None:
    file = write(folder / "quick.py", PIPELINE.format("one"))
    registry = Registry({"shop": "quick:shop"}, reload=True)
    assert registry.load("shop").description == "one"
    when = os.stat(file)
    write(file, PIPELINE.format("two"))
    os.utime(file, ns=(when.st_atime_ns, when.st_mtime_ns + 1_000))
    assert registry.load("shop").description == "two"


def test_an_edit_of_another_module_of_the_package_is_seen(folder: Path) -> None:
    write(folder / "home" / "__init__.py", "")
    words = write(folder / "home" / "words.py", "TEXT = 'one'")
    write(folder / "home" / "pipeline.py", "from home.words import TEXT\n" + PIPELINE.replace("'{}'", "TEXT"))
    registry = Registry({"shop": "home.pipeline:shop"}, reload=True)
    assert registry.load("shop").description == "one"
    when = os.stat(words)
    write(words, "TEXT = 'two'")
    os.utime(words, ns=(when.st_atime_ns, when.st_mtime_ns + 1_000))
    assert registry.load("shop").description == "two"


def edited_later(file: Path, text: str) -> None:
    when = os.stat(file)
    write(file, text)
    os.utime(file, ns=(when.st_atime_ns, when.st_mtime_ns + 1_000))


def test_an_edit_of_a_neighbour_of_a_module_that_stands_alone_is_seen(folder: Path) -> None:
    words = write(folder / "words_beside.py", "TEXT = 'one'")
    more = write(folder / "more_beside" / "words.py", "TEXT = 'one'")
    write(folder / "more_beside" / "__init__.py", "")
    imports = "import words_beside\nfrom more_beside.words import TEXT\n"
    write(folder / "standing.py", imports + PIPELINE.replace("'{}'", "words_beside.TEXT + ' ' + TEXT"))
    registry = Registry({"shop": "standing:shop"}, reload=True)
    assert registry.load("shop").description == "one one"
    edited_later(words, "TEXT = 'two'")
    assert registry.load("shop").description == "two one"
    edited_later(more, "TEXT = 'two'")
    assert registry.load("shop").description == "two two"


def test_an_edit_elsewhere_in_the_package_is_seen(folder: Path) -> None:
    for name in ("wide", "wide/pipelines"):
        write(folder / name / "__init__.py", "")
    words = write(folder / "wide" / "words.py", "TEXT = 'one'")
    text = "from wide.words import TEXT\n" + PIPELINE.replace("'{}'", "TEXT")
    write(folder / "wide" / "pipelines" / "shop.py", text)
    registry = Registry({"shop": "wide.pipelines.shop:shop"}, reload=True)
    assert registry.load("shop").description == "one"
    edited_later(words, "TEXT = 'two'")
    assert registry.load("shop").description == "two"


def test_without_reload_an_edit_is_said_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = write(folder / "served.py", PIPELINE.format("one"))
    registry = Registry({"shop": "served:shop"})
    registry.load("shop")
    edited_later(file, PIPELINE.format("two"))
    assert [registry.load("shop").description for _ in range(2)] == ["one", "one"]
    assert [record.getMessage() for record in caplog.records] == [
        f"{file} has changed since pipeline 'shop' was imported: this worker goes on with what it imported; restart it"
    ]


def test_other_references_are_taken(folder: Path) -> None:
    write(folder / "first_place.py", PIPELINE.format("one"))
    write(folder / "second_place.py", PIPELINE.format("two"))
    registry = Registry({"shop": "first_place:shop"})
    assert registry.load("shop").description == "one"
    registry.refer({"shop": "second_place:shop"})
    assert registry.load("shop").description == "two"


def test_nothing_is_imported_again_while_nothing_changes(folder: Path) -> None:
    write(folder / "still.py", PIPELINE)
    registry = Registry({"shop": "still:shop"}, reload=True)
    assert registry.load("shop") is registry.load("shop")


@pytest.mark.parametrize("reload", [False, True])
def test_a_broken_package_loads_once_it_is_mended(folder: Path, reload: bool) -> None:
    write(folder / "broken" / "__init__.py", "")
    words = write(folder / "broken" / "words.py", "TEX = 'one'")
    write(folder / "broken" / "pipeline.py", "from .words import TEXT\n" + PIPELINE.replace("'{}'", "TEXT"))
    registry = Registry({"shop": "broken.pipeline:shop"}, reload=reload)
    assert "cannot import name 'TEXT'" in said(registry)
    write(words, "TEXT = 'one'")
    assert registry.load("shop").description == "one"


def test_an_edit_that_breaks_is_told_and_one_that_mends_is_seen(folder: Path) -> None:
    file = write(folder / "edited.py", PIPELINE.format("one"))
    registry = Registry({"shop": "edited:shop"}, reload=True)
    registry.load("shop")
    write(file, "shop = ")
    assert f"fails to import at {file}:1: SyntaxError" in said(registry)
    write(file, PIPELINE.format("two"))
    assert registry.load("shop").description == "two"


def test_threads_that_load_at_once_get_one_pipeline_of_one_rehearsal(folder: Path) -> None:
    write(folder / "busy.py", PIPELINE)
    others_are_there = threading.Event()
    rehearsed: list[str] = []

    def rehearse(name: str, reference: str) -> None:
        rehearsed.append(name)
        assert others_are_there.wait(60)

    registry = Registry({"shop": "busy:shop"})
    registry.rehearse = rehearse
    with ThreadPoolExecutor(4) as threads:
        loading = [threads.submit(registry.load, "shop") for _ in range(4)]
        while not (rehearsed and all(each.running() for each in loading)):
            time.sleep(0.01)
        others_are_there.set()
        loaded = [each.result() for each in loading]
    assert rehearsed == ["shop"]
    assert len(set(map(id, loaded))) == 1
    assert sys.modules["busy"].shop is loaded[0]


def test_what_a_rehearsal_raises_is_raised_each_time_it_is_tried(folder: Path) -> None:
    write(folder / "held.py", PIPELINE)
    registry = Registry({"shop": "held:shop"})
    refusals = [BadInput("one"), BadInput("two")]

    def rehearse(name: str, reference: str) -> None:
        if refusals:
            raise refusals.pop(0)

    registry.rehearse = rehearse
    for wanted in ("one", "two"):
        with pytest.raises(BadInput, match=wanted):
            registry.load("shop")
    assert registry.load("shop").name == "shop"
