"""The tenant file: who is served, where their data stands, which pipelines they run and when.

One TOML file, `tenants.toml`, found by `--tenants`, else `ENTREPOT_TENANTS`, else in the current folder. Without one there is
a single tenant, `local`, that runs every known pipeline on a DuckDB file in the state folder. Relative paths are relative to
the state folder, so that a checkout can be read-only.
"""

from __future__ import annotations

import os
import re
import tomllib
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from activities.messages import RunInput
from entrepot.errors import BadInput, EntrepotError, unknown
from entrepot.graph import NAME

if TYPE_CHECKING:
    from activities.tenant import Tenants

DEFAULT_FILE = "tenants.toml"
DEFAULT_STATE = ".entrepot"
LOCAL_TENANT = "local"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ScheduleSection(_Section):
    """When a tenant's pipeline runs: `cron` or `every`, not both."""

    pipeline: str
    cron: str | None = None
    every: str | None = None
    """An interval: `30m`, `6h`, `1d`."""
    time_zone: str = "UTC"
    environment: str = "prod"
    select: str | None = None
    parameters: dict[str, Any] = {}
    jitter: str | None = None
    """Starts are spread over this long: `5m`."""
    overlap: str = "skip"
    """What happens when the run before is still going: `skip`, `buffer_one` or `allow_all`."""
    catch_up: str = "1d"
    """Starts missed while Temporal was down are made up for, if they are not older than this."""
    paused: bool = False
    """Whether the schedule is created paused; whoever pauses it later is not overruled."""

    @field_validator("every", "jitter", "catch_up")
    @classmethod
    def _is_duration(cls, value: str | None) -> str | None:
        if value is not None:
            seconds(value)
        return value

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith("@") and len(value.split()) not in (5, 6, 7):
            raise ValueError(f"{value!r} is no cron expression: write five fields, such as '0 6 * * *'")
        return value

    @field_validator("time_zone")
    @classmethod
    def _is_zone(cls, value: str) -> str:
        if value not in zoneinfo.available_timezones():
            raise ValueError(unknown("time zone", value, zoneinfo.available_timezones()))
        return value

    @field_validator("overlap")
    @classmethod
    def _is_overlap(cls, value: str) -> str:
        if value not in OVERLAPS:
            raise ValueError(unknown("overlap policy", value, OVERLAPS))
        return value

    @model_validator(mode="after")
    def _one_of_two(self) -> ScheduleSection:
        if (self.cron is None) == (self.every is None):
            raise ValueError("a schedule has either `cron` or `every`")
        return self

    @property
    def input(self) -> RunInput:
        """What the schedule starts, but for the tenant."""
        return RunInput(
            tenant="-",
            pipeline=self.pipeline,
            environment=self.environment,
            select=self.select,
            parameters=self.parameters,
        )


OVERLAPS = ("skip", "buffer_one", "allow_all")


class PipelineSection(_Section):
    """A pipeline, as a tenant runs it."""

    schema_: str | None = Field(default=None, alias="schema")
    parameters: dict[str, Any] = {}

    @field_validator("schema_")
    @classmethod
    def _is_name(cls, value: str | None) -> str | None:
        if value is not None and not NAME.fullmatch(value):
            raise ValueError(f"{value!r} cannot name a schema: use lower-case letters, digits and single underscores")
        return value


class TenantSection(_Section):
    """A tenant."""

    backend: dict[str, Any]
    lake: str | None = None
    environments: list[str] = ["prod", "dev", "pr_*"]
    parallel: int = Field(default=4, ge=1, le=64)
    weight: float = Field(default=1.0, gt=0)
    pipelines: dict[str, PipelineSection] = {}
    schedules: list[ScheduleSection] = []


class _File(_Section):
    pipelines: dict[str, str] = {}
    tenants: dict[str, TenantSection]


