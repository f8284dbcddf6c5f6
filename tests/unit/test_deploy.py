"""What can be known of the deployment files without Docker: they parse, fit each other, and their commands work."""

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from entrepot_standins.ports import free_port

from entrepot.protocol.activities import work_queue
from entrepot.worker.client import TASK_QUEUE
from entrepot.worker.config import settings
from entrepot.worker.local.dev import temporal_binary
from entrepot.worker.process import create
from entrepot.worker.telemetry import health
from entrepot.workflows.search_attributes import SEARCH_ATTRIBUTES
from tests.servers.temporal import dev_server
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def tool(name: str) -> str:
    """A checker that is installed beside this Python."""
    if (
        found := shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    ) is None:
        pytest.skip(
            f"{name} is not installed, so the deployment files are not checked by it; it is in requirements/dev.txt"
        )
    return found


def example_environment() -> dict[str, str]:
    lines = (DEPLOY / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def compose() -> dict[str, Any]:
    """compose.yaml as Compose would see it with a filled-in .env.example."""
    values = {**example_environment(), "POSTGRES_PASSWORD": "secret"}

    def value(match: re.Match[str]) -> str:
        return values[match[1]] or match[2]

    text = re.sub(r"\$\{(\w+)(?::[-?]([^}]*))?\}", value, (DEPLOY / "compose.yaml").read_text())
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


COMPOSE = compose()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def instructions() -> Iterator[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield word, rest.strip()


DOCKERFILE = list(instructions())


def last(word: str) -> str:
    return [rest for each, rest in DOCKERFILE if each == word][-1]


def mounts(service: dict[str, Any]) -> list[list[str]]:
    return [each.split(":") for each in service.get("volumes", [])]


class TestDockerfile:
    def test_hadolint_has_nothing_to_say(self) -> None:
        done = subprocess.run(
            [tool("hadolint"), str(DEPLOY / "Dockerfile")], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout + done.stderr) == (0, "")

    def test_it_builds_in_one_stage_and_runs_in_another(self) -> None:
        assert [rest for word, rest in DOCKERFILE if word == "FROM"] == [
            "python:${PYTHON} AS build",
            "python:${PYTHON}",
        ]
        version = last("ARG").removeprefix("PYTHON=")
        assert re.fullmatch(r"3\.\d+(\.\d+)?-slim-[a-z]+", version), "a tag that names version and distribution"
        final = DOCKERFILE[[n for n, (word, _) in enumerate(DOCKERFILE) if word == "FROM"][-1] :]
        assert not [rest for word, rest in final if word == "RUN" and re.search(r"apt|pip|gcc|curl", rest)]

    def test_packages_are_held_to_their_hashes(self) -> None:
        installs = re.findall(r"pip install[^&]*", " && ".join(rest for word, rest in DOCKERFILE if word == "RUN"))
        assert len(installs) == 3
        assert all("--require-hashes" in each or "--no-deps ." in each for each in installs)

    def test_it_does_not_run_as_root(self) -> None:
        user, group = last("USER").split(":")
        assert int(user) >= 1000
        assert int(group) >= 1000

    def test_what_it_copies_is_there_and_in_the_context(self) -> None:
        ignore = (DEPLOY / "Dockerfile.dockerignore").read_text().split("\n")
        allowed = {line[1:] for line in ignore if line.startswith("!")}
        assert "*" in ignore
        copied = set()
        for word, rest in DOCKERFILE:
            if word == "COPY" and not rest.startswith("--from"):
                copied.update(rest.split()[:-1])
        assert copied == allowed
        assert [each for each in sorted(copied) if not (ROOT / each).exists()] == []

    def test_it_copies_every_package(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())
        (package,) = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
        linked = {each.resolve().name for each in (ROOT / package).iterdir() if each.is_symlink()}
        copied = {rest.split()[0] for word, rest in DOCKERFILE if word == "COPY"}
        assert {package} | linked <= copied

    def test_it_has_the_python_that_the_project_asks_for(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())
        least = project["project"]["requires-python"].removeprefix(">=")
        assert last("ARG").removeprefix("PYTHON=").split("-")[0] >= least

    def test_its_command_is_one(self) -> None:
        command = json.loads(last("ENTRYPOINT")) + json.loads(last("CMD"))
        assert command == [
            "entrepot",
            "worker",
            "--tenants",
            "/etc/entrepot/tenants.toml",
            "--state",
            "/var/lib/entrepot",
        ]
        done = subprocess.run(
            [sys.executable, "-m", "entrepot.worker.cli.app", *command[1:], "--help"],
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def test_state_and_tenants_stand_where_the_environment_says(self) -> None:
        variables = dict(each.split("=", 1) for each in shlex.split(last("ENV")))
        assert variables["ENTREPOT_STATE"] == last("VOLUME") == json.loads(last("CMD"))[-1]
        assert variables["ENTREPOT_TENANTS"] == json.loads(last("CMD"))[2]
        assert variables["ENTREPOT_TENANTS"].startswith(last("WORKDIR") + "/")


class TestCompose:
    def test_it_follows_the_compose_specification(self) -> None:
        arguments = ["--builtin-schema", "vendor.compose-spec", str(DEPLOY / "compose.yaml")]
        done = subprocess.run([tool("check-jsonschema"), *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout

    def test_every_variable_is_explained(self) -> None:
        used = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text()))
        assert used == set(example_environment())

    def test_it_does_not_start_without_a_password(self) -> None:
        assert example_environment()["POSTGRES_PASSWORD"] == ""
        text = (DEPLOY / "compose.yaml").read_text()
        assert set(re.findall(r"\$\{POSTGRES_PASSWORD(..)", text)) == {":?"}

    @pytest.mark.parametrize("name", SERVICES)
    def test_what_a_service_waits_for_can_come_to_be(self, name: str) -> None:
        for other, how in SERVICES[name].get("depends_on", {}).items():
            awaited = SERVICES[other]
            if how["condition"] == "service_healthy":
                assert "healthcheck" in awaited
            else:
                assert how["condition"] == "service_completed_successfully"
                assert awaited["restart"].startswith("on-failure"), "one that ends must not be started again"

    @pytest.mark.parametrize("name", SERVICES)
    def test_what_a_service_mounts_is_there(self, name: str) -> None:
        for source, *rest in mounts(SERVICES[name]):
            if source.startswith("."):
                assert (DEPLOY / source).exists()
                assert rest[-1] == "ro"
            elif rest:
                assert source in COMPOSE["volumes"]

    @pytest.mark.parametrize("name", SERVICES)
    def test_ports_are_open_to_this_machine_only(self, name: str) -> None:
        assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))

    @pytest.mark.parametrize("name", SERVICES)
    def test_images_have_versions(self, name: str) -> None:
        image = SERVICES[name]["image"]
        assert "build" in SERVICES[name] or re.search(r":\d+(\.\d+)*(-[a-z]+)?$", image)

    @pytest.mark.parametrize("name", SERVICES)
    def test_names_that_a_service_connects_to_are_services(self, name: str) -> None:
        for key, value in SERVICES[name].get("environment", {}).items():
            if key in ("TEMPORAL_ADDRESS", "POSTGRES_SEEDS", "SQL_HOST"):
                assert value.split(":")[0] in SERVICES

    def test_the_worker_is_what_the_image_expects(self) -> None:
        worker = SERVICES["worker"]
        build = worker["build"]
        assert (DEPLOY / build["context"]).resolve() == ROOT
        assert (ROOT / build["dockerfile"]) == DEPLOY / "Dockerfile"
        mounted = {"/etc/entrepot/tenants.toml", "/run/secrets", last("VOLUME")}
        assert {each[1] for each in mounts(worker) if len(each) > 1} == mounted
        assert worker["read_only"]
        assert worker["cap_drop"] == ["ALL"]

    def test_secrets_are_files_that_nobody_can_change_or_commit(self) -> None:
        [(source, _, mode)] = [each for each in mounts(SERVICES["worker"]) if "/run/secrets" in each]
        assert mode == "ro"
        assert (DEPLOY / source / ".gitignore").read_text().split() == ["*", "!.gitignore"]
        assert not [key for key in SERVICES["worker"]["environment"] if re.search("PASSWORD|SECRET|TOKEN|KEY", key)]

    @pytest.mark.parametrize("name", SERVICES)
    def test_no_service_takes_the_whole_machine(self, name: str) -> None:
        assert re.fullmatch(r"\d+[gm]", SERVICES[name]["mem_limit"])
        assert SERVICES[name]["pids_limit"] > 0

    def test_what_the_worker_listens_at_is_what_its_health_check_asks(self) -> None:
        image = dict(each.split("=", 1) for each in shlex.split(last("ENV")))["ENTREPOT_LISTEN"]
        composed = SERVICES["worker"]["environment"]["ENTREPOT_LISTEN"]
        assert [health.parsed(each) for each in (image, composed)] == [("127.0.0.1", 9464), ("0.0.0.0", 9464)]
        assert "ports" not in SERVICES["worker"]

    def test_one_worker_while_the_tenants_are_on_duckdb(self) -> None:
        loaded = settings.load(str(DEPLOY / example_environment()["ENTREPOT_TENANTS_FILE"]), "state")
        assert {each.backend["type"] for each in loaded.tenants.values()} == {"duckdb"}
        assert int(SERVICES["worker"]["scale"]) == 1

    def test_the_server_reads_the_dynamic_configuration(self) -> None:
        (source, target, _), *_ = mounts(SERVICES["temporal"])
        path = SERVICES["temporal"]["environment"]["DYNAMIC_CONFIG_FILE_PATH"]
        assert path.startswith(target + "/")
        assert (DEPLOY / source / path.removeprefix(target + "/")).exists()

    def test_the_same_version_of_temporal_everywhere(self) -> None:
        images = [
            each["image"] for each in SERVICES.values() if re.match("temporalio/(server|admin-tools)", each["image"])
        ]
        assert len(images) == 3
        assert len({image.split(":")[1] for image in images}) == 1


def test_fairness_is_on_for_our_queues() -> None:
    values = yaml.safe_load((DEPLOY / "dynamicconfig/entrepot.yaml").read_text())
    assert values["matching.enableFairness"] == [{"value": True}]
    for kind in ("Read", "Write"):
        ones = [{"constraints": {"taskQueueName": queue}, "value": 1} for queue in (TASK_QUEUE, work_queue(TASK_QUEUE))]
        assert values[f"matching.numTaskqueue{kind}Partitions"] == ones


@pytest.mark.parametrize("script", sorted((DEPLOY / "scripts").iterdir()), ids=lambda path: path.name)
def test_scripts_are_mounted_and_parse(script: Path) -> None:
    assert script.read_text().startswith("#!/bin/sh\n")
    assert subprocess.run(["sh", "-n", str(script)], check=False).returncode == 0
    assert any(fnmatch(each[0], f"*/{script.name}") for service in SERVICES.values() for each in mounts(service))


async def shell(command: list[str], address: str, **more: str) -> tuple[int, str]:
    path = os.pathsep.join([str(Path(temporal_binary()).parent), os.environ["PATH"]])
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, "PATH": path, "TEMPORAL_ADDRESS": address, **more},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


