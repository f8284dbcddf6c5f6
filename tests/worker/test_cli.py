"""The `entrepot` command as people type it, and the plain `temporal` command doing the same."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.worker.processes import ENTREPOT, TENANTS, Place, said
from tests.worker.terminals import at_terminal, plain

COMMANDS = [
    *(
        "demo",
        "dev",
        "worker",
        "run",
        "backfill",
        "plan",
        "sql",
        "graph",
        "lineage",
        "test",
        "init",
        "versions",
        "rollback",
        "gc",
        "doctor",
        "parity",
    ),
    *(
        "checks",
        "ci",
        "console",
        "show",
        "restore",
        "env drop",
        "env create",
        "env diff",
        "env promote",
        "env list",
        "env history",
        "runs",
        "tenants check",
        "tenants show",
        "tenants schema",
        "freshness",
        "products",
        "schedules plan",
        "schedules apply",
        "workers",
    ),
    *("deployments", "deployments set-current", "deployments ramp", "deployments rollback"),
]
HEAVY = ["ibis", "duckdb", "dlt", "sklearn", "pandas", "pyarrow"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A folder with `entrepot dev` running, in which the shop has run once."""
    place = Place(tmp_path_factory.mktemp("cli"))
    with place.dev():
        ran = place.entrepot("run", "shop")
        assert ran.returncode == 0, ran.stderr
        yield place


@pytest.fixture
def nowhere(tmp_path: Any) -> Place:
    """A folder with no server."""
    return Place(tmp_path)


# Running ------------------------------------------------------------------------------------------------------------


def test_a_run_tells_its_steps_and_ends_with_a_summary(place: Place) -> None:
    out = said(place.entrepot("run", "shop", "-e", "pr_run", "-p", "limit=61"), 0)
    assert re.search(r"^✓ transform orders · 600 rows · [\d.]+ s$", out, re.M)
    assert re.search(r"^✓ published 10 names to pr_run, 4 steps unchanged · [\d.]+ s · run [0-9a-f-]{36}$", out, re.M)
    assert "⚠ warned: known_country" in out
    assert re.search(r"^  board: .*board\.html$", out, re.M)
    again = said(place.entrepot("run", "shop", "-e", "pr_run", "-p", "limit=61"), 0)
    assert re.match(
        r"✓ nothing to do: pr_run is up to date, 12 steps unchanged · .*\n⚠ still warns: known_country", again
    )


def test_json_is_all_there_is_on_standard_output(place: Place) -> None:
    run = json.loads(said(place.entrepot("run", "shop", "--json"), 0))
    assert (run["outcome"], run["skipped"]) == ("nothing to do", 12)


def test_a_selection_and_parameters(place: Place) -> None:
    said(place.entrepot("run", "shop", "-e", "pr_select"), 0)
    out = said(place.entrepot("run", "shop", "-e", "pr_select", "-s", "tag:hourly", "-p", "limit=62.5"), 0)
    assert "✓ published 1 name to pr_select, 1 step unchanged, 7 not selected · " in out


def test_a_plan_says_what_would_run_and_why(place: Place) -> None:
    out = said(place.entrepot("plan", "shop", "-p", "limit=63"), 0)
    assert re.search(r"^orders +transform +run +its code or a parameter changed", out, re.M)
    assert "9 steps of 12 would run.\n5 names would be published: " in out
    plan = json.loads(said(place.entrepot("plan", "shop", "-p", "limit=63", "--json"), 0))
    assert " → ".join(plan["stages"]) in " ".join(out.split())
    assert {step["name"]: step["why"] for step in plan["steps"]}["labels"] == "orders changed"
    assert said(place.entrepot("plan", "shop", "-p", "limit=63"), 0) == out  # it changed nothing
    markdown = said(place.entrepot("plan", "shop", "-e", "pr_new", "--format", "markdown"), 0)
    assert markdown.startswith("**Plan** of `shop` for `acme` in `pr_new`\n")
    assert "| `source` | ingest | run | a source is asked at every run |" in markdown
    assert "unknown format 'html'" in said(place.entrepot("plan", "shop", "--format", "html"), 2)


def test_a_failing_run_ends_with_the_sentence_of_its_check(place: Place) -> None:
    err = said(place.entrepot("run", "slow", "-e", "pr_fail", "-p", "most=97"), 1)
    assert re.search(r"✗ .*'small'.* 2 violating rows", err), err
    checks, sql, show = (shlex.split(each) for each in re.findall("`entrepot (.*?)`", err))
    assert (checks[0], sql[:2], show[:2]) == ("checks", ["sql", "slow.small"], ["show", "slow"])
    assert '"slow__v"."' in said(place.entrepot(*sql), 0)
    assert "2 violating rows (block)" in said(place.entrepot(*checks), 0)
    assert "unknown version of " in said(place.entrepot(*sql[:-1], f"{sql[-1].partition('@')[0]}@nothing"), 2)
    assert "write TABLE@VERSION" in said(place.entrepot(*sql[:-1], "numbers"), 2)
    assert "unknown input 'nowhere'" in said(place.entrepot(*sql[:-1], "nowhere@1"), 2)
    assert said(place.entrepot("run", "slow", "-e", "pr_fail", "-p", "most=97", "--json"), 1).startswith("✗ ")


