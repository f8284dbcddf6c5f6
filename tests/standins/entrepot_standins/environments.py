"""A virtual environment for each stand-in, made once, with exactly the versions that its requirements name."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from entrepot_standins.available import NotAvailable
from entrepot_standins.kinds import STANDINS, Standin

CHECKOUT = Path(__file__).parents[3]


def default_home() -> Path:
    """Where environments are kept unless told: ENTREPOT_STANDINS, the checkout, or the user's cache folder."""
    if told := os.environ.get("ENTREPOT_STANDINS"):
        return Path(told)
    if (CHECKOUT / "Makefile").exists() and os.access(CHECKOUT, os.W_OK):
        return CHECKOUT / ".entrepot" / "standins"
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "entrepot" / ".entrepot" / "standins"


def install(name: str, home: Path) -> Path:
    """Makes the stand-in's environment unless it is there and current. Returns its folder.

    Several processes may call this at once: one installs, and the others wait for it.

    Raises:
        NotAvailable: if something that it needs is missing on this machine.
    """
    standin = STANDINS[name]
    home = home.resolve()
    target = home / name
    with _alone(home / f"{name}.lock"):
        # The stamp's name says what the environment was made from, so that a change makes it anew.
        stamp = target / f".made-from-{_fingerprint(standin)}"
        if not stamp.exists():
            _make(standin, target)
            stamp.touch()
    return target


def lock(name: str) -> None:
    """Pins the stand-in's requirements anew, with hashes.

    Raises:
        NotAvailable: if the package index cannot be reached, or has no versions that fit.
    """
    standin = STANDINS[name]
    version = standin.python or f"{sys.version_info.major}.{sys.version_info.minor}"
    options = ["--generate-hashes", "--no-emit-index-url", "--no-emit-find-links", "--upgrade"]
    command = ["--custom-compile-command", f"python -m entrepot_standins lock {name}"]
    files = ["requirements.in", "-o", "requirements.txt"]
    _uv(standin, "pip", "compile", "-q", "--universal", "--python-version", version, *options, *command, *files)


def _fingerprint(standin: Standin) -> str:
    content = standin.requirements.read_bytes() + f"{standin.python or sys.version_info[:2]}".encode()
    if standin.extra is not None:
        content += (standin.folder / "install.py").read_bytes()
    return hashlib.sha256(content).hexdigest()[:16]


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Holds a lock that other processes see, and that ends with this process however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(standin: Standin, target: Path) -> None:
    standin.variables()  # says what is missing before anything large is fetched
    python = _python(standin)
    shutil.rmtree(target, ignore_errors=True)
    _uv(standin, "venv", "-q", "--python", python, str(target))
    into = ["--python", str(target / "bin" / "python")]
    _uv(standin, "pip", "install", "-q", *into, "--require-hashes", "-r", str(standin.requirements))
    if standin.extra is not None:
        standin.extra(target)


def _uv(standin: Standin, *arguments: str) -> None:
    beside = Path(sys.executable).parent / "uv"
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise NotAvailable("uv is not installed in this environment: pip install -r requirements/uv.txt")
    # The environment that runs this must not be mistaken for the one that is meant.
    environment = {k: v for k, v in os.environ.items() if k not in {"VIRTUAL_ENV", "PYTHONHOME", "PYTHONPATH"}}
    done = subprocess.run(
        [uv, *arguments], check=False, cwd=standin.folder, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        what = f"uv {arguments[0]} failed for the {standin.name} stand-in"
        raise NotAvailable(f"{what}: {done.stderr.strip()[-2000:]}")


def _python(standin: Standin) -> str:
    """A Python of the version that the stand-in needs: a path, or a version for uv to find or fetch."""
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    version = standin.python or running
    if version == running:
        return sys.executable
    variable = f"ENTREPOT_PYTHON{version.replace('.', '')}"
    if told := os.environ.get(variable):
        if not _runs(told, version):
            raise NotAvailable(f"{variable} is {told!r}, which is no Python {version}.")
        return told
    for path in _candidates(version):
        if _runs(path, version):
            return path
    if _uv_has(standin, version):
        return version
    raise NotAvailable(
        f"The {standin.name} stand-in needs Python {version}: install it, or set {variable} to the path of one."
    )


def _candidates(version: str) -> Iterator[str]:
    if found := shutil.which(f"python{version}"):
        yield found
    # pyenv's shim on PATH runs only for versions that are switched on, so its folders are asked too.
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from (str(path) for path in sorted(root.glob(f"versions/{version}*/bin/python{version}"), reverse=True))


def _runs(python: str, version: str) -> bool:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-I", "-c", code], check=False, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and done.stdout.strip() == version


def _uv_has(standin: Standin, version: str) -> bool:
    try:
        _uv(standin, "python", "install", "-q", version)
    except NotAvailable:
        return False
    return True
