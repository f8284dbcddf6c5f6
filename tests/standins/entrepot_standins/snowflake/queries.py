"""Runs statements: one at a time in a session, cancellable, remembered, in the background if the client asks."""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import duckdb
import fakesnow.server
import statements
from engine import MACROS
from fakesnow.instance import FakeSnow
from faults import Faults
from files import corrected_put, remove
from sessions import Session, Sessions, token_in
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

IN_PROGRESS = "333334"
CANCELED = ("000604", "57014", "SQL execution canceled")
TIMED_OUT = ("000630", "57014", "Statement reached its statement or warehouse timeout and was canceled.")
TIMEOUT = "STATEMENT_TIMEOUT_IN_SECONDS"
CODE_IN_TEXT = re.compile(r"^\d{6} \(\w{5}\): ")
REMEMBERED = 1000
RESULTS_KEPT = 20
REMOVE = re.compile(r"(?:remove|rm)\s+'?@([^\s';]+)", re.I)
CANCEL_QUERY = re.compile(r"select\s+system\$cancel_query\(\s*'([^']+)'\s*\)", re.I)
CANCEL_ALL = re.compile(r"select\s+system\$cancel_all_queries\(\s*'?(\d+)'?\s*\)", re.I)
SHOW_PARAMETERS = re.compile(r"show\s+parameters(?:\s+like\s+'([^']*)')?", re.I)
PUBLIC_KEY = re.compile(r"alter\s+user\s+\"?(\w+)\"?\s+set\s+rsa_public_key\s*=\s*'([^']*)'", re.I)
DROP_DATABASE = re.compile(r"drop\s+database\s+(if\s+exists\s+)?(\"[^\"]+\"|\w+)", re.I)
CREATE_DATABASE = re.compile(
    r"create\s+(?:or\s+replace\s+)?(?:transient\s+)?database\s+(?:if\s+not\s+exists\s+)?(\"[^\"]+\"|\w+)", re.I
)
HISTORY = re.compile(r"table\s*\(\s*(?:\w+\.)?information_schema\.query_history(?:_by_\w+)?\s*\([^)]*\)\s*\)", re.I)


def failure(code: str, state: str, text: str) -> dict[str, Any]:
    """Snowflake's answer to what it refuses or fails at."""
    return {"data": {"errorCode": code, "sqlState": state}, "code": code, "message": text, "success": False}


@dataclass
class Run:
    """One statement that a client sent, running or done."""

    session: Session
    request_id: str
    sql: str
    tag: str
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    ended: datetime | None = None
    cancelled: bool = False
    timed_out: bool = False
    answer: dict[str, Any] | None = None
    is_promised: bool = False
    """Whether its answer is asked for later; of others it is given at once, however long it took."""
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def status(self) -> str:
        if self.answer is None:
            return "RUNNING"
        if self.answer["success"]:
            return "SUCCESS"
        return "ABORTED" if self.cancelled else "FAILED_WITH_ERROR"

    def forget_rows(self) -> None:
        """Keeps of the answer what is asked for later, and not the rows."""
        if self.answer is not None and self.answer.get("data"):
            small = {k: v for k, v in self.answer["data"].items() if k != "rowsetBase64"}
            self.answer = {**self.answer, "data": small}

    def rows(self) -> int:
        """How many rows it gave, or changed."""
        data = (self.answer or {}).get("data") or {}
        if data.get("queryResultFormat") == "json" and data.get("rowset"):
            return sum(int(cell or 0) for cell in data["rowset"][0])
        return int(data.get("total") or 0)