def test_without_a_terminal_every_line_is_printed_as_it_happens(place: Place) -> None:
    """What a step that is tried again says, and each step that ends, also in a run that fails."""
    misbehaving = ("-p", "hesitant=true", "-p", "where=python", "-p", "what=key")
    with place.spawned("run", "wild", "-s", "+streamed", *misbehaving) as watching:
        assert watching.stdout is not None
        first = watching.stdout.readline()
        assert watching.poll() is None
        rest, err = watching.communicate(timeout=300)
    whose = re.escape("tenant 'acme', pipeline 'wild': ")
    again = r"ingest 'numbers' \(.*wild\.py:\d+\): ConnectionResetError: not now, at .*wild\.py:\d+"
    assert re.fullmatch(rf"↻ {whose}{again} \(attempt 1 of 5; it is tried again\)\n", first), first
    brought, failed = rest.splitlines()
    assert brought.startswith("✓ ingest numbers · 39 rows · ")
    look = r"; look: `entrepot (show wild numbers@[0-9a-f]{12} --tenant acme)`"
    why = r"transform 'streamed' \(.*wild\.py:\d+\): KeyError: 'colour', at .*wild\.py:\d+ \(it is not tried again\)"
    assert re.fullmatch(f"✗ transform streamed · {whose}{why}{look}", failed), failed
    assert re.fullmatch(rf"✗ {whose}{why}{look}\n", err), err
    assert watching.returncode == 1
    read = re.search(look, err)
    assert read is not None
    assert len(json.loads(said(place.entrepot(*shlex.split(read[1]), "--limit", "50", "--json"), 0))) == 39


def test_what_is_tried_again_is_told_beside_json(place: Place) -> None:
    done = place.entrepot("run", "wild", "-s", "numbers", "-e", "pr_wild", "-p", "hesitant=true", "--json")
    assert json.loads(done.stdout)["outcome"] == "published"
    assert "ConnectionResetError: not now" in done.stderr


def test_ctrl_c_stops_watching_and_not_the_run(place: Place) -> None:
    with place.spawned("run", "slow", "-e", "pr_ctrl_c", "-p", "seconds=20") as watching:
        place.until_running("acme/slow/pr_ctrl_c", "slept")
        second = said(place.entrepot("run", "slow", "-e", "pr_ctrl_c"), 2)
        assert second.startswith("✗ acme/slow/pr_ctrl_c is running already (run ")
        assert "Watch it: temporal workflow show --follow --workflow-id acme/slow/pr_ctrl_c" in second
        watching.send_signal(signal.SIGINT)
        _, err = watching.communicate(timeout=300)
    assert watching.returncode == 130
    assert "The run continues. Watch it: temporal workflow show --follow --workflow-id acme/slow/pr_ctrl_c." in err
    assert "Stop it: temporal workflow cancel --workflow-id acme/slow/pr_ctrl_c" in err
    ended = place.temporal("workflow", "result", "--workflow-id", "acme/slow/pr_ctrl_c")
    assert ended.returncode == 0, ended.stderr
    followed = place.temporal("workflow", "show", "--follow", "--workflow-id", "acme/slow/pr_ctrl_c")
    assert "WorkflowExecutionCompleted" in followed.stdout


@pytest.mark.parametrize(
    ("command", "workflow_id", "is_cancelled"), [("plan shop", "acme/shop:plan:", True), ("gc", "acme:gc", False)]
)
def test_ctrl_c_ends_a_plan_and_leaves_what_changes_something(
    nowhere: Place, command: str, workflow_id: str, is_cancelled: bool
) -> None:
    with nowhere.server_alone(), nowhere.spawned(*command.split()) as waiting:
        assert waiting.stderr is not None
        assert waiting.stderr.readline().startswith("No worker serves the task queue 'entrepot'")
        waiting.send_signal(signal.SIGINT)
        _, err = waiting.communicate(timeout=300)
        its = nowhere.until_started(workflow_id)
        history = nowhere.temporal("workflow", "show", "--workflow-id", its).stdout
    assert waiting.returncode == 130
    assert ("WorkflowExecutionCancelRequested" in history) is is_cancelled
    goes_on = f"It continues. Watch it: temporal workflow show --follow --workflow-id {its}. Stop it: "
    assert err == "" if is_cancelled else err.startswith(goes_on)


def test_a_server_that_is_away_for_a_while_is_waited_for(nowhere: Place) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(ExitStack())
        server.enter_context(nowhere.server_alone())
        watching = stack.enter_context(nowhere.spawned("run", "shop"))
        assert watching.stdout is not None
        assert watching.stdout.readline().startswith("No worker serves the task queue 'entrepot'")
        server.close()
        assert watching.stdout.readline().startswith("Temporal does not answer any more; it is asked again for 120 s")
        assert watching.poll() is None
        with nowhere.server_alone():
            ended = nowhere.temporal("workflow", "terminate", "--workflow-id", "acme/shop")
            assert ended.returncode == 0, ended.stderr
            _, err = watching.communicate(timeout=300)
    assert watching.returncode == 1
    assert err.startswith("✗ the run was terminated")


def test_a_cancelled_run_says_so(place: Place) -> None:
    with place.spawned("run", "slow", "-e", "pr_cancel", "-p", "seconds=4") as watching:
        place.until_running("acme/slow/pr_cancel", "slept")
        cancelled = place.temporal("workflow", "cancel", "--workflow-id", "acme/slow/pr_cancel")
        assert cancelled.returncode == 0
        _, err = watching.communicate(timeout=300)
    assert (watching.returncode, err) == (
        1,
        "✗ the run was cancelled; nothing of it was published, unless it was just publishing\n",
    )


# Looking and going back ----------------------------------------------------------------------------------------------


