"""`python -m entrepot_standins install [NAMES]`, `serve NAME [--folder F]`, `lock [NAMES]`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from entrepot_standins import STANDINS, NotAvailable, default_home, install, lock, running


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m entrepot_standins", description="Stand-ins for cloud warehouses")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in [("install", "make the environments"), ("lock", "pin the requirements anew")]:
        commands.add_parser(name, help=text).add_argument("names", nargs="*", metavar="NAME")
    serve_parser = commands.add_parser("serve", help="serve until Ctrl-C, and print a tenant's settings")
    serve_parser.add_argument("name", choices=sorted(STANDINS))
    serve_parser.add_argument("--folder", type=Path, help="for data and log; a temporary one if not given")
    arguments = parser.parse_args()
    try:
        if arguments.command == "serve":
            serve(arguments.name, arguments.folder)
        else:
            for name in chosen(parser, arguments.names):
                print(install(name, default_home()) if arguments.command == "install" else lock(name) or name)
    except NotAvailable as error:
        sys.exit(str(error))


def chosen(parser: argparse.ArgumentParser, names: list[str]) -> list[str]:
    if wrong := sorted(set(names) - set(STANDINS)):
        parser.error(f"no stand-in {', '.join(wrong)}; there are {', '.join(sorted(STANDINS))}")
    return names or sorted(STANDINS)


def serve(name: str, folder: Path | None) -> None:
    if folder is None:
        with tempfile.TemporaryDirectory(prefix=f"entrepot-{name}-") as temporary:
            return serve(name, Path(temporary))
    with running(name, default_home(), folder) as settings:
        print(toml(settings), flush=True)
        ends = {signal.SIGINT, signal.SIGTERM}
        signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # sigwait takes only what is blocked
        signal.sigwait(ends)
    return None


def toml(settings: dict[str, Any]) -> str:
    """The settings as a tenant's backend section; strings and whole numbers are the same in TOML and in JSON."""
    return "\n".join(["[backend]", *(f"{key} = {json.dumps(value)}" for key, value in settings.items())])


if __name__ == "__main__":
    main()
