"""The shape of a pipeline's trigger in the tenant file, and what no single one shows: grants and loops."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from entrepot.errors import unknown
from entrepot.language.names import DEFAULT_ENVIRONMENT, PIPELINE, TENANT, EnvironmentName, shown
from entrepot.protocol.triggers import TriggerSettings
from entrepot.worker.config.section import Duration, Section

if TYPE_CHECKING:
    from entrepot.worker.config.settings import Settings
    from entrepot.worker.config.tenant_schema import TenantSection

SHORTEST_LOOK = timedelta(seconds=10)
_PIPELINE = re.compile(rf"({TENANT.pattern.pattern}/)?{PIPELINE.pattern.pattern}")


def _pipeline(value: str) -> str:
    if not _PIPELINE.fullmatch(value):
        raise ValueError(f"{shown(value)} is no pipeline: write 'shop', or 'acme/shop' for another tenant's")
    return value


class TriggerSection(Section):
    """When a pipeline runs beside its schedules."""

    published: list[Annotated[str, AfterValidator(_pipeline)]] = []
    """Pipelines of the tenant, or as `acme/shop` of others who have granted it."""
    source: Duration | None = None
    """How often its sources are looked at."""
    deployed: bool = False
    promises: bool = False
    """Whether what promises to be fresh is run when that is needed."""
    environment: EnvironmentName = DEFAULT_ENVIRONMENT
    """Where its runs publish."""
    when: Literal["any", "all"] = "any"
    """Whether one of these is enough."""
    debounce: Duration | None = None
    """How long nothing more has to happen before a run begins."""
    quiet: Duration | None = None
    """How long after a run began no other begins."""

    @field_validator("source")
    @classmethod
    def _is_not_too_often(cls, value: timedelta | None) -> timedelta | None:
        if value is not None and value < SHORTEST_LOOK:
            raise ValueError(f"'{value.seconds}s' is too often: sources are looked at every 10s or less often")
        return value

    @model_validator(mode="after")
    def _has_a_cause(self) -> TriggerSection:
        if not (self.published or self.source or self.deployed or self.promises):
            raise ValueError("a trigger has at least one of `published`, `source`, `deployed` and `promises`")
        if self.promises and self.when == "all":
            raise ValueError("`promises` goes with when = 'any': a promise is not kept by waiting for something else")
        return self

    def of(self, tenant: str) -> TriggerSettings:
        """What its workflow is told."""
        return TriggerSettings(
            published=tuple(dict.fromkeys(whole(name, tenant) for name in self.published)),
            source=self.source.total_seconds() if self.source else None,
            deployed=self.deployed,
            promises=self.promises,
            environment=self.environment,
            when=self.when,
            debounce=self.debounce.total_seconds() if self.debounce else 0,
            quiet=self.quiet.total_seconds() if self.quiet else 0,
        )


class TriggeredSection(Section):
    """What a pipeline's section says of triggers."""

    trigger: TriggerSection | None = None
    grants: list[Annotated[str, TENANT]] = Field(default=[])
    """The tenants whose pipelines may run when this one has published."""


def whole(name: str, tenant: str) -> str:
    """A pipeline with its tenant."""
    return name if "/" in name else f"{tenant}/{name}"


def trigger_problems(settings: Settings, known: Mapping[str, str]) -> Iterator[str]:
    """Pipelines that do not exist or were not granted, and loops: each would run for ever."""
    waits: dict[str, tuple[str, ...]] = {}
    for name, tenant in settings.tenants.items():
        for pipeline, section in tenant.settings.items():
            where = f"tenants.{name}.settings.{pipeline}"
            for other in section.grants:
                if other not in settings.tenants:
                    yield f"{where}.grants: {unknown('tenant', other, settings.tenants)}"
            if section.trigger is None:
                continue
            its = section.trigger.of(name)
            if not any(fnmatch.fnmatchcase(its.environment, pattern) for pattern in tenant.environments):
                yield f"{where}.trigger.environment: {unknown('environment', its.environment, tenant.environments)}"
            if its.environment == DEFAULT_ENVIRONMENT:  # publishes elsewhere cause nothing
                waits[f"{name}/{pipeline}"] = its.published
            for other in its.published:
                if problem := _problem(settings.tenants, known, name, *other.split("/")):
                    yield f"{where}.trigger.published: {problem}"
    for loop in loops(waits):
        first = loop[0].replace("/", ".settings.")
        steps = " → ".join((*loop, loop[0]))
        yield f"tenants.{first}.trigger.published: {steps} is a loop: each publish would cause the next, for ever"


def _problem(
    tenants: Mapping[str, TenantSection], known: Mapping[str, str], listener: str, tenant: str, pipeline: str
) -> str:
    if tenant not in tenants:
        return unknown("tenant", tenant, tenants)
    runs = tenants[tenant].runs(known)
    if pipeline not in runs:
        return (f"tenant {tenant!r}: " if tenant != listener else "") + unknown("pipeline", pipeline, runs)
    if tenant != listener and listener not in tenants[tenant].of(pipeline).grants:
        return (
            f"{tenant!r} has not granted {pipeline!r} to {listener!r}: write grants = [{listener!r}] at "
            f"[tenants.{tenant}.settings.{pipeline}]"
        )
    return ""


def loops(waits: Mapping[str, tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The loops among pipelines that wait for each other, each once, as what publishes to what runs."""
    runs: dict[str, list[str]] = {}
    for waiting, others in waits.items():
        for other in others:
            runs.setdefault(other, []).append(waiting)
    found: dict[frozenset[str], tuple[str, ...]] = {}
    done: set[str] = set()
    for root in sorted(runs):
        path: list[str] = []
        on_path: set[str] = set()
        to_do: list[tuple[str, bool]] = [(root, False)]
        while to_do:
            node, is_left = to_do.pop()
            if is_left:
                path.pop()
                on_path.discard(node)
                done.add(node)
            elif node in on_path:
                loop = path[path.index(node) :]
                least = loop.index(min(loop))
                found.setdefault(frozenset(loop), tuple(loop[least:] + loop[:least]))
            elif node not in done:
                path.append(node)
                on_path.add(node)
                to_do.append((node, True))
                to_do += [(after, False) for after in sorted(runs.get(node, ()), reverse=True)]
    return list(found.values())
