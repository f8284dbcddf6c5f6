"""Logging of the processes: one line an event, to standard error; user errors as sentences, without a traceback."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.exceptions import ApplicationError
from temporalio.runtime import LogForwardingConfig, LoggingConfig, PrometheusConfig, Runtime, TelemetryConfig
from temporalio.runtime import TelemetryFilter as Levels

from entrepot.errors import BadInput, EntrepotError, unknown

log = logging.getLogger("entrepot")
SIGN_OF_LIFE = timedelta(seconds=20)
"""How often workers tell Temporal that they live."""

BUCKETS = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0)
"""Seconds by which waiting and running are told apart. Temporal's own end at ten."""

ABOUT: ContextVar[Mapping[str, Any]] = ContextVar("about", default={})  # noqa: B039 - nobody changes it
"""Whose work is being done: tenant, pipeline, environment, run, step, activity and attempt."""

FORMS = ("text", "json")


class _Sentences(logging.Filter):
    """A failure that says what was wrong needs no traceback; an error of ours does."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, ApplicationError) and error.type in _names(EntrepotError):
            record.msg, record.args = "%s", (error.message,)
            record.exc_info = None
        return True


def _names(kind: type[Exception]) -> set[str]:
    return {kind.__name__}.union(*map(_names, kind.__subclasses__()))


class _Json(logging.Formatter):
    """A line of JSON, with whose work it is about."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **ABOUT.get(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


_TEXT = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")


def configure(level: int = logging.INFO, form: str = "text") -> None:
    """Sets up logging for this process: text for people, or JSON for machines.

    Raises:
        BadInput: for another form.
    """
    if form not in FORMS:
        raise BadInput(unknown("form of logs", form, FORMS))
    handler = logging.StreamHandler()
    handler.addFilter(_Sentences())
    handler.setFormatter(_Json() if form == "json" else _TEXT)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    log.setLevel(level)


def runtime(metrics: str | None = None) -> Runtime:
    """A Temporal runtime whose core logs through Python: by itself it writes to standard output.

    Args:
        metrics: The address at which it shows its metrics to Prometheus.
    """
    forwarding = LogForwardingConfig(logger=logging.getLogger("temporalio.core"))
    logging_config = LoggingConfig(filter=Levels(core_level="WARN", other_level="ERROR"), forwarding=forwarding)
    shown: PrometheusConfig | None = None
    if metrics is not None:
        shown = PrometheusConfig(
            metrics,
            counters_total_suffix=True,
            unit_suffix=True,
            durations_as_seconds=True,
            histogram_bucket_overrides=dict.fromkeys(("entrepot_queue_latency", "entrepot_run_latency"), BUCKETS),
        )
    telemetry = TelemetryConfig(logging=logging_config, metrics=shown, attach_service_name=False)
    return Runtime(telemetry=telemetry, worker_heartbeat_interval=SIGN_OF_LIFE)
