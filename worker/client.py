"""The connection to Temporal, by Temporal's own environment configuration: the CLI's and ours are the same."""

from __future__ import annotations

import asyncio
from typing import Any

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfig
from temporalio.service import RPCError

from entrepot.errors import Unavailable

TASK_QUEUE = "entrepot"
CONNECT_SECONDS = 5.0


async def connect(**overrides: Any) -> Client:
    """A client for the server that `TEMPORAL_ADDRESS`, `TEMPORAL_PROFILE` or temporal.toml name.

    Raises:
        Unavailable: if it does not answer, with its address.
    """
    config = {**ClientConfig.load_client_connect_config(), **overrides}
    address = config.setdefault("target_host", "localhost:7233")
    try:
        connecting = Client.connect(data_converter=pydantic_data_converter, **config)
        return await asyncio.wait_for(connecting, CONNECT_SECONDS)
    except (RuntimeError, RPCError, TimeoutError) as error:
        raise Unavailable(
            f"no Temporal server answers at {address}. Start one with `entrepot dev`, or set TEMPORAL_ADDRESS"
        ) from error
