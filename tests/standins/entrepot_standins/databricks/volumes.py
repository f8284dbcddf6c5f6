"""Volumes: folders of files, filled by PUT over HTTP and read by queries, `read_files` and COPY INTO.

A client asks for PUT, GET or REMOVE by a statement, is told an address, and moves the file over HTTP by itself. The
address carries a key, as a presigned one does, so that nobody else can use it.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import threading
import urllib.parse
import uuid
from pathlib import Path

import pyarrow as pa
import results
from errors import DatabricksError
from names import FLAGS, NAME, PART, quoted, unescaped
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from results import Result
from sessions import Session

PREFIX = "/Volumes/"
STAGING = "/staging"
KEY = secrets.token_hex(16)
LOADED = "loaded.json"
LOADING = threading.Lock()

TEXT = r"'((?:[^'\\]|\\.)*)'"
PUT = re.compile(rf"PUT\s+{TEXT}\s+INTO\s+{TEXT}\s*(OVERWRITE)?$", FLAGS)
GET = re.compile(rf"GET\s+{TEXT}\s+TO\s+{TEXT}$", FLAGS)
REMOVE = re.compile(rf"REMOVE\s+{TEXT}$", FLAGS)
LIST = re.compile(rf"LIST\s+{TEXT}$", FLAGS)
CREATE = re.compile(
    rf"CREATE\s+(?:EXTERNAL\s+)?VOLUME\s+(?P<may>IF\s+NOT\s+EXISTS\s+)?(?P<name>{PART}(?:\s*\.\s*{PART})*)", FLAGS
)
DROP = re.compile(rf"DROP\s+VOLUME\s+(?:IF\s+EXISTS\s+)?(?P<name>{NAME})$", FLAGS)
COPY = re.compile(
    rf"COPY\s+INTO\s+(?P<table>{NAME})\s+FROM\s+(?:{TEXT}|\(\s*SELECT\s+(?P<select>.*)\s+FROM\s+{TEXT}\s*\))\s*"
    r"FILEFORMAT\s*=\s*(?P<format>\w+)(?P<rest>.*)$",
    FLAGS,
)
READ_FILES = re.compile(rf"\bread_files\s*\(\s*{TEXT}(?P<options>(?:\s*,\s*\w+\s*=>\s*(?:{TEXT}|\w+))*)\s*\)", FLAGS)


def run(session: Session, statement: str, base: str) -> Result | None:
    """The result of a statement about volumes and their files, or None if it is about something else."""
    scratch = session.engine.scratch
    if match := PUT.match(statement):
        target = unescaped(match[2])
        if not match[3] and _path(session, target).exists():
            raise DatabricksError("FILE_ALREADY_EXISTS", f"{target} exists, and OVERWRITE is not given.")
        return _order(session, base, "PUT", unescaped(match[1]), target)
    if match := GET.match(statement):
        return _order(session, base, "GET", unescaped(match[2]), unescaped(match[1]))
    if match := REMOVE.match(statement):
        return _order(session, base, "REMOVE", None, unescaped(match[1]))
    if match := LIST.match(statement):
        return results.of_table(_listing(session, unescaped(match[1])), scratch)
    if match := CREATE.match(statement):
        _create(session, match["name"], bool(match["may"]))
        return results.of_table(results.NOTHING, scratch)
    if match := DROP.match(statement):
        shutil.rmtree(_folder(session, match["name"]), ignore_errors=True)
        return results.of_table(results.NOTHING, scratch)
    if match := COPY.match(statement):
        return results.of_table(_copy(session, match), scratch)
    return None


def file_of(volumes: Path, url: str) -> Path | None:
    """The file that the address of a client's request means, or None if the address is not one that was given out."""
    split = urllib.parse.urlsplit(url)
    if urllib.parse.parse_qs(split.query).get("key") != [KEY]:
        return None
    name = urllib.parse.unquote(split.path).removeprefix(STAGING).removeprefix(PREFIX)
    path = (volumes / name).resolve()
    return path if path.is_relative_to(volumes) else None


def drop_all(session: Session, schema: str) -> None:
    """Drops the volumes of a schema."""
    shutil.rmtree(session.engine.volumes / "main" / schema.lower(), ignore_errors=True)


def paths(session: Session, sql: str) -> str:
    """The statement with the real folders of volumes: in strings, and in names such as parquet.`/Volumes/...`."""
    return re.sub(r"`(?:dbfs:)?/Volumes/", f"`file:{session.engine.volumes}/", sql)


def read_files(session: Session, sql: str) -> str:
    """The statement with a temporary view for each `read_files(...)`."""

    def view(match: re.Match[str]) -> str:
        options = dict(re.findall(r"(\w+)\s*=>\s*'?([^',]*)'?", match["options"]))
        name = f"read_files_{uuid.uuid4().hex}"
        _read(session, unescaped(match[1]), options.pop("format", "parquet"), options).createOrReplaceTempView(name)
        return name

    return READ_FILES.sub(view, sql)


def _read(session: Session, path: str, kind: str, options: dict[str, str]) -> DataFrame:
    reader = session.spark.read.format(kind)
    if "schema" in options:
        reader = reader.schema(options.pop("schema"))
    where = _path(session, path) if path.startswith(PREFIX) else Path(path.removeprefix("file:"))
    return reader.options(**options).load(f"file:{where}")