def test_violating_rows_are_listed_and_warnings_stand(place: Place) -> None:
    out = said(place.entrepot("checks", "shop", "--table", "orders"), 0)
    verdict = r"^known_country of orders · \d+ violating rows \(warn\) · 20\S+ UTC · run \w+-\w+ · "
    verdicts = len(re.findall(verdict, out, re.M))
    assert verdicts >= 1, out
    assert len(re.findall(r'^  {"id": \d+, "country": "IT"', out, re.M)) == 10 * verdicts
    assert "✓ no violating rows" in said(place.entrepot("checks", "shop", "-e", "pr_none"), 0)
    again = said(place.entrepot("run", "shop"), 0)
    assert re.search(
        r"^⚠ still warns: known_country: \d+ violating rows, .*, since 20.* UTC \(run \w+-\w+\)$", again, re.M
    )
    assert re.search(r"^  2 other checks passed before, the last 20.* UTC$", again, re.M), again
    assert "known_country" in said(place.entrepot("plan", "shop"), 0)


def test_versions_are_listed_with_who_shows_them(place: Place) -> None:
    place.entrepot("run", "shop", "-e", "pr_versions")
    out = said(place.entrepot("versions", "shop"), 0)
    assert re.search(r"^orders +transform +[0-9a-f]{16} +600 .* pr_versions", out, re.M), out
    rows = json.loads(said(place.entrepot("versions", "shop", "--json"), 0))
    assert {row["name"] for row in rows} >= {"orders", "return_model", "board"}
    assert all(row["rows"] == 600 for row in rows if row["name"] == "orders")
    assert "unknown pipeline 'shpo'; did you mean 'shop'?" in said(place.entrepot("versions", "shpo"), 2)


def test_rows_are_shown_while_a_worker_serves(place: Place) -> None:
    out = said(place.entrepot("show", "shop", "orders", "--limit", "1"), 0)
    assert re.search(r"^id +country .*\n0 +FR +94.79", out), out
    chosen = place.entrepot("show", "shop", "orders", "--where", "COUNTRY = 'DE' and id < 9", "--json")
    assert {row["country"] for row in json.loads(said(chosen, 0))} == {"DE"}
    assert "unknown table 'odrers'; did you mean 'orders'" in said(place.entrepot("show", "shop", "odrers"), 2)
    versions = json.loads(said(place.entrepot("versions", "shop", "--json"), 0))
    version = next(each["version"] for each in versions if each["name"] == "countries")
    shown = said(place.entrepot("show", "shop", f"countries@{version[:6]}", "--json"), 0)
    assert shown == said(place.entrepot("show", "shop", "countries", "--version", version, "--json"), 0)
    assert len(json.loads(shown)) == 2
    assert "unknown version of 'orders' 'nope'. Known: " in said(place.entrepot("show", "shop", "orders@nope"), 2)
    assert "'orders@' names no version" in said(place.entrepot("show", "shop", "orders@"), 2)
    both = said(place.entrepot("show", "shop", "orders@a", "--version", "b"), 2)
    assert "'orders@a' and --version 'b' name two versions; name one" in both


def test_a_rollback_goes_back_one_publish_or_to_a_run(place: Place) -> None:
    there = ["shop", "-e", "pr_back"]
    first = json.loads(said(place.entrepot("run", *there, "--json"), 0))["run"]
    said(place.entrepot("run", *there, "-p", "limit=64"), 0)
    assert said(place.entrepot("rollback", *there, "--dry-run"), 0).startswith("✓ pr_back would move back: ")
    assert said(place.entrepot("rollback", *there), 0).startswith("✓ pr_back moved back: ")
    assert said(place.entrepot("rollback", *there, "--to", first), 0).startswith("✓ nothing to do: pr_back")
    said(place.entrepot("run", *there, "-p", "limit=64"), 0)
    moved = json.loads(said(place.entrepot("rollback", *there, "--to", first[:18], "--json"), 0))["moved"]
    assert "orders" in moved
    unknown = said(place.entrepot("rollback", *there, "--to", "beef"), 2)
    assert "no publish of run 'beef'. Runs that published there: " in unknown
    listed = json.loads(place.temporal("workflow", "list", "--query", "WorkflowType = 'Rollback'", "-o", "json").stdout)
    assert {each["status"] for each in listed} == {"WORKFLOW_EXECUTION_STATUS_COMPLETED"}
    assert first in unknown


def test_a_collection_can_be_looked_at_first(place: Place) -> None:
    before = json.loads(said(place.entrepot("versions", "shop", "--json"), 0))
    out = said(place.entrepot("gc", "shop", "--keep-days", "0", "--dry-run"), 0)
    assert re.search(r"^✓ \d+ versions? would be removed \([\d,]+ rows\), \d+ kept$", out, re.M)
    planned = json.loads(said(place.entrepot("gc", "shop", "--keep-days", "0", "--dry-run", "--json"), 0))
    assert planned["dry_run"] is True
    assert json.loads(said(place.entrepot("versions", "shop", "--json"), 0)) == before


def test_the_doctor_finds_everything_well(place: Place) -> None:
    out = said(place.entrepot("doctor"), 0)
    assert "✗" not in out
    for found in (
        f"✓ Temporal: {place.address}, namespace default, ",
        "; it keeps closed runs for 1 day\n",
        "✓ schedules: ",
        "the task queue 'entrepot' is served",
        "✓ pipeline shop: tests.pipelines.shop:shop, 12 steps",
        "✓ tenant acme, warehouse: duckdb answers",
        f"✓ state folder: {place.state}",
    ):
        assert found in out


