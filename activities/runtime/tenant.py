"""Who the work is for: a tenant's warehouse, lake, schemas and pipelines."""

from __future__ import annotations

import datetime
import fnmatch
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, TypeVar

from entrepot import backends, secrets
from entrepot.activities.storage import lake
from entrepot.errors import BadInput, EntrepotError, StepFailed, unknown
from entrepot.identity import imported
from entrepot.identity.version import CATALOG
from entrepot.language.limits import DEFAULTS, UNSAID, OwnLimits, StepLimits
from entrepot.language.names import DEFAULT_ENVIRONMENT, FAILED, NOMINAL_TIME
from entrepot.language.step import Step
from entrepot.pipeline import Pipeline
from entrepot.planning.graph import Graph
from entrepot.protocol.hooks import Hooks, WebhookHook
from entrepot.protocol.messages import Context, Target
from entrepot.protocol.triggers import TriggerSettings
from entrepot.registry import Registry

S = TypeVar("S", bound=Step)


def _time(value: Any) -> datetime.datetime | None:
    """A time that travelled as ISO text, in UTC and without zone; None for what is none."""
    try:
        time = datetime.datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return time.astimezone(datetime.UTC).replace(tzinfo=None) if time.tzinfo else time


@dataclass(frozen=True)
class PipelineSettings:
    """A pipeline, as one tenant runs it."""

    schema: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    hooks: Hooks = field(default_factory=dict)
    told_of: tuple[str, ...] = (DEFAULT_ENVIRONMENT,)
    """Patterns of the environments of whose runs its hooks are told."""
    trigger: TriggerSettings | None = None
    """When it runs, beside its schedules."""
    grants: tuple[str, ...] = ()
    """The tenants whose pipelines may run when it has published."""

    def hooks_in(self, environment: str) -> Hooks:
        """Who is told of runs in an environment."""
        return self.hooks if any(fnmatch.fnmatchcase(environment, pattern) for pattern in self.told_of) else {}


@dataclass(frozen=True)
class Smtp:
    """The server to which email is given."""

    host: str
    sender: str
    port: int = 587
    tls: Literal["starttls", "tls", "none"] = "starttls"
    user: str | None = None
    password: str | None = None
    """Where it stands."""


@dataclass(frozen=True)
class Limits:
    """How much a tenant's warehouse may read, where the warehouse can tell before."""

    bytes_per_step: int | None = None
    bytes_per_run: int | None = None


