"""Pairs of versions of a package, run as they are: where the output differs, so does the identity."""

from __future__ import annotations

import importlib
import itertools
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from entrepot.errors import BadInput
from entrepot.identity.code import function_code, function_identity

_TEXT = (Path(__file__).parent / "code_pairs.txt").read_text()
_numbers = itertools.count()
Modules = dict[str, str]


def _pairs() -> Iterator[tuple[str, str, Modules, Modules]]:
    """Verdict, title, and the modules before and after."""
    for pair in re.split(r"^=== ", _TEXT, flags=re.MULTILINE)[1:]:
        heading, *parts = re.split(r"^--- ", pair, flags=re.MULTILINE)
        verdict, _, title = heading.strip().partition(": ")
        texts = dict(part.split("\n", 1) for part in parts)
        before = {name: text for name, text in texts.items() if not name.endswith(", later")}
        after = {name.removesuffix(", later"): text for name, text in texts.items()}
        yield verdict, title, before, after


PAIRS = {title: (verdict, before, after) for verdict, title, before, after in _pairs()}


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Modules], Callable[[], Any]]:
    """Writes the modules of a package `shop`, imports it anew, and gives `f` of `shop.pipeline`."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def make(modules: Modules) -> Callable[[], Any]:
        for name in [n for n in sys.modules if n.partition(".")[0] == "shop"]:
            del sys.modules[name]
        folder = tmp_path / str(next(_numbers))
        (folder / "shop").mkdir(parents=True)
        for name, text in {"__init__": "", **modules}.items():
            (folder / "shop" / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(str(folder))
        return importlib.import_module("shop.pipeline").f  # type: ignore[no-any-return]

    return make


@pytest.mark.parametrize("title", PAIRS)
def test_what_gives_something_else_is_something_else(
    title: str, imported: Callable[[Modules], Callable[[], Any]]
) -> None:
    verdict, before, after = PAIRS[title]
    one = imported(before)
    hashed = function_identity(one)
    given = one()
    again = imported(before)
    again()
    assert function_identity(again) == hashed  # nor does it matter whether it ran
    other = imported(after)
    changed = function_identity(other)
    assert (given != other()) == (verdict == "differs")
    if verdict != "needless":
        assert (changed != hashed) == (verdict == "differs")


def test_there_are_pairs_of_each_kind() -> None:
    assert {verdict for verdict, _, _ in PAIRS.values()} == {"differs", "same", "needless"}


READ_BY_NAME = "from shop import h, k\ndef f(): return getattr(h, 'g' + '1')()"


def test_depends_narrows_what_counts(imported: Callable[[Modules], Callable[[], Any]]) -> None:
    def made(h: int, k: int, *depends: str) -> str:
        modules = {"pipeline": READ_BY_NAME, "h": f"def g1(): return {h}", "k": f"X = {k}"}
        return function_identity(imported(modules), depends)

    assert made(1, 1) != made(1, 2)
    assert made(1, 1, "shop.h") == made(1, 2, "shop.h")
    assert made(1, 1, "shop.h") != made(2, 1, "shop.h")


def test_depends_may_name_a_package_beside_ones_own(
    imported: Callable[[Modules], Callable[[], Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "common_rules").mkdir()
    (tmp_path / "common_rules" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))

    def made(text: str) -> str:
        (tmp_path / "common_rules" / "words.py").write_text(text)
        return function_identity(imported({"pipeline": "def f(): return 1"}), ["common_rules"])

    assert made("X = 1") == made("X = 1  # one") != made("X = 2")


def test_what_depends_names_must_be_there(imported: Callable[[Modules], Callable[[], Any]]) -> None:
    with pytest.raises(BadInput, match=r"'shop\.nothing', named in `depends`, is not installed, and there is no such"):
        function_code(imported({"pipeline": "def f(): return 1"}), ["shop.nothing"])


def test_packages_beside_a_module_that_stands_alone_are_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))

    def made(number: int, returns: int) -> str:
        (tmp_path / f"standing_{number}.py").write_text(f"from near_{number}.h import g\ndef f(a): return g(a)")
        (tmp_path / f"near_{number}").mkdir()
        (tmp_path / f"near_{number}" / "__init__.py").write_text("")
        (tmp_path / f"near_{number}" / "h.py").write_text(f"def g(a): return {returns}")
        return function_identity(importlib.import_module(f"standing_{number}").f)

    assert made(1, returns=1) != made(2, returns=2)