@dataclass(frozen=True)
class Settings:
    """A validated tenant file, and where the state is."""

    file: Path | None
    state: Path
    references: Mapping[str, str]
    """Pipeline names to `module:object`."""
    tenants: Mapping[str, TenantSection] = field(default_factory=dict)

    def connect(self, *, reload: bool = False) -> Tenants:
        """The tenants as activities know them."""
        from activities.tenant import PipelineSettings, Tenant, Tenants
        from entrepot.loading import Registry

        registry = Registry(self.references, reload=reload)
        tenants = {}
        for name, section in self.tenants.items():
            sections = section.pipelines or {n: PipelineSection() for n in registry.references}
            tenants[name] = Tenant(
                name=name,
                backend_settings=self._resolved(section.backend),
                lake=self._place(section.lake or f"lake/{name}"),
                pipelines={n: PipelineSettings(p.schema_ or n, p.parameters) for n, p in sections.items()},
                environments=tuple(section.environments),
                parallel=section.parallel,
                weight=section.weight,
            )
        return Tenants(tenants, registry)

    def _resolved(self, backend: Mapping[str, Any]) -> dict[str, Any]:
        return {k: self._place(v) if k == "path" and isinstance(v, str) else v for k, v in backend.items()}

    def _place(self, path: str) -> str:
        return path if "://" in path else str(self.state / path)


def load(file: str | None = None, state: str | None = None) -> Settings:
    """Reads and validates the tenant file.

    Raises:
        BadInput: with everything that is wrong with it, each line naming the place.
    """
    folder = Path(state or os.environ.get("ENTREPOT_STATE") or DEFAULT_STATE).absolute()
    given = file or os.environ.get("ENTREPOT_TENANTS")
    path = Path(given) if given else Path(DEFAULT_FILE)
    if not path.exists():
        if given:
            raise BadInput(f"there is no tenant file {given!r}")
        return Settings(None, folder, {}, {LOCAL_TENANT: TenantSection(backend={"type": "duckdb", "path": "local.duckdb"})})
    try:
        content = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{path} is not valid TOML: {error}") from None
    except OSError as error:
        raise BadInput(f"cannot read the tenant file {path}: {error.strerror}") from None
    try:
        parsed = _File.model_validate(content)
    except ValidationError as error:
        raise BadInput(_said(path, [_sentence(dict(e)) for e in error.errors(include_url=False)])) from None
    settings = Settings(path.absolute(), folder, parsed.pipelines, parsed.tenants)
    if problems := list(_problems(settings)):
        raise BadInput(_said(path, problems))
    return settings


def seconds(text: str) -> int:
    """A duration such as `90s`, `30m`, `6h` or `1d`, in seconds."""
    match = re.fullmatch(r"(\d+)\s*([smhd])", text.strip())
    if match is None or int(match[1]) == 0:
        raise ValueError(f"{text!r} is no duration: write a number and s, m, h or d, such as '6h'")
    return int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


def _problems(settings: Settings) -> list[str]:
    """What no single value shows: names that do not exist, places that two tenants share."""
    from entrepot.loading import Registry

    known = Registry(settings.references).references
    problems = []
    places: dict[tuple[Any, ...], str] = {}
    for name, tenant in settings.tenants.items():
        where = f"tenants.{name}"
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
            problems.append(f"{where}: a tenant's name has lower-case letters, digits, '-' and '_'")
        for pipeline in tenant.pipelines:
            if pipeline not in known:
                problems.append(f"{where}.pipelines: {unknown('pipeline', pipeline, known)}")
        runs = tenant.pipelines or known
        for number, schedule in enumerate(tenant.schedules):
            if schedule.pipeline not in runs:
                problems.append(f"{where}.schedules.{number}: {unknown('pipeline', schedule.pipeline, runs)}")
        problems += _backend_problems(settings, name, tenant)
        for place in _places(settings, name, tenant):
            if place in places:
                problems.append(f"{where}: shares {place[0]} {place[1]!r} with tenant {places[place]!r}")
            places.setdefault(place, name)
    return problems


def _places(settings: Settings, name: str, tenant: TenantSection) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = [("the lake", tenant.lake or f"lake/{name}")]
    if tenant.backend.get("type") == "duckdb" and "path" in tenant.backend:
        found.append(("the DuckDB file", tenant.backend["path"]))
    return found


def _backend_problems(settings: Settings, name: str, tenant: TenantSection) -> list[str]:
    import backends

    try:
        backends.create(settings._resolved(tenant.backend), f"tenants.{name}.backend")
    except EntrepotError as error:
        return [str(error)]
    return []


def _sentence(error: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in error["loc"]) or "the file"
    if error["type"] == "extra_forbidden":
        return f"{where}: there is no such setting"
    if error["type"] == "missing":
        return f"{where} is missing"
    return f"{where}: {error['msg'].removeprefix('Value error, ')}"


def _said(path: Path, problems: list[str]) -> str:
    return "\n  ".join([f"{path} has {len(problems)} problem{'s' if len(problems) > 1 else ''}:", *problems])
