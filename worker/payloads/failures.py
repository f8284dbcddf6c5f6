"""The failures that Temporal records: without secrets, and encrypted where payloads are."""

from __future__ import annotations

from temporalio.api.failure.v1 import Failure
from temporalio.converter import DefaultFailureConverter, PayloadConverter
from temporalio.exceptions import ApplicationError

from entrepot.secrets import scrub
from entrepot.worker.payloads import codec


class Failures(DefaultFailureConverter):
    """Makes failures of exceptions, whatever raised them. Causes pass here by themselves."""

    def to_failure(self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure) -> None:
        """Fills in a failure. Where there are keys, message and stack trace go into a payload, which is encrypted."""
        super().to_failure(exception, payload_converter, failure)
        if isinstance(exception, ApplicationError) and isinstance(exception.__cause__, ApplicationError):
            # The cause has the author's lines, and these would be Temporal's and those of each interceptor on the way.
            # Of an attempt's failure beyond 4 KB Temporal keeps nothing.
            failure.stack_trace = ""
        failure.message, failure.stack_trace = scrub(failure.message), scrub(failure.stack_trace)
        if codec.is_on():
            told = {"message": failure.message, "stack_trace": failure.stack_trace}
            failure.encoded_attributes.CopyFrom(payload_converter.to_payloads([told])[0])
            failure.message, failure.stack_trace = "Encoded failure", ""
