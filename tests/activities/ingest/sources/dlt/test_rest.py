"""dlt's own sources as streams: rest_api against a real server with all its troubles, and filesystem."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import dlt
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
from requests import PreparedRequest, Response

from entrepot.activities.ingest.sources.dlt import extract, setup
from entrepot.activities.ingest.sources.stream import Json
from tests.activities.ingest.sources.streams import Read, read
from tests.data import data
from tests.servers.rest import Rest

setup.install()

from dlt.common.configuration.specs import configspec  # noqa: E402
from dlt.sources.filesystem import filesystem, read_csv, read_jsonl, read_parquet  # noqa: E402
from dlt.sources.helpers.rest_client.auth import AuthConfigBase  # noqa: E402
from dlt.sources.rest_api import rest_api_source  # noqa: E402

Rows = list[dict[str, Any]]
FAULTS: Any = {3: "limit", 5: "error", 6: "error", 8: "slow", 11: "limit"}
CURSOR = {"type": "cursor", "cursor_path": "next", "cursor_param": "after"}


@configspec
class Renewed(AuthConfigBase):
    """Asks for another token when one is refused."""

    url: str = ""
    token: str = ""

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self.token}"
        request.register_hook("response", self.renew)
        return request

    def renew(self, response: Response, **kwargs: Any) -> Response:
        if response.status_code != 401:
            return response
        self.token = requests.post(self.url, timeout=10).json()["access_token"]
        again = response.request.copy()
        again.headers["Authorization"] = f"Bearer {self.token}"
        return response.connection.send(again, **kwargs)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def events() -> Rows:
    with gzip.open(data("github_events/2015-01-01-0.json.gz"), "rt") as lines:
        return [json.loads(line) for _, line in zip(range(2_000), lines, strict=False)]


def github(rest: Rest, path: str, paginator: Any, auth: Any = None) -> Any:
    endpoint: Any = {"path": path, "paginator": paginator, "data_selector": "items" if path == "cursor" else "$"}
    config: Any = {
        "client": {"base_url": rest.url, "auth": auth},
        "resources": [
            {"name": "events", "primary_key": "id", "write_disposition": "merge", "endpoint": endpoint},
        ],
    }
    return rest_api_source(config, name="github")


def brought(data: Any, state: Json | None = None) -> Read:
    return read(extract.stream("github", data, watermark=state or {}))


def assert_all_there(found: Read, events: Rows) -> None:
    """Every event once, every commit once, and each commit joined with its event."""
    assert Counter(row["id"] for row in found.rows["events"]) == Counter(event["id"] for event in events)
    commits = [(e["id"], c["sha"]) for e in events for c in e["payload"].get("commits") or []]
    parents, children = (pa.Table.from_pylist(found.rows[t]) for t in ("events", "events__payload__commits"))
    with duckdb.connect() as connection:
        connection.register("parents", parents)
        connection.register("children", children)
        joined = connection.execute(
            "SELECT p.id, c.sha FROM parents p JOIN children c ON c._dlt_parent_id = p._dlt_id"
        ).fetchall()
    assert Counter(joined) == Counter(commits)


@pytest.mark.parametrize(("path", "paginator"), [("link", "header_link"), ("cursor", CURSOR)])
def test_every_row_arrives_once_through_limits_errors_and_slow_answers(events: Rows, path: str, paginator: Any) -> None:
    with Rest(events, faults=FAULTS).running() as rest:
        found = brought(github(rest, path, paginator))
    assert_all_there(found, events)
    assert Counter(status for _, status in rest.requests) == {200: 20, 429: 2, 500: 2}
    assert found.hints["events"].disposition == "merge"
    assert found.hints["events__payload__commits"].root == "events"


def test_the_same_events_have_the_same_ids(events: Rows) -> None:
    rows = []
    for _ in range(2):
        with Rest(events[:300]).running() as rest:
            rows.append(
                read(extract.stream("github", github(rest, "link", "header_link"), watermark={})).without_load_id()
            )
    assert rows[0] == rows[1]


def test_a_token_that_is_refused_midway_is_renewed(events: Rows) -> None:
    with Rest(events, uses=6).running() as rest:
        found = read(
            extract.stream("github", github(rest, "link", "header_link", Renewed(f"{rest.url}/token")), watermark={})
        )
    assert_all_there(found, events)
    assert Counter(status for _, status in rest.requests)[401] == 4
    assert rest.tokens == 4


def test_client_credentials_get_a_new_token_when_theirs_has_run_out(events: Rows) -> None:
    with Rest(events, uses=20, lifetime=1, faults=dict.fromkeys((5, 10, 15), "slow")).running() as rest:
        auth = {
            "type": "oauth2_client_credentials",
            "access_token_url": f"{rest.url}/token",
            "client_id": "me",
            "client_secret": "mine",
        }
        found = brought(github(rest, "cursor", CURSOR, auth))
    assert_all_there(found, events)
    assert rest.tokens >= 2


def test_a_server_that_stays_broken_fails_with_the_resource_and_the_page(events: Rows) -> None:
    with Rest(events[:50], uses=0).running() as rest:
        data = github(rest, "link", "header_link")
        with pytest.raises(Exception, match=f"401 .*{rest.url}/link") as raised:
            brought(data)
    assert "`events`" in "".join(raised.value.__notes__)


def test_files_of_all_kinds_through_dlts_filesystem(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("n,t\n1,x\n2,y\n")
    (tmp_path / "b.jsonl").write_text('{"n": 1, "tags": ["a", "b"]}\n{"n": 2, "tags": []}\n')
    pq.write_table(pa.table({"n": [1, 2, 3]}), tmp_path / "c.parquet")
    url = tmp_path.as_uri()
    data = [
        (filesystem(url, file_glob="*.csv") | read_csv()).with_name("csv"),
        (filesystem(url, file_glob="*.jsonl") | read_jsonl()).with_name("jsonl"),
        (filesystem(url, file_glob="*.parquet") | read_parquet()).with_name("parquet"),
    ]
    found = brought(data)
    assert {table: len(rows) for table, rows in found.rows.items()} == {
        "csv": 2, "jsonl": 2, "jsonl__tags": 2, "parquet": 3,
    }  # fmt: skip
    assert {hints.disposition for hints in found.hints.values()} == {"replace"}


def test_new_files_are_added_where_the_listing_has_a_cursor(tmp_path: Path) -> None:
    def data() -> Any:
        listing = filesystem(
            tmp_path.as_uri(), file_glob="*.csv", incremental=dlt.sources.incremental("modification_date")
        )
        return (listing | read_csv()).with_name("lines")

    state: Json = {}
    for number, name in enumerate(("a.csv", "b.csv")):
        (tmp_path / name).write_text(f"n\n{number}\n")
        os.utime(tmp_path / name, (1e9 + number, 1e9 + number))
        found = brought(data(), state)
        state = found.state
        assert [row["n"] for row in found.rows["lines"]] == [number]
        assert found.hints["lines"].disposition == "append"