async def test_the_namespace_script_works_on_a_server_twice() -> None:
    async with dev_server() as server:
        address = server.client.service_client.config.target_host
        given = {
            "TEMPORAL_NAMESPACE": "entrepot",
            "RETENTION": SERVICES["temporal-namespace"]["environment"]["RETENTION"],
        }
        for _ in range(2):
            code, out = await shell(["sh", str(DEPLOY / "scripts/namespace.sh")], address, **given)
            assert code == 0, out
        code, out = await shell(
            ["temporal", "operator", "search-attribute", "list"], address, TEMPORAL_NAMESPACE="entrepot"
        )
        assert {key.name for key in SEARCH_ATTRIBUTES} <= set(out.split())


async def test_the_health_check_knows_whether_a_worker_serves(tmp_path: Path) -> None:
    check = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    assert check[0] == "python"
    check[0] = sys.executable
    address = f"127.0.0.1:{free_port()}"
    async with dev_server() as server, health.listening(server.client, address, 0):
        assert (await shell(check, address, ENTREPOT_LISTEN=address))[0] == 1
        async with create(server.client, settings.local(str(tmp_path)).connect()):

            async def is_healthy() -> bool:
                return (await shell(check, address, ENTREPOT_LISTEN=address))[0] == 0

            await eventually(is_healthy)
