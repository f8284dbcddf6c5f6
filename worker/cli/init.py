"""`entrepot init`."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from entrepot.errors import BadInput, listed, unknown


def init(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FOLDER]", help="Where the project is made. Default: here.", show_default=False),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            "--from", help="Files to make it of: data/*.csv. A table and its checks for each.", metavar="FILES"
        ),
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(help="blank; shop: sales, and a page; ml: customers, and who may leave."),
    ] = None,
) -> None:
    """Make a project that runs at once: a pipeline, its tests, a tenant file and a README. No file is written over.

    \b
    Examples:
      entrepot init shop --template shop
      entrepot init --from data/*.csv
    """
    from entrepot.worker.cli import output
    from entrepot.worker.local.project.project import TEMPLATES, Project
    from entrepot.worker.local.project.tables import tables_of

    if template is not None and template not in TEMPLATES:
        raise BadInput(unknown("template", template, TEMPLATES))
    if template and source:
        raise BadInput("a project is made of files or of a template; leave out --from or --template")
    folder, more = _told_apart(paths or [], with_files=bool(source))
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{str(folder)!r} is a file, and no folder")
    tables = tables_of(_files([*(source or []), *more])) if source else []
    project = Project(folder, template or TEMPLATES[0], tables)
    for name in project.write():
        output.out.print(f"✓ {os.path.normpath(folder / name)}", soft_wrap=True)
    steps = ["entrepot dev", f"entrepot run {project.name}   # in another terminal", "pytest"]
    if folder.absolute() != Path.cwd():
        steps.insert(0, f"cd {folder}")
    output.heading("Go on")
    for step in steps:
        output.out.print(f"  {step}", soft_wrap=True)


def _told_apart(paths: Iterable[str], *, with_files: bool) -> tuple[Path, list[str]]:
    """The folder, and further files: a shell makes several words of `--from data/*.csv`."""
    files = [path for path in paths if with_files and os.path.isfile(path)]
    folders = [path for path in paths if path not in files]
    if len(folders) > 1:
        raise BadInput(f"a project has one folder, and {listed(folders)} are {len(folders)}; files go behind --from")
    return Path(folders[0] if folders else "."), files


def _files(patterns: Iterable[str]) -> list[Path]:
    found: list[Path] = []
    for pattern in patterns:
        paths = [pattern] if os.path.exists(pattern) else sorted(glob.glob(pattern))
        if not paths:
            raise BadInput(f"there is no file {pattern!r}")
        if folders := [path for path in paths if os.path.isdir(path)]:
            raise BadInput(f"{folders[0]!r} is a folder; name its files, such as {folders[0]}/*.csv")
        found += map(Path, paths)
    return found
