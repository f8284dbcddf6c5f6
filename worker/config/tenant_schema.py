"""The shape of the tenant file: its sections, and what each value may be."""

from __future__ import annotations

import fnmatch
import functools
import math
import re
import zoneinfo
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from entrepot.errors import BadInput, unknown
from entrepot.identity.version import CATALOG, check_schema, prefixed
from entrepot.language.limits import LONGEST, MOST_ATTEMPTS, size
from entrepot.language.names import DEFAULT_ENVIRONMENT, ENVIRONMENT, PIPELINE, SCHEMA, SETTING, EnvironmentName, shown
from entrepot.worker.config.hook_schema import HooksSection, SmtpSection
from entrepot.worker.config.section import Duration, Section
from entrepot.worker.config.trigger_schema import TriggeredSection
from entrepot.worker.schedules import cron

OVERLAPS = ("skip", "buffer_one", "buffer_all", "cancel_other", "terminate_other", "allow_all")
SHORTEST_CATCH_UP = timedelta(seconds=10)
_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(:[A-Za-z_]\w*)?")
_LEADS_AWAY = re.compile(r"(^|/)\.\.?(/|$)|\\|%(2e|2f|5c)", re.IGNORECASE)
_PATTERN = re.compile(r"[a-z0-9_*?]+")


def _limited(found: timedelta) -> timedelta:
    if found > LONGEST:
        raise ValueError(f"it is longer than {LONGEST.days} days")
    return found


def _schema(value: str) -> str:
    try:
        check_schema(value)
    except BadInput as error:
        raise ValueError(str(error)) from None
    return value


def _lake(value: str) -> str:
    if not value.isprintable() or ("://" in value and _LEADS_AWAY.search(value)):
        raise ValueError(f"{shown(value)} is no place of a lake: it has '..', a backslash or what cannot be seen")
    return value


def _pattern(value: str) -> str:
    if not _PATTERN.fullmatch(value):
        rule = "use lower-case letters, digits, '_', and '*' for any"
        raise ValueError(f"{shown(value)} is not a valid environment: {rule}")
    example = value.replace("*", "a").replace("?", "a")
    if problem := ENVIRONMENT.problem(example):
        raise ValueError(problem if example == value else f"{shown(value)} matches no valid environment: {problem}")
    return value


def _cron(value: str) -> str:
    cron.parse(value)
    return value


@functools.cache
def _zones() -> frozenset[str]:
    """Found by walking a folder of 600 files."""
    return frozenset(zoneinfo.available_timezones())


def _zone(value: str) -> str:
    if value not in _zones():
        raise ValueError(unknown("time zone", value, _zones()))
    return value


def _overlap(value: str) -> str:
    if value not in OVERLAPS:
        raise ValueError(unknown("overlap policy", value, OVERLAPS))
    return value


def _reference(value: str) -> str:
    if not _REFERENCE.fullmatch(value):
        raise ValueError(f"{value!r} is not a pipeline reference: write 'module:object', such as 'acme.sales:sales'")
    return value


def _values(parameters: dict[str, Any]) -> dict[str, Any]:
    """Parameters travel as JSON, which has no dates and no infinity."""
    for name, value in parameters.items():
        for each in value if isinstance(value, list) else [value]:
            finite = not isinstance(each, float) or math.isfinite(each)
            if not isinstance(each, str | int | float | bool) or not finite:
                raise ValueError(f"parameter {name!r} must be text, a number, true, false or a list, not {each}")
    return parameters


_SizeText = Annotated[str, Field(pattern=r"^[0-9]{1,15}(\.[0-9]{1,15})? ?([KMGTPkmgtp][Ii]?)?[Bb]$")]
LimitedDuration = Annotated[Duration, AfterValidator(_limited)]
Size = Annotated[int, BeforeValidator(size, json_schema_input_type=_SizeText)]
Name = Annotated[str, SETTING]
Pipelines = Annotated[str, replace(PIPELINE, refusal=SETTING.refusal)]
Parameters = Annotated[dict[str, Any], AfterValidator(_values)]


class ScheduleSection(Section):
    """When a tenant's pipeline runs: `cron` or `every`, not both."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["cron"]}, {"required": ["every"]}]})

    pipeline: str
    name: Name | None = None
    """Tells several schedules of the same pipeline and environment apart."""
    cron: Annotated[str, AfterValidator(_cron)] | None = None
    every: Duration | None = None
    """An interval: `30m`, `6h`, `1d`. Counted from midnight UTC of 1 January 1970."""
    time_zone: Annotated[str, AfterValidator(_zone)] | None = None
    """Of `cron`. Default: UTC."""
    environment: EnvironmentName = DEFAULT_ENVIRONMENT
    select: str | None = Field(default=None, min_length=1)
    parameters: Parameters = {}
    jitter: Duration | None = None
    """Starts are spread over this long: `5m`."""
    overlap: Annotated[str, AfterValidator(_overlap), Field(json_schema_extra={"enum": [*OVERLAPS]})] = "skip"
    """What happens when the schedule's run before is still going on: see `OVERLAPS`."""
    catch_up: Duration = timedelta(days=1)
    """Starts missed while Temporal was down are made up for, if they are not older than this."""
    paused: bool = False
    """Whether the schedule is created paused; whoever pauses or resumes it later is not overruled."""

    @field_validator("catch_up")
    @classmethod
    def _is_long_enough(cls, value: timedelta) -> timedelta:
        if value < SHORTEST_CATCH_UP:
            raise ValueError(f"'{value.seconds}s' is too short: Temporal takes 10s or more")
        return value

    @model_validator(mode="after")
    def _one_of_two(self) -> ScheduleSection:
        if (self.cron is None) == (self.every is None):
            raise ValueError("a schedule has either `cron` or `every`")
        if self.every is not None and self.time_zone is not None:
            raise ValueError("`time_zone` goes with `cron`; an interval is counted in UTC")
        return self


