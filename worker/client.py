"""The connection to Temporal, by Temporal's own environment configuration: the CLI's and ours are the same."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import PollerInfo, TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfig
from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.service import RPCError

from entrepot.errors import BadInput, Unavailable
from entrepot.language.names import DEFAULT_ENVIRONMENT
from entrepot.worker.payloads import codec
from entrepot.worker.payloads.failures import Failures

OPTIONS: dict[str, Any] = {
    "data_converter": replace(pydantic_data_converter, payload_codec=codec.Codec(), failure_converter_class=Failures)
}
"""What every client is made with, so that all of them read what one has written. A test holds that none is without."""
TASK_QUEUE = os.environ.get("ENTREPOT_TASK_QUEUE") or "entrepot"
"""What workers take work from and commands give it to. A group of tenants that has one of its own has workers, and so
processes, secrets and disks, that no other's code runs in."""
CONNECT_SECONDS = 5.0
DEFAULT_ADDRESS = "localhost:7233"


def run_workflow_id(tenant: str, pipeline: str, environment: str = DEFAULT_ENVIRONMENT) -> str:
    """The id of a run's workflow: one run of a tenant's pipeline and environment at a time."""
    plain = f"{tenant}/{pipeline}"
    return plain if environment == DEFAULT_ENVIRONMENT else f"{plain}/{environment}"


def backfill_workflow_id(tenant: str, pipeline: str, environment: str = DEFAULT_ENVIRONMENT) -> str:
    """The id of a backfill's workflow: one of a tenant's pipeline and environment at a time."""
    return f"{run_workflow_id(tenant, pipeline, environment)}:backfill"


def gc_workflow_id(tenant: str, pipeline: str | None = None) -> str:
    """The id of a collection's workflow: of one pipeline's garbage, or of all that a tenant has."""
    return f"{run_workflow_id(tenant, pipeline) if pipeline else tenant}:gc"


async def connect(runtime: Runtime | None = None) -> Client:
    """A client for the server that `TEMPORAL_ADDRESS`, `TEMPORAL_PROFILE` or temporal.toml name.

    Raises:
        BadInput: if these cannot be understood.
        Unavailable: if it does not answer, with its address.
    """
    config = _configured()
    address = config.pop("target_host", DEFAULT_ADDRESS)
    return await reach(address, runtime=runtime, **config)


def names_a_server() -> bool:
    """Whether `TEMPORAL_ADDRESS`, `TEMPORAL_PROFILE` or temporal.toml say which server is meant.

    Raises:
        BadInput: as `connect`.
    """
    return "target_host" in _configured()


def _configured() -> dict[str, Any]:
    given = {name: each for name, each in os.environ.items() if each}  # files for CI also set what nobody has given
    try:
        return {**ClientConfig.load_client_connect_config(override_env_vars=given)}
    except RuntimeError as error:
        raise BadInput(f"Temporal's connection settings (TEMPORAL_..., temporal.toml) are wrong: {error}") from None


async def reach(target_host: str, **config: Any) -> Client:
    """A client for a server at an address, whatever the environment says.

    Raises:
        BadInput: if the keys of payloads cannot be read.
        Unavailable: if it does not answer.
    """
    codec.keys()
    try:
        async with asyncio.timeout(CONNECT_SECONDS):  # `wait_for` would now and then swallow Ctrl-C
            return await Client.connect(target_host, **OPTIONS, **config)
    except (RuntimeError, RPCError, TimeoutError) as error:
        raise Unavailable(
            f"no Temporal server answers at {target_host}. Start one with `entrepot dev`, or set TEMPORAL_ADDRESS"
        ) from error


@asynccontextmanager
async def connected() -> AsyncIterator[Client]:
    """A client for one command.

    Raises:
        BadInput: as `connect`.
        Unavailable: if the server does not answer, or refuses what it is asked.
    """
    # The SDK's core would write of every attempt to reach a server that is away.
    client = await connect(Runtime(telemetry=TelemetryConfig(logging=None)))
    try:
        yield client
    except RPCError as error:
        where = f"{client.service_client.config.target_host}, namespace {client.namespace!r}"
        raise Unavailable(f"Temporal at {where}: {error.message}") from error


async def pollers(client: Client, task_queue: str = TASK_QUEUE) -> list[PollerInfo]:
    """The workers that have asked for work lately, and when."""
    described = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=task_queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
    )
    return list(described.pollers)
