"""Records the histories that `test_replay.py` replays: `python -m tests.replay.record`.

Run it when a change of workflow code cannot replay the old ones; that change is then one that running workflows notice.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowFailureError, WorkflowHandle

from entrepot.activities.runtime import triggers
from entrepot.protocol.triggers import Cause, TriggerSettings
from entrepot.worker import process
from entrepot.worker.config.tenant_schema import TenantSection
from tests.conftest import House, serving, settings
from tests.servers.temporal import dev_server

ROOT = Path(__file__).parents[2]
HISTORIES = Path(__file__).parent / "histories" / ".".join(version("entrepot").split(".")[:2])
"""Those of the release that this becomes. Those of earlier releases stay as they were recorded."""
STATE = Path("/tmp/entrepot-history")  # a neutral place: paths in the lake are part of the histories
ONE = TenantSection.model_validate(
    {
        "backend": {"type": "duckdb", "path": "acme.duckdb"},
        "settings": {
            "promised": {
                "parameters": {"folder": str(STATE), "broken": str(STATE / "broken")},
                "on_late": {"workflow": "PageSomebody", "task_queue": "oncall"},
            }
        },
    }
)
TWO = TenantSection(
    backend={"type": "duckdb", "path": "globex.duckdb"},
    backends={"other": {"type": "duckdb", "path": "other.duckdb"}},
    parity="other",
)
PIPELINES = {name: f"tests.pipelines.{name}:{name}" for name in ("shop", "slow", "many", "growing", "promised")}


async def main() -> None:
    """Runs one workflow of each kind, and keeps its history."""
    shutil.rmtree(STATE, ignore_errors=True)
    shutil.rmtree(HISTORIES, ignore_errors=True)
    HISTORIES.mkdir(parents=True)
    async with _house() as house:
        shop = {"tenant": "acme", "pipeline": "shop"}
        await _keep("dry_run", await house.start("Pipeline", {**shop, "dry_run": True}))
        await _keep("first_run", await house.start("Pipeline", shop))
        await _keep("nothing_to_do", await house.start("Pipeline", shop))
        await _keep("one_changed", await house.start("Pipeline", {**shop, "parameters": {"limit": 60.0}}))
        await _keep("selection", await house.start("Pipeline", {**shop, "select": "by_country+", "environment": "dev"}))
        await _keep("transform_alone", await house.start("Transform", {**shop, "environment": "dev"}))
        await _keep("rollback", await house.start("Rollback", shop))
        await _keep("create", await house.start("Create", {**shop, "environment": "pr_1"}))
        await house.run("shop", environment="pr_1", parameters={"limit": 70.0})
        await _keep("diff", await house.start("Diff", {**shop, "environment": "pr_1", "select": "by_country"}))
        await _keep("promote", await house.start("Promote", {**shop, "like": "pr_1", "environment": "dev"}))
        await _keep("gc", await house.start("Gc", {**shop, "keep_days": 0, "keep_publishes": 1}))
        await _keep("bad_input", await house.start("Pipeline", {"tenant": "acme", "pipelin": "shop"}))
        await _keep("unknown_pipeline", await house.start("Pipeline", {"tenant": "acme", "pipeline": "shpo"}))
        slow = {"tenant": "acme", "pipeline": "slow"}
        await _keep("check_blocks", await house.start("Pipeline", {**slow, "parameters": {"most": 10}}))
        cancelled = await house.start("Pipeline", {**slow, "parameters": {"seconds": 60.0}})
        await asyncio.sleep(2)
        await cancelled.cancel()
        await _keep("cancelled", cancelled)
        await _keep("in_batches", await house.start("Pipeline", {"tenant": "acme", "pipeline": "many"}))
        await _keep_growing(house)
        twice = {"tenant": "globex", "pipeline": "shop"}
        await _keep("parity", await house.start("Parity", twice))
        await _keep("parity_again", await house.start("Parity", {**twice, "select": "orders"}))
        await _keep("gated", await house.start("Pipeline", twice, id="gated"))  # its child's id has it
        await _keep_caused(house)
        await _keep_promised(house)
        await _write("slots", house.client.get_workflow_handle(f"globex:slots:{house.task_queue}"))
    shutil.rmtree(STATE)


async def _keep_growing(house: House) -> None:
    """A table that grows: loaded, added to, a range of it again, and in another environment."""
    events = STATE / "events.json"
    asked = {"tenant": "acme", "pipeline": "growing", "select": "events+", "parameters": {"folder": str(STATE)}}
    events.write_text(json.dumps([{"id": 1, "kind": "a"}, {"id": 2, "kind": "b"}]))
    await _keep("appended_first", await house.start("Pipeline", asked))
    events.write_text(json.dumps([{"id": n, "kind": "a", "new": True} for n in range(1, 5)]))
    await _keep("appended", await house.start("Pipeline", asked))
    await _keep("backfilled", await house.start("Pipeline", {**asked, "backfill": {"start": 2, "end": 4}}))
    await _keep("replayed", await house.start("Pipeline", {**asked, "environment": "dev", "replay": "prod"}))
    past = {**asked, "start": 1, "end": 5, "every": 2}
    await _keep("backfill", await house.start("Backfill", past, id="backfill"))  # its children's ids have it
    await _write("backfill_interval", house.client.get_workflow_handle("backfill/1..3"))
    back = {"tenant": "acme", "pipeline": "growing", "cursor": True}
    await _keep("rollback_cursor", await house.start("Rollback", back))


async def _keep_caused(house: House) -> None:
    """A trigger that begins two runs, is told something twice and configured anew; and a hook that is refused."""
    other = TriggerSettings(published=("acme/slow",), debounce=1)
    await triggers.start(house.client, "acme", "shop", TriggerSettings(published=("acme/slow",)), house.task_queue)
    trigger = house.client.get_workflow_handle(triggers.trigger_workflow_id("acme", "shop"))
    for key in ("1", "1", "2"):
        cause = Cause(of="acme/slow", key=key, what="it published", at="2026-11-20T06:00:00")
        await trigger.signal("happened", cause)
        await asyncio.sleep(5)
        await trigger.signal("configure", other)
    await _write("trigger", trigger)
    await trigger.cancel()
    event = {"event": "published", "text": "it published", "run": "r1", "workflow_id": "acme/shop", "at": ""}
    whose = {"tenant": "acme", "pipeline": "shop"}
    told = {**whose, "event": {**whose, **event, "environment": "prod"}, "hook": {"email": ["ops@acme.example"]}}
    await _keep("hook", await house.start("Hook", told))


async def _keep_promised(house: House) -> None:
    """A watch that tells of a breach and its end, and a trigger that runs for promises, once in vain."""
    acme = {"tenant": "acme", "pipeline": "promised"}
    (STATE / "1.csv").write_text("id,amount\n1,10\n")
    await house.run("promised")
    watch = await house.start("Watch", acme, id="watch")  # the ids of what it tells have it
    await watch.signal("look")
    await asyncio.sleep(5)  # `names` promises a second
    await house.run("promised")
    await watch.signal("look")
    await asyncio.sleep(8)
    await _write("watch", watch)
    await watch.cancel()
    (STATE / "broken").touch()
    settings = TriggerSettings(promises=True, environment="dev")
    await triggers.start(house.client, **acme, settings=settings, task_queue=house.task_queue)
    trigger = house.client.get_workflow_handle(triggers.trigger_workflow_id(**acme))
    await asyncio.sleep(8)
    (STATE / "broken").unlink()
    await trigger.signal("configure", settings.model_copy(update={"environment": "prod"}))
    await asyncio.sleep(8)
    await _write("trigger_promises", trigger)
    await trigger.cancel()


@asynccontextmanager
async def _house() -> AsyncIterator[House]:
    async with dev_server() as environment:
        await process.register_search_attributes(environment.client)
        async with serving(environment.client, settings(STATE, PIPELINES, acme=ONE, globex=TWO)) as house:
            yield house


async def _keep(name: str, handle: WorkflowHandle[Any, Any]) -> None:
    with contextlib.suppress(WorkflowFailureError):
        await handle.result()
    await _write(name, handle)


async def _write(name: str, handle: WorkflowHandle[Any, Any]) -> None:
    """Keeps what there is of a history, also of a workflow that goes on."""
    history = _without_machine(json.loads((await handle.fetch_history()).to_json()))
    (HISTORIES / f"{name}.json").write_text(json.dumps(history, separators=(",", ":")) + "\n")
    print(name, len(history["events"]), "events")


def _without_machine(value: Any) -> Any:
    """A history without what only tells where it was recorded: names of processes, paths of the checkout."""
    if isinstance(value, dict):
        return {k: "worker" if k == "identity" else _without_machine(v) for k, v in value.items() if k != "stackTrace"}
    if isinstance(value, list):
        return [_without_machine(each) for each in value]
    if isinstance(value, str) and str(ROOT) in value:
        return value.replace(str(ROOT), "/entrepot")
    return _text_replaced(value) if isinstance(value, str) else value


def _text_replaced(value: str) -> str:
    """Payloads are base64: the paths in them are replaced, too."""
    try:
        text = base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return value
    return base64.b64encode(text.replace(str(ROOT), "/entrepot").encode()).decode() if str(ROOT) in text else value


if __name__ == "__main__":
    asyncio.run(main())