def test_the_doctor_repairs_what_was_changed_by_hand_and_an_environment_is_dropped(place: Place) -> None:
    said(place.entrepot("run", "shop", "--environment", "pr_1"), 0)
    assert "finding" in said(place.entrepot("doctor", "--repair"), 0)
    assert "✓ pr_1 of shop would be dropped: " in said(place.entrepot("env", "drop", "pr_1", "--dry-run"), 0)
    dropped = json.loads(said(place.entrepot("env", "drop", "pr_1", "--json"), 0))
    assert "shop__pr_1.orders" in dropped["removed"]["shop"]
    gone = said(place.entrepot("env", "drop", "pr_1"), 2)
    assert gone.startswith("✗ tenant 'acme': unknown environment 'pr_1'")


def test_a_change_is_tried_in_an_environment_compared_and_promoted(place: Place) -> None:
    assert said(place.entrepot("env", "create", "pr_new"), 0) == "✓ pr_new of shop shows 10 names, like prod\n"
    said(place.entrepot("run", "shop", "-e", "pr_new", "-p", "limit=64"), 0)
    said(place.entrepot("run", "shop", "-e", "pr_to"), 0)
    told = said(place.entrepot("env", "diff", "pr_new", "pr_to", "-p", "shop"), 0)
    why = r"^~ orders · transform · its code or a parameter changed"
    assert re.search(rf"{why} · \d+ rows differ, in 'is_large'\n    is_large where id = ", told, re.M), told
    assert re.search(r"^~ return_model · train · orders changed · roc_auc [\d.]+ → ", told, re.M)
    line = r"5 names differ, 5 the same. As it is: entrepot (env promote pr_new pr_to --pipeline shop --expect \S+)\n$"
    command = re.search(line, told)
    assert command, told
    compared = json.loads(said(place.entrepot("env", "diff", "pr_new", "pr_to", "-p", "shop", "--json"), 0))
    assert compared["seen"].keys() == {"pr_new", "pr_to"}
    moved = said(place.entrepot(*command[1].split()), 0)
    assert re.match(
        r"✓ promoted 5 names from pr_new to pr_to: labels, orders, return_model, return_risk, risks\n", moved
    )
    again = said(place.entrepot("env", "promote", "pr_new", "pr_to", "-p", "shop"), 0)
    assert again == "✓ nothing to do: pr_to already shows what pr_new shows\n"
    moved_on = said(place.entrepot(*command[1].split()), 1)
    assert "environment 'pr_to': it showed what run " in moved_on
    same = said(place.entrepot("env", "diff", "pr_new", "pr_to", "-p", "shop"), 0)
    assert same == "✓ pr_new and pr_to show the same: 10 names\n"
    listed = said(place.entrepot("env", "list"), 0)
    assert re.search(r"^shop +pr_to +10 +5 +[\d: -]+ +promote by ", listed, re.M), listed
    history = said(place.entrepot("env", "history", "pr_to", "-p", "shop"), 0)
    assert re.search(r"^2 .* promote +\S+ +labels, orders, .*, risks +what pr_new showed, by run ", history, re.M), (
        history
    )
    rolled = json.loads(said(place.entrepot("env", "history", "pr_to", "-p", "shop", "--json"), 0))
    assert [row["action"] for row in rolled] == ["promote", "publish"]
    assert said(place.entrepot("env", "promote", "pr_new", "pr_to", "-p", "shop", "--expect", "x"), 2).startswith(
        "✗ cannot read --expect 'x'; write dev=RUN,prod=RUN"
    )
    runs = said(place.entrepot("runs", "shop", "-e", "pr_to"), 0)
    assert re.search(r"^[\d: -]+ +[\d.]+ s +shop +pr_to +promoted +\S+ +what pr_new showed, by run ", runs, re.M), runs
    assert re.search(r"^[\d: -]+ +[\d.]+ s +shop +pr_to +published +\S+ +computed ", runs, re.M), runs
    for environment in ("pr_new", "pr_to"):
        said(place.entrepot("env", "drop", environment), 0)


def test_runs_are_listed_with_what_came_of_them(place: Place) -> None:
    said(place.entrepot("run", "shop", "-e", "pr_runs"), 0)
    said(place.entrepot("run", "shop", "-e", "pr_runs"), 0)
    rows = json.loads(said(place.entrepot("runs", "shop", "-e", "pr_runs", "--json"), 0))
    assert [(row["status"], row["what"]) for row in rows] == [("nothing to do", ""), ("published", "computed nothing")]
    assert {row["cause"] for row in rows} == {"person"}
    history = json.loads(said(place.entrepot("env", "history", "pr_runs", "-p", "shop", "--json"), 0))
    assert [row["cause"] for row in history] == ["person"]
    assert re.fullmatch(r"[0-9a-f]{12}|content [0-9a-f]{16}", history[0]["code"])
    told = said(place.entrepot("env", "history", "pr_runs", "-p", "shop"), 0)
    assert re.search(rf"{history[0]['code']} +person *$", told, re.M), told
    said(place.entrepot("run", "slow", "-e", "pr_runs", "-p", "most=97"), 1)
    (failed,) = json.loads(said(place.entrepot("runs", "slow", "-e", "pr_runs", "--json"), 0))
    assert (failed["status"], failed["pipeline"], failed["environment"]) == ("failed", "slow", "pr_runs")
    assert "2 violating rows" in failed["what"]
    assert failed["cause"] == "person"
    assert rows[1]["run"] in {row["run"] for row in json.loads(said(place.entrepot("runs", "--json"), 0))}
    assert said(place.entrepot("runs", "shop", "-e", "pr_none"), 0) == "✓ no runs\n"
    assert "unknown pipeline 'shpo'; did you mean 'shop'?" in said(place.entrepot("runs", "shpo"), 2)
    said(place.entrepot("env", "drop", "pr_runs"), 0)


