"""Stand-ins for the cloud warehouses: the real client, a local stand-in, and never more than that.

A stand-in is a server on this machine that speaks a warehouse's own protocol, so that the warehouse's own client, and
every line of ours above it, runs as it would against an account. Behind the protocol sits another engine: DuckDB for
Snowflake and BigQuery, Spark for Databricks. So what passes here shows that our side is right; whether the warehouse
agrees is shown only by `make test-live`.

Each has a folder with `requirements.in`, `requirements.txt` (exact versions, with hashes) and `server.py`, which runs
in a virtual environment of its own and imports nothing of the project.

    with standins.running("snowflake", home, folder) as settings:
        backend = backends.create(settings, "test")
"""

from entrepot_standins.available import NotAvailable
from entrepot_standins.environments import default_home, install, lock
from entrepot_standins.kinds import STANDINS, Standin
from entrepot_standins.processes import running

__all__ = ["STANDINS", "NotAvailable", "Standin", "default_home", "install", "lock", "running"]
