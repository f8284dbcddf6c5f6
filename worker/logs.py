"""Logging of the processes: one line an event, to standard error; user errors as sentences, without a traceback."""

from __future__ import annotations

import logging

from temporalio.exceptions import ApplicationError
from temporalio.runtime import LogForwardingConfig, LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter

from entrepot.errors import EntrepotError

log = logging.getLogger("entrepot")


class _Sentences(logging.Filter):
    """A failure that says what was wrong needs no traceback; an error of ours does."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, ApplicationError) and isinstance(error.__cause__, EntrepotError | InterruptedError):
            record.msg, record.args = "%s", (error.message,)
            record.exc_info = None
        return True


def configure(level: int = logging.INFO) -> None:
    """Sets up logging for this process."""
    handler = logging.StreamHandler()
    handler.addFilter(_Sentences())
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    log.setLevel(level)


def runtime() -> Runtime:
    """A Temporal runtime whose core logs through Python: by itself it writes to standard output."""
    forwarding = LogForwardingConfig(logger=logging.getLogger("temporalio.core"))
    filtered = TelemetryFilter(core_level="WARN", other_level="ERROR")
    return Runtime(telemetry=TelemetryConfig(logging=LoggingConfig(filter=filtered, forwarding=forwarding)))
