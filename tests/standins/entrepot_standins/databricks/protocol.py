"""Databricks' Thrift protocol: what each call of a client asks, and what it is answered."""

from __future__ import annotations

import re
import traceback
import uuid
from collections.abc import Callable
from typing import Any

import errors
import information_schema
import pyarrow as pa
import results
import statements
from control import Control
from databricks.sql.thrift_api.TCLIService import ttypes as t
from engine import CATALOG, Engine
from results import Result
from sessions import WORKERS, Operation, Session

VERSION = t.TProtocolVersion.SPARK_CLI_SERVICE_PROTOCOL_V7

# How long a call waits for a statement. The client asks again at once, holding a lock that its `cancel` needs too, so
# this must not be long.
FIRST_WAIT = 1.0
WAIT = 0.25


class Protocol:
    """Answers calls. The names of its public methods are those of the protocol."""

    def __init__(self, engine: Engine, control: Control, base: str) -> None:
        self._engine = engine
        self._control = control
        self._base = base
        self._sessions: dict[bytes, Session] = {}
        self._operations: dict[bytes, Operation] = {}

    def OpenSession(self, request: t.TOpenSessionReq) -> t.TOpenSessionResp:
        namespace = request.initialNamespace or t.TNamespace()

        def opened() -> Session:
            settings = request.configuration or {}
            return Session(self._engine, namespace.catalogName, namespace.schemaName, settings)

        try:
            session = WORKERS.submit(opened).result()
        except Exception as error:
            failed = errors.translate(error, [CATALOG])
            if failed.name == "INTERNAL_ERROR":
                traceback.print_exception(error)
            return t.TOpenSessionResp(status=_failed(failed), serverProtocolVersion=VERSION)
        handle = t.TSessionHandle(sessionId=_handle(uuid.uuid4()), serverProtocolVersion=VERSION)
        self._sessions[handle.sessionId.guid] = session
        return t.TOpenSessionResp(
            status=_ok(),
            serverProtocolVersion=VERSION,
            sessionHandle=handle,
            configuration={},
            canUseMultipleCatalogs=True,
            initialNamespace=request.initialNamespace,
        )

    def CloseSession(self, request: t.TCloseSessionReq) -> t.TCloseSessionResp:
        session = self._sessions.pop(request.sessionHandle.sessionId.guid, None)
        for key, operation in list(self._operations.items()):
            if operation.session is session:
                self._forget(key)
        return t.TCloseSessionResp(status=_ok())

    def ExecuteStatement(self, request: t.TExecuteStatementReq) -> t.TExecuteStatementResp:
        text = request.statement
        overlay = request.confOverlay or {}

        def work(session: Session) -> Result:
            self._control.deny(text)
            return statements.run(session, text, request.parameters, self._base)

        return self._start(request, t.TExecuteStatementResp, text, work, overlay.get("query_tags", ""))

    def GetOperationStatus(self, request: t.TGetOperationStatusReq) -> t.TGetOperationStatusResp:
        operation = self._operation(request)
        if operation is None:
            return t.TGetOperationStatusResp(status=_no_handle())
        operation.wait(WAIT)
        return _status(operation)

    def CancelOperation(self, request: t.TCancelOperationReq) -> t.TCancelOperationResp:
        operation = self._operation(request)
        if operation is not None:
            operation.cancel()
        return t.TCancelOperationResp(status=_ok())

    def CloseOperation(self, request: t.TCloseOperationReq) -> t.TCloseOperationResp:
        self._forget(request.operationHandle.operationId.guid)
        return t.TCloseOperationResp(status=_ok())

    def GetResultSetMetadata(self, request: t.TGetResultSetMetadataReq) -> t.TGetResultSetMetadataResp:
        operation = self._operation(request)
        if operation is None or operation.result is None:
            return t.TGetResultSetMetadataResp(status=_no_result(operation))
        return operation.result.metadata()

    def FetchResults(self, request: t.TFetchResultsReq) -> t.TFetchResultsResp:
        operation = self._operation(request)
        if operation is None or operation.result is None:
            return t.TFetchResultsResp(status=_no_result(operation))
        return operation.result.fetch(request.maxRows, request.maxBytes or results.LARGEST)

    def GetCatalogs(self, request: t.TGetCatalogsReq) -> t.TGetCatalogsResp:
        return self._list(request, t.TGetCatalogsResp, ["TABLE_CAT"], lambda _: [(CATALOG,)])

    def GetSchemas(self, request: t.TGetSchemasReq) -> t.TGetSchemasResp:
        def rows(session: Session) -> list[tuple[Any, ...]]:
            wanted = _like(request.schemaName)
            return [(name, CATALOG) for name in information_schema.schemas(session) if wanted.fullmatch(name)]

        return self._list(request, t.TGetSchemasResp, ["TABLE_SCHEM", "TABLE_CATALOG"], rows)

    def GetTables(self, request: t.TGetTablesReq) -> t.TGetTablesResp:
        def rows(session: Session) -> list[tuple[Any, ...]]:
            kinds = {"MANAGED": "TABLE", "VIEW": "VIEW"}
            found = [
                (CATALOG, entry.schema, entry.name, kinds[entry.kind], "")
                for entry in _objects(session, request.schemaName, request.tableName)
            ]
            return [row for row in found if not request.tableTypes or row[3] in request.tableTypes]

        columns = ["TABLE_CAT", "TABLE_SCHEM", "TABLE_NAME", "TABLE_TYPE", "REMARKS"]
        return self._list(request, t.TGetTablesResp, columns, rows)

    def _start(self, request: Any, answer: Any, text: str, work: Callable[[Session], Result], tags: str = "") -> Any:
        """Begins a statement, and answers with its result if that is there within a second."""
        session = self._sessions.get(request.sessionHandle.sessionId.guid)
        if session is None:
            return answer(status=_no_handle())
        operation = Operation(self._engine, session, text, lambda: work(session))
        self._control.note(operation, _tags(tags))
        handle = _handle(operation.id)
        self._operations[handle.guid] = operation
        operation.start()
        kind = t.TOperationType.EXECUTE_STATEMENT
        given = t.TOperationHandle(operationId=handle, operationType=kind, hasResultSet=True)
        direct = self._direct(operation, request.getDirectResults) if request.getDirectResults else None
        if direct is not None and direct.closeOperation is not None:
            self._forget(handle.guid)
        return answer(status=_ok(), operationHandle=given, directResults=direct)

    def _direct(self, operation: Operation, wanted: t.TSparkGetDirectResults) -> t.TSparkDirectResults:
        """What is known of a statement after a short wait; if that is everything, it is closed too."""
        operation.wait(FIRST_WAIT)
        direct = t.TSparkDirectResults(operationStatus=_status(operation))
        # The state is asked once: it may change meanwhile.
        if direct.operationStatus.operationState == t.TOperationState.FINISHED_STATE and operation.result is not None:
            direct.resultSetMetadata = operation.result.metadata()
            direct.resultSet = operation.result.fetch(wanted.maxRows, wanted.maxBytes or results.LARGEST)
            if not direct.resultSet.hasMoreRows:
                direct.closeOperation = t.TCloseOperationResp(status=_ok())
        return direct

    def _list(
        self, request: Any, answer: Any, columns: list[str], rows: Callable[[Session], list[tuple[Any, ...]]]
    ) -> Any:
        """Answers a call that lists what there is; each is a statement like others."""

        def work(session: Session) -> Result:
            if getattr(request, "catalogName", None):
                session.known(request.catalogName.replace("\\", ""))
            found = rows(session)
            arrays = {name: pa.array([row[n] for row in found], pa.string()) for n, name in enumerate(columns)}
            return results.of_table(pa.table(arrays), self._engine.scratch)

        return self._start(request, answer, type(request).__name__, work)

    def _operation(self, request: Any) -> Operation | None:
        return self._operations.get(request.operationHandle.operationId.guid)

    def _forget(self, key: bytes) -> None:
        operation = self._operations.pop(key, None)
        if operation is not None:
            operation.close()


