"""What cases run in: a Temporal server that can be killed, and the parent of the workers."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

from entrepot_standins.ports import free_port
from temporalio.client import Client

from entrepot.errors import Unavailable
from entrepot.secrets import PAYLOAD_KEYS
from entrepot.worker.client import reach
from entrepot.worker.local.dev import HOST, _arguments, is_free, temporal_binary
from tests.crash.boundaries import ROOT


class Server:
    """A Temporal dev server whose workflows are in a file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = free_port(), free_port()
        self.client: Client

    @property
    def address(self) -> str:
        return f"{HOST}:{self._ports[0]}"

    async def start(self) -> None:
        """Starts it, or starts it again."""
        with (self._folder / "temporal.log").open("ab") as log:
            arguments = [*_arguments(self._folder, *self._ports, codec_url=""), "--headless"]
            self._process = subprocess.Popen([temporal_binary(), *arguments], stdout=log, stderr=log)
        while not await self._answers():
            await asyncio.sleep(0.02)
            assert self._process.poll() is None, (self._folder / "temporal.log").read_text()

    async def _answers(self) -> bool:
        """Whether it takes requests, which is a little after its port is open."""
        if is_free(self._ports[0]):
            return False
        try:
            self.client = await reach(self.address)
        except Unavailable:
            return False
        return True

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    async def cancel(self, workflow: str) -> None:
        """As an operator does it."""
        command = ("workflow", "cancel", "--workflow-id", workflow, "--address", self.address)
        process = await asyncio.create_subprocess_exec(
            temporal_binary(), *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        said, _ = await process.communicate()
        assert process.returncode == 0, said.decode()


class Nursery:
    """The parent of the workers."""

    def __init__(self) -> None:
        self._started: dict[str, asyncio.Future[int]] = {}
        self._ended: dict[int, asyncio.Future[int]] = {}
        self._process: asyncio.subprocess.Process
        self._listening: asyncio.Task[None]

    async def open(self) -> None:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("TEMPORAL_", "ENTREPOT_"))}
        inherited[PAYLOAD_KEYS] = os.environ[PAYLOAD_KEYS]  # our client encrypts
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.crash.worker"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**inherited, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "PYTHONHASHSEED": "0"},
        )
        assert self._process.stdout is not None
        assert json.loads(await self._process.stdout.readline()) == {"ready": True}
        self._listening = asyncio.create_task(self._listen())

    async def close(self) -> None:
        """Ends all workers, too."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        await self._listening

    async def start(self, folder: Path, task_queue: str, address: str) -> int:
        """A worker's process id."""
        loop = asyncio.get_running_loop()
        key = uuid.uuid4().hex
        started: asyncio.Future[int] = loop.create_future()
        self._started[key] = started
        self._tell(folder=str(folder), task_queue=task_queue, address=address, key=key)
        return await started

    async def ended(self, pid: int) -> int:
        """A worker's exit code, when it has ended."""
        status: int = await asyncio.shield(self._ended[pid])
        return status

    async def kill(self, pid: int) -> None:
        if not self._ended[pid].done():
            self._tell(kill=pid)
            await self.ended(pid)

    def _tell(self, **what: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write((json.dumps(what) + "\n").encode())

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            told = json.loads(line)
            if "started" in told:
                self._ended[told["started"]] = asyncio.get_running_loop().create_future()
                self._started.pop(told["key"]).set_result(told["started"])
            else:
                self._ended[told["ended"]].set_result(told["status"])
