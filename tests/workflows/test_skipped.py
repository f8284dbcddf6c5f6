"""What is skipped may be, and what runs had to: the clock, and what a function sees beside its inputs."""

from __future__ import annotations

import asyncio
import re
import threading
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio.client import ActivityFailureError
from temporalio.testing import WorkflowEnvironment

from entrepot.activities.publish import view_sync
from entrepot.activities.publish.page_verdicts import with_verdicts
from entrepot.protocol import activities
from entrepot.workflows.progress import Progress, RunSummary
from tests.conftest import House, serving, settings


@pytest_asyncio.fixture
async def watched(temporal: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[House]:
    """The pipeline whose steps see more than their inputs, for the tenant acme."""
    (tmp_path / "kinds").write_text("a b")
    async with serving(temporal.client, settings(tmp_path, {"watched": "tests.pipelines.watched:watched"})) as house:
        yield house


async def run(house: House, **more: Any) -> RunSummary:
    parameters = {"folder": str(house.state), **more.pop("parameters", {})}
    return await house.run("watched", parameters=parameters, **more)


def whys(summary: RunSummary) -> dict[str, str]:
    return {step.name: step.why for step in summary.steps}


async def test_a_check_that_reads_the_clock_finds_when_data_stop(watched: House) -> None:
    until = {"fresh_until": int(time.time()) + 30}  # the first run may take long
    first = await run(watched, parameters=until)
    assert [step.note for step in first.steps if step.name == "stale"] == ["passed"]
    while time.time() < until["fresh_until"] + 1:
        await asyncio.sleep(0.2)
    second = await run(watched, parameters=until)
    assert whys(second) == {
        "stale": "it reads the clock, so it runs every time",
        "stamped": "it reads the clock, so it runs every time",
    }
    assert [step.note[:16] for step in second.steps if step.name == "stale"] == ["2 violating rows"]


async def test_a_transform_that_reads_the_clock_is_computed_every_time(watched: House) -> None:
    seen = []
    for _ in range(2):
        await run(watched)
        seen += watched.query("SELECT DISTINCT looked_at FROM watched.stamped")
    assert len(set(seen)) == 2


async def test_a_run_of_checks_alone_has_published_nothing(watched: House) -> None:
    await run(watched)
    again = await run(watched, select="chosen")
    assert ([step.name for step in again.steps], again.outcome) == (["stale"], "nothing to do")


async def test_a_file_that_is_read_while_an_expression_is_built_is_read_at_every_plan(watched: House) -> None:
    await run(watched)
    assert watched.query("SELECT count(*) FROM watched.chosen") == [(2,)]
    (watched.state / "kinds").write_text("a b c")
    assert whys(await run(watched))["chosen"] == "its code or a parameter changed"
    assert watched.query("SELECT count(*) FROM watched.chosen") == [(3,)]
    (watched.state / "kinds").write_text("b c a")  # the same set
    assert "chosen" not in whys(await run(watched))


@pytest.mark.fast
async def test_two_runs_with_nothing_new_differ_by_what_reads_the_clock_alone(watched: House) -> None:
    await run(watched)
    assert set(whys(await run(watched))) == {"stale", "stamped"}


def standing(summary: RunSummary) -> dict[str, str]:
    return {step.name: str(step.stands) for step in summary.standing}


async def test_a_warning_stands_as_long_as_what_it_is_about_is_shown(watched: House) -> None:
    first = await run(watched, parameters={"most": 1})
    assert {step.name for step in first.steps if step.warned} == {"stale", "few"}
    assert first.standing == []
    [(since,)] = watched.query("SELECT checked_at FROM entrepot.checks WHERE name = 'few'")
    said = (
        '1 violating row, for example {"id": 1, "kind": "b", "fresh_until": 0}, '
        f"since {since:%Y-%m-%d %H:%M} UTC (run {first.run[:13]})"
    )
    again = await run(watched, parameters={"most": 1})
    assert standing(again) == {"few": said}
    assert [step.name for step in again.standing if step.warned] == ["few"]
    assert standing(await run(watched, parameters={"most": 1}, select="stamped"))["few"] == said  # not selected
    planned = await run(watched, parameters={"most": 1}, dry_run=True)
    assert planned.plan is not None
    assert [str(step.stands) for step in planned.plan.steps if step.name == "few"] == [said]
    passed = await run(watched, parameters={"most": 2})  # another rule
    assert standing(passed) == {}
    assert standing(await run(watched, parameters={"most": 2}))["few"].startswith("passed, since ")
    assert standing(await run(watched, parameters={"most": 1})) == {"few": said}


async def test_the_web_uis_table_shows_what_stands(watched: House) -> None:
    await run(watched, parameters={"most": 1})
    again = {"tenant": "acme", "pipeline": "watched", "parameters": {"folder": str(watched.state), "most": 1}}
    handle = await watched.start("Pipeline", again)
    await handle.result()
    progress = Progress.model_validate(await handle.query("progress"))
    (line,) = [line for line in progress.markdown().splitlines() if line.startswith("| few")]
    assert line == "| few\u2003 | ⚠\u00a0warned\u2003 | 1 violating row |"
    (below,) = [line for line in progress.markdown().splitlines() if line.startswith("- **few**: 1 violating row, for")]
    assert ", since 20" in below


def told(page: str) -> list[str]:
    """How a published page says what checks have found: open or closed, and line by line."""
    [block] = re.findall(r'<details class="checks".*?</details>', Path(page).read_text(), re.DOTALL)
    lines = re.findall(r"<(?:summary|li)[^>]*>(.*?)</(?:summary|li)>", block)
    return ["open" if " open>" in block else "closed", *(re.sub(r"20[-:\d ]{14}|run [-\w]+", "…", x) for x in lines)]


STALE = "stale of chosen: Events are &lt;fresh&gt;."
FEW = "few of chosen"
PASSED = "passed since … UTC (…)"


async def test_a_page_says_what_checks_find_though_it_is_not_made_anew(watched: House) -> None:
    until = {"fresh_until": int(time.time()) + 30}  # the first run may take long
    page = (await run(watched, parameters=until)).links["board"]
    assert told(page) == ["closed", "2 checks passed", f"{STALE} · {PASSED}", f"{FEW} · {PASSED}"]
    while time.time() < until["fresh_until"] + 1:
        await asyncio.sleep(0.2)
    second = await run(watched, parameters=until)
    assert "board" not in whys(second)
    found = [f"{STALE} · <b>2 violating rows since … UTC (…)</b>", f"{FEW} · {PASSED}"]
    assert told(page) == ["open", "⚠ 1 of 2 checks found violations", *found]
    shown = Path(page).read_text()  # what is told above is told again beside what it guards
    assert re.findall(r'<li data-of="(.*?)">(\w+)', shown) == [("chosen", "stale")]
    assert re.findall(r'<section class="card wide" data-shows="(.*?)">', shown) == ["chosen"]
    await run(watched, parameters=until)
    assert f"(run {second.run[:13]})" in Path(page).read_text()  # it stands since then
    assert "fresh_until" not in Path(page).read_text()  # whoever may see the page may not see the violating rows


async def test_a_page_tells_verdicts_by_the_rule_that_the_run_has(watched: House) -> None:
    for most, said in (
        (1, "<b>1 violating row since … UTC (…)</b>"),
        (2, PASSED),
        (1, "<b>1 violating row since … UTC (…)</b>"),
    ):
        page = (await run(watched, parameters={"most": most})).links["board"]
        assert f"{FEW} · {said}" in told(page)


async def test_a_page_that_is_held_tells_of_what_it_shows_and_not_of_what_is_newer(watched: House) -> None:
    page = (await run(watched, parameters={"most": 2})).links["board"]
    (watched.state / "kinds").write_text("a b c")
    await run(watched, parameters={"most": 2}, select="chosen")
    assert f"{FEW} · {PASSED}" in told(page)
    await run(watched, parameters={"most": 2})
    assert f"{FEW} · <b>1 violating row since … UTC (…)</b>" in told(page)
    await rolled_back(watched, "watched")
    assert f"{FEW} · {PASSED}" in told(page)


async def test_a_page_is_the_published_one_though_it_is_written_late(
    watched: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run with nothing to publish has read the page when another publishes a new one, and writes after it."""
    page = Path((await run(watched)).links["board"])
    has_read, has_published = threading.Event(), threading.Event()

    def slow(data: bytes, *more: Any) -> bytes:
        told = with_verdicts(data, *more)
        if not has_read.is_set():
            has_read.set()
            assert has_published.wait(300)
        return told

    monkeypatch.setattr(view_sync, "with_verdicts", slow)
    late = asyncio.create_task(run(watched))
    assert await asyncio.to_thread(has_read.wait, 300)
    (watched.state / "kinds").write_text("a b c")
    assert (await run(watched)).outcome == "published"
    published = page.read_text()
    has_published.set()
    await late
    assert page.read_text() == published


async def test_a_verdict_that_reads_the_clock_stands_since_it_is_that(watched: House) -> None:
    first = await run(watched)
    await run(watched)
    held = await run(watched, select="stamped")
    assert next(str(s.stands) for s in held.standing if s.name == "stale").endswith(f"(run {first.run[:13]})")


async def test_all_violating_rows_that_were_kept_are_listed(watched: House) -> None:
    first = await run(watched, parameters={"most": 1})
    await run(watched, parameters={"most": 1}, environment="dev")

    async def listed(**more: str) -> list[tuple[Any, ...]]:
        rows = await asked(watched, activities.CHECKS.name, tenant="acme", pipeline="watched", **more)
        assert [row["checked_at"] for row in rows] == sorted((row["checked_at"] for row in rows), reverse=True)
        return [(row["check"], row["violations"], row["environments"]) for row in rows]

    stale, few = ("stale", 2, ["dev", "prod"]), ("few", 1, ["dev", "prod"])
    newest, *others = await listed()
    assert (newest, sorted(others)) == (stale, [few, stale])  # the two of one run end in any order
    assert sorted(await listed(run=first.run[:20])) == [few, stale]
    assert await listed(table="stamped") == await listed(environment="pr_1") == []
    assert len(await listed(table="chosen", environment="dev")) == 3
    with pytest.raises(ActivityFailureError) as caught:
        await listed(tabel="chosen")
    assert "unknown field 'tabel'; did you mean 'table'?" in str(caught.value.cause)


async def asked(house: House, activity: str, **value: str) -> Any:
    return await house.client.execute_activity(
        activity,
        value,
        id=uuid.uuid4().hex,
        task_queue=house.task_queue,
        result_type=list,
        start_to_close_timeout=timedelta(minutes=1),
    )


CHANGING = """
from ibis import _
from entrepot import Pipeline

{name} = Pipeline("{name}")

@{name}.ingest(tables=["raw"])
def source():
    return [{{"id": 1, "x": 2}}]

@{name}.transform
def a(raw):
    return raw.mutate({a})

@{name}.transform
def b(a):
    return a.mutate({b})
"""


@dataclass
class Changing:
    """A pipeline whose file is written anew while it is served."""

    house: House
    file: Path

    def write(self, a: str, b: str) -> None:
        self.file.write_text(CHANGING.format(name=self.file.stem, a=a, b=b))

    async def run(self, **more: Any) -> RunSummary:
        return await self.house.run(self.file.stem, **more)

    def rows(self) -> list[tuple[Any, ...]]:
        return self.house.query(f"SELECT * FROM {self.file.stem}.b")


@pytest_asyncio.fixture
async def changing(
    temporal: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Changing]:
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"changing_{uuid.uuid4().hex[:8]}"
    loaded = settings(tmp_path, {name: f"{name}:{name}"})
    async with serving(temporal.client, loaded, reload=True) as house:
        yield Changing(house, tmp_path / f"{name}.py")


async def test_a_selected_step_is_computed_over_what_the_environment_shows_of_another(changing: Changing) -> None:
    changing.write(a="y=_.x * 2", b="z=_.y + 1")
    await changing.run()
    assert changing.rows() == [(1, 2, 4, 5)]
    changing.write(a="y=_.x * 3, w=0", b="z=_.y + 2")
    await changing.run(select="b")
    assert changing.rows() == [(1, 2, 4, 6)]
    await changing.run()
    assert changing.rows() == [(1, 2, 6, 0, 8)]


async def test_a_selected_step_that_needs_what_only_new_code_of_another_makes_is_told(changing: Changing) -> None:
    changing.write(a="y=_.x * 2", b="z=_.y + 1")
    await changing.run()
    changing.write(a="y=_.x * 3, w=0", b="z=_.w + 2")
    name = changing.file.stem
    failure = await changing.house.fail(tenant="acme", pipeline=name, select="b")
    assert f"{changing.file}:15: transform 'b' raised AttributeError" in failure.message
    assert (
        f"{changing.file}:11: 'a' is not selected, and prod shows it without 'w', which its new code makes; "
        "select it, too"
    ) in failure.message
    assert (await changing.run(select="a b")).outcome == "published"


BLOCKING = """
import ibis
from ibis import _
from entrepot import Dashboard, Pipeline

{name} = Pipeline("{name}")

@{name}.ingest(tables=["raw"])
def source():
    return [{{"until": {until}}}]

@{name}.check("raw")
def fresh(raw):
    return raw.filter(_.until < ibis.now().epoch_seconds())

@{name}.publish
def page(raw):
    return Dashboard("Page", panels=[])
"""


async def test_a_run_that_a_check_blocks_leaves_the_page_with_its_verdict(changing: Changing) -> None:
    until, name = int(time.time()) + 20, changing.file.stem  # the first run is over by then
    changing.file.write_text(BLOCKING.format(name=name, until=until))
    page = (await changing.run()).links["page"]
    assert told(page) == ["closed", "1 check passed", f"fresh of raw · {PASSED}"]
    while time.time() < until + 1:
        await asyncio.sleep(0.2)
    await changing.house.fail(tenant="acme", pipeline=name)
    assert told(page)[2:] == ["fresh of raw · <b>1 violating row since … UTC (…)</b>"]


async def test_a_page_that_is_rolled_back_says_when_nothing_is_known_of_checks(changing: Changing) -> None:
    name = changing.file.stem
    for until in (1, 2):
        changing.file.write_text(BLOCKING.format(name=name, until=until).replace('"raw")', '"raw", severity="warn")'))
        page = (await changing.run()).links["page"]
    assert told(page)[1] == "⚠ 1 of 1 checks found violations"
    changing.file.write_text("this is no Python")
    await rolled_back(changing.house, name)
    assert "What checks have found on this is not known: their code could not be loaded." in Path(page).read_text()


async def rolled_back(house: House, pipeline: str) -> None:
    asked = {"tenant": "acme", "pipeline": pipeline}
    await house.client.execute_workflow("Rollback", asked, id=uuid.uuid4().hex, task_queue=house.task_queue)
