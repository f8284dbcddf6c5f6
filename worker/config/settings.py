"""The tenant file: who is served, where their data stands, which pipelines they run and when.

One TOML file, `tenants.toml`, found by `--tenants`, else `ENTREPOT_TENANTS`, else in the current folder. Without one
there is a single tenant, `local`, that runs every installed pipeline, or the demo's, on a DuckDB file in the state
folder. Relative paths are relative to the state folder, so that a checkout can be read-only.
"""

from __future__ import annotations

import fnmatch
import os
import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from entrepot.errors import BadInput, EntrepotError, listed, unknown
from entrepot.worker.config.tenant_schema import (
    File,
    LimitsSection,
    PipelineSection,
    ScheduleSection,
    Section,
    TenantSection,
    size,
)

if TYPE_CHECKING:
    from entrepot.activities.runtime.tenant import Tenants

DEFAULT_FILE = "tenants.toml"
DEFAULT_STATE = ".entrepot"
LOCAL_TENANT = "local"
DEMO = {"flights": "entrepot.examples.flights.pipeline:flights"}
_TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
"""It stands in workflow ids, between slashes, and is a fairness key: Temporal allows 64 bytes."""


@dataclass(frozen=True)
class Settings:
    """A validated tenant file, and where the state is."""

    file: Path | None
    state: Path
    references: Mapping[str, str]
    """Pipeline names to `module:object`."""
    tenants: Mapping[str, TenantSection] = field(default_factory=dict)
    further: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Warehouses that every tenant has beside its own."""

    def connect(self, *, reload: bool = False) -> Tenants:
        """The tenants as activities know them. When their file changes, they do.

        Args:
            reload: Import pipelines anew when they change: see `Registry`.
        """
        from entrepot.worker.config.reload import Renewal

        tenants = self._connected(reload=reload)
        if self.file is not None:
            tenants.renew = Renewal(self.file, self._again)
        return tenants

    def _again(self) -> Tenants:
        """What the file says now."""
        return replace(load(str(self.file), str(self.state)), further=self.further)._connected()

    def _connected(self, *, reload: bool = False) -> Tenants:
        from entrepot.activities.runtime.tenant import Limits, PipelineSettings, Tenant, Tenants
        from entrepot.registry import Registry

        registry = Registry(self.references, reload=reload)
        tenants = {}
        for name, section in self.tenants.items():
            sections = section.pipelines or {n: PipelineSection() for n in registry.references}
            tenants[name] = Tenant(
                name=name,
                backend_settings=self.backend(section.backend),
                lake=self.lake(name, section),
                pipelines={n: PipelineSettings(p.schema_ or n, p.parameters) for n, p in sections.items()},
                environments=tuple(section.environments),
                parallel=section.parallel,
                weight=section.weight,
                others={n: self.backend(other) for n, other in {**self.further, **section.backends}.items()},
                limits=Limits(**{n: size(v) for n, v in section.limits.model_dump().items() if v is not None}),
                parity=section.parity,
            )
        return Tenants(tenants, registry)

    def backend(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of one of a tenant's warehouses, with the place of its file."""
        return {k: self._place(v) if k == "path" and isinstance(v, str) else v for k, v in given.items()}

    def lake(self, name: str, section: TenantSection) -> str:
        """Where a tenant's lake is: a folder or a URL."""
        return self._place(section.lake or f"lake/{name}")

    def _place(self, path: str) -> str:
        return path if "://" in path else os.path.normpath(self.state / Path(path).expanduser())


def load(file: str | None = None, state: str | None = None) -> Settings:
    """Reads and validates the tenant file.

    Raises:
        BadInput: with everything that is wrong with it, each line naming the place.
    """
    path, content = _content(file)
    if content is None:
        return local(state)
    problems: list[str] = []
    _validated(File, content, "", problems)
    tenants = {name: each for name, raw in _table(content, "tenants").items() if (each := _tenant(name, raw, problems))}
    settings = Settings(path.absolute(), _folder(state), _table(content, "pipelines"), tenants)
    problems += _problems(settings)
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise BadInput("\n  ".join([f"{path} has {count}:", *problems]))
    return settings


def local(state: str | None = None, references: Mapping[str, str] | None = None) -> Settings:
    """What holds without a tenant file: one tenant, on DuckDB in the state folder.

    Args:
        state: The state folder.
        references: The pipelines that it runs, beside those that installed packages offer. By default the demo's, where
            no package offers any.
    """
    from entrepot.registry import installed

    if references is None:
        references = {} if installed() else DEMO
    tenant = TenantSection(backend={"type": "duckdb", "path": f"{LOCAL_TENANT}.duckdb"})
    return Settings(None, _folder(state), references, {LOCAL_TENANT: tenant})


def tenant_names(file: str | None = None) -> list[str]:
    """The tenants that the file names, without validating it: for a client, whose worker knows the rest.

    Raises:
        BadInput: if the file is not there or not TOML.
    """
    _, content = _content(file)
    if content is None:
        return [LOCAL_TENANT]
    return list(_table(content, "tenants"))


def _folder(state: str | None) -> Path:
    return Path(state or os.environ.get("ENTREPOT_STATE") or DEFAULT_STATE).absolute()


def _content(file: str | None) -> tuple[Path, dict[str, Any] | None]:
    """The tenant file's path and what is in it; None if nobody named one and there is none."""
    given = file or os.environ.get("ENTREPOT_TENANTS")
    path = Path(given or DEFAULT_FILE)
    try:
        return path, tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if given:
            raise BadInput(f"there is no tenant file {given!r}") from None
        return path, None
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{path} is not valid TOML: {error}") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not valid TOML: it is not UTF-8 text ({error.reason}, byte {error.start})") from None
    except OSError as error:
        raise BadInput(f"cannot read the tenant file {path}: {error.strerror}") from None


