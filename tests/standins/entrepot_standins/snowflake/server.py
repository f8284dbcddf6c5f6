"""A stand-in for Snowflake: its HTTP protocol, in front of DuckDB, by way of fakesnow.

Runs in an environment of its own (requirements.txt) and imports nothing of the project:

    python server.py --port 8085 --folder DATA --database ENTREPOT

Its own addresses, besides Snowflake's:

    GET /health                200 once it can be used
    GET /standin/statements    the last statements: id, session, user, query tag, text, status, error code, rows
    POST /standin/faults       see faults.py

Users: `fake` with the password `snow`; a key pair after ALTER USER fake SET RSA_PUBLIC_KEY = '...'.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import re
import sys
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import engine
import fakesnow.server
import uvicorn
from fakesnow.instance import FakeSnow
from faults import FAULTS, Faults
from queries import Queries, prepare_database
from sessions import Refused, Sessions, token_in
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

RESULTS_KEPT = 20


class Recent(OrderedDict[str, Any]):
    """fakesnow keeps every result for ever; this forgets the oldest."""

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        while len(self) > RESULTS_KEPT:
            self.popitem(last=False)


class Server:
    """The handlers of Snowflake's addresses, and of our own."""

    def __init__(self, folder: Path, database: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # A name that is wrong must be missing, so nothing is made when a client connects.
        self.engine = FakeSnow(create_database_on_connect=False, create_schema_on_connect=False, db_path=folder)
        self.engine.results_cache = Recent()
        fakesnow.server.shared_fs = self.engine
        for name in sorted({database, *(path.stem for path in folder.glob("*.db"))}):
            self._attach(name)
        self.faults = Faults()
        self.sessions = Sessions(self.engine)
        self.queries = Queries(self.engine, self.sessions, self.faults)

    def _attach(self, name: str) -> None:
        """Opens a database's file, or makes it."""
        self.engine.create_database_on_connect = True
        self.engine.connect(name).close()
        self.engine.create_database_on_connect = False
        prepare_database(self.engine, name)

    def routes(self) -> list[Route]:
        return [
            Route("/health", self.health),
            Route("/standin/statements", self.statements),
            Route("/standin/faults", self.arm, methods=["POST"]),
            Route("/standin/faults", self.disarm, methods=["DELETE"]),
            Route("/session/v1/login-request", self.login, methods=["POST"]),
            Route("/session/token-request", self.renew, methods=["POST"]),
            Route("/session", self.session, methods=["POST"]),
            Route("/session/heartbeat", self.session, methods=["POST"]),
            Route("/queries/v1/query-request", self.query, methods=["POST"]),
            Route("/queries/v1/abort-request", self.abort, methods=["POST"]),
            Route("/queries/{query_id}/abort-request", self.abort, methods=["POST"]),
            Route("/queries/{query_id}/result", self.result),
            Route("/monitoring/queries/{query_id}", self.monitoring),
            Route("/monitoring/queries//{query_id}", self.monitoring),  # as 5.x of the client writes it
            Route("/telemetry/send", self.accept, methods=["POST"]),
            Route("/fs_bucket/{path:path}", self.upload, methods=["PUT"]),
            Route("/fs_bucket/{path:path}", self.not_uploaded, methods=["HEAD"]),
            Route("/fs_discard", self.accept, methods=["PUT", "HEAD"]),
        ]

    # Our own

    async def health(self, _: Request) -> Response:
        return JSONResponse({"ready": True})

    async def statements(self, _: Request) -> Response:
        return JSONResponse(self.queries.history())

    async def arm(self, request: Request) -> Response:
        try:
            self.faults.arm(await request.json())
        except (KeyError, ValueError, re.error):
            return JSONResponse({"error": f"not a fault; there are {', '.join(sorted(FAULTS))}"}, status_code=400)
        return JSONResponse({})

    async def disarm(self, _: Request) -> Response:
        self.faults.clear()
        return JSONResponse({})

    # Sessions

    async def login(self, request: Request) -> Response:
        data = (await body_of(request))["data"]
        user = str(data.get("LOGIN_NAME", ""))
        if fault := self.faults.take(user, at_login=True):
            return refusal(Refused(fault.code, fault.text))
        database, schema = (folded(request.query_params.get(name)) for name in ("databaseName", "schemaName"))
        try:
            token, master, session = self.sessions.login(data, database, schema)
        except Refused as refused:
            return refusal(refused)
        data = {
            "token": token,
            "masterToken": master,
            "validityInSeconds": 3600,
            "masterValidityInSeconds": 14400,
            "sessionId": session.number,
            "serverVersion": "9.0.0",
            "parameters": [
                {"name": "AUTOCOMMIT", "value": session.parameters.get("AUTOCOMMIT", "true").lower() != "false"},
                {"name": "CLIENT_SESSION_KEEP_ALIVE_HEARTBEAT_FREQUENCY", "value": 3600},
                # Arrays of parameters come with the statement, and not by way of a stage.
                {"name": "CLIENT_STAGE_ARRAY_BINDING_THRESHOLD", "value": 0},
            ],
            "sessionInfo": {
                "databaseName": database,
                "schemaName": schema,
                "warehouseName": None,
                "roleName": "PUBLIC",
            },
        }
        return JSONResponse({"data": data, "code": None, "message": None, "success": True})

    async def renew(self, request: Request) -> Response:
        master = token_in(request.headers.get("authorization", ""))
        try:
            token, session = self.sessions.renew(master)
        except Refused as refused:
            return refusal(refused)
        tokens = {"sessionToken": token, "masterToken": master, "sessionId": session.number}
        data = {**tokens, "validityInSecondsST": 3600, "validityInSecondsMT": 14400}
        return JSONResponse({"data": data, "code": None, "message": None, "success": True})

    async def session(self, request: Request) -> Response:
        try:
            session = self.sessions.of(request.headers.get("authorization"))
        except Refused as refused:
            return refusal(refused)
        if request.query_params.get("delete"):
            await self.queries.cancel(self.queries.of_session(session.number))
            self.sessions.close(request.headers["authorization"])
            fakesnow.server.sessions.pop(token_in(request.headers["authorization"]), None)
        return success()

    # Statements

    async def query(self, request: Request) -> Response:
        try:
            session = self.sessions.of(request.headers.get("authorization"))
        except Refused as refused:
            return refusal(refused)
        return JSONResponse(await self.queries.submit(request, session, await body_of(request)))

    async def abort(self, request: Request) -> Response:
        if query_id := request.path_params.get("query_id"):
            found = [run] if (run := self.queries.find(query_id)) else []
        else:
            found = self.queries.of_request(str((await body_of(request)).get("requestId")))
        if not await self.queries.cancel(found):
            return JSONResponse({"data": None, "code": "000605", "message": "Not executing.", "success": False})
        return success()

    async def result(self, request: Request) -> Response:
        run = self.queries.find(request.path_params["query_id"])
        if run is None:
            return JSONResponse({"data": None, "code": "000709", "message": "Statement not found", "success": False})
        try:
            await asyncio.wait_for(run.done.wait(), timeout=40)  # as Snowflake does, and then the client asks again
        except TimeoutError:
            return JSONResponse(self.queries.promise(run))
        return JSONResponse(run.answer)

    async def monitoring(self, request: Request) -> Response:
        run = self.queries.find(request.path_params["query_id"])
        if run is None:
            return JSONResponse({"data": {"queries": []}, "success": True})
        answer = run.answer or {}
        one = {"id": run.id, "status": run.status, "sqlText": run.sql, "sessionId": run.session.number}
        if run.status not in {"RUNNING", "SUCCESS"}:
            one |= {"errorCode": answer.get("code"), "errorMessage": answer.get("message")}
        return JSONResponse({"data": {"queries": [one]}, "success": True})

    # Files

    async def upload(self, request: Request) -> Response:
        content = await request.body()
        path = request.path_params["path"]
        # The client compresses a file and yet keeps the first URL that it was given.
        if content[:2] == b"\x1f\x8b" and not path.endswith(".gz"):
            path += ".gz"
        return Response(status_code=200 if fakesnow.server._write_bucket_file(path, content) else 400)

    async def not_uploaded(self, _: Request) -> Response:
        return Response(status_code=404)

    async def accept(self, _: Request) -> Response:
        return success()


def success() -> Response:
    return JSONResponse({"data": None, "code": None, "message": None, "success": True})


def refusal(refused: Refused) -> Response:
    data = {"nextAction": "RETRY_LOGIN"}
    return JSONResponse({"data": data, "code": refused.code, "message": refused.text, "success": False})


def folded(name: str | None) -> str | None:
    """A name of the login, which may be in quotes."""
    return (name[1:-1] if name.startswith('"') else name.upper()) if name else None


async def body_of(request: Request) -> dict[str, Any]:
    content = await request.body()
    if request.headers.get("content-encoding") == "gzip":
        content = gzip.decompress(content)
    return json.loads(content) if content else {}


def end_with_parent() -> None:
    """Whoever started this holds the other end of its standard input, and closes it by ending."""

    def wait() -> None:
        while sys.stdin.buffer.read(1024):
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    parser = argparse.ArgumentParser(description="A stand-in for Snowflake")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--database", required=True)
    arguments = parser.parse_args()
    engine.correct()
    server = Server(arguments.folder, arguments.database)
    end_with_parent()
    uvicorn.run(Starlette(routes=server.routes()), host="127.0.0.1", port=arguments.port, log_level="info")


if __name__ == "__main__":
    main()
