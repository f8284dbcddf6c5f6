"""The build id: the code that a worker runs, in a word that changes when the code does.

It counts the files of Entrepot and of the pipelines' packages, what these import from beside them, and everything that
is installed, by name and version. So two workers of one image have the same, on any machine, and nothing has to be
remembered when a pipeline changes. No code is imported to find it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import re
import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from importlib.metadata import distributions, version
from pathlib import Path

from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.worker import WorkerDeploymentConfig

from entrepot.errors import BadInput
from entrepot.registry import see_working_folder

BUILD_ID = "TEMPORAL_WORKER_BUILD_ID"
DEPLOYMENT = "TEMPORAL_DEPLOYMENT_NAME"
"""Temporal's own variables, which its controller for Kubernetes sets, too."""

LONGEST = 63
"""A build id is a label in Kubernetes."""
_CODE = frozenset({".html", ".jinja", ".py", ".sql", ".toml", ".yaml", ".yml"})
_IMPORT = re.compile(rb"^[ \t]*(?:from[ \t]+(\w+)|import[ \t]+(\w[\w., \t]*))", re.MULTILINE)


def deployment(references: Iterable[str]) -> WorkerDeploymentConfig:
    """How a worker tells Temporal which code it runs; versioned, where the environment names its deployment.

    A versioned worker gets nothing before its version, or a ramp to it, is set: so nobody is made one unasked.

    Args:
        references: Its pipelines, each as `module:object`.

    Raises:
        BadInput: for a name that Temporal would refuse, without a word, at each poll.
    """
    name, build = os.environ.get(DEPLOYMENT, ""), os.environ.get(BUILD_ID) or build_id(references)
    if name.startswith("__") or set(name) & set(".:"):
        raise BadInput(f"{DEPLOYMENT}: a deployment's name has no '.' or ':', and no '__' in front, and it is {name!r}")
    if len(build) > LONGEST:
        raise BadInput(f"{BUILD_ID}: a build id has at most {LONGEST} characters, and this has {len(build)}: {build}")
    if not name:
        return unversioned(build)
    its = WorkerDeploymentVersion(deployment_name=name, build_id=build)
    return WorkerDeploymentConfig(
        its, use_worker_versioning=True, default_versioning_behavior=VersioningBehavior.PINNED
    )


def unversioned(build: str) -> WorkerDeploymentConfig:
    """How a worker tells which code it runs, without that runs are pinned to it."""
    return WorkerDeploymentConfig(WorkerDeploymentVersion("", build), use_worker_versioning=False)


def build_id(references: Iterable[str]) -> str:
    """The build id of the code that is there now."""
    see_working_folder()
    content = hashlib.sha256(platform.python_version().encode())
    for line in sorted({f"{each.name}=={each.version}" for each in distributions()}):
        content.update(line.encode())
    for name, path in sorted(_files({re.split("[.:]", each)[0] for each in references}).items()):
        content.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    release = re.sub(r"[^A-Za-z0-9._-]", "-", version("entrepot"))[:40]
    return f"{release}-{content.hexdigest()[:16]}"


def _files(pipelines: set[str]) -> dict[str, Path]:
    """The files that count, each by its name below the folder that it is imported from."""
    found: dict[str, Path] = {}
    to_read, read = {"entrepot", *pipelines}, set[str]()
    while to_read:
        read.add(name := to_read.pop())
        files = _of_package(name)
        found |= files
        if name != "entrepot":  # what that imports is installed
            imported = set().union(*(_imported(file) for file in files.values() if file.suffix == ".py"))
            to_read |= {each for each in imported - read if not _is_installed(each)}
    return found


def _of_package(name: str) -> dict[str, Path]:
    """The files of a package, or of a module that stands alone; none, if there is no such code."""
    if (spec := _spec(name)) is None:
        return {}
    if spec.submodule_search_locations is None:
        return {f"{name}.py": Path(spec.origin)} if spec.has_location and spec.origin else {}
    found = {}
    for root in spec.submodule_search_locations:
        for folder, folders, files in os.walk(root, followlinks=name == "entrepot"):  # its folders are links: see there
            folders[:] = [each for each in folders if not each.startswith((".", "__pycache__"))]
            for path in (Path(folder, file) for file in files if Path(file).suffix in _CODE):
                found[f"{name}/{path.relative_to(root).as_posix()}"] = path
    return found


def _imported(file: Path) -> set[str]:
    """The first names of what a module imports. What merely looks like it does no harm."""
    found = _IMPORT.findall(file.read_bytes())
    names = [one for one, _ in found] + [each.strip() for _, several in found for each in several.split(b",")]
    return {re.split(rb"[. \t]", name)[0].decode() for name in names} - {""}


def _is_installed(name: str) -> bool:
    """Whether it comes with Python or with something that is installed: then the version of that counts."""
    if name in sys.stdlib_module_names:
        return True
    spec = _spec(name)
    places = spec and (spec.submodule_search_locations or [spec.origin or ""])
    return not any(os.path.exists(place) and not _INSTALLED & set(Path(place).parts) for place in places or ())


_INSTALLED = {"site-packages", "dist-packages"}


def _spec(name: str) -> ModuleSpec | None:
    """Where a package or module of the first level is, which is not imported for it."""
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None
