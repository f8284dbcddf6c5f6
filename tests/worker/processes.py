"""The real `entrepot` and `temporal` commands, as processes of their own, in a folder of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from entrepot_standins.ports import HOST, free_port

from entrepot.worker.local.dev import temporal_binary
from tests.waiting import until

ROOT = Path(__file__).parents[2]
ENTREPOT = os.path.join(os.path.dirname(sys.executable), "entrepot")

TENANTS = """
[pipelines]
shop = "tests.pipelines.shop:shop"
slow = "tests.pipelines.slow:slow"
wild = "tests.pipelines.wild:wild"

[tenants.acme]
backend = { type = "duckdb", path = "acme.duckdb" }

[[tenants.acme.schedules]]
pipeline = "shop"
every = "12h"
"""


def _hears_ctrl_c() -> None:
    """A shell starts what goes on in the background deaf to Ctrl-C, and children inherit it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass
class Place:
    """A folder with a tenant file and a state folder, and ports for a server."""

    folder: Path
    port: int = field(default_factory=free_port)
    ui_port: int = field(default_factory=free_port)
    keeps_tenants: bool = False
    """Whether no tenant file is written: the folder has one, or gets one."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.keeps_tenants:
            (self.folder / "tenants.toml").write_text(TENANTS)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def environment(self, **more: str) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("TEMPORAL_", "ENTREPOT_"))}
        own = {"TEMPORAL_ADDRESS": self.address, "ENTREPOT_STATE": str(self.state), "PYTHONPATH": str(ROOT)}
        return {**inherited, **own, **more}

    def entrepot(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end."""
        return self.command(ENTREPOT, *arguments, **more)

    def temporal(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs the plain Temporal CLI to its end."""
        return self.command(temporal_binary(), *arguments)

    def command(self, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment(**more),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    @contextmanager
    def spawned(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """A command that goes on while the block runs."""
        with subprocess.Popen(
            [ENTREPOT, *arguments],
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_hears_ctrl_c,  # noqa: PLW1509 - it takes no lock
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    @contextmanager
    def server_alone(self, *more: str) -> Iterator[None]:
        """A Temporal server without a worker; the next one of this folder knows what it knew."""
        arguments = [
            "server",
            "start-dev",
            "--ip",
            HOST,
            "--port",
            str(self.port),
            "--headless",
            "--log-level",
            "never",
            "--db-filename",
            str(self.folder / "temporal.db"),
            *more,
        ]
        with subprocess.Popen([temporal_binary(), *arguments], stdout=subprocess.DEVNULL) as process:
            try:
                until(lambda: not self.temporal("operator", "cluster", "health").returncode)
                yield
            finally:
                process.terminate()

    @contextmanager
    def dev(self) -> Iterator[subprocess.Popen[str]]:
        """`entrepot dev`, ready. It is ended with the block, and so is its server."""
        with (
            (self.folder / "dev.log").open("a") as log,
            subprocess.Popen(
                [ENTREPOT, "dev", "--port", str(self.port), "--ui-port", str(self.ui_port)],
                cwd=self.folder,
                env=self.environment(),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            ) as process,
        ):
            try:
                assert process.stdout is not None
                lines = []
                while not (lines and lines[-1].startswith("Ready")):
                    lines.append(process.stdout.readline())
                    assert lines[-1], f"{lines}\n{self.log}"
                yield process
            finally:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(300)
                except subprocess.TimeoutExpired:
                    process.kill()
                    with suppress(ProcessLookupError):
                        os.kill(self.server, signal.SIGKILL)

    @property
    def log(self) -> str:
        """What `dev` wrote to standard error."""
        return (self.folder / "dev.log").read_text()

    @property
    def server(self) -> int:
        """The process of the server of `dev`."""
        return int((self.state / "lock").read_text().split()[1])

    def until_started(self, workflow_id: str) -> str:
        """Waits until a workflow has started whose id begins like that. Its id."""

        def found() -> str:
            listed = json.loads(self.temporal("workflow", "list", "-o", "json").stdout or "[]")
            ids = [str(each["execution"]["workflowId"]) for each in listed]
            return next((each for each in ids if each.startswith(workflow_id)), "")

        return until(found)

    def until_running(self, workflow_id: str, step: str) -> None:
        """Waits until a step of a run has started."""

        def is_running() -> bool:
            asked = self.temporal("workflow", "query", "--type", "progress", "-w", workflow_id, "-o", "json")
            if asked.returncode:
                return False
            [progress] = json.loads(asked.stdout)["queryResult"]
            return any(each["name"] == step and each["state"] == "running" for each in progress["steps"] or ())

        until(is_running)


def said(done: subprocess.CompletedProcess[str], code: int) -> str:
    """What a command said, after it ended with an exit code: on standard output if well, else on standard error."""
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    assert not (code == 0 and done.stderr), done.stderr
    return done.stderr if code else done.stdout
