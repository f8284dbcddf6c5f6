"""What is used up is named: which disk, file, memory or lock, and what it is for.

What must hold: a failure's sentence has the place that is full, away or held, and no other; the step is tried again.
Disks are real small file systems, where this machine lets them be mounted; elsewhere a limit on the size of files.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pyarrow as pa
import pytest
from entrepot_standins.ports import free_port

from entrepot import backends
from entrepot.activities.storage import lake
from entrepot.backends import QueryTag
from entrepot.backends.sql import parquet
from entrepot.errors import BadInput, EntrepotError, StepFailed, Unavailable
from entrepot.tracebacks import describe
from tests.conftest import House

TAG = QueryTag("t", "r", "s")


@contextmanager
def small(folder: Path, megabytes: int = 5) -> Iterator[Path]:
    """A place where there is room for a few MB."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}M", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)
        return
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (megabytes << 20, most))
    try:
        yield folder
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        signal.signal(signal.SIGXFSZ, before)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small(tmp_path / "small") as folder:
        yield folder


def said(work: Callable[[], object], kind: type[EntrepotError] = Unavailable) -> str:
    """The sentence with which it fails."""
    with pytest.raises(EntrepotError) as caught:
        work()
    assert type(caught.value) is kind, caught.value
    return str(caught.value)


def executed(path: Path, sql: str, **settings: object) -> Callable[[], None]:
    backend = backends.create({"type": "duckdb", "path": str(path), **settings}, "test")

    def work() -> None:
        with backend.session(TAG) as session:
            session.execute(sql)

    return work


MANY = "SELECT random() AS r, hash(range)::VARCHAR AS h FROM range(3_000_000)"


class TestDuckDB:
    def test_its_file(self, disk: Path) -> None:
        sentence = said(executed(disk / "w.duckdb", f"CREATE TABLE t AS {MANY}", threads=1))
        assert sentence.startswith(f"the DuckDB file {disk}/w.duckdb cannot be written: "), sentence

    def test_what_does_not_fit_into_its_memory(self, disk: Path) -> None:
        path = disk / "w.duckdb"
        sort = f"SELECT count(*) FROM (SELECT * FROM ({MANY}) ORDER BY r LIMIT 2_500_000)"
        sentence = said(executed(path, sort, threads=1, memory_limit="30MB"))
        assert f"{path}.tmp" in sentence
        assert "DuckDB file" not in sentence, sentence

    def test_its_memory(self, tmp_path: Path) -> None:
        path = tmp_path / "w.duckdb"
        lists = "SELECT length(list(range)) FROM range(30_000_000)"
        sentence = said(executed(path, lists, threads=1, memory_limit="20MB"))
        assert sentence.startswith(f"DuckDB has no memory left at the file {path} ("), sentence
        assert "`memory_limit`" in sentence

    def test_a_file_that_it_writes_for_somebody(self, tmp_path: Path, disk: Path) -> None:
        copy = f"COPY ({MANY}) TO '{disk}/out.parquet' (FORMAT parquet)"
        sentence = said(executed(tmp_path / "w.duckdb", copy, threads=1))
        assert sentence.startswith(f"the file {disk}/out.parquet cannot be written: "), sentence

    def test_a_value_that_reads_like_a_failure_is_none(self, tmp_path: Path) -> None:
        cast = "SELECT CAST('No space left on device' AS INTEGER)"
        assert said(executed(tmp_path / "w.duckdb", cast), StepFailed).startswith("DuckDB cannot compute it: ")


