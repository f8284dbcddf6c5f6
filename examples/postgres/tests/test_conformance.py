"""Entrepot's own suite on PostgreSQL. It is not in Entrepot's package: ENTREPOT_CHECKOUT says where it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.servers.postgres import Server

HERE = Path(__file__).parent
CHECKOUT = Path(os.environ.get("ENTREPOT_CHECKOUT") or HERE.parents[2])


def test_conformance(server: Server) -> None:
    path = os.pathsep.join([str(HERE), str(CHECKOUT), *sys.path])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout", "600", "tests/conformance"]
    environment = {**os.environ, **server.conformance(), "PYTHONPATH": path}
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, check=False)
    assert done.returncode == 0