def _objects(session: Session, schema: str | None, table: str | None) -> list[information_schema.Object]:
    schemas = [name for name in information_schema.schemas(session) if _like(schema).fullmatch(name)]
    found = [entry for name in schemas for entry in information_schema.objects(session, name)]
    return [entry for entry in found if _like(table).fullmatch(entry.name)]


def _like(pattern: str | None) -> re.Pattern[str]:
    """A pattern of the protocol, in which % is any text, _ is any character, and a backslash takes their meaning."""
    wild = {"%": ".*", "*": ".*", "_": "."}
    found = re.findall(r"\\.|.", pattern or "%", re.DOTALL)
    return re.compile("".join(wild.get(part) or re.escape(part[-1]) for part in found), re.IGNORECASE)


def _tags(text: str) -> dict[str, str]:
    """A statement's tags: the client writes them as `key:value,key:value`."""
    pairs = [pair.partition(":") for pair in re.split(r"(?<!\\),", text) if pair]
    return {key: re.sub(r"\\(.)", r"\1", value) for key, _, value in pairs}


def _handle(identity: uuid.UUID) -> t.THandleIdentifier:
    return t.THandleIdentifier(guid=identity.bytes, secret=identity.bytes)


def _status(operation: Operation) -> t.TGetOperationStatusResp:
    answer = t.TGetOperationStatusResp(status=_ok(), operationState=operation.state, hasResultSet=True)
    answer.numModifiedRows = operation.result.modified if operation.result is not None else None
    if operation.error is not None:
        answer.displayMessage = answer.errorMessage = str(operation.error)
        answer.sqlState = operation.error.state
    return answer


def _ok() -> t.TStatus:
    return t.TStatus(statusCode=t.TStatusCode.SUCCESS_STATUS)


def _failed(error: errors.DatabricksError) -> t.TStatus:
    return t.TStatus(statusCode=t.TStatusCode.ERROR_STATUS, errorMessage=str(error), sqlState=error.state)


def _no_handle() -> t.TStatus:
    return t.TStatus(statusCode=t.TStatusCode.INVALID_HANDLE_STATUS, errorMessage="Invalid handle: it was closed")


def _no_result(operation: Operation | None) -> t.TStatus:
    """A statement that was cancelled has no result to describe: Spark's own server says it so."""
    if operation is None:
        return _no_handle()
    return _failed(errors.DatabricksError("INVALID_STATE", f"The operation is {operation.state_name}.", "HY000"))
