"""What is wrong with a tenant file: a sentence for each thing, with its place and what is known instead."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from entrepot.errors import EntrepotError, listed, unknown
from entrepot.language.names import shown
from entrepot.validation import Wording, sentences
from entrepot.worker.config.places import overlaps
from entrepot.worker.config.section import Section
from entrepot.worker.config.tenant_schema import TenantSection
from entrepot.worker.config.trigger_schema import trigger_problems

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from entrepot.worker.config.settings import Settings

M = TypeVar("M", bound=Section)

_EXPECTED = {
    "string_type": "text in quotes",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}


def validated(model: type[M], raw: Any, where: str, problems: list[str]) -> M | None:
    """A section, or None if something is wrong with it, which is added to `problems`."""

    def name(place: list[str]) -> str:
        return ".".join(filter(None, [where, *(shown(part)[1:-1] for part in place)])) or "the file"

    try:
        return model.model_validate(raw)
    except ValidationError as error:
        problems += sentences(error, model, Wording("setting", name, _wrong))
        return None


def _wrong(name: str, error: ErrorDetails) -> str:
    if error["type"] == "too_short" and name == "tenants":
        return "tenants: the file names no tenant; write a section such as [tenants.acme]"
    if error["type"] == "list_type" and name.endswith(".pipelines") and isinstance(error["input"], dict):
        section = f"[{name.removesuffix('pipelines')}settings.{shown(next(iter(error['input']), 'NAME'))[1:-1]}]"
        return f"{name}: must be a list of names, such as ['shop']; a pipeline's settings stand in {section}"
    if error["type"] == "too_short" and name.endswith(".pipelines"):
        return f"{name}: names no pipeline; leave it out for every known one"
    if error["type"] == "dict_type" and name == "pipelines":
        example = 'shop = "acme.shop:shop"'
        return f"{name}: must be a table of names and where each pipeline is, such as {example}"
    if expected := _EXPECTED.get(error["type"]):
        return f"{name}: must be {expected}, not {shown(error['input'])}"
    return f"{name}: {error['msg'].removeprefix('Value error, ')}"


def inconsistencies(settings: Settings) -> Iterator[str]:
    """What no single value shows: names that do not exist, places that two tenants share."""
    from entrepot.registry import Registry

    known = Registry(settings.references).references
    for name, tenant in settings.tenants.items():
        where = f"tenants.{name}"
        runs = tenant.runs(known)
        yield from _pipeline_problems(where, tenant, runs, known)
        schemas = tenant.schemas(known)
        for schema, count in Counter(schemas.values()).items():
            if count > 1:
                sharing = listed(pipeline for pipeline, its in schemas.items() if its == schema)
                yield f"{where}.settings: {sharing} have the same schema {schema!r}; give each its own"
        yield from _schedule_problems(where, tenant, runs)
        yield from _backend_problems(settings, where, tenant)
        if settings.smtp is None and any(each.sends_email for each in (tenant, *tenant.settings.values())):
            yield f"{where}: a hook sends email, and the file has no [smtp] section, which says how"
    yield from trigger_problems(settings, known)
    yield from overlaps(settings, known)


def _pipeline_problems(
    where: str, tenant: TenantSection, runs: Collection[str], known: Collection[str]
) -> Iterator[str]:
    for pipeline in runs:
        if pipeline in known:
            continue
        if ":" in pipeline:
            yield f"{where}.pipelines: {shown(pipeline)} is no name; give it one under [pipelines], and write that here"
        else:
            yield f"{where}.pipelines: {unknown('pipeline', pipeline, known)}"
    for pipeline in tenant.settings:
        if pipeline in known and pipeline not in runs:
            yield f"{where}.settings.{pipeline}: the tenant does not run {pipeline!r}; add it to its `pipelines`"
        elif pipeline not in runs:
            yield f"{where}.settings: {unknown('pipeline', pipeline, runs)}"


def _schedule_problems(where: str, tenant: TenantSection, runs: Collection[str]) -> Iterator[str]:
    ids = Counter((s.pipeline, s.environment, s.name) for s in tenant.schedules)
    for index, schedule in enumerate(tenant.schedules):
        place = place_of_schedule(where, index)
        if schedule.pipeline not in runs:
            yield f"{place}: {unknown('pipeline', schedule.pipeline, runs)}"
        if not any(fnmatch.fnmatchcase(schedule.environment, pattern) for pattern in tenant.environments):
            yield f"{place}: {unknown('environment', schedule.environment, tenant.environments)}"
        if ids[schedule.pipeline, schedule.environment, schedule.name] > 1:
            yield (
                f"{place}: {schedule.pipeline!r} has another schedule in {schedule.environment!r}"
                + (f" with the name {schedule.name!r}" if schedule.name else "")
                + "; give each a `name` of its own"
            )


def _backend_problems(settings: Settings, where: str, tenant: TenantSection) -> Iterator[str]:
    from entrepot import backends

    for place, given in _warehouses(where, tenant):
        if "type" not in given:
            yield f"{place}: `type` is missing. Known: {listed(backends.known())}"
            continue
        if not str(given.get("path", "")).isprintable():
            yield f"{place}.path: {shown(given['path'])} has what cannot be seen"
        try:
            backends.create(settings.backend(given), place)
        except EntrepotError as error:
            yield str(error)
    if tenant.limits.reads and not _can_estimate(str(tenant.backend.get("type"))):
        yield f"{where}.limits: a {tenant.backend.get('type')} backend cannot estimate what a step reads before it runs"
    if tenant.parity is not None and tenant.parity not in tenant.backends:
        yield f"{where}.parity: {unknown('backend', tenant.parity, tenant.backends)}"
    if tenant.backend.get("type") in tenant.backends:
        yield f"{where}.backends: {tenant.backend['type']!r} is the name of its first warehouse; choose another"


def _can_estimate(kind: str) -> bool:
    from entrepot import backends

    return kind not in backends.known() or backends.capabilities(kind).dry_run


def _warehouses(where: str, tenant: TenantSection) -> list[tuple[str, dict[str, Any]]]:
    return [(f"{where}.backend", tenant.backend), *((f"{where}.backends.{n}", b) for n, b in tenant.backends.items())]


def place_of_schedule(where: str, index: int) -> str:
    """The place of one of a tenant's schedules."""
    return f"{where}.schedules[{index}]"
