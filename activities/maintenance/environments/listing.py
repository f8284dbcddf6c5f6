"""The lists of environments, of their publishes, and of runs, for people."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from entrepot.activities.catalog.catalog import Catalog, PipelineCatalog
from entrepot.activities.catalog.environment import FORWARD, LEFT, UNDO, Publish
from entrepot.activities.catalog.records import Run, failed_environment
from entrepot.activities.catalog.tables import Row
from entrepot.activities.maintenance.environments.creation import CREATED
from entrepot.activities.maintenance.environments.promotion import PROMOTED
from entrepot.activities.runtime.leases import Leases
from entrepot.activities.runtime.tenant import Tenant
from entrepot.errors import BadInput, unknown
from entrepot.language.names import DEFAULT_ENVIRONMENT
from entrepot.planning.plan import short
from entrepot.protocol.environments import EnvironmentRow, PublishRow, RunRow, RunsInput

MOST_PUBLISHES = 200
MOST_RUNS = 50
MOST_NAMES = 10
"""Of a publish; Temporal takes answers of 2 MB."""


def environment_rows(catalog: Catalog, tenant: Tenant, pipeline: str | None) -> list[EnvironmentRow]:
    """Every environment of which anything is recorded, by pipeline; `prod` first.

    Raises:
        BadInput: for a pipeline of which nothing is known.
    """
    rows = []
    for its in map(catalog.pipeline, _known(catalog, tenant, pipeline)):
        nothing = Publish(0, {})
        heads = {**dict.fromkeys(its.environments(), nothing), **its.heads()}
        prod = heads.get(DEFAULT_ENVIRONMENT, nothing)
        heads |= _left(its, heads)
        for name in sorted(heads, key=lambda name: (name != DEFAULT_ENVIRONMENT, name)):
            head = heads[name]
            rows.append(
                EnvironmentRow(
                    pipeline=its.name,
                    environment=name,
                    names=len(head.pointers),
                    differ=None if name == DEFAULT_ENVIRONMENT else len(head.changed_names(prod.pointers)),
                    published_at=_seconds(head.published_at) if head.sequence or head.action == LEFT else "",
                    action=head.action,
                    run=head.run,
                    behind=head.views_synced < head.sequence,
                )
            )
    return rows


def _left(catalog: PipelineCatalog, heads: Mapping[str, Publish]) -> dict[str, Publish]:
    """What the newest run for each environment has left, where that failed and nobody has published there since."""
    newest: dict[str, Run] = {}
    for run in sorted(catalog.runs(), key=lambda run: run.ended_at):
        newest[run.environment] = run
    found = {}
    for name, run in newest.items():
        published = heads.get(name, Publish(0, {})).published_at
        if (published is None or published < run.ended_at) and (left := catalog.left_by(run)):
            found[failed_environment(run.run)] = left
    return found


def publish_rows(catalog: Catalog, tenant: Tenant, pipeline: str, environment: str) -> list[PublishRow]:
    """The publishes of an environment, the newest first.

    Raises:
        BadInput: if nothing was published there.
    """
    its = catalog.pipeline(pipeline)
    if pipeline not in catalog.pipelines():
        tenant.settings(pipeline)
    history = its.environment(environment).history()
    if not history:
        raise BadInput(f"pipeline {pipeline!r}: {unknown('environment', environment, sorted(its.publishes()))}")
    every = [run for run in its.runs() if run.status in _WHY]
    runs = {run.run: run for run in every if run.environment == environment}
    codes = {run.run: run.about("code") for run in every if run.status == "completed"}
    return [
        PublishRow(
            sequence=publish.sequence,
            published_at=_seconds(publish.published_at),
            action=publish.action,
            run=publish.run,
            moved=len(publish.moved),
            names=publish.moved[:MOST_NAMES],
            why=_why(publish, run := runs.get(publish.run), history[number + 1 :]),
            cause=_cause(run) if run is not None else "",
            code=_code(publish, runs, codes, history[number + 1 :]),
        )
        for number, publish in enumerate(history[:MOST_PUBLISHES])
    ]


def run_rows(catalog: Catalog, tenant: Tenant, asked: RunsInput, leases: Callable[[str], Leases]) -> list[RunRow]:
    """The runs that go on, and those that ended, the newest first; of a pipeline or of all.

    Args:
        leases: Those of a pipeline.

    Raises:
        BadInput: for a pipeline of which nothing is known.
    """
    known = _known(catalog, tenant, asked.pipeline)
    rows = [row for name in known for row in _going_on(name, leases(name).running())] if not asked.environment else []
    ended = [(run, its) for its in map(catalog.pipeline, known) for run in its.runs(asked.environment)]
    ended.sort(key=lambda pair: pair[0].started_at, reverse=True)
    published = {its.name: _published(its.publishes()) for _, its in ended[:MOST_RUNS]}
    return [*rows, *(_ended(run, published[its.name]) for run, its in ended[:MOST_RUNS])]


def _known(catalog: Catalog, tenant: Tenant, pipeline: str | None) -> list[str]:
    known = sorted({*catalog.pipelines(), *tenant.pipelines})
    if pipeline is not None and pipeline not in known:
        raise BadInput(f"tenant {tenant.name!r}: {unknown('pipeline', pipeline, known)}")
    return known if pipeline is None else [pipeline]


def _published(publishes: Mapping[str, Sequence[Publish]]) -> dict[str, str]:
    """The runs that published, each with what it took away."""
    return {
        each.run: _removed(each, history[number + 1 :])
        for history in publishes.values()
        for number, each in enumerate(history)
        if each.action in FORWARD
    }


def _removed(publish: Publish, before: Sequence[Publish]) -> str:
    """What went with a publish. Those before it come the newest first."""
    gone = sorted(before[0].pointers.keys() - publish.pointers.keys()) if before else []
    return f"removed {', '.join(gone[:MOST_NAMES])}" if gone else ""


def _done(run: Run | None, removed: str) -> str:
    """What a run did that published, or what took its place."""
    did = _WHY[run.status](run.steps) if run is not None and (run.steps or not removed) else ""
    return "; ".join(filter(None, (did, removed)))


def _going_on(pipeline: str, leases: Iterable[Row]) -> Iterator[RunRow]:
    for row in sorted(leases, key=lambda row: row["since"], reverse=True):
        yield RunRow(
            run=row["run"],
            pipeline=pipeline,
            environment="",
            status="running",
            started_at=_seconds(row["since"]),
            seconds=None,
            what=row["workflow"],
        )


def _ended(run: Run, published: Mapping[str, str]) -> RunRow:
    status = run.status
    if status == "completed":
        status = "published" if run.run in published else "nothing to do"
    error, _, _ = (run.error or "").partition("\n")
    did = _done(run, published.get(run.run, "")) if status != "nothing to do" and run.status in _WHY else ""
    return RunRow(
        run=run.run,
        pipeline=run.pipeline,
        environment=run.environment,
        status=status,
        started_at=_seconds(run.started_at),
        seconds=(run.ended_at - run.started_at).total_seconds(),
        what=error or did,
        cause=_cause(run),
    )


def _cause(run: Run) -> str:
    """What has begun a run, for people."""
    return ": ".join(filter(None, (run.about("cause"), run.about("why"))))


def _code(publish: Publish, runs: Mapping[str, Run], codes: Mapping[str, str], before: Sequence[Publish]) -> str:
    """Which code made what is shown: that of the run which published it first."""
    if publish.run in codes:
        return codes[publish.run]
    if publish.action in FORWARD:
        run = runs.get(publish.run)
        return codes.get(str(run.summary.get("run")), "") if run is not None else ""
    for number, each in enumerate(before):
        if each.pointers == publish.pointers:
            return _code(each, runs, codes, before[number + 1 :])
    return ""


def _why(publish: Publish, run: Run | None, before: Sequence[Publish]) -> str:
    if publish.action in FORWARD:
        return _done(run, _removed(publish, before))
    if publish.action == UNDO:
        return "a view could not be moved"
    same = next((each for each in before if each.pointers == publish.pointers), None)
    return f"what run {short(same.run)} had published" if same is not None else ""


def _computed(summary: Mapping[str, Mapping[str, object]]) -> str:
    names = sorted(name for name, did in summary.items() if "seconds" in did)  # others asked in vain, or were left
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"computed {', '.join(names[:MOST_NAMES])}{more}" if names else "computed nothing"


def _taken(summary: Mapping[str, object]) -> str:
    return f"what {summary['like']} showed, by run {short(str(summary['run']))}"


_WHY = {"completed": _computed, CREATED: _taken, PROMOTED: _taken}
"""Of the rows in `runs` of those that published, by their status."""


def _seconds(time: datetime.datetime | None) -> str:
    return time.isoformat(sep=" ", timespec="seconds") if time is not None else ""
