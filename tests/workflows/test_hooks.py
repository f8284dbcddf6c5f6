"""Who is told how a run ended: workflows, webhooks and mailboxes, on real servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError
from temporalio.common import RetryPolicy
from temporalio.testing import WorkflowEnvironment

from entrepot.worker import process
from entrepot.worker.config.hook_schema import SmtpSection
from entrepot.worker.config.settings import Settings
from entrepot.worker.config.tenant_schema import TenantSection
from entrepot.workflows.around import hooks
from entrepot.workflows.calls import Persistence
from tests.conftest import House, serving
from tests.servers.webhooks import Mailboxes, Webhooks, http_server, smtp_server
from tests.waiting import eventually, retried

PIPELINES = {"shop": "tests.pipelines.shop:shop", "slow": "tests.pipelines.slow:slow"}


@pytest.fixture
def webhook() -> Iterator[Webhooks]:
    with http_server() as server:
        yield server


@pytest.fixture
def mail() -> Iterator[Mailboxes]:
    with smtp_server() as server:
        yield server


@asynccontextmanager
async def told(
    temporal: WorkflowEnvironment, state: Path, smtp: SmtpSection | None = None, **its: Any
) -> AsyncIterator[House]:
    section = TenantSection.model_validate({"backend": {"type": "duckdb", "path": "acme.duckdb"}, **its})
    async with serving(temporal.client, Settings(None, state, PIPELINES, {"acme": section}, smtp=smtp)) as house:
        yield house


async def hook(house: House, run: str, event: str, number: int = 1) -> Any:
    """The workflow by which somebody is told, once it is there."""
    its = f"{house.task_queue}:{event}:{run}" + (f":{number}" if number > 1 else "")
    return house.client.get_workflow_handle(its)


async def begin(house: House, **more: Any) -> Any:
    """A run whose id is the task queue's, so that tests find its hooks."""
    return await house.start("Pipeline", {"tenant": "acme", "pipeline": "shop", **more}, id=house.task_queue)