def test_schedules_are_planned_applied_and_then_as_they_should_be(place: Place) -> None:
    new = "+ acme/shop: create, every 12h\n+ acme:gc: create, every 1d\n"
    planned = place.entrepot("schedules", "plan")
    assert (planned.returncode, planned.stdout) == (1, new)
    assert said(place.entrepot("schedules", "apply"), 0) == new
    same = "= acme/shop: unchanged, every 12h\n= acme:gc: unchanged, every 1d\n"
    assert said(place.entrepot("schedules", "plan"), 0) == same
    assert said(place.entrepot("schedules", "apply"), 0) == same


# The same with plain Temporal ----------------------------------------------------------------------------------------

SHOP = '{"tenant": "acme", "pipeline": "shop", "environment": "pr_plain"}'


@pytest.mark.parametrize("workflow", ["Pipeline", "Ingest", "Transform", "Train", "Publish", "Rollback", "Gc"])
def test_plain_temporal_starts_every_workflow_with_json(place: Place, workflow: str) -> None:
    value: dict[str, Any] = json.loads(SHOP)
    if workflow == "Rollback":
        place.entrepot("run", "shop", "-e", "pr_plain")
        place.entrepot("run", "shop", "-e", "pr_plain", "-p", "limit=65")
    elif workflow == "Gc":
        value = {"tenant": "acme", "pipeline": "shop", "dry_run": True}
    elif workflow != "Pipeline":
        place.entrepot("run", "shop", "-e", "pr_plain")
    arguments = [
        "--type",
        workflow,
        "--task-queue",
        "entrepot",
        "-w",
        f"plain-{workflow}",
        "--input",
        json.dumps(value),
    ]
    done = place.temporal("workflow", "execute", *arguments, "-o", "json")
    ended = json.loads(done.stdout)
    assert ended["status"] == "COMPLETED", ended
    keys = {"Rollback": {"moved", "sequence"}, "Gc": {"removed", "kept"}}.get(workflow, {"outcome", "run"})
    assert keys <= set(ended["result"])


def test_plain_temporal_asks_for_the_plan_and_the_progress(place: Place) -> None:
    place.entrepot("run", "shop", "-e", "pr_query")
    for query, key in (("plan", "versions"), ("progress", "stage")):
        asked = place.temporal("workflow", "query", "--type", query, "-w", "acme/shop/pr_query", "-o", "json")
        assert key in json.loads(asked.stdout)["queryResult"][0]


def test_plain_temporal_lists_versions_with_one_activity(place: Place) -> None:
    arguments = ["--type", "versions", "--task-queue", "entrepot", "--start-to-close-timeout", "60s", "-o", "json"]
    value = '{"tenant": "acme", "pipeline": "shop"}'
    done = place.temporal("activity", "execute", *arguments, "-a", "plain-versions", "--input", value)
    assert {row["name"] for row in json.loads(done.stdout)["result"]} >= {"orders", "board"}
    bad = place.temporal("activity", "execute", *arguments, "-a", "plain-bad", "--input", value.replace("acme", "acne"))
    assert "unknown tenant 'acne'; did you mean 'acme'?" in bad.stdout + bad.stderr
    wrong = place.temporal("activity", "execute", *arguments, "-a", "plain-wrong", "--input", '{"tenant": "acme"}')
    assert "the field 'pipeline' is missing" in wrong.stdout + wrong.stderr


def test_plain_temporal_refuses_bad_input_in_a_sentence(place: Place) -> None:
    arguments = ["--type", "Pipeline", "--task-queue", "entrepot", "-w", "plain-bad", "--input", '{"tenant": "acme"}']
    done = place.temporal("workflow", "execute", *arguments)
    assert "the field 'pipeline' is missing" in done.stdout + done.stderr


# Without a server ----------------------------------------------------------------------------------------------------


def test_lineage_says_what_a_column_is_made_of_and_what_is_made_of_it(place: Place) -> None:
    out = said(place.entrepot("lineage", "by_country.mean", "--up"), 0)
    assert out.startswith("by_country.mean is made of\n")
    for line in (
        "by_country.mean +aggregation +orders.amount",
        "by_country.mean +group +orders.country",
        "orders.amount +identity +orders_raw.amount",
        "orders.amount +join +countries.code",
    ):
        assert re.search(line, out), line
    assert "is in" not in out
    found = json.loads(said(place.entrepot("lineage", "countries.name", "--json"), 0))
    assert (found["column"], found["pipeline"], found["up"]) == ("countries.name", "shop", [])
    assert {"column": "orders.name", "of": "countries.name", "how": ["identity"], "direct": True} in found["down"]
    model = json.loads(said(place.entrepot("lineage", "return_model", "--json"), 0))
    assert {each["of"] for each in model["up"]} >= {"orders.amount", "orders_raw.amount"}
    assert {each["column"] for each in model["down"]} >= {"return_risk.prediction", "risks"}


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ("lineage ordes.id", "unknown table 'ordes'; did you mean 'orders'"),
        ("lineage orders.idd", "'orders': unknown column 'idd'; did you mean 'id'"),
        ("lineage orders --pipeline shpo", "unknown pipeline 'shpo'"),
        ("lineage orders.a.b", "'orders': unknown column 'a.b'"),
    ],
)
def test_what_has_no_lineage_is_named(place: Place, asked: str, why: str) -> None:
    assert why in said(place.entrepot(*asked.split()), 2)


