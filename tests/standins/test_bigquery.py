"""What the stand-in for BigQuery does, as BigQuery's own clients see it."""

from __future__ import annotations

import io
import json
import threading
import urllib.request
import uuid
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import grpc
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.api_core.exceptions import BadRequest, Forbidden, GoogleAPICallError, InternalServerError, NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.cloud.bigquery_storage_v1 import BigQueryReadClient
from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport

pytestmark = [
    pytest.mark.timeout(900),  # the first test may install it
]

ENDLESS = """
    select count(*) from unnest(generate_array(1, 300000)) a, unnest(generate_array(1, 300000)) b
    where mod(a * b, 7) = 3
"""


@pytest.fixture(scope="module")
def client(bigquery_settings: dict[str, Any]) -> Iterator[bigquery.Client]:
    options = {"api_endpoint": bigquery_settings["emulator"]}
    project, location = bigquery_settings["project"], bigquery_settings["location"]
    credentials = AnonymousCredentials()
    with bigquery.Client(project, credentials=credentials, client_options=options, location=location) as client:
        yield client


@pytest.fixture(scope="module")
def reader(bigquery_settings: dict[str, Any]) -> Iterator[BigQueryReadClient]:
    with grpc.insecure_channel(bigquery_settings["storage_emulator"]) as channel:
        yield BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=channel))


@pytest.fixture(scope="module")
def bigquery_settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    return request.getfixturevalue("bigquery")


@pytest.fixture
def dataset(client: bigquery.Client) -> str:
    """A dataset of the test's own."""
    name = f"d_{uuid.uuid4().hex}"
    client.create_dataset(name)
    return name


def fault(settings: dict[str, Any], **request: Any) -> None:
    url = f"{settings['emulator']}/standin/faults"
    urllib.request.urlopen(urllib.request.Request(url, json.dumps(request).encode(), method="POST")).close()


def run(client: bigquery.Client, sql: str, **config: Any) -> Any:
    job = client.query(sql, job_config=bigquery.QueryJobConfig(**config))
    job.result()
    return job


def rows(client: bigquery.Client, sql: str, **config: Any) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in run(client, sql, **config).result()]


def estimate(client: bigquery.Client, sql: str) -> int:
    return int(client.query(sql, job_config=bigquery.QueryJobConfig(dry_run=True)).total_bytes_processed)


def test_rows_that_change_are_counted(client: bigquery.Client, dataset: str) -> None:
    run(client, f"create table {dataset}.t (a int64, b string)")
    assert run(client, f"insert into {dataset}.t values (1, 'x'), (2, null)").num_dml_affected_rows == 2
    assert run(client, f"update {dataset}.t set b = 'y' where a = 2").num_dml_affected_rows == 1
    assert run(client, f"delete from {dataset}.t where true").num_dml_affected_rows == 2


def test_tables_and_views(client: bigquery.Client, dataset: str) -> None:
    run(client, f"create table {dataset}.t as select 1 as a, 'x' as b")
    run(client, f"alter table {dataset}.t rename to u")
    run(client, f"create or replace view {dataset}.v as select a from {dataset}.u")
    found = rows(client, f"select table_name, table_type from {dataset}.INFORMATION_SCHEMA.TABLES order by 1")
    assert found == [("u", "BASE TABLE"), ("v", "VIEW")]
    columns = (
        f"select column_name, data_type from {dataset}.INFORMATION_SCHEMA.COLUMNS where table_name = 'u' order by 1"
    )
    assert rows(client, columns) == [("a", "INT64"), ("b", "STRING")]
    run(client, f"drop view {dataset}.v")
    run(client, f"drop table {dataset}.u")
    with pytest.raises(NotFound):
        client.get_table(f"{dataset}.u")


def test_labels_and_parameters(client: bigquery.Client) -> None:
    parameter = bigquery.ScalarQueryParameter("x", "INT64", 7)
    label = uuid.uuid4().hex
    assert rows(client, "select @x", query_parameters=[parameter], labels={"run": label}) == [(7,)]
    assert label in [job.labels.get("run") for job in client.list_jobs(max_results=50)]


def test_bytes_are_estimated_and_said(client: bigquery.Client, dataset: str) -> None:
    run(client, f"create table {dataset}.t (a int64, b string, c numeric)")
    run(client, f"insert into {dataset}.t values (1, 'é', 1), (2, null, null), (null, 'xyz', 2)")
    run(client, f"create view {dataset}.v as select * from {dataset}.t")
    a, b, c = 2 * 8, (2 + 2) + (2 + 3), 2 * 16
    assert estimate(client, f"select a from {dataset}.t") == a
    assert estimate(client, f"select a from {dataset}.t where b = 'x'") == a + b
    assert estimate(client, f"select * from {dataset}.t") == a + b + c
    assert estimate(client, f"select b from {dataset}.v") == b
    assert estimate(client, f"select count(*) from {dataset}.t") == 0
    assert estimate(client, f"create table {dataset}.u as select c from {dataset}.t") == c
    assert run(client, f"create table {dataset}.u as select c from {dataset}.t").total_bytes_processed == c
    with pytest.raises(InternalServerError, match="bytesBilledLimitExceeded"):
        run(client, f"select a from {dataset}.t", maximum_bytes_billed=1000)


def test_a_running_job_is_cancelled(client: bigquery.Client) -> None:
    job = client.query(ENDLESS)
    assert job.cancel()
    with pytest.raises(GoogleAPICallError, match="cancelled"):
        job.result()
    assert job.error_result["reason"] == "stopped"


