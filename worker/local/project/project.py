"""A new project's files: made in memory, and written all or none."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import keyword
import math
import os
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from entrepot.errors import BadInput, Unavailable
from entrepot.language.names import DEVICES, LONGEST_NAME, RESERVED
from entrepot.worker.local.project.tables import FileTable, identifier

TEMPLATES = ("blank", "shop", "ml")
_COMMON = ("tenants.toml", "pyproject.toml", "README.md", ".gitignore")
_CI = ".github/workflows/entrepot.yml"


@dataclass(frozen=True)
class Project:
    """A project that is to be written to a folder.

    Args:
        template: One of `TEMPLATES`, where no tables of files are given.
        tables: Those of which it is made.
    """

    folder: Path
    template: str
    tables: Sequence[FileTable] = ()

    @property
    def name(self) -> str:
        """Of the pipeline, after the folder."""
        taken = RESERVED | DEVICES | {*keyword.kwlist}
        return identifier(self.folder.absolute().name, LONGEST_NAME - len("_data"), taken, "_data") or "project"

    @property
    def package(self) -> str:
        """Of its Python package: the pipeline's name, unless Python finds something else by it."""
        is_taken = self.name in sys.stdlib_module_names or importlib.util.find_spec(self.name) is not None
        return f"{self.name}_pipelines" if is_taken else self.name

    def files(self) -> dict[str, str]:
        """Paths in the folder, and what stands there."""
        kind = "files" if self.tables else self.template
        made = {name: self._rendered(name.removeprefix(".")) for name in _COMMON}
        made[f"{self.package}/__init__.py"] = f'"""The pipeline `{self.name}`."""\n'
        made[f"{self.package}/pipeline.py"] = self._rendered(f"{kind}.py")
        made["tests/test_pipeline.py"] = self._rendered(f"test_{kind}.py")
        made[_CI] = self._rendered("github.yml")
        return made | _DATA.get(kind, dict)()

    def write(self) -> list[str]:
        """Writes all of its files, or none.

        Raises:
            BadInput: if one of them is there already.
            Unavailable: if the folder cannot be written to.
        """
        made = self.files()
        if there := sorted({str(each) for name in made if (each := self._in_the_way(name)) is not None}):
            what = "has these files already, which stay as they are" if len(there) > 1 else "has this file already"
            raise BadInput(f"the folder {str(self.folder)!r} {what}: {', '.join(there)}; choose another")
        _write({self.folder / name: text for name, text in made.items()})
        return list(made)

    def _in_the_way(self, name: str) -> Path | None:
        """What stands where a file is to be written, or where one of its folders is to be."""
        path = Path(name)
        folders = [each for each in path.parents if (self.folder / each).exists() and not (self.folder / each).is_dir()]
        return path if os.path.lexists(self.folder / path) else next(iter(folders), None)

    def _rendered(self, template: str) -> str:
        text = _ENVIRONMENT.get_template(f"{template}.jinja").render(project=self, places=self._places())
        return text.rstrip("\n") + "\n"

    def _places(self) -> dict[str, str]:
        """Where each table's file stands, as Python writes it: from the project's folder on, if it is in there."""
        found = {}
        here = self.folder.absolute()
        for table in self.tables:
            path = table.path.absolute()
            if path.is_relative_to(here):
                inside = path.relative_to(here).as_posix().replace("{", "{{").replace("}", "}}")
                found[table.name] = "f" + _literal(f"{{PROJECT}}/{inside}")
            else:
                found[table.name] = _literal(str(path))
        return found


def _literal(value: Any) -> str:
    """A text, list or dict of texts as Python writes it."""
    return json.dumps(value, ensure_ascii=False)


_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("entrepot.worker.local.project"),
    undefined=jinja2.StrictUndefined,
    autoescape=False,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters["literal"] = _literal


def _write(made: Mapping[Path, str]) -> None:
    written: list[Path] = []
    try:
        for path, text in made.items():
            for folder in reversed([each for each in path.parents if not each.exists()]):
                folder.mkdir()
                written.append(folder)
            with path.open("x", encoding="utf-8", newline="\n") as file:
                written.append(path)
                file.write(text)
    except BaseException as error:
        for path in reversed(written):
            with contextlib.suppress(OSError):
                path.rmdir() if path.is_dir() else path.unlink()
        if isinstance(error, OSError):
            raise Unavailable(f"{error.filename} cannot be written: {error.strerror}; nothing was left there") from None
        raise


def _shop_data() -> dict[str, str]:
    """Sales and customers that are made up, the same each time."""
    dice = random.Random(7)
    countries = ["CH", "DE", "FR", "IT"]
    customers = ["customer_id,country,since"]
    customers += [
        f"{n},{dice.choice(countries)},20{dice.randint(18, 25)}-0{dice.randint(1, 9)}-15" for n in range(1, 61)
    ]
    sales = ["sale_id,customer_id,sold_on,amount,returned"]
    for number in range(1, 401):
        amount = round(dice.uniform(2, 180), 2)
        returned = dice.random() < (0.45 if amount > 100 else 0.12)
        day = f"2026-{1 + number // 67:02d}-{1 + number % 28:02d}"
        sales.append(f"{number},{dice.randint(1, 60)},{day},{amount:.2f},{str(returned).lower()}")
    return {"data/customers.csv": "\n".join(customers) + "\n", "data/sales.csv": "\n".join(sales) + "\n"}


def _ml_data() -> dict[str, str]:
    """Customers that are made up, the same each time: the new, those who call often and those who may go leave."""
    dice = random.Random(11)
    lines = ["customer_id,months,fee,calls,contract,has_left"]
    for number in range(1, 601):
        months, fee, calls = dice.randint(0, 60), round(dice.uniform(10, 90), 2), dice.randint(0, 9)
        contract = dice.choice(["monthly", "yearly"])
        weight = 0.35 * calls + 0.02 * fee - 0.06 * months + (1.2 if contract == "monthly" else 0) - 1.6
        has_left = dice.random() < 1 / (1 + math.exp(-weight))
        lines.append(f"{number},{months},{fee:.2f},{calls or ''},{contract},{str(has_left).lower()}")
    return {"data/customers.csv": "\n".join(lines) + "\n"}


_DATA = {"shop": _shop_data, "ml": _ml_data}