class Queries:
    """The statements that run, and the last ones that ran."""

    def __init__(self, engine: FakeSnow, sessions: Sessions, faults: Faults) -> None:
        self._engine = engine
        self._sessions = sessions
        self._faults = faults
        self._rewriter = statements.Rewriter()
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._background: set[asyncio.Task[None]] = set()

    async def submit(self, request: Request, session: Session, body: dict[str, Any]) -> dict[str, Any]:
        """Runs what the client sent and gives the answer; a promise of it if it asks for no more."""
        tag = (body.get("parameters") or {}).get("QUERY_TAG") or session.parameters.get("QUERY_TAG") or ""
        run = Run(session, request.query_params.get("requestId", ""), body["sqlText"], tag)
        self._runs[run.id] = run
        while len(self._runs) > REMEMBERED:
            self._runs.popitem(last=False)
        for old in [run for run in self._runs.values() if run.is_promised][:-RESULTS_KEPT]:
            old.forget_rows()
        if body.get("asyncExec"):
            run.is_promised = True
            task = asyncio.create_task(self._run(request, run, body))
            self._background.add(task)
            task.add_done_callback(self._background.discard)
            return self.promise(run)
        await self._run(request, run, body)
        answer = run.answer
        run.forget_rows()
        assert answer is not None
        return answer

    def promise(self, run: Run) -> dict[str, Any]:
        data = {"queryId": run.id, "getResultUrl": f"/queries/{run.id}/result", "queryAbortsAfterSecs": 300}
        text = "Asynchronous execution in progress. Use provided query id to perform query monitoring and management."
        return {"data": {**data, "progressDesc": None}, "code": IN_PROGRESS, "message": text, "success": True}

    def find(self, query_id: str) -> Run | None:
        return self._runs.get(query_id)

    async def cancel(self, runs: list[Run]) -> int:
        """Interrupts the statements that still run. Returns how many those were."""
        running = [run for run in runs if run.answer is None]
        for run in running:
            run.cancelled = True
            while not run.done.is_set():
                # Again and again: an interrupt before DuckDB has begun with the statement is lost.
                run.session.connection._duck_conn.interrupt()
                await asyncio.wait([asyncio.ensure_future(run.done.wait())], timeout=0.05)
        return len(running)

    def of_request(self, request_id: str) -> list[Run]:
        return [run for run in self._runs.values() if run.request_id == request_id]

    def of_session(self, number: int) -> list[Run]:
        return [run for run in self._runs.values() if run.session.number == number]

    def history(self) -> list[dict[str, Any]]:
        """What ran, as a test wants to see it."""
        return [
            {
                "query_id": run.id,
                "session": run.session.number,
                "user": run.session.user,
                "tag": run.tag,
                "text": run.sql,
                "status": run.status,
                "code": (run.answer or {}).get("code"),
                "rows": run.rows(),
            }
            for run in self._runs.values()
        ]

    async def _run(self, request: Request, run: Run, body: dict[str, Any]) -> None:
        """Runs it, to its end or to the end of its time."""
        task = asyncio.create_task(self._run_to_end(request, run, body))
        seconds = float((body.get("parameters") or {}).get(TIMEOUT) or run.session.parameters.get(TIMEOUT) or 0)
        _, unfinished = await asyncio.wait([task], timeout=seconds or None)
        if unfinished:
            run.timed_out = True
            await self.cancel([run])
        await task

    async def _run_to_end(self, request: Request, run: Run, body: dict[str, Any]) -> None:
        try:
            run.answer = await self._answer(request, run, body)
        except Exception as error:  # a bug of the stand-in must not leave the client waiting
            run.answer = failure("000603", "XX000", f"The stand-in failed: {type(error).__name__}: {error}")
        if run.timed_out and not run.answer["success"]:
            run.answer = failure(*TIMED_OUT)
        elif run.cancelled and not run.answer["success"]:
            run.answer = failure(*CANCELED)
        if run.answer.get("data"):
            run.answer["data"]["queryId"] = run.id
        run.ended = datetime.now(UTC)
        run.done.set()

    async def _answer(self, request: Request, run: Run, body: dict[str, Any]) -> dict[str, Any]:
        text = statements.head(run.sql)
        # Not in the session's turn: what they cancel may be running there.
        if found := CANCEL_QUERY.match(text):
            return await self._cancel_query(request, run, found[1])
        if found := CANCEL_ALL.match(text):
            number = await self.cancel([one for one in self.of_session(int(found[1])) if one is not run])
            return await self._say(request, run, f"{number} queries cancelled.")
        async with run.session.lock:
            if run.cancelled:
                return failure(*CANCELED)
            if fault := self._faults.take(f"{run.sql} {run.tag}", at_login=False):
                return failure(fault.code, fault.state, fault.text)
            return await self._in_turn(request, run, body)

    async def _cancel_query(self, request: Request, run: Run, query_id: str) -> dict[str, Any]:
        other = self.find(query_id)
        if other is None:
            return failure("000709", "02000", f"Statement {query_id} not found")
        if not await self.cancel([other]):
            return await self._say(request, run, "Identified SQL statement is not currently executing.")
        return await self._say(request, run, f"query [{query_id}] terminated.")

    async def _in_turn(self, request: Request, run: Run, body: dict[str, Any]) -> dict[str, Any]:
        """Every statement of the text, each ending an open transaction if it is DDL. The last one's answer."""
        session = run.session
        answer: dict[str, Any] = {}
        for sql in statements.split(run.sql):
            if statements.is_ddl(sql) and session.in_transaction:
                await self._execute(request, session, {**body, "sqlText": "commit", "bindings": None})
                session.in_transaction = False
            answer = await self._statement(request, run, sql, body)
            if not answer["success"]:
                return answer
            self._remember(session, statements.head(sql))
        return answer

    def _remember(self, session: Session, text: str) -> None:
        """What a statement that succeeded means for the session."""
        for name, value in statements.parameters_set(text).items():
            if value is None:
                session.parameters.pop(name, None)
            else:
                session.parameters[name] = value
        if re.match(r"(begin|start\s+transaction)\b", text, re.I):
            session.in_transaction = True
        elif re.match(r"(commit|rollback)\b", text, re.I):
            session.in_transaction = False
        elif re.match(r"(select|with)\b", text, re.I):
            session.last_select = text

    async def _statement(self, request: Request, run: Run, sql: str, body: dict[str, Any]) -> dict[str, Any]:
        session, text = run.session, statements.head(sql)
        if found := PUBLIC_KEY.match(text):
            self._sessions.set_key(found[1], found[2])
        if statements.parameters_set(text) and "AUTOCOMMIT" not in statements.parameters_set(text):
            return await self._execute(request, session, {**body, "sqlText": statements.SUCCESS})
        if found := SHOW_PARAMETERS.match(text):
            return await self._execute(request, session, {**body, "sqlText": show(session, found[1])})
        if found := REMOVE.match(text):
            return await self._remove(request, run, found[1])
        if found := DROP_DATABASE.match(text):
            return await self._drop_database(request, run, found[2], missing_ok=bool(found[1]))
        plan = self._rewriter.plan(self._with_history(sql), session.last_select)
        answer: dict[str, Any] = {}
        for step in plan.steps:
            answer = await self._execute(request, session, {**body, "sqlText": step})
            if not answer["success"]:
                break
        for step in plan.after:
            await self._execute(request, session, {**body, "sqlText": step, "bindings": None})
        if answer["success"] and (found := CREATE_DATABASE.match(text)):
            prepare_database(self._engine, identifier(found[1]))
        return answer

    def _with_history(self, sql: str) -> str:
        return HISTORY.sub(lambda _: self._history_as_sql(), sql) if HISTORY.search(sql) else sql

    def _history_as_sql(self) -> str:
        """The table function QUERY_HISTORY, as the rows that it gives now. BYTES_SCANNED is not known here: NULL."""
        rows = []
        for run in [run for run in self._runs.values() if run.ended is not None][-100:]:
            assert run.ended is not None
            texts = [run.id, run.sql, run.tag, str(run.session.number), run.session.user, run.status]
            quoted = ", ".join("'" + text.replace("\\", "\\\\").replace("'", "''") + "'" for text in texts)
            elapsed = int((run.ended - run.started).total_seconds() * 1000)
            rows.append(f"({quoted}, {elapsed}, {run.rows()}, null)")
        names = "QUERY_ID, QUERY_TEXT, QUERY_TAG, SESSION_ID, USER_NAME, EXECUTION_STATUS, TOTAL_ELAPSED_TIME"
        if not rows:
            rows = ["(" + ", ".join(["null"] * 9) + ")"]
        values = f"select * from values {', '.join(rows)} as v({names}, ROWS_PRODUCED, BYTES_SCANNED)"
        return f"({values} where QUERY_ID is not null)"

    async def _drop_database(self, request: Request, run: Run, written: str, missing_ok: bool) -> dict[str, Any]:
        """DuckDB has no DROP DATABASE: the file is detached, and deleted."""
        name = identifier(written)

        def detach() -> str | None:
            try:
                cursor = self._engine.duck_conn.cursor()
                cursor.execute(f'DETACH DATABASE {"IF EXISTS" if missing_ok else ""} "{name}"')
            except duckdb.Error:
                return f"SQL compilation error:\nDatabase '{name}' does not exist or not authorized."
            if self._engine.db_path is not None:
                (self._engine.db_path / f"{name}.db").unlink(missing_ok=True)
            return None

        if problem := await run_in_threadpool(detach):
            return failure("002003", "02000", problem)
        return await self._say(request, run, f"{name} successfully dropped.")

    async def _remove(self, request: Request, run: Run, reference: str) -> dict[str, Any]:
        """REMOVE, which fakesnow has not."""
        connection = run.session.connection
        await run_in_threadpool(remove, reference, connection.database, connection.schema)
        return await self._say(request, run, "removed")

    async def _say(self, request: Request, run: Run, text: str) -> dict[str, Any]:
        """An answer of one row with a text, as statements give that are no queries.

        In a session of its own, because the one that asks may be busy with what is cancelled.
        """
        token = self._sessions.service()
        service = self._sessions.of(f'Snowflake Token="{token}"')
        async with service.lock:
            quoted = text.replace("'", "''")
            return await self._execute(request, service, {"sqlText": f"select '{quoted}' as \"status\""}, token)

    async def _execute(
        self, request: Request, session: Session, body: dict[str, Any], token: str | None = None
    ) -> dict[str, Any]:
        """One statement, by fakesnow's own handler. Waits for another transaction to end, as Snowflake does."""
        token = token or token_in(request.headers["authorization"])
        fakesnow.server.sessions[token] = session.connection
        end = time.monotonic() + 30
        while True:
            try:
                response = await fakesnow.server.query_request(with_body(request, body, token))
                answer: dict[str, Any] = json.loads(response.body)
            except Exception as error:  # such as a result that cannot be written as Arrow
                return failure("000603", "XX000", f"{type(error).__name__}: {error}")
            # In a transaction it would wait for itself: DuckDB looks at the data as of the transaction's begin.
            locked = answer.get("code") == "000625" and not session.in_transaction
            if locked and time.monotonic() < end:
                await asyncio.sleep(0.02)
                continue
            if answer.get("message"):  # fakesnow puts the code into the text, and the client does too
                answer["message"] = CODE_IN_TEXT.sub("", answer["message"])
            if response.status_code >= 500:  # or else the client would try again, for minutes
                return failure("000603", "XX000", answer["message"])
            return await corrected_put(answer)