def _table(content: dict[str, Any], key: str) -> dict[str, Any]:
    """A table of the file; none where something else stands, which is told elsewhere."""
    found = content.get(key, {})
    return found if isinstance(found, dict) else {}


def _tenant(name: str, raw: Any, problems: list[str]) -> TenantSection | None:
    """One tenant's section; its schedules are looked at one by one, so that one bad one hides nothing else."""
    where = f"tenants.{name}"
    if not _TENANT.fullmatch(name):
        problems.append(f"{where}: a tenant's name has up to 63 lower-case letters, digits, '-' and '_'")
    if not isinstance(raw, dict):
        return _validated(TenantSection, raw, where, problems)
    given = raw.get("schedules", [])
    if not isinstance(given, list):
        problems.append(f"{where}.schedules: write each as [[{where}.schedules]]")
        given = []
    schedules = [_validated(ScheduleSection, each, _numbered(where, n), problems) for n, each in enumerate(given)]
    section = _validated(TenantSection, {**raw, "schedules": []}, where, problems)
    return section.model_copy(update={"schedules": [s for s in schedules if s is not None]}) if section else None


def _numbered(where: str, index: int) -> str:
    return f"{where}.schedules[{index}]"


M = TypeVar("M", bound=Section)


def _validated(model: type[M], raw: Any, where: str, problems: list[str]) -> M | None:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        problems += [_sentence(dict(e), where, model) for e in error.errors(include_url=False)]
        return None


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


def _sentence(error: dict[str, Any], prefix: str, model: type[Section]) -> str:
    place = [prefix] if prefix else []
    parts = [str(part) for part in error["loc"] if part != "[key]"]
    where = ".".join(place + parts) or "the file"
    if error["type"] == "extra_forbidden":
        known = [f.alias or n for n, f in model.model_fields.items()] if len(parts) == 1 else None
        if known is None:
            known = [f.alias or n for n, f in PipelineSection.model_fields.items()]
        return f"{'.'.join(place + parts[:-1]) or 'the file'}: {unknown('setting', parts[-1], known)}"
    if error["type"] == "missing":
        return f"{where} is missing"
    if error["type"] == "too_short" and parts == ["tenants"]:
        return "tenants: the file names no tenant; write a section such as [tenants.acme]"
    if expected := _EXPECTED.get(error["type"]):
        return f"{where}: must be {expected}, not {error['input']!r}"
    return f"{where}: {error['msg'].removeprefix('Value error, ')}"


def _problems(settings: Settings) -> Iterator[str]:
    """What no single value shows: names that do not exist, places that two tenants share."""
    from entrepot.registry import Registry

    known = Registry(settings.references).references
    for name, tenant in settings.tenants.items():
        where = f"tenants.{name}"
        for pipeline in tenant.pipelines:
            if pipeline not in known:
                yield f"{where}.pipelines: {unknown('pipeline', pipeline, known)}"
        schemas = {pipeline: section.schema_ or pipeline for pipeline, section in tenant.pipelines.items()}
        for schema, count in Counter(schemas.values()).items():
            if count > 1:
                sharing = listed(pipeline for pipeline, its in schemas.items() if its == schema)
                yield f"{where}.pipelines: {sharing} have the same schema {schema!r}; give each its own"
        yield from _schedule_problems(where, tenant, tenant.pipelines or known)
        yield from _backend_problems(settings, where, tenant)
    yield from _shared_places(settings)


def _schedule_problems(where: str, tenant: TenantSection, runs: Mapping[str, Any]) -> Iterator[str]:
    ids = Counter((s.pipeline, s.environment, s.name) for s in tenant.schedules)
    for index, schedule in enumerate(tenant.schedules):
        place = _numbered(where, index)
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
        try:
            backends.create(settings.backend(given), place)
        except EntrepotError as error:
            yield str(error)
    if tenant.limits != LimitsSection() and not _can_estimate(str(tenant.backend.get("type"))):
        yield f"{where}.limits: a {tenant.backend.get('type')} backend cannot tell what a step will read before it does"
    if tenant.parity is not None and tenant.parity not in tenant.backends:
        yield f"{where}.parity: {unknown('backend', tenant.parity, tenant.backends)}"
    if tenant.backend.get("type") in tenant.backends:
        yield f"{where}.backends: {tenant.backend['type']!r} is what its first warehouse is called; choose another name"


def _can_estimate(kind: str) -> bool:
    from entrepot import backends

    return kind not in backends.known() or backends.capabilities(kind).dry_run


def _warehouses(where: str, tenant: TenantSection) -> list[tuple[str, dict[str, Any]]]:
    return [(f"{where}.backend", tenant.backend), *((f"{where}.backends.{n}", b) for n, b in tenant.backends.items())]


def _shared_places(settings: Settings) -> Iterator[str]:
    """Two tenants never share a file, nor a lake: one would overwrite or collect what is the other's."""
    places: list[tuple[str, str, str]] = []
    for name, tenant in settings.tenants.items():
        mine = [("lake", settings.lake(name, tenant).rstrip("/"))]
        for _, given in _warehouses(name, tenant):
            if isinstance(given.get("path"), str):
                mine.append(("file", settings.backend(given)["path"]))
        for kind, place in mine:
            real = place if "://" in place else os.path.realpath(place)
            for other, other_kind, taken in places:
                if kind == other_kind and real == taken:
                    yield f"tenants.{name}: has the same {kind} as tenant {other!r}: {place}"
                elif kind == other_kind == "lake" and (real.startswith(taken + "/") or taken.startswith(real + "/")):
                    yield f"tenants.{name}: its lake {place} and that of tenant {other!r} are one inside the other"
            places.append((name, kind, real))
