"""What holds for a tenant: every setting with its value, and where that comes from. Secrets stay references."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from entrepot.errors import EntrepotError
from entrepot.language.limits import DEFAULTS, duration_text, size_text
from entrepot.registry import Registry
from entrepot.worker.config.section import Section
from entrepot.worker.config.settings import Settings
from entrepot.worker.config.tenant_schema import TenantSection

DEFAULT = "default"
PIPELINE = "the pipeline"
"""Where values come from that do not stand in the tenant file."""
_APART = frozenset({"backend", "backends", "lake", "limits", "gc", "pipelines", "settings", "schedules"})
_SIZES = {"bytes_per_step", "bytes_per_run", "memory"}
_LIMITS = {name: value for name, value in vars(DEFAULTS).items() if value is not None}


@dataclass(frozen=True)
class Held:
    """A setting, as it holds."""

    setting: str
    value: Any
    """Of JSON. Durations and sizes are written as in the file."""
    source: str


def held(settings: Settings, name: str) -> list[Held]:
    """What holds for a tenant of a valid file, in the order of the documentation."""
    section = settings.tenants[name]
    file = settings.file.name if settings.file else DEFAULT
    return [*_of_tenant(settings, name, section, file), *_of_pipelines(settings, name, section, file)]


def _of_tenant(settings: Settings, name: str, section: TenantSection, file: str) -> Iterator[Held]:
    yield from _entries("backend", settings.backend(section.backend), file)
    for warehouse, given in section.backends.items():
        yield from _entries(f"backends.{warehouse}", settings.backend(given), file)
    yield Held("lake", settings.lake(name, section), file if section.lake else DEFAULT)
    yield from _section(section, "", file, leave=_APART)
    yield from _section(section.gc, "gc.", file)
    yield from _section(section.limits, "limits.", file, otherwise=_LIMITS)


def _of_pipelines(settings: Settings, name: str, section: TenantSection, file: str) -> Iterator[Held]:
    registry = Registry(settings.references)
    schemas = section.schemas(registry.references)
    yield Held("pipelines", list(schemas), DEFAULT if section.pipelines is None else file)
    for pipeline, schema in schemas.items():
        where, own = f"settings.{pipeline}", section.of(pipeline)
        yield Held(f"{where}.schema", schema, file if own.schema_ else DEFAULT)
        yield from _section(own, f"{where}.", file, leave=frozenset({"schema_", "parameters"}))
        yield from _parameters(registry, pipeline, f"{where}.parameters", own.parameters, file)
    for index, schedule in enumerate(section.schedules):
        yield from _section(schedule, f"schedules[{index}].", file)


def _parameters(registry: Registry, pipeline: str, where: str, given: Mapping[str, Any], file: str) -> Iterator[Held]:
    """The values of parameters; of a pipeline that cannot be imported here, those of the file alone, and why."""
    try:
        defaults = registry.load(pipeline).parameters
    except EntrepotError as error:
        yield from _entries(where, given, file)
        yield Held(f"{where}.*", None, f"{PIPELINE}, which cannot be loaded: {error}")
        return
    for parameter, value in {**defaults, **given}.items():
        yield Held(f"{where}.{parameter}", _plain(value), file if parameter in given else PIPELINE)


def _section(
    section: Section, where: str, file: str, *, leave: frozenset[str] = frozenset(), otherwise: Mapping[str, Any] = {}
) -> Iterator[Held]:
    """A section's settings.

    Args:
        otherwise: What holds where nothing is said.
    """
    for name in type(section).model_fields:
        if name in leave:
            continue
        value = getattr(section, name)
        source = file if name in section.model_fields_set else DEFAULT
        value = otherwise.get(name) if value is None else value
        yield Held(f"{where}{name}", size_text(value) if value and name in _SIZES else _plain(value), source)


def _entries(where: str, given: Mapping[str, Any], file: str) -> Iterator[Held]:
    for key, value in given.items():
        yield Held(f"{where}.{key}", _plain(value), file)


def _plain(value: Any) -> Any:
    match value:
        case timedelta():
            return duration_text(value)
        case Mapping():
            return {key: _plain(each) for key, each in value.items()}
        case BaseModel():
            return {name: _plain(getattr(value, name)) for name in sorted(value.model_fields_set)}
        case list() | tuple():
            return [_plain(each) for each in value]
        case None | bool() | int() | float() | str():
            return value
    return str(value)