@dataclass(frozen=True)
class Tenant:
    """A customer or a domain team."""

    name: str
    backend_settings: Mapping[str, Any]
    lake: str
    pipelines: Mapping[str, PipelineSettings]
    environments: tuple[str, ...] = ("prod", "dev", "pr_*")
    """Patterns of the environments that it allows."""
    expires: Mapping[str, datetime.timedelta] = field(default_factory=dict)
    """Patterns of those that a collection drops when nothing was run there for so long."""
    parallel: int = 4
    """Steps of one run that are computed at the same time."""
    slots: int = 8
    """Steps of all its runs that are computed at the same time, over all workers."""
    weight: float = 1.0
    """Its share of the workers when they are all busy."""
    others: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Settings of its further warehouses, by name: to compare with, and to publish to."""
    limits: Limits = Limits()
    step_limits: OwnLimits = UNSAID
    """What holds of its steps, where neither they nor their pipelines say otherwise."""
    parity: str | None = None
    """The further warehouse with which every table must agree before it is published."""
    catalog_schema: str = CATALOG
    """Where the catalog's tables stand in each of its warehouses."""
    prefix: str = ""
    """What stands before the names of its schemas, where it shares a database."""
    smtp: Smtp | None = None
    owned: set[str] = field(default_factory=set, init=False, compare=False, repr=False)
    """Of its lake and its catalog in this warehouse, what is known to be its own."""

    @property
    def references(self) -> frozenset[str]:
        """Where its secrets stand: those of its warehouses, and of sources that its pipelines are given."""
        return _references([self.backend_settings, self.others, [each.parameters for each in self.pipelines.values()]])

    @property
    def not_for_code(self) -> frozenset[str]:
        """Where secrets stand with which its user code has nothing to do: those of its hooks."""
        hooks = (hook for each in self.pipelines.values() for several in each.hooks.values() for hook in several)
        given = [[hook.webhook, hook.secret] for hook in hooks if isinstance(hook, WebhookHook)]
        return _references([*given, [self.smtp and self.smtp.password]])

    @cached_property
    def backend(self) -> backends.Backend:
        """The driver of its warehouse."""
        return backends.create(self.backend_settings, f"tenant {self.name!r}, backend")

    @cached_property
    def _elsewhere(self) -> dict[str, Tenant]:
        made = {}
        for name, settings in self.others.items():
            made[name] = replace(self, backend_settings=settings, others={}, parity=None)
            made[name].__dict__["backend"] = backends.create(settings, f"tenant {self.name!r}, backends.{name}")
        return made

    def without_warehouses(self) -> Tenant:
        """Itself for a process that has only its lake: what opens warehouses stays with the worker."""
        return replace(self, backend_settings={}, others={}, parity=None)

    def close(self) -> None:
        """Closes the connections that its warehouses keep open."""
        for tenant in (self, *self.__dict__.get("_elsewhere", {}).values()):
            if (backend := tenant.__dict__.get("backend")) is not None:
                backend.close()

    @property
    def warehouses(self) -> tuple[str, ...]:
        """The names of its warehouses. The first is where its pipelines run; it is called as its driver is."""
        return (str(self.backend_settings.get("type")), *self.others)

    def at(self, warehouse: str) -> Tenant:
        """The tenant with one of its warehouses in the place of the first; an empty name means the first.

        Raises:
            BadInput: if it has no such warehouse.
        """
        if warehouse in self.others:
            return self._elsewhere[warehouse]
        if warehouse not in ("", self.warehouses[0]):
            raise BadInput(f"tenant {self.name!r}: {unknown('backend', warehouse, self.warehouses)}")
        return self

    def settings(self, pipeline: str) -> PipelineSettings:
        """How the tenant runs a pipeline.

        Raises:
            BadInput: if it does not.
        """
        if pipeline not in self.pipelines:
            raise BadInput(f"tenant {self.name!r}: {unknown('pipeline', pipeline, self.pipelines)}")
        return self.pipelines[pipeline]

    def check_environment(self, environment: str) -> None:
        """Raises BadInput for an environment that the tenant does not have."""
        if environment.startswith(FAILED):
            raise BadInput(
                f"{environment!r} cannot be an environment: what begins with {FAILED!r} is what a failed run has left. "
                "It can be shown, compared, and taken over by `entrepot env create ENV --like` or `env promote`"
            )
        if not any(fnmatch.fnmatchcase(environment, pattern) for pattern in self.environments):
            raise BadInput(f"tenant {self.name!r}: {unknown('environment', environment, self.environments)}")

    def expiry(self, environment: str) -> datetime.timedelta | None:
        """How long an environment stays without a run; None: for ever. Of several patterns the longest counts."""
        every = [after for pattern, after in self.expires.items() if fnmatch.fnmatchcase(environment, pattern)]
        return max(every, default=None)

    def limits_of(self, pipeline: Pipeline) -> StepLimits:
        """What holds of a pipeline's steps that say nothing themselves."""
        return pipeline.limits.over(self.step_limits.over(DEFAULTS))

    def lake_path(self, *parts: str) -> str:
        """A path or URL in the tenant's lake.

        Raises:
            BadInput: for parts that could lead out of it.
        """
        return lake.below(self._root, *parts)

    def in_lake(self, path: str) -> str:
        """A path that the catalog or a file of the lake names, if it is one in the tenant's lake.

        Raises:
            BadInput: if it is not.
        """
        return lake.check_below(self._root, path)

    @property
    def _root(self) -> str:
        return self.lake if "://" in self.lake else os.path.abspath(self.lake)


@dataclass(frozen=True)
class Variables:
    """What a tenant's code has of the worker's environment."""

    references: frozenset[str] = frozenset()
    """Where its secrets stand: it may read them, and what it says does not tell them."""
    hidden: frozenset[str] = frozenset()
    """The environment variables that it has not: they are other tenants', or the worker's own."""


def _references(settings: Any) -> frozenset[str]:
    """The references to secrets in settings."""
    if isinstance(settings, str):
        return frozenset({settings} if settings.startswith(secrets.REFERENCES) else ())
    if isinstance(settings, Mapping):
        settings = list(settings.values())
    return frozenset().union(*map(_references, settings)) if isinstance(settings, list | tuple) else frozenset()


def _variables(references: frozenset[str]) -> frozenset[str]:
    """The environment variables that references lead to."""
    return frozenset(each.removeprefix("env:") for each in references if each.startswith("env:"))