def test_products_of_decimals_are_rounded_as_bigquery_does(client: bigquery.Client, dataset: str) -> None:
    run(client, f"create table {dataset}.t (n numeric(15, 2), m numeric, b bignumeric)")
    run(client, f"insert into {dataset}.t values (199999.99, 1.000005, 1.000005), (-0.01, 0.000001, 0.000001)")
    nine = [Decimal("1.000010000"), Decimal("0")]
    assert rows(client, f"select m * m from {dataset}.t order by n desc") == [(each,) for each in nine]
    assert rows(client, f"select b * m from {dataset}.t order by n desc") == [
        (Decimal("1.000010000025"),),
        (Decimal("0.000000000001"),),
    ]
    assert rows(client, f"select n * b from {dataset}.t order by n desc") == [
        (Decimal("200000.98999995"),),
        (Decimal("-0.00000001"),),
    ]


def table_of_everything() -> tuple[pa.Table, list[bigquery.SchemaField]]:
    moment = datetime(2024, 1, 2, 3, 4, 5, 123456)
    columns = [
        ("a", "INT64", pa.array([1, None], pa.int64())),
        ("b", "STRING", pa.array(["é", None])),
        ("n", "NUMERIC", pa.array([Decimal("1.5"), None], pa.decimal128(38, 9))),
        ("big", "BIGNUMERIC", pa.array([Decimal("1.5"), None], pa.decimal128(38, 18))),
        ("f", "FLOAT64", pa.array([float("inf"), None])),
        ("o", "BOOL", pa.array([True, None])),
        ("ts", "TIMESTAMP", pa.array([moment, None], pa.timestamp("us", "UTC"))),
        ("dt", "DATETIME", pa.array([moment, None], pa.timestamp("us"))),
        ("d", "DATE", pa.array([moment.date(), None])),
        ("by", "BYTES", pa.array([b"\x00\xff", None])),
        ("j", "JSON", pa.array(['{"a":1}', None])),
    ]
    schema = [bigquery.SchemaField(name, kind) for name, kind, _ in columns]
    return pa.table({name: values for name, _, values in columns}), schema


def test_parquet_is_loaded_and_read_as_arrow(client: bigquery.Client, reader: BigQueryReadClient, dataset: str) -> None:
    table, schema = table_of_everything()
    file = io.BytesIO()
    pq.write_table(table, file)
    config = bigquery.LoadJobConfig(source_format="PARQUET", schema=schema, write_disposition="WRITE_TRUNCATE")
    job = client.load_table_from_file(file, f"{dataset}.t", rewind=True, job_config=config)
    job.result()
    assert job.output_rows == 2
    batches = client.list_rows(f"{dataset}.t").to_arrow_iterable(bqstorage_client=reader)
    read = pa.Table.from_batches(list(batches))
    assert read.to_pylist() == table.to_pylist()


def test_many_rows_come_in_messages_of_usual_size(
    client: bigquery.Client, reader: BigQueryReadClient, dataset: str
) -> None:
    make = "select a, to_hex(md5(cast(a as string))) b from unnest(generate_array(1, 300000)) a"
    run(client, f"create table {dataset}.t as {make}")
    result = client.query(f"select * from {dataset}.t").result()
    assert sum(batch.num_rows for batch in result.to_arrow_iterable(bqstorage_client=reader)) == 300000


def test_one_table_replaced_by_several_at_once(client: bigquery.Client, dataset: str) -> None:
    failed = []

    def replace(number: int) -> None:
        try:
            for _ in range(3):
                run(client, f"create or replace table {dataset}.t as select {number} as a")
        except GoogleAPICallError as error:
            failed.append(error)

    threads = [threading.Thread(target=replace, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_a_transaction_is_undone(client: bigquery.Client, dataset: str) -> None:
    run(client, f"create table {dataset}.t (a int64)")
    run(client, f"begin transaction; insert into {dataset}.t values (1); rollback transaction;")
    run(client, f"begin transaction; insert into {dataset}.t values (2); commit transaction;")
    assert rows(client, f"select a from {dataset}.t") == [(2,)]


@pytest.mark.parametrize(
    ("sql", "error"),
    [
        ("select * from {dataset}.nope", NotFound),
        ("select * from nope.t", NotFound),
        ("create table nope.t as select 1 as a", NotFound),
        ("select nope from unnest([1]) a", BadRequest),
        ("select * from `nope.{dataset}.t`", Forbidden),
        ("selec 1", BadRequest),
    ],
)
def test_errors_are_bigquerys(client: bigquery.Client, dataset: str, sql: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        run(client, sql.format(dataset=dataset))


@pytest.mark.parametrize(("name", "reason"), [("denied", "accessDenied"), ("quota", "quotaExceeded")])
def test_faults(client: bigquery.Client, bigquery_settings: dict[str, Any], name: str, reason: str) -> None:
    fault(bigquery_settings, fault=name, matching=f"marker of {name}")
    assert rows(client, "select 1") == [(1,)]
    with pytest.raises(Forbidden) as failed:
        run(client, f"select 'marker of {name}'")
    assert failed.value.errors[0]["reason"] == reason


@pytest.mark.parametrize("name", ["rate-limit", "too-many-requests", "unavailable"])
def test_faults_that_pass(client: bigquery.Client, bigquery_settings: dict[str, Any], name: str) -> None:
    fault(bigquery_settings, fault=name, matching=f"marker of {name}")
    assert rows(client, f"select 'marker of {name}'") == [(f"marker of {name}",)]