def test_lineage_of_tables_that_nobody_has_loaded_is_not_known_yet(nowhere: Place) -> None:
    error = said(nowhere.entrepot("lineage", "orders.id"), 2)
    assert "the columns of 'countries', 'orders_raw' are not known yet: run 'shop' once" in error


def test_the_tenant_file_is_checked_and_shown_without_a_server(nowhere: Place) -> None:
    assert "tenants.toml: 1 tenant: acme" in said(nowhere.entrepot("tenants", "check"), 0)
    out = said(nowhere.entrepot("tenants", "show", "acme"), 0)
    assert re.search(r"^slots +8 +default *$", out, re.M)
    shown = json.loads(said(nowhere.entrepot("tenants", "show", "--json"), 0))
    assert {"setting": "backend.type", "value": "duckdb", "from": "tenants.toml"} in shown["tenants"]["acme"]
    assert "unknown tenant 'acmee'; did you mean 'acme'?" in said(nowhere.entrepot("tenants", "show", "acmee"), 2)
    assert json.loads(said(nowhere.entrepot("tenants", "schema"), 0))["required"] == ["tenants"]


def test_all_that_is_wrong_with_the_tenant_file_is_said_at_once(nowhere: Place) -> None:
    wrong = TENANTS.replace('every = "12h"', 'every = "12h"\nselect = "ordesr"') + (
        '[tenants.acme.settings.shop]\non_late = { webhook = "https://x.example" }\ntrigger = { promises = true }\n'
        '[tenants.acme.settings.slow]\nparameters = { mots = 1 }\n[tenants.b.backend]\ntype = "duckdb"\npath = "b"\n'
        '[[tenants.b.schedules]]\npipeline = "shop"\nevery = "1h"\nparameters = { limit = "x" }\n'
    )
    (nowhere.folder / "wrong.toml").write_text(wrong.replace("pipelines.wild:", "pipelines.gone:"))
    error = said(nowhere.entrepot("tenants", "check", "--tenants", "wrong.toml"), 2)
    assert [line.split(": ")[0].strip(" ✗") for line in error.splitlines()] == [
        f"{nowhere.folder}/wrong.toml has 6 problems:",
        "pipelines.wild",
        "tenants.acme.settings.shop.on_late",
        "tenants.acme.settings.shop.trigger.promises",
        "tenants.acme.schedules[0]",
        "tenants.acme.settings.slow",
        "tenants.b.schedules[0]",
    ]


def test_a_graph_needs_no_server(nowhere: Place) -> None:
    out = said(nowhere.entrepot("graph", "shop"), 0)
    assert re.search(r"^orders +transform +orders_raw, countries +Orders with their country's name\.", out, re.M)
    steps = json.loads(said(nowhere.entrepot("graph", "shop", "--json"), 0))
    assert {s["name"]: s["inputs"] for s in steps}["by_country"] == ["orders"]
    drawn = said(nowhere.entrepot("graph", "shop", "--mermaid"), 0)
    assert drawn.startswith("flowchart LR\n")
    assert "\n  orders --> by_country\n" in drawn
    assert '\n  orders["orders<br/><i>transform</i>"]\n' in drawn
    chosen = json.loads(said(nowhere.entrepot("graph", "shop", "--json", "-s", "by_country+"), 0))
    assert {s["name"] for s in chosen} == {"by_country", "board", "shared"}


def test_a_console_has_pipelines_by_their_names(place: Place) -> None:
    typed = 'shop.tables()\nshop.table("countries").order_by("code").code.execute().to_list()\nshop.table("contries")\n'
    done = subprocess.run(
        [ENTREPOT, "console"],
        cwd=place.folder,
        env=place.environment(),
        input=typed,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0
    assert "tenant acme, read only. Pipelines: shop, slow, wild." in done.stderr
    assert "'by_country', 'countries', 'labels', 'orders'" in done.stdout
    assert "['DE', 'FR']" in done.stdout
    assert "unknown table 'contries'; did you mean 'countries'" in done.stderr
    assert "✗ unknown tenant 'acne'" in said(place.entrepot("console", "--tenant", "acne"), 2)


@pytest.mark.parametrize("backend", ["duckdb", "snowflake", "bigquery", "databricks"])
def test_sql_needs_no_server_and_no_warehouse(nowhere: Place, backend: str) -> None:
    out = said(nowhere.entrepot("sql", "slow.doubled", "-b", backend, TEMPORAL_ADDRESS="127.0.0.1:1"), 0)
    assert out.startswith("SELECT")
    names = ("NUMBERS", "TWICE") if backend == "snowflake" else ("numbers", "twice")
    assert all(name in out for name in names)


def test_sql_of_a_run_pipeline_knows_its_columns_from_the_lake(place: Place) -> None:
    assert "GROUP BY" in said(place.entrepot("sql", "by_country"), 0)
    assert "'is_large'" not in said(place.entrepot("sql", "orders", "-p", "limit=12.5"), 0)
    assert "12.5" in said(place.entrepot("sql", "orders", "-p", "limit=12.5"), 0)
    assert "-- return_model_scores: " in said(place.entrepot("sql", "return_risk", "-b", "bigquery"), 0)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("run shop -p limit", "cannot read the parameter 'limit'; write NAME=VALUE"),
        ("run shop -t acne --tenants tenants.toml", "unknown tenant 'acne'; did you mean 'acme'?"),
        ("run shop --tenants gone.toml", "there is no tenant file 'gone.toml'"),
        ("sql shop.ordres", "unknown step 'ordres'; did you mean 'orders'"),
        ("sql orders -b oracle", "unknown backend 'oracle'. Known: "),
        ("sql orders", "the columns of 'countries', 'orders_raw' are not known yet: run 'shop' once, or declare them"),
        ("sql return_model", "'return_model' is a train step; only transforms and checks are SQL"),
        ("sql labels", "'labels' runs in Python; it has no SQL"),
        ("graph shpo", "unknown pipeline 'shpo'; did you mean 'shop'?"),
        ("graph shop -s ordes", "unknown step 'ordes'; did you mean 'orders'"),
        ("gc shop --keep-publishes 0", "keep-publishes"),
        ("run", "Missing argument"),
        ("rnu shop", "No such command 'rnu'"),
    ],
)
def test_bad_input_is_told_before_anything_is_asked(nowhere: Place, arguments: str, sentence: str) -> None:
    assert sentence in said(nowhere.entrepot(*arguments.split()), 2)


