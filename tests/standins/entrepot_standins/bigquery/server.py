"""A stand-in for BigQuery: its REST and gRPC protocols, in front of DuckDB, by way of local-bigquery.

Runs in an environment of its own (requirements.txt) and imports nothing of the project:

    python server.py --port 9050 --grpc-port 9060 --folder DATA --project entrepot

Its own addresses, besides BigQuery's:

    GET /health             200 once it can be used
    POST /standin/faults    see faults.py

What ran, with its labels, is what BigQuery's own list of jobs says.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
import threading
from pathlib import Path

import duckdb
import uvicorn
from corrections import MACROS, correct
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from faults import FAULTS, Faults

EXTENSIONS = ("icu", "ducklake", "spatial")


def install_extensions() -> None:
    """DuckDB's extensions come in wheels, with exact versions and without asking DuckDB's own server."""
    with duckdb.connect() as connection:
        for name in EXTENSIONS:
            package = importlib.import_module(f"duckdb_extension_{name}")
            folder = Path(str(package.__file__)).parent / "extensions" / f"v{duckdb.__version__}"
            connection.execute(f"INSTALL '{folder / name}.duckdb_extension'")


def add_own_addresses(app: FastAPI, faults: Faults) -> None:
    """The addresses that BigQuery does not have."""

    @app.get("/health")
    def health() -> dict[str, bool]:
        return {"ready": True}

    @app.post("/standin/faults")
    async def arm(request: Request) -> Response:
        try:
            faults.arm(await request.json())
        except (KeyError, ValueError, re.error):
            return JSONResponse({"error": f"not a fault; there are {', '.join(sorted(FAULTS))}"}, status_code=400)
        return JSONResponse({})

    @app.delete("/standin/faults")
    def disarm() -> dict[str, str]:
        faults.clear()
        return {}


def end_with_parent() -> None:
    """Whoever started this holds the other end of its standard input, and closes it by ending."""

    def wait() -> None:
        while sys.stdin.buffer.read(1024):
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    parser = argparse.ArgumentParser(description="A stand-in for BigQuery")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--project", required=True)
    arguments = parser.parse_args()
    install_extensions()

    from local_bigquery.settings import settings

    settings.default_project_id = arguments.project
    settings.default_dataset_id = "_standin"  # it makes one; this name is nobody's
    settings.data_dir = arguments.folder
    faults = Faults()
    correct(faults)
    # After the corrections: these take the functions that they serve when they are imported.
    from local_bigquery.app import app
    from local_bigquery.engine import database
    from local_bigquery.grpc import server as grpc_server

    add_own_addresses(app, faults)
    for macro in MACROS:
        database.execute(macro)
    end_with_parent()
    grpc, _ = grpc_server.start("127.0.0.1", arguments.grpc_port)
    uvicorn.run(app, host="127.0.0.1", port=arguments.port, log_level="info")
    grpc.stop(None)


if __name__ == "__main__":
    main()