async def test_a_webhook_is_told_once_what_was_published(
    temporal: WorkflowEnvironment, tmp_path: Path, webhook: Webhooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_URL", f"{webhook.url}/secret-path-of-the-hook")
    monkeypatch.setenv("HOOK_KEY", "whsec_" + "a2V5a2V5a2V5a2V5")
    its = {"webhook": "env:HOOK_URL", "secret": "env:HOOK_KEY"}
    async with told(temporal, tmp_path, on_published=its, on_failure=its) as house:
        run = await begin(house)
        summary = await run.result()
        told_by = await hook(house, run.first_execution_run_id, "published")
        assert (await told_by.result())["note"] == f"{webhook.url.removeprefix('http://')} answered 200"
        (request,) = webhook.requests
        assert request.json["event"] == "published"
        assert request.json["tables"] == summary["moved"]
        assert request.json["text"].startswith(f"shop for acme in prod published {len(summary['moved'])} tables: ")
        key = f"{run.first_execution_run_id}-published"
        assert (request.headers["idempotency-key"], request.headers["webhook-id"]) == (key, key)
        stamp = int(request.headers["webhook-timestamp"])
        from entrepot.activities.runtime.hooks import signature

        assert request.headers["webhook-signature"] == signature(b"keykeykeykey", key, stamp, request.content)
        for handle in (run, told_by):
            history = (await handle.fetch_history()).to_json()
            assert "secret-path" not in history
        # Nothing new: nobody is told.
        again = await house.run("shop")
        assert again.outcome == "nothing to do"
        # Nor of what was not meant.
        assert (await house.run("shop", environment="dev")).outcome == "published"
    assert len(webhook.requests) == 1


async def test_a_promotion_and_a_rollback_are_told_too(
    temporal: WorkflowEnvironment, tmp_path: Path, webhook: Webhooks
) -> None:
    async with told(temporal, tmp_path, on_published={"webhook": webhook.url}) as house:
        await house.run("shop", environment="dev")
        target = {"tenant": "acme", "pipeline": "shop"}
        for workflow_type, more in (("Promote", {"like": "dev"}), ("Promote", {"like": "dev"})):
            done = await house.start(workflow_type, {**target, **more}, id=house.task_queue)
            answer = await done.result()
            assert (answer["hooks"], answer["listeners"]) == ([], [])
            if answer["moved"]:
                await (await hook(house, done.first_execution_run_id, "published")).result()
        await house.run("shop", parameters={"limit": 70.0})
        back = await house.start("Rollback", target, id=house.task_queue)
        await back.result()
        await (await hook(house, back.first_execution_run_id, "published")).result()

    texts = sorted(request.json["text"] for request in webhook.requests)
    assert "shop for acme in prod was promoted from dev" in texts
    assert "shop for acme in prod was rolled back" in texts
    assert len(texts) == 3  # the second promotion moved nothing


async def test_what_fails_before_it_is_prepared_is_told_too(
    temporal: WorkflowEnvironment, tmp_path: Path, webhook: Webhooks
) -> None:
    async with told(temporal, tmp_path, on_failure={"webhook": webhook.url, "body": "slack"}) as house:
        run = await begin(house, select="nowhere")
        with pytest.raises(WorkflowFailureError):
            await run.result()
        await (await hook(house, run.first_execution_run_id, "failed")).result()
    (request,) = webhook.requests
    assert list(request.json) == ["text"]
    assert request.json["text"].startswith("shop for acme in prod failed: ")
    assert "nowhere" in request.json["text"]


async def test_a_pipelines_own_hook_takes_the_place_of_its_tenants(
    temporal: WorkflowEnvironment, tmp_path: Path, webhook: Webhooks
) -> None:
    its = {"shop": {"on_published": []}, "slow": {}}
    async with told(temporal, tmp_path, on_published={"webhook": webhook.url}, settings=its) as house:
        run = await begin(house)
        assert (await run.result())["outcome"] == "published"
        listed = [each async for each in house.client.list_workflows(f"TaskQueue = '{house.task_queue}'")]
        assert "Hook" not in {each.workflow_type for each in listed}
    assert webhook.requests == []


async def test_an_answer_of_500_is_asked_again_and_one_of_400_is_not(
    temporal: WorkflowEnvironment, tmp_path: Path, webhook: Webhooks
) -> None:
    webhook.answers, webhook.says = [500, 429, 200], "a moment, please"
    both = [{"webhook": webhook.url}, {"webhook": webhook.url}]
    async with told(temporal, tmp_path, on_published=both[:1]) as house:
        run = await begin(house)
        assert (await run.result())["outcome"] == "published"  # whatever its hooks do
        its = await hook(house, run.first_execution_run_id, "published")
        where = webhook.url.removeprefix("http://")
        assert await retried(its) == f"Unavailable: {said(where, '500 (a moment, please)')} (attempt 1)"
        assert (await its.result())["note"] == f"{where} answered 200"
        assert len(webhook.requests) == 3
        assert len({request.headers["idempotency-key"] for request in webhook.requests}) == 1
        webhook.answers = [404]
        second = await house.start(
            "Pipeline",
            {"tenant": "acme", "pipeline": "shop", "parameters": {"limit": 70.0}},
            id=house.task_queue,
        )
        await second.result()
        its = await hook(house, second.first_execution_run_id, "published")
        with pytest.raises(WorkflowFailureError) as caught:
            await its.result()
        assert said(where, "404 (a moment, please)") in str(caught.value.cause)
        assert "not tried again" in str(caught.value.cause)
    assert len(webhook.requests) == 4


def said(where: str, answer: str) -> str:
    return f"tenant 'acme', pipeline 'shop': webhook: {where} answered {answer}"


async def test_it_is_given_up_after_a_while(
    temporal: WorkflowEnvironment, tmp_path: Path, webhook: Webhooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon = RetryPolicy(initial_interval=timedelta(seconds=0.1), maximum_interval=timedelta(seconds=0.1))
    monkeypatch.setattr(hooks, "SENDING", Persistence(timedelta(seconds=30), soon, timedelta(seconds=2)))
    webhook.answers = [503]
    async with told(temporal, tmp_path, on_published={"webhook": webhook.url}) as house:
        run = await begin(house)
        await run.result()
        its = await hook(house, run.first_execution_run_id, "published")
        with pytest.raises(WorkflowFailureError) as caught:
            await its.result()
        assert "answered 503" in str(caught.value.cause)
        assert str(caught.value.cause).endswith("it is given up after 24 hours")
    assert len(webhook.requests) > 1


@workflow.defn(name="PageSomebody", sandboxed=False)
class PageSomebody:
    """Somebody's own workflow, which has never heard of Entrepot."""

    @workflow.run
    async def run(self, event: dict[str, Any]) -> str:
        return f"{event['event']}: {event['error']}"


async def test_a_workflow_of_ones_own_is_started_and_outlives_the_run(
    temporal: WorkflowEnvironment, tmp_path: Path
) -> None:
    queue = f"pager-{tmp_path.name}"
    its = {"workflow": "PageSomebody", "task_queue": queue}
    async with told(temporal, tmp_path, on_failure=its) as house:
        run = await house.start(
            "Pipeline", {"tenant": "acme", "pipeline": "slow", "parameters": {"most": 10}}, id=house.task_queue
        )
        with pytest.raises(WorkflowFailureError):  # though nobody serves the hook's task queue
            await run.result()
        handle = await hook(house, run.first_execution_run_id, "failed")
        described = await handle.describe()
        assert described.status == WorkflowExecutionStatus.RUNNING
        assert described.typed_search_attributes[process.SEARCH_ATTRIBUTES[0]] == "acme"
        pager = process.worker(
            house.client, [], task_queue=queue, slots=1, throttle=timedelta(seconds=1), workflows=[PageSomebody]
        )
        async with pager:
            said = await handle.result()
        assert said.startswith("failed: ")


async def test_a_check_that_warns_is_told_by_email(
    temporal: WorkflowEnvironment, tmp_path: Path, mail: Mailboxes
) -> None:
    smtp = SmtpSection(host="127.0.0.1", port=mail.port, sender="data@acme.example", tls="none")
    mail.busy, mail.unknown = 1, {"gone@acme.example"}
    its = {"email": ["ops@acme.example", "gone@acme.example"]}
    async with told(temporal, tmp_path, smtp, on_warned=its) as house:
        run = await begin(house)
        summary = await run.result()
        warned = [step["name"] for step in summary["steps"] if step["warned"]]
        assert warned
        its = await hook(house, run.first_execution_run_id, "warned")
        note = (await its.result())["note"]
        assert note == "127.0.0.1 took it for 1 of 2; it refused gone@acme.example"
    (message,) = mail.messages
    assert message["To"] == "ops@acme.example, gone@acme.example"
    assert message["Subject"].startswith("shop for acme in prod published with ")
    assert message["Message-ID"] == f"<{run.first_execution_run_id}-warned@acme.example>"
    assert f"warning: {warned[0]}" in message.get_content()


async def test_who_is_told_starts_with_the_run_alone(temporal: WorkflowEnvironment, tmp_path: Path) -> None:
    """A dry run, and one that is cancelled, tell nobody."""
    its = {"workflow": "PageSomebody", "task_queue": "nobody"}
    every = dict.fromkeys(("on_failure", "on_published", "on_warned"), its)
    async with told(temporal, tmp_path, **every) as house:
        planned = await begin(house, dry_run=True)
        await planned.result()
        slow = {"tenant": "acme", "pipeline": "slow", "parameters": {"seconds": 60.0}}
        cancelled = await house.start("Pipeline", slow)

        async def has_begun() -> bool:
            return bool((await cancelled.query("progress"))["steps"])

        await eventually(has_begun)
        await cancelled.cancel()
        with pytest.raises(WorkflowFailureError):
            await cancelled.result()
        for run in (planned, cancelled):
            types = [event.event_type for event in (await run.fetch_history()).events]
            started = workflow_started()
            assert started not in types


def workflow_started() -> int:
    from temporalio.api.enums.v1 import EventType

    return EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED
