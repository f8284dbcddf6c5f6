"""Which stand-ins there are, how each is started, and the tenant settings that reach it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Place:
    """Where one running server is: its ports, its folder of data, and the environment that it runs in."""

    port: int
    second: int
    """Another free port, for a server that speaks two protocols."""
    folder: Path
    environment: Path

    def secret(self, name: str, value: str) -> str:
        """Puts a secret into a file of the folder, and returns the reference to it that settings hold."""
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(value)
        return f"file:{path}"


@dataclass(frozen=True)
class Standin:
    """How one stand-in is installed, started and reached."""

    name: str
    python: str | None
    """The version of Python that its environment needs, or None for the one that runs this."""
    arguments: Callable[[Place], list[str]]
    """The arguments of `server.py`."""
    settings: Callable[[Place], dict[str, Any]]
    """What a tenant's settings say to reach it."""
    healthy: str
    """The path that answers 200 as soon as the server can be used."""
    extra: Callable[[Path], None] | None = None
    """What its environment needs besides Python packages; is given the environment's folder."""
    variables: Callable[[], Mapping[str, str]] = dict
    """Environment variables of the server, besides the few that all have."""
    prepare: Callable[[Place], None] | None = None
    """What is to be done as soon as it is healthy."""
    seconds: int = 300
    """How long it may take until it is healthy, on a busy machine."""

    @property
    def folder(self) -> Path:
        """Where its server and requirements are."""
        return HERE / self.name

    @property
    def requirements(self) -> Path:
        """Every package of its environment, with exact versions and hashes."""
        return self.folder / "requirements.txt"

    @property
    def server(self) -> Path:
        """The script that serves."""
        return self.folder / "server.py"


def _snowflake_arguments(place: Place) -> list[str]:
    return ["--port", str(place.port), "--folder", str(place.folder / "data"), "--database", "STANDIN"]


def _snowflake_settings(place: Place) -> dict[str, Any]:
    return {
        "type": "snowflake",
        "account": "fakesnow",
        "user": "fake",
        "password": place.secret("password", "snow"),
        "host": "127.0.0.1",
        "port": place.port,
        "protocol": "http",
        "database": "STANDIN",
    }


def _bigquery_arguments(place: Place) -> list[str]:
    ports = ["--port", str(place.port), "--grpc-port", str(place.second)]
    return [*ports, "--folder", str(place.folder / "data"), "--project", "entrepot"]


def _bigquery_settings(place: Place) -> dict[str, Any]:
    return {
        "type": "bigquery",
        "project": "entrepot",
        "location": "US",
        "emulator": f"http://127.0.0.1:{place.port}",
        "storage_emulator": f"127.0.0.1:{place.second}",
    }


def _databricks_arguments(place: Place) -> list[str]:
    where = ["--host", "127.0.0.1", "--port", str(place.port), "--folder", str(place.folder / "data")]
    return [*where, "--jars", str(place.environment / "jars")]


def _databricks_settings(place: Place) -> dict[str, Any]:
    path = "/sql/1.0/warehouses/local"
    return {
        "type": "databricks",
        "host": "127.0.0.1",
        "http_path": path,
        "token": place.secret("token", "x"),
        "catalog": "main",
        "uri": f"http://127.0.0.1:{place.port}{path}",
        "volume": "main.default.entrepot",
    }


def _databricks_volume(place: Place) -> None:
    """A volume for files on their way into tables. With the client of the server's own environment."""
    settings = _databricks_settings(place)
    statement = f"CREATE VOLUME IF NOT EXISTS {settings['volume']}"
    code = (
        "import sys; from databricks import sql\n"
        "uri, path, statement = sys.argv[1:]\n"
        "with sql.connect('127.0.0.1', path, 'x', _connection_uri=uri, enable_telemetry=False) as session:\n"
        "    session.cursor().execute(statement)\n"
    )
    python = str(place.environment / "bin" / "python")
    command = [python, "-I", "-c", code, settings["uri"], settings["http_path"], statement]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise RuntimeError(f"The databricks stand-in has no volume: {done.stderr.strip()[-2000:]}")


def _databricks_jars(environment: Path) -> None:
    from entrepot_standins.databricks.install import jars

    jars(environment / "jars")


def _databricks_variables() -> dict[str, str]:
    from entrepot_standins.databricks.install import java

    # Spark looks for `bin/java` below JAVA_HOME.
    return {"JAVA_HOME": str(Path(java()).parent.parent)}


STANDINS: Mapping[str, Standin] = {
    standin.name: standin
    for standin in [
        Standin("snowflake", None, _snowflake_arguments, _snowflake_settings, "/health"),
        Standin("bigquery", "3.13", _bigquery_arguments, _bigquery_settings, "/health"),
        Standin(
            "databricks",
            "3.11",  # PySpark 3.5 knows none that is newer
            _databricks_arguments,
            _databricks_settings,
            "/health",
            extra=_databricks_jars,
            variables=_databricks_variables,
            prepare=_databricks_volume,
            seconds=600,
        ),
    ]
}
