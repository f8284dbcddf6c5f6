"""Make one virtual environment per peer: ``python -m benchmarks.peers.install DIR [peer ...]``."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent
PEERS = tuple(sorted(path.stem.removeprefix("requirements-") for path in HERE.glob("requirements-*.txt")))


def find_uv() -> str | None:
    """Find uv beside the running Python, or else on the PATH."""
    beside = str(Path(sys.executable).parent)
    return shutil.which("uv", path=os.pathsep.join((beside, os.environ.get("PATH", ""))))


def python_in(environment: Path) -> Path:
    """Return the Python of a virtual environment."""
    return environment / "bin" / "python"


def install(peer: str, directory: Path) -> Path:
    """Make ``directory/peer`` afresh, holding exactly the versions that the peer's requirements name."""
    environment = directory.resolve() / peer
    requirements = str(HERE / f"requirements-{peer}.txt")
    uv = find_uv()
    if uv is not None:
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(environment)], check=True)
        target = ["--python", str(python_in(environment)), "--compile-bytecode", "--requirement", requirements]
        subprocess.run([uv, "pip", "install", "--quiet", *target], check=True)
    else:
        venv.create(environment, clear=True, with_pip=True)
        pip = [str(python_in(environment)), "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", "--requirement", requirements], check=True)
    return environment


def ready(peer: str, directory: Path) -> Path:
    """Return the virtual environment of a peer, made now if it is not there."""
    if not (directory / peer).exists():
        print(f"installing {peer} ...", flush=True)
        install(peer, directory)
    return directory / peer


def main(arguments: list[str] | None = None) -> None:
    """Install the peers named, or all of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.install", description=__doc__)
    parser.add_argument("directory", type=Path, help="where the virtual environments go")
    parser.add_argument("peers", nargs="*", metavar="peer", help=f"which peers: {', '.join(PEERS)} (default: all)")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.peers) - set(PEERS))
    if unknown:
        parser.error(f"unknown peer: {', '.join(unknown)}; the peers are {', '.join(PEERS)}")
    for peer in options.peers or PEERS:
        print(f"{peer}: {install(peer, options.directory)}", flush=True)


if __name__ == "__main__":
    main()
