"""Which modules are an author's own."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

import entrepot
from entrepot.identity.modules import is_own, package_of


def test_a_module_beside_the_packages_of_entrepot_does_not_own_them(monkeypatch: pytest.MonkeyPatch) -> None:
    beside = Path(entrepot.__file__).parents[1]
    for name in ("loose", "another"):
        module = ModuleType(name)
        module.__file__ = str(beside / f"{name}.py")
        monkeypatch.setitem(sys.modules, name, module)
    assert is_own("another", "loose")
    assert not is_own("entrepot.errors", "loose")


def test_each_example_of_entrepot_is_a_package_of_its_own() -> None:
    assert package_of("entrepot.examples.flights.pipeline") == "entrepot.examples.flights"
    assert is_own("entrepot.examples.flights.contracts", "entrepot.examples.flights.pipeline")
    assert not is_own("entrepot.errors", "entrepot.examples.flights.pipeline")