def _path(session: Session, path: str) -> Path:
    """The real path of a file in a volume."""
    found = re.match(r"(?:dbfs:)?/Volumes/([^/]+)/([^/]+)/([^/]+)(?:/(.*))?$", path)
    if found is None:
        raise DatabricksError(
            "INVALID_PARAMETER_VALUE", f"{path} is not in a volume: /Volumes/catalog/schema/volume/file"
        )
    volume = session.engine.volumes.joinpath(*[part.lower() for part in found.groups()[:3]])
    if not volume.is_dir():
        name = ".".join(found.groups()[:3])
        raise DatabricksError("VOLUME_DOES_NOT_EXIST", f"Volume {name} does not exist.")
    return volume / (found[4] or "")


def _folder(session: Session, name: str) -> Path:
    return session.engine.volumes.joinpath(*[part.lower() for part in session.full(name)])


def _create(session: Session, name: str, may_exist: bool) -> None:
    folder = _folder(session, name)
    catalog, schema, _ = session.full(name)
    session.exists(catalog, schema)
    if folder.exists() and not may_exist:
        raise DatabricksError("VOLUME_ALREADY_EXISTS", f"Volume {name} exists.", "42000")
    folder.mkdir(parents=True, exist_ok=True)


def _order(session: Session, base: str, operation: str, local: str | None, path: str) -> Result:
    """Tells the client where to move a file, which it then does without asking again."""
    file = _path(session, path).relative_to(session.engine.volumes)
    url = f"{base}{STAGING}{PREFIX}{urllib.parse.quote(str(file))}?key={KEY}"
    columns = {"operation": operation, "localFile": local, "presignedUrl": url, "headers": "{}"}
    table = pa.table({name: pa.array([value], pa.string()) for name, value in columns.items()})
    return results.of_table(table, session.engine.scratch, staging=True)


def _listing(session: Session, path: str) -> pa.Table:
    folder = _path(session, path)
    if not folder.is_dir():
        raise DatabricksError("PATH_NOT_FOUND", f"Path does not exist: {path}.")
    files = sorted(folder.iterdir())
    return pa.table(
        {
            "path": pa.array([f"{path.rstrip('/')}/{file.name}" for file in files], pa.string()),
            "name": pa.array([file.name for file in files], pa.string()),
            "size": pa.array([file.stat().st_size for file in files], pa.int64()),
        }
    )


def _copy(session: Session, match: re.Match[str]) -> pa.Table:
    """COPY INTO: adds the files' rows to the table, each file once however often the statement is repeated."""
    path = unescaped(match[2] or match[4])
    table = quoted(*session.full(match["table"]))
    target = session.spark.table(table).schema
    copying = dict(re.findall(r"'(\w+)'\s*=\s*'([^']*)'", _clause(match["rest"], "COPY_OPTIONS")))
    reading = dict(re.findall(r"'(\w+)'\s*=\s*'([^']*)'", _clause(match["rest"], "FORMAT_OPTIONS")))
    folder = _path(session, path)
    found = sorted(p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else [folder]
    with LOADING:
        again = copying.get("force", "false").lower() == "true"
        new = [file for file in found if again or not _is_loaded(session, table, file)]
        rows = _append(session, table, target, new, match["format"].lower(), reading, match["select"]) if new else 0
        _mark_loaded(session, table, new)
    return pa.table({"num_affected_rows": [rows], "num_inserted_rows": [rows], "num_skipped_corrupt_files": [0]})


def _clause(rest: str, name: str) -> str:
    found = re.search(rf"\b{name}\s*\(([^)]*)\)", rest, FLAGS)
    return found[1] if found else ""


def _append(session: Session, table: str, target, files, kind: str, options, select: str | None) -> int:  # type: ignore[no-untyped-def]
    reader = session.spark.read.format(kind).options(**options)
    if kind == "json":
        reader = reader.schema(target)
    frame = reader.load([f"file:{file}" for file in files])
    if select:
        view = f"copy_{uuid.uuid4().hex}"
        frame.createOrReplaceTempView(view)
        frame = session.spark.sql(f"SELECT {select} FROM {view}")
    have = {name.lower(): name for name in frame.columns}
    columns = [
        (F.col(quoted(have[field.name.lower()])) if field.name.lower() in have else F.lit(None))
        .cast(field.dataType)
        .alias(field.name)
        for field in target
    ]
    frame.select(*columns).writeTo(table).append()
    return frame.count()


def _loaded(session: Session) -> dict[str, list[str]]:
    path = session.engine.folder / LOADED
    return json.loads(path.read_text()) if path.exists() else {}


def _stamp(file: Path) -> str:
    return f"{file}@{file.stat().st_mtime_ns}"


def _is_loaded(session: Session, table: str, file: Path) -> bool:
    return _stamp(file) in _loaded(session).get(_identity(session, table), [])


def _mark_loaded(session: Session, table: str, files: list[Path]) -> None:
    loaded = _loaded(session)
    loaded.setdefault(_identity(session, table), []).extend(_stamp(file) for file in files)
    (session.engine.folder / LOADED).write_text(json.dumps(loaded))


def _identity(session: Session, table: str) -> str:
    """Another table of the same name has loaded nothing yet."""
    return str(session.engine.iceberg(session.spark, table).uuid())
