"""The tenant file: who is served, where their data stands, which pipelines they run and when.

One TOML file, `tenants.toml`, found by `--tenants`, else `ENTREPOT_TENANTS`, else in the current folder. Without one
there is a single tenant, `local`, that runs every installed pipeline, or the demo's, on a DuckDB file in the state
folder. Relative paths are relative to the state folder, so that a checkout can be read-only.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entrepot.errors import BadInput, unknown
from entrepot.language.names import TENANT, shown
from entrepot.secrets import REFERENCES, is_told, refer
from entrepot.worker.config.hook_schema import SmtpSection
from entrepot.worker.config.tenant_schema import File, ScheduleSection, TenantSection
from entrepot.worker.config.validation import inconsistencies, place_of_schedule, validated

if TYPE_CHECKING:
    from entrepot.activities.runtime.tenant import Tenants

DEFAULT_FILE = "tenants.toml"
DEFAULT_STATE = ".entrepot"
LOCAL_TENANT = "local"
DEMO = {"flights": "entrepot.examples.flights.pipeline:flights"}


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
    smtp: SmtpSection | None = None
    """By which email is sent."""

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
        from entrepot.activities.runtime.tenant import Limits, PipelineSettings, Smtp, Tenant, Tenants
        from entrepot.language.limits import OwnLimits
        from entrepot.registry import Registry

        registry = Registry(self.references, reload=reload)
        tenants = {}
        for name, section in self.tenants.items():
            schemas = section.schemas(registry.references)
            its = {n: section.of(n) for n in schemas}
            tenants[name] = Tenant(
                name=name,
                backend_settings=self.backend(section.backend),
                lake=self.lake(name, section),
                pipelines={
                    n: PipelineSettings(
                        schema,
                        its[n].parameters,
                        its[n].over(section),
                        tuple(section.hooks_for),
                        trigger.of(name) if (trigger := its[n].trigger) else None,
                        tuple(its[n].grants),
                    )
                    for n, schema in schemas.items()
                },
                environments=tuple(section.environments),
                expires=section.expires,
                parallel=section.parallel,
                slots=section.slots,
                weight=section.weight,
                others={n: self.backend(other) for n, other in {**self.further, **section.backends}.items()},
                limits=Limits(section.limits.bytes_per_step, section.limits.bytes_per_run),
                step_limits=OwnLimits(
                    section.limits.timeout, section.limits.memory, section.limits.attempts, section.limits.backoff
                ),
                parity=section.parity,
                catalog_schema=section.catalog_schema,
                prefix=section.prefix,
                smtp=Smtp(**self.smtp.model_dump()) if self.smtp else None,
            )
        return Tenants(tenants, registry)

    def backend(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of one of a tenant's warehouses, with the place of its file."""
        return {k: self._place(v) if k == "path" and isinstance(v, str) else v for k, v in given.items()}

    def lake(self, name: str, section: TenantSection) -> str:
        """Where a tenant's lake is: a folder or a URL."""
        return self._place(section.lake or f"lake/{name}")

    @property
    def is_in_state(self) -> bool:
        """Whether anything of a tenant stands in the state folder."""
        warehouses = [each for tenant in self.tenants.values() for each in (tenant.backend, *tenant.backends.values())]
        places = [str(self.backend(each).get("path", "")) for each in warehouses]
        places += [self.lake(name, tenant) for name, tenant in self.tenants.items()]
        return any(Path(place).is_relative_to(self.state) for place in places)

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
    _secrets(content, "", problems)
    whole = validated(File, content, "", problems)
    tenants = {name: each for name, raw in _table(content, "tenants").items() if (each := _tenant(name, raw, problems))}
    smtp = whole.smtp if whole else None
    settings = Settings(path.absolute(), _folder(state), _table(content, "pipelines"), tenants, smtp=smtp)
    problems += inconsistencies(settings)
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


def make_state(state: Path) -> None:
    """Makes a state folder, if it is not there, so that no repository around it takes it in.

    Raises:
        OSError: if it cannot be.
    """
    if not state.exists():
        state.mkdir(parents=True, exist_ok=True)
        (state / ".gitignore").write_text("*\n")


def tenant_names(file: str | None = None) -> list[str]:
    """The tenants that the file names, without validating it: for a client, whose worker knows the rest.

    Raises:
        BadInput: if the file is not there or not TOML.
    """
    _, content = _content(file)
    if content is None:
        return [LOCAL_TENANT]
    return list(_table(content, "tenants"))


def tenant_of(given: str | None, file: str | None) -> str:
    """The tenant that is meant: the one given, else the only one there is.

    Raises:
        BadInput: if none is given and there are several, or the file that was named has no such tenant.
    """
    names = tenant_names(file)
    if given is None:
        if len(names) == 1:
            return names[0]
        raise BadInput(f"name a tenant with --tenant; known: {', '.join(names)}")
    if names and given not in names and file is not None:
        raise BadInput(unknown("tenant", given, names))
    return given


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


def _secrets(content: Any, where: str, problems: list[str]) -> None:
    """What the file refers to is secret for the whole process: user code may read it, too. Secrets are refused."""
    if isinstance(content, dict):
        for key, each in content.items():
            _secrets(each, f"{where}.{key}" if where else key, problems)
    elif isinstance(content, list):
        for index, each in enumerate(content):
            _secrets(each, f"{where}[{index}]", problems)
    elif isinstance(content, str) and content.startswith(REFERENCES):
        refer(content)
    elif isinstance(content, str) and is_told(content):
        problems.append(
            f"{where}: has a password in it, which would stand in histories and the catalog; give a reference such as "
            "'env:NAME' or, of a lake, an environment variable that fsspec reads, such as FSSPEC_FTP_PASSWORD"
        )


def _table(content: dict[str, Any], key: str) -> dict[str, Any]:
    """A table of the file; none where something else stands, which is told elsewhere."""
    found = content.get(key, {})
    return found if isinstance(found, dict) else {}


def _tenant(name: str, raw: Any, problems: list[str]) -> TenantSection | None:
    """One tenant's section; its schedules are looked at one by one, so that one bad one hides nothing else."""
    where = f"tenants.{name}"
    if why := TENANT.why_not(name):
        problems.append(f"tenants.{shown(name)[1:-1]}: {why}")
        return None
    if not isinstance(raw, dict):
        return validated(TenantSection, raw, where, problems)
    given = raw.get("schedules", [])
    if not isinstance(given, list):
        problems.append(f"{where}.schedules: write each as [[{where}.schedules]]")
        given = []
    schedules = [
        validated(ScheduleSection, each, place_of_schedule(where, n), problems) for n, each in enumerate(given)
    ]
    section = validated(TenantSection, {**raw, "schedules": []}, where, problems)
    return section.model_copy(update={"schedules": [s for s in schedules if s is not None]}) if section else None