def show(session: Session, like: str | None) -> str:
    """SHOW PARAMETERS: what the session set."""
    pattern = re.compile((like or "%").replace("%", ".*").replace("_", "."), re.I)
    rows = [
        f"('{k}', '{v.replace(chr(39), chr(39) * 2)}')" for k, v in session.parameters.items() if pattern.fullmatch(k)
    ]
    values = ", ".join(rows) or "(null, null)"
    where = "" if rows else " where false"
    columns = '"key", "value", \'\' as "default", \'SESSION\' as "level", \'\' as "description", \'STRING\' as "type"'
    return f'select {columns} from (select column1 as "key", column2 as "value" from values {values}){where}'


def identifier(written: str) -> str:
    """A name as Snowflake folds it: upper case, unless it is in quotes."""
    return written[1:-1] if written.startswith('"') else written.upper()


def prepare_database(engine: FakeSnow, name: str) -> None:
    """What every database has: the schema PUBLIC, and the functions that DuckDB lacks."""
    with engine.duck_conn.cursor() as cursor:
        cursor.execute(f'CREATE SCHEMA IF NOT EXISTS "{name}"."PUBLIC"')
        cursor.execute(f'USE "{name}".main')
        for macro in MACROS:
            cursor.execute(macro)


def with_body(request: Request, body: dict[str, Any], token: str) -> Request:
    """The client's request with another body, uncompressed."""
    raw = json.dumps(body).encode()
    left_out = {b"content-encoding", b"content-length", b"authorization"}
    headers = [(name, value) for name, value in request.scope["headers"] if name not in left_out]
    headers.append((b"authorization", f'Snowflake Token="{token}"'.encode()))

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": raw, "more_body": False}

    return Request({**request.scope, "headers": headers}, receive)