class PipelineSection(HooksSection, TriggeredSection):
    """A pipeline, as a tenant runs it."""

    schema_: Annotated[str, SCHEMA, AfterValidator(_schema)] | None = Field(default=None, alias="schema")
    parameters: Parameters = {}


class LimitsSection(Section):
    """What may be read in the tenant's warehouse, where that can be told before (BigQuery): such as `500GB`. And what
    holds of its steps where neither they nor their pipelines say otherwise."""

    bytes_per_step: Size | None = None
    bytes_per_run: Size | None = None
    timeout: LimitedDuration | None = None
    memory: Size | None = None
    attempts: int | None = Field(default=None, ge=1, le=MOST_ATTEMPTS)
    backoff: LimitedDuration | None = None

    @property
    def reads(self) -> bool:
        """Whether it limits what is read."""
        return (self.bytes_per_step, self.bytes_per_run) != (None, None)


class GcSection(Section):
    """When a tenant's garbage is collected by itself, and what is kept: see `GcInput`."""

    every: Duration = timedelta(days=1)
    keep_days: float = Field(default=7, ge=0)
    keep_publishes: int = Field(default=3, ge=1)


class TenantSection(HooksSection):
    """A tenant."""

    backend: dict[str, Any]
    backends: dict[Name, dict[str, Any]] = {}
    """Further warehouses: to compare with, and to publish to."""
    limits: LimitsSection = LimitsSection()
    parity: str | None = None
    """The name of a further warehouse with which every table must agree before it is published."""
    lake: Annotated[str, AfterValidator(_lake)] | None = Field(default=None, min_length=1)
    prefix: Annotated[str, replace(SCHEMA, besides=frozenset({""}))] = ""
    """Stands, with an underscore, before the name of each of its schemas, the catalog's included: so that many tenants
    can share a database."""
    environments: list[Annotated[str, AfterValidator(_pattern)]] = Field(default=["prod", "dev", "pr_*"], min_length=1)
    expires: dict[Annotated[str, AfterValidator(_pattern)], Duration] = {}
    """Patterns of environments that a collection drops when nothing was run there for so long, such as `pr_*`."""
    gc: GcSection = GcSection()
    parallel: int = Field(default=4, ge=1, le=64)
    slots: int = Field(default=8, ge=1, le=1000)
    weight: float = Field(default=1.0, ge=0.001, le=1000)
    pipelines: list[str] | None = Field(default=None, min_length=1)
    """Those that it runs. Default: every known one, also those that come later."""
    settings: dict[str, PipelineSection] = {}
    """What holds of pipelines here and not elsewhere. It says nothing of which are run."""
    schedules: list[ScheduleSection] = []
    hooks_for: list[Annotated[str, AfterValidator(_pattern)]] = [DEFAULT_ENVIRONMENT]
    """Patterns of the environments of whose runs hooks are told."""

    @property
    def catalog_schema(self) -> str:
        """Where its catalog stands."""
        return prefixed(self.prefix, CATALOG)

    def runs(self, known: Iterable[str]) -> list[str]:
        """The pipelines that it runs: those that it names, or else all that are known."""
        return list(dict.fromkeys(known if self.pipelines is None else self.pipelines))

    def of(self, pipeline: str) -> PipelineSection:
        """What holds of a pipeline here."""
        return self.settings.get(pipeline, PipelineSection())

    def schemas(self, known: Iterable[str]) -> dict[str, str]:
        """The schemas of the pipelines that it runs."""
        return {name: prefixed(self.prefix, self.of(name).schema_ or name) for name in self.runs(known)}

    @model_validator(mode="after")
    def _expire_what_there_is(self) -> TenantSection:
        for pattern in self.expires:
            if fnmatch.fnmatchcase(DEFAULT_ENVIRONMENT, pattern):
                raise ValueError(f"`expires`: {pattern!r} would drop {DEFAULT_ENVIRONMENT}, which never expires")
            if pattern not in self.environments:
                raise ValueError(f"`expires`: {unknown('environment', pattern, self.environments)}")
        return self


class File(Section):
    """The whole file, but for what is in the tenants' sections."""

    pipelines: dict[Pipelines, Annotated[str, AfterValidator(_reference)]] = {}
    tenants: dict[str, Any] = Field(min_length=1)
    smtp: SmtpSection | None = None