@pytest.mark.parametrize("arguments", ["run shp", "plan shp", "rollback shp", "gc shp", "versions shp"])
def test_the_worker_knows_which_pipelines_there_are(place: Place, arguments: str) -> None:
    assert "unknown pipeline 'shp'; did you mean 'shop'?" in said(place.entrepot(*arguments.split()), 2)


@pytest.mark.parametrize(
    "arguments", ["run shop", "plan shop", "versions shop", "rollback shop", "gc shop", "schedules apply"]
)
def test_a_server_that_is_away_is_named(nowhere: Place, arguments: str) -> None:
    err = said(nowhere.entrepot(*arguments.split()), 3)
    assert err.startswith(f"✗ no Temporal server answers at {nowhere.address}. Start one with `entrepot dev`")


def test_parity_needs_two_warehouses_and_names_those_there_are(place: Place) -> None:
    text = said(place.entrepot("parity", "shop"), 2)
    assert "parity needs two warehouses, and tenant 'acme' has 'duckdb'" in text
    assert "unknown backend 'snow'" in said(place.entrepot("parity", "shop", "--on", "duckdb,snow"), 2)


def test_an_unknown_stand_in_is_refused_before_anything_starts(nowhere: Place) -> None:
    text = said(nowhere.entrepot("dev", "--standins", "snowflake,teradata"), 2)
    assert "unknown stand-in 'teradata'" in text


@pytest.mark.parametrize(
    ("to", "code", "said"),
    [
        ("> /dev/full", 3, "✗ standard output: No space left on device\n"),
        (">&-", 0, ""),
        ("2>&-", 0, ""),
        ("| true", 0, ""),
    ],
)
def test_output_that_nobody_takes_is_no_crash(nowhere: Place, to: str, code: int, said: str) -> None:
    for command in ("graph shop", "graph shop --json"):
        done = nowhere.command("bash", "-o", "pipefail", "-c", f"{ENTREPOT} {command} {to}")
        assert (done.returncode, done.stderr) == (code, said), command