class TestTheLake:
    def test_a_disk_that_is_full(self, tmp_path: Path, disk: Path) -> None:
        target, local = f"{disk}/lake/raw/page", tmp_path / "scratch.parquet"
        with local.open("wb") as file:
            file.truncate(5 << 20)
        (disk / "filler").write_bytes(b"x" * (1 << 20))
        content = local.read_bytes() + b"x"
        ways: list[Callable[[], None]] = [lambda: lake.write(content, target)]
        if os.path.ismount(disk):  # within one disk, to move a file needs no room
            ways.append(lambda: lake.put(str(local), target))
        for way in ways:
            sentence = said(way)
            assert sentence.startswith(f"the lake's file {target} cannot be written: "), sentence
            assert str(local) not in sentence
            assert [each.name for each in disk.rglob("*") if each.is_file()] == ["filler"], "what was begun is gone"

    def test_a_server_that_is_away(self) -> None:
        url = f"webhdfs://127.0.0.1:{free_port()}/lake/file"
        for work, done in ((lambda: lake.read(url), "read"), (lambda: lake.write(b"", url), "written")):
            sentence = said(work)
            assert sentence.startswith(f"the lake cannot be {done} at {url}: "), sentence
            assert "Connection refused" in sentence

    def test_a_file_in_the_place_of_its_folder(self, tmp_path: Path) -> None:
        (tmp_path / "lake").write_text("")
        sentence = said(lambda: lake.write(b"", f"{tmp_path}/lake/raw/page"), BadInput)
        assert sentence.startswith(f"the lake cannot be written at {tmp_path}/lake/raw/page: "), sentence

    def test_what_is_not_there_is_no_failure_of_the_lake(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            lake.read(f"{tmp_path}/lake/nothing")


class TestThisMachine:
    def test_scratch_space(self, disk: Path) -> None:
        batch = pa.record_batch({"a": pa.array([os.urandom(1000) for _ in range(8000)])})
        sentence = said(lambda: parquet.written([batch], batch.schema, str(disk)))
        assert sentence.startswith(f"the scratch file {disk}/00000.parquet cannot be written: "), sentence

    def test_memory(self) -> None:
        assert describe(MemoryError("Unable to allocate 8 GiB")) == "no memory is left: Unable to allocate 8 GiB"

    def test_open_files(self, tmp_path: Path) -> None:
        (tmp_path / "innocent").write_text("")
        held: list[IO[str]] = []

        def open_more() -> None:
            while True:
                held.append((tmp_path / "innocent").open())

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        try:
            with pytest.raises(OSError, match="Too many open files") as caught:
                open_more()
            text = describe(caught.value)
        finally:
            for each in held:
                each.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert text == "Too many open files: this process may have 256 open at a time (`ulimit -n`)"


async def test_a_run_names_scratch_space_that_is_full(shop: House, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the lake: tests/workflows/test_failures.py."""
    if not os.path.ismount(disk):
        pytest.skip("a whole run is larger than a limit on single files; needs root, to mount a small disk")
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    filler = disk / "filler"
    filler.write_bytes(b"x" * ((5 << 20) - (20 << 10)))
    handle = await shop.start("Pipeline", {"tenant": "acme", "pipeline": "shop", "parameters": {"rows": 2000}})
    message = ""
    while not message:
        described = await handle.describe()
        for pending in described.raw_description.pending_activities:
            if pending.attempt > 1:
                message = str(await described.data_converter.decode_failure(pending.last_failure))
    filler.unlink()
    assert f"no room is left for scratch files in {disk}/entrepot-" in message
    assert (await handle.result())["outcome"] == "published"


class TestWarehouses:
    def test_a_quota_of_bigquery(self) -> None:
        exceptions = pytest.importorskip("google.api_core.exceptions")
        from entrepot.backends.bigquery.client import translated

        error = exceptions.Forbidden("Quota exceeded", errors=[{"reason": "quotaExceeded", "message": "250 a day"}])
        with pytest.raises(Unavailable) as caught, translated("BigQuery project 'p'"):
            raise error
        assert str(caught.value) == "BigQuery project 'p': a quota is used up: 250 a day"

    def test_a_quota_of_snowflake(self) -> None:
        errors = pytest.importorskip("snowflake.connector.errors")
        from entrepot.backends.snowflake.client import translated

        text = "Warehouse 'W' cannot be resumed because resource monitor 'M' has exceeded its quota."
        with pytest.raises(Unavailable) as caught, translated("Snowflake account 'a'"):
            raise errors.ProgrammingError(msg=text, errno=90073, sqlstate="57014")
        assert str(caught.value) == f"Snowflake account 'a': {text} (090073)"

    def test_a_full_disk_of_this_machine_is_no_matter_of_databricks(self) -> None:
        pytest.importorskip("databricks.sql")
        from entrepot.backends.databricks.client import translated

        with pytest.raises(OSError, match="No space left") as caught, translated("somewhere"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/entrepot-1/0.parquet")
        assert describe(caught.value) == "cannot write /tmp/entrepot-1/0.parquet: No space left on device"