@dataclass
class Tenants:
    """Every tenant that a worker serves, and the pipelines that it can load."""

    tenants: Mapping[str, Tenant]
    registry: Registry
    renew: Callable[[Tenants], None] = lambda tenants: None
    """Brings them up to date with what they were read from; asked whenever a tenant is."""
    behind: str = ""
    """Why they are not what they would be read from now; empty if they are."""

    def get(self, name: str, warehouse: str = "") -> Tenant:
        """The tenant of a name, at one of its warehouses.

        Raises:
            BadInput: for an unknown one.
        """
        self.renew(self)
        if name not in self.tenants:
            raise BadInput(unknown("tenant", name, self.tenants))
        return self.tenants[name].at(warehouse)

    def variables(self, name: str) -> Variables:
        """Where a tenant's secrets stand, and where others' and the worker's do."""
        own = self.tenants[name].references
        others = (each.references for other, each in self.tenants.items() if other != name)
        of_hooks = (each.not_for_code for each in self.tenants.values())
        hidden = _variables(frozenset().union(*others, *of_hooks)) | secrets.of_worker()
        return Variables(own, hidden - _variables(own))

    def shared(self, pipeline: str) -> Variables:
        """What a pipeline's module has as it is imported: what each tenant that runs it may have."""
        running = [self.variables(name) for name, tenant in self.tenants.items() if pipeline in tenant.pipelines]
        hidden = frozenset().union(*(each.hidden for each in running))
        return Variables(frozenset().union(*(each.references for each in running)), hidden)

    def pipeline(self, tenant: str, name: str) -> Pipeline:
        """A tenant's pipeline, loaded and validated.

        Raises:
            BadInput: if the tenant does not run it, or its module cannot be imported.
            PipelineError: if it is not valid.
        """
        self.get(tenant).settings(name)
        pipeline = self.registry.load(name)
        _ = pipeline.graph
        return pipeline

    def graphs(self, tenant: str, pipeline: str | None) -> list[Graph]:
        """The steps of a pipeline; or of all that a tenant runs, by their names.

        Raises:
            BadInput, PipelineError: as `pipeline`.
        """
        names = sorted(self.get(tenant).pipelines) if pipeline is None else [pipeline]
        return [self.pipeline(tenant, name).graph for name in names]

    def told_of(self, context: Context) -> dict[str, Any]:
        """Who learns of a publish that no run has made: triggers and hooks, as `Promoted` has them."""
        its = self.get(context.tenant).settings(context.pipeline).hooks_in(context.environment)
        return {"listeners": self.listeners(context), "hooks": its.get("published", ())}

    def listeners(self, context: Target) -> tuple[str, ...]:
        """The triggers that wait for what a pipeline publishes, as `tenant/pipeline`."""
        of = f"{context.tenant}/{context.pipeline}"
        if context.environment != DEFAULT_ENVIRONMENT:
            return ()
        return tuple(
            f"{name}/{pipeline}"
            for name, tenant in self.tenants.items()
            for pipeline, its in tenant.pipelines.items()
            if its.trigger is not None and of in its.trigger.published
        )

    def graph(self, context: Context) -> Graph | None:
        """The pipeline's steps; None, if its code cannot be loaded: what is to be done may be about just that."""
        try:
            return self.pipeline(context.tenant, context.pipeline).graph
        except EntrepotError:
            return None

    def code(self, pipeline: str) -> str:
        """Which code of a pipeline this worker has: its commit, or the hash of its content; empty if it has none."""
        stamps = self.registry.stamps(pipeline)
        return imported.commit(stamps) or (f"content {imported.content(frozenset(stamps.items()))}" if stamps else "")

    def step(self, context: Context, name: str, kind: type[S]) -> tuple[Pipeline, S, dict[str, Any]]:
        """A step that a plan named, its pipeline, and the values of the pipeline's parameters.

        Raises:
            StepFailed: if the code has no such step any more.
        """
        pipeline = self.pipeline(context.tenant, context.pipeline)
        step = pipeline.graph.steps.get(name)
        if not isinstance(step, kind):
            raise StepFailed(f"{name!r} is no {kind.kind} step of the code that this worker has; start the run again")
        return pipeline, step, parameter_values(pipeline, context.parameters)

    def parameters(self, tenant: str, pipeline: Pipeline, given: Mapping[str, Any]) -> dict[str, Any]:
        """What a tenant and a run set of a pipeline's parameters: merged and checked once, and then carried by the run.

        Raises:
            BadInput: for a parameter that the pipeline does not have, or a value of another type.
        """
        own = self.get(tenant).settings(pipeline.name).parameters
        values = _with(pipeline, _defaults(pipeline), own, f"tenant {tenant!r}")
        _with(pipeline, values, given, "the run")
        return {**own, **given}


def parameter_values(pipeline: Pipeline, carried: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a pipeline's parameters: what a run carries, and the defaults, each of its default's type.

    Raises:
        BadInput: for a parameter that the pipeline does not have, or a value of another type.
    """
    return _with(pipeline, _defaults(pipeline), carried, "the run or its tenant")


def _defaults(pipeline: Pipeline) -> dict[str, Any]:
    """A run gives its nominal time. Who asks outside of a run, such as for SQL, gets this moment."""
    return {**pipeline.parameters, NOMINAL_TIME: datetime.datetime.now(datetime.UTC).replace(tzinfo=None)}


def _with(pipeline: Pipeline, before: Mapping[str, Any], given: Mapping[str, Any], whose: str) -> dict[str, Any]:
    """The values with those that somebody gives in their place, each of the same type; None has none."""
    values = dict(before)
    where = f"pipeline {pipeline.name!r}"
    for name, value in given.items():
        if name not in values:
            raise BadInput(f"{where}, set by {whose}: {unknown('parameter', name, values)}")
        kind = type(values[name])
        if kind is float and type(value) is int:
            values[name] = float(value)
        elif kind is datetime.datetime and (time := _time(value)) is not None:
            values[name] = time
        elif values[name] is None or type(value) is kind:
            values[name] = value
        else:
            raise BadInput(f"{where}: the parameter {name!r} is a {kind.__name__}, and {whose} sets it to {value!r}")
    return values
