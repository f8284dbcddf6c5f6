"""`entrepot dev` and `entrepot worker`, ended and killed at the worst moments."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from pathlib import Path

import duckdb
import pytest
from entrepot_standins.ports import HOST, free_port

from tests.waiting import is_alive
from tests.worker.processes import Place

RUN = ["--type", "Pipeline", "--task-queue", "entrepot", "-w", "acme/slow", "--input"]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def made_once(place: Place) -> None:
    """Every table of the slow pipeline is there once, published once, with the rows that it should have."""
    with duckdb.connect(str(place.state / "acme.duckdb"), read_only=True) as warehouse:

        def rows(sql: str) -> object:
            return warehouse.execute(sql).fetchall()

        for table, total in (("numbers", 4950), ("slept", 4950), ("after", 4950)):
            assert rows(f"SELECT count(*), sum(n) FROM slow.{table}") == [(100, total)]
        assert rows("SELECT count(*) FROM information_schema.tables WHERE table_schema = 'slow__v'") == [(4,)]
        assert rows("SELECT name, count(*) FROM entrepot.versions GROUP BY 1 HAVING count(*) > 1") == []
        assert rows("SELECT count(*) FROM entrepot.publishes") == [(1,)]
        assert rows("SELECT status, count(*) FROM entrepot.runs GROUP BY 1") == [("completed", 1)]


def finish(place: Place) -> None:
    """Waits until the run has ended well."""
    shown = place.temporal("workflow", "show", "--follow", "-w", "acme/slow")
    assert "WorkflowExecutionCompleted" in shown.stdout, shown.stdout + place.log


def gate(place: Place) -> Path:
    """The file that the step `slept` waits for: however slow the machine is, it is not over before it is killed."""
    return place.folder / "go"


def start(place: Place) -> None:
    """Starts a run whose step `slept` waits for the gate, and waits until it is at it."""
    asked = {"tenant": "acme", "pipeline": "slow", "parameters": {"until": str(gate(place))}}
    assert place.temporal("workflow", "start", *RUN, json.dumps(asked)).returncode == 0
    place.until_running("acme/slow", "slept")


def test_it_ends_well_and_leaves_no_process_and_its_state_stays(place: Place) -> None:
    for how, runs, outcome in ((signal.SIGINT, 1, "published"), (signal.SIGTERM, 2, "nothing to do")):
        with place.dev() as dev:
            server = place.server
            run = place.entrepot("run", "slow")
            assert (run.returncode, outcome in run.stdout) == (0, True), run
            listed = json.loads(place.temporal("workflow", "list", "-o", "json").stdout)
            assert Counter(each["type"]["name"] for each in listed) == {"Pipeline": runs, "Slots": 1}
            dev.send_signal(how)
            assert dev.wait(300) == 0
            assert dev.stdout is not None
            assert dev.stdout.read() == "Stopping ...\n"
        assert not is_alive(server)
        assert place.log == ""


def test_it_tells_where_everything_is(place: Place) -> None:
    with place.spawned("dev", "--port", str(place.port), "--ui-port", str(place.ui_port)) as dev:
        assert dev.stdout is not None
        told = dict(line.split(maxsplit=1) for line in (dev.stdout.readline() for _ in range(5)))
        dev.send_signal(signal.SIGINT)  # while it still loads
        dev.wait(300)
    assert told == {
        "Temporal": f"{place.address}\n",
        "Web": f"UI       http://{HOST}:{place.ui_port}\n",
        "state": f"{place.state}\n",
        "tenants": "acme\n",
        "pipelines": "shop, slow, wild\n",
    }
    assert not is_alive(place.server)


def test_a_second_one_on_the_same_state_or_port_is_refused(place: Place, tmp_path: Path) -> None:
    with place.dev() as dev:
        ports = ["--port", str(free_port()), "--ui-port", str(free_port())]
        assert (place.state / ".gitignore").read_text() == "*\n"
        same_state = place.entrepot("dev", *ports)
        assert same_state.returncode == 3
        assert (
            f"the state folder {place.state} is in use by another `entrepot dev` (process {dev.pid})"
            in same_state.stderr
        )
        for option, taken in (("--port", place.port), ("--ui-port", place.ui_port)):
            wanted = [*ports, option, str(taken), "--state", str(tmp_path / "other")]
            same_port = place.entrepot("dev", *wanted)
            assert same_port.returncode == 2
            assert f"port {taken} is taken" in same_port.stderr
            assert f"choose another with {option}" in same_port.stderr


def test_a_state_folder_that_cannot_be_written_is_named(place: Place) -> None:
    (place.folder / "file").touch()
    for state in ("/proc/nowhere", str(place.folder / "file")):
        done = place.entrepot("dev", "--state", state, "--port", str(place.port), "--ui-port", str(place.ui_port))
        assert done.returncode == 3
        assert done.stderr.startswith(f"✗ the state folder {state} cannot be written: ")
        assert "Traceback" not in done.stderr


def test_other_connection_settings_do_not_concern_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    inherited = place.environment

    def environment(**more: str) -> dict[str, str]:
        return inherited(TEMPORAL_API_KEY="secret", TEMPORAL_PROFILE="nowhere", TEMPORAL_NAMESPACE="other", **more)

    monkeypatch.setattr(place, "environment", environment)
    with place.dev():
        monkeypatch.undo()
        assert place.entrepot("run", "slow").returncode == 0


@pytest.mark.slow
def test_the_server_is_killed_in_the_middle_of_a_run(place: Place) -> None:
    with place.dev() as dev:
        with place.spawned("run", "slow", "-p", f"until={gate(place)}") as watching:
            place.until_running("acme/slow", "slept")
            os.kill(place.server, signal.SIGKILL)
            gate(place).touch()
            _, err = watching.communicate(timeout=300)
            assert watching.returncode == 3
            assert "The run continues. Watch it: temporal workflow show --follow --workflow-id acme/slow" in err
            assert f"✗ Temporal at {place.address}, namespace 'default': " in err
            assert " WARN " not in err  # the SDK's own log
        assert dev.wait(300) == 3
    assert f"✗ the Temporal server ended (exit code -9); its log is {place.state / 'temporal.log'}." in place.log
    with place.dev():
        finish(place)
    made_once(place)


@pytest.mark.slow
def test_everything_is_killed_in_the_middle_of_a_run_but_the_server(place: Place) -> None:
    with place.dev() as dev:
        start(place)
        orphan = place.server
        dev.kill()
        dev.wait()
        gate(place).touch()
        assert is_alive(orphan)
        with place.dev():  # ends the server that was left behind
            assert not is_alive(orphan)
            assert place.server != orphan
            finish(place)
    made_once(place)


@pytest.mark.slow
def test_a_killed_worker_is_replaced_by_the_next(place: Place) -> None:
    """Heartbeats tell the server that a worker is gone: after 30 seconds another one gets the step."""
    with place.server_alone():
        with place.spawned("worker") as first:
            start(place)
            first.kill()
            first.wait()
        gate(place).touch()
        with place.spawned("worker") as second:
            finish(place)
            second.send_signal(signal.SIGTERM)
            _, log = second.communicate(timeout=300)
            assert second.returncode == 0
            assert f"serving acme from {place.address}" in log
    made_once(place)


def test_a_run_without_a_worker_waits_and_says_so(place: Place) -> None:
    with place.server_alone():
        for arguments in (["run", "slow"], ["versions", "slow"]):
            with place.spawned(*arguments) as waiting:
                told = waiting.stdout if arguments[0] == "run" else waiting.stderr
                assert told is not None
                # gRPC may have said something of the fork on standard error before.
                waits = "No worker serves the task queue 'entrepot'; work waits for one."
                assert any(line.startswith(waits) for line in told)
                waiting.send_signal(signal.SIGINT)
                assert waiting.wait(300) == 130
        done = place.entrepot("doctor")
        assert (done.returncode, "⚠ workers: No worker serves the task queue 'entrepot'" in done.stdout) == (0, True)