def test_what_is_killed_has_told_all_that_it_had_to(nowhere: Place) -> None:
    code = (
        "import os, signal, sys; from entrepot.worker.cli import app; app._with_streams(); app.scrub_output()\n"
        "print('first'); os.fork() or (print('of a child'), os.kill(os.getpid(), signal.SIGKILL)); os.wait()\n"
        "print('last'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    with (nowhere.folder / "log").open("wb") as log:
        subprocess.run([sys.executable, "-c", code], stdout=log, env=nowhere.environment(), check=False)
    assert (nowhere.folder / "log").read_text() == "first\nof a child\nlast\n"


def test_an_unknown_namespace_or_profile_is_named(place: Place) -> None:
    err = said(place.entrepot("run", "shop", TEMPORAL_NAMESPACE="nope"), 3)
    assert err == f"✗ Temporal at {place.address}, namespace 'nope': Namespace nope is not found.\n"
    err = said(place.entrepot("run", "shop", TEMPORAL_PROFILE="nope"), 2)
    assert "Temporal's connection settings" in err
    assert "Profile 'nope' not found" in err


def test_the_doctor_tells_what_is_wrong_and_goes_on(nowhere: Place) -> None:
    with (nowhere.folder / "tenants.toml").open("a") as file:
        file.write('\n[tenants.gone]\nbackend = { type = "duckdb", path = "/proc/nowhere/x.duckdb" }\n')
    done = nowhere.entrepot("doctor")
    assert done.returncode == 1
    assert f"✗ Temporal: no Temporal server answers at {nowhere.address}" in done.stdout
    assert "✗ tenant gone, warehouse: " in done.stdout
    assert "✓ tenant acme, warehouse: duckdb answers" in done.stdout


# Starting fast -------------------------------------------------------------------------------------------------------


def test_workers_are_listed_and_those_of_dev_are_not_versioned(place: Place) -> None:
    [serving] = json.loads(said(place.entrepot("workers", "--json"), 0))
    assert (serving["state"], serving["running"], serving["version"]["deployment_name"]) == ("serving", 0, "")
    assert serving["serves"] == {"tenants": {"acme": ["shop", "slow", "wild"]}, "behind": ""}
    [line] = said(place.entrepot("workers"), 0).splitlines()[1:]
    assert line.rstrip().endswith("  acme")
    assert re.search(rf"^{serving['identity']} +serving ", said(place.entrepot("workers"), 0), re.M)
    _, at_80 = at_terminal([ENTREPOT, "workers"], place.environment(), place.folder)
    assert serving["identity"] in plain(at_80)
    assert said(place.entrepot("deployments"), 0).startswith("No worker is of a deployment, so none is versioned")
    asked = said(place.entrepot("deployments", "set-current", "x"), 2)
    assert "no worker of a deployment has served the task queue 'entrepot'" in asked


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_is_for_with_an_example(nowhere: Place, command: str) -> None:
    out = said(nowhere.entrepot(*command.split(), "--help"), 0)
    assert re.search(r"Examples?:\s+(TEMPORAL_ADDRESS=\S+ )?entrepot " + command, out), out


def test_help_lists_every_command(nowhere: Place) -> None:
    out = said(nowhere.entrepot("--help"), 0)
    assert set(re.findall(r"^  ([a-z]+) ", out, re.M)) == {each.split()[0] for each in COMMANDS}


def imported(place: Place, *arguments: str) -> set[str]:
    """The packages that a command imports."""
    code = f"import sys; sys.argv = {['entrepot', *arguments]!r}; from entrepot.worker.cli.app import main; main()"
    done = place.command(sys.executable, "-X", "importtime", "-c", code)
    found = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert {"entrepot", "typer"} <= found, done.stderr
    return found


def test_help_imports_nothing_heavy(nowhere: Place) -> None:
    assert imported(nowhere, "--help").isdisjoint([*HEAVY, "temporalio", "pydantic", "numpy"])


def test_a_client_imports_no_warehouse_and_no_library_of_steps(place: Place) -> None:
    for command in ("run", "plan", "versions"):
        assert imported(place, command, "shop").isdisjoint(HEAVY), command


def test_output_into_a_closed_pipe_is_no_error(nowhere: Place) -> None:
    line = f"'{ENTREPOT}' graph shop --json | head -1; exit ${{PIPESTATUS[0]}}"
    done = nowhere.command("bash", "-c", line)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[\n", "")


def test_notes_with_brackets_are_printed_as_they_are() -> None:
    from entrepot.worker.cli import output
    from entrepot.workflows.progress import StepProgress

    with output.out.capture() as captured:
        noted = StepProgress(name="x", kind="check", state="done", note='1 violating row: {"code": "[/b] [red]"}')
        output.Lines(output.out).states([noted])
        output.rows(("a",), [("[bold]b[/nothing]",)])
    assert '{"code": "[/b] [red]"}' in captured.get()
    assert "[bold]b[/nothing]" in captured.get()


# Examples -----------------------------------------------------------------------------------------------------------

DECLARED = """
from entrepot import Pipeline, Table

small = Pipeline("small", parameters={"least": 1.0})

@small.ingest
def sales(): ...

@small.transform
def large(sales: Table, least: float) -> Table:
    return sales.filter(sales.amount >= least)

small.example(large, "the limit is large", given={"sales": [{"id": 1, "amount": 1.0}]}, expect=[{"id": 1}])
"""
WRONG = """small.example(
    "large", "so is less", given={"sales": [{"id": 2, "amount": 0.5}, {"id": 3, "amount": 2}]}, expect=[{"id": 2}]
)
"""
UNKNOWN = """small.example("large", "nothing", given={"slaes": []}, expect=[])
"""


def test_examples_are_computed_without_a_server(nowhere: Place) -> None:
    module = nowhere.folder / "small.py"
    (nowhere.folder / "tenants.toml").write_text(TENANTS.replace("[pipelines]", '[pipelines]\nsmall = "small:small"'))
    module.write_text(DECLARED)
    lines = said(nowhere.entrepot("test", "small"), 0).splitlines()
    assert lines == ["✓ small · large: the limit is large", "1 example, all as expected"]
    assert "pipeline 'shop' has no example yet: `Pipeline.example` declares one" in said(nowhere.entrepot("test"), 0)

    module.write_text(DECLARED + WRONG)
    done = nowhere.entrepot("test", "small", "-s", "large")
    assert done.returncode == 1
    where = f"{module}:{len(DECLARED.splitlines()) + 1}"
    assert done.stdout.splitlines() == [
        "✓ small · large: the limit is large",
        f"✗ small · large: so is less · {where}",
        "  'large' is not as expected: of 1 row, in any order, 1 missing, 1 not expected (floats within 1e-09)",
        "    - id=2   missing",
        "    + id=3   not expected",
        "2 examples, 1 not as expected",
    ]
    [_, wrong] = json.loads(nowhere.entrepot("test", "small", "--json").stdout)
    assert (wrong["passed"], wrong["bad_input"], wrong["at"]) == (False, False, where)
    assert wrong["differences"] == [
        {"row": None, "found": None, "expected": {"id": 2}, "columns": []},
        {"row": None, "found": {"id": 3}, "expected": None, "columns": []},
    ]
    assert said(nowhere.entrepot("test", "small", "-s", "sales"), 0) == (
        "pipeline 'small' has no example of what 'sales' selects\n"
    )

    module.write_text(DECLARED + UNKNOWN)
    assert "unknown table or parameter 'slaes'; did you mean 'sales'" in nowhere.entrepot("test", "small").stdout
    assert nowhere.entrepot("test", "small").returncode == 2
    assert "unknown pipeline 'smal'; did you mean 'small'" in said(nowhere.entrepot("test", "smal"), 2)
    assert "unknown step" in said(nowhere.entrepot("test", "small", "-s", "lrage"), 2)
    assert "a selection is of one pipeline's steps: name the pipeline" in said(
        nowhere.entrepot("test", "-s", "large"), 2
    )
