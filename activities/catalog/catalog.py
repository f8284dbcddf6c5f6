"""The catalog: which versions exist, what each environment points at, what was loaded, checked and run.

Its tables stand in the tenant's own warehouse, in a schema of their own, and are only ever added to (and collected),
but for two. `environments` has one row for each environment with what it points at. To publish and to roll back is to
change that row by compare-and-append; `publishes` has the history. The views are synced after the row; the row says up
to which publish they are, so that whoever comes after a crash can finish.

`ingest_states` has one row for each environment and ingest step with its newest load, what that load made and what the
source remembers; it is changed in the same way, and `loads` has its history. `places` says who owns each name that
people see: see `owners.py`.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import sqlglot.expressions as sge

from entrepot.activities.catalog.environment import LEFT, Environment, Publish, newest_first
from entrepot.activities.catalog.growing_table import Segment
from entrepot.activities.catalog.ingest_state import IngestState
from entrepot.activities.catalog.owners import Places
from entrepot.activities.catalog.records import Certificate, CheckVerdict, Run, failed_environment
from entrepot.activities.catalog.sequenced_row import each_state
from entrepot.activities.catalog.tables import CatalogTables, any_of, column, equals
from entrepot.activities.catalog.version import Version, contracts_of
from entrepot.backends import RelationKind, Session, TableName
from entrepot.identity.version import CATALOG
from entrepot.language.names import FAILED
from entrepot.language.step import KINDS
from entrepot.planning.plan import Known
from entrepot.planning.products.contract import ProductContract


class Catalog:
    """The catalog in the warehouse of a session.

    Args:
        schema: Where its tables stand.
    """

    def __init__(self, session: Session, schema: str = CATALOG) -> None:
        self.session = session
        self.tables = CatalogTables(session, schema)
        self.places = Places(self.tables)

    def ensure(self) -> None:
        """Creates its tables where they are missing."""
        self.tables.create()

    def exists(self) -> bool:
        """Whether there is a catalog in the warehouse.

        Raises:
            BadInput: if it is that of a development version of Entrepot, or not of today's format.
        """
        return "versions" in self.tables.existing()

    def pipelines(self) -> list[str]:
        """The pipelines of which it knows what they made or show, whether or not anybody runs them."""
        found = (self.tables.distinct(t, "pipeline") for t in ("versions", "environments", "places"))
        return sorted(set().union(*found) - {""})  # the empty one is where the catalog stands

    def pipeline(self, name: str) -> PipelineCatalog:
        """What it knows of one pipeline."""
        return PipelineCatalog(self.tables, name)

    def runs(self, run: str, status: str) -> list[Run]:
        """What is recorded with this status of a run, of any pipeline."""
        return [Run.of_row(row) for row in self.tables.select("runs", equals("run", run), equals("status", status))]


@dataclass(frozen=True)
class PipelineCatalog:
    """What the catalog knows of one pipeline."""

    tables: CatalogTables
    name: str

    @property
    def session(self) -> Session:
        """The session in whose warehouse it stands."""
        return self.tables.session

    def environment(self, name: str) -> Environment:
        """One of its environments, whether or not it was published to."""
        return Environment(self.tables, self.name, name)

    def head(self, environment: str) -> Publish:
        """What an environment points at; or, of `failed_RUN`, what that run has left."""
        if not environment.startswith(FAILED):
            return self.environment(environment).head()
        runs = (run for run in self.runs() if failed_environment(run.run) == environment)
        return next((left for run in runs if (left := self.left_by(run))), Publish(0, {}))

    def left_by(self, run: Run) -> Publish | None:
        """What a run that failed has left of what it would have published, in the place of what its environment shows;
        None, if that is nothing, or was collected."""
        made = {name: its["version"] for name, its in run.steps.items() if "version" in its} if run.is_failed else {}
        left = {name: each.version for name, each in self.versions(made).items()}
        if not left:
            return None
        shown = self.environment(run.environment).head().pointers
        return Publish(0, {**shown, **left}, run.run, LEFT, tuple(sorted(left)), published_at=run.ended_at)

    def environments(self) -> set[str]:
        """The environments of which anything is recorded."""
        tables = ("environments", "places", "ingest_states")
        rows = [row for table in tables for row in self._select(table, columns=("environment",))]
        return {row["environment"] for row in rows} - {""}  # the empty one is where versions stand

    def publishes(self) -> dict[str, list[Publish]]:
        """Every publish of each environment, newest first."""
        return newest_first(row for table in ("environments", "publishes") for row in self._select(table))

    def heads(self) -> dict[str, Publish]:
        """What each environment points at, as its newest publish."""
        rows = sorted(self._select("environments"), key=lambda row: row["sequence"])
        return {row["environment"]: Publish.of_row(row) for row in rows}

    def pointers(self) -> dict[str, dict[str, str]]:
        """What each environment points at."""
        rows = self._select("environments", columns=("environment", "pointers"))
        return {row["environment"]: json.loads(row["pointers"]) for row in rows}

    def in_use(self, environment: str | None = None) -> list[dict[str, str]]:
        """What environments point at, and then what they last loaded, each once; or what one does."""
        conditions = [equals("environment", environment)] if environment is not None else []
        kept = (("environments", "pointers"), ("ingest_states", "tables"))
        found = [
            json.loads(row[name]) for table, name in kept for row in self._select(table, *conditions, columns=(name,))
        ]
        return [pointers for number, pointers in enumerate(found) if pointers and pointers not in found[:number]]

    def ingest_steps(self) -> list[str]:
        """The ingest steps that any environment remembers."""
        return sorted(self.tables.distinct("ingest_states", "step", *self._same()))

    def loads(self) -> dict[str, list[IngestState]]:
        """Every load of each ingest step, in all environments, newest first."""
        rows = (row for table in ("ingest_states", "loads") for row in self._select(table))
        found: dict[str, list[IngestState]] = {}
        for row in each_state(rows, "step", "environment"):
            found.setdefault(row["step"], []).append(IngestState.of_row(row))
        return {
            step: sorted(loads, key=lambda load: str(load.loaded_at), reverse=True) for step, loads in found.items()
        }

    def versions(self, wanted: Mapping[str, str]) -> dict[str, Version]:
        """Those of the wanted versions (by name) that exist."""
        rows = self._select("versions", any_of("version", set(wanted.values())))
        return {row["name"]: Version.of_row(row) for row in rows if wanted.get(row["name"]) == row["version"]}

    def newest(self, name: str, identity: str) -> Version | None:
        """The newest version of a table that the same code has made."""
        its = equals("name", name), equals("identity", identity)
        rows = self.tables.select("versions", *self._same(*its), newest="made_at")
        return Version.of_row(rows[0]) if rows else None

    def versions_of(self, name: str) -> list[Version]:
        """Those of one table, model or output, the newest first."""
        found = [Version.of_row(row) for row in self._select("versions", equals("name", name))]
        return sorted(found, key=lambda version: version.made_at, reverse=True)

    def every_version(self) -> list[Version]:
        """All that was made and is not collected."""
        return [Version.of_row(row) for row in self._select("versions")]

    def computed_tables(self, wanted: Mapping[str, str]) -> dict[str, list[tuple[TableName, RelationKind]]]:
        """What stands here for those of the wanted versions (by name) that were not loaded: of transforms and copies.

        A view comes after the tables that it is made of.
        """
        kinds = [kind for kind, step in KINDS.items() if not step.is_source]
        conditions = (any_of("kind", kinds), any_of("version", set(wanted.values())))
        columns = ("name", "version", "physical_schema", "physical_table", "details")
        found: dict[str, list[tuple[TableName, RelationKind]]] = {}
        for row in self._select("versions", *conditions, columns=columns):
            details = json.loads(row["details"])
            is_here = row["physical_table"] and not details.get("to")  # else it stands in another warehouse
            if is_here and wanted.get(row["name"]) == row["version"]:
                segments = [Segment.model_validate(each) for each in details.get("segments", ())]
                own = TableName(row["physical_schema"], row["physical_table"])
                found[row["name"]] = [(table, "table") for segment in segments for table in segment.tables]
                found[row["name"]].append((own, "view" if segments else "table"))
        return found

    def known(self, wanted: Iterable[str]) -> dict[tuple[str, str], Known]:
        """What a plan needs of versions and passed checks, by name and version."""
        condition = any_of("version", set(wanted))
        columns = ("name", "version", "identity", "inputs", "run")
        rows = self._select("versions", condition, columns=(*columns, "details"))
        # A check that blocked is no reason to skip it: it must block again.
        passed = sge.or_(equals("severity", "warn"), column("violations").eq(0))
        rows += self._select("checks", condition, passed, columns=columns)
        return {
            (r["name"], r["version"]): Known(
                identity=r["identity"] or "",
                inputs=json.loads(r["inputs"]),
                run=r["run"],
                contents=(details := json.loads(r.get("details") or "{}")).get("contents"),
                same_as=details.get("same_as") or "",
                promised=contracts_of(details.get("promised") or {}),
                frozen=details.get("frozen"),
            )
            for r in rows
        }

    def add_version(self, made: Version, before: Version | None = None) -> None:
        """Records a version: in the transaction that makes what it stands for, so that neither is without the other.

        Args:
            before: The same version, if it is made anew: its table stays until it is collected, since it may be shown.
        """
        if before is None:
            self._insert("versions", made.values())
        else:
            stood = (before.table,) if before.table else ()
            kept = replace(made, replaced=(*before.replaced, *stood), promised=before.promised)
            self._update_version(made, kept.values())

    def forget_replaced(self, version: Version) -> None:
        """Records that the tables where a version stood before are gone."""
        self.replace_details(replace(version, replaced=()))

    def replace_details(self, version: Version) -> None:
        """Records other details of a version, whose rows are the same."""
        self._update_version(version, {"details": version.values()["details"]})

    def promise(self, environment: str, promised: Iterable[tuple[Version, ProductContract | None]]) -> None:
        """Records what versions promise in an environment; None: they are no products there."""
        for version, contract in promised:
            if environment not in version.promised or version.promised[environment] != contract:
                self.replace_details(replace(version, promised={**version.promised, environment: contract}))

    def record_manifest(self, version: Version, sha256: str) -> None:
        """Records the hash of the manifest that stands for a raw version from now on."""
        self.replace_details(replace(version, details=version.details.model_copy(update={"manifest": sha256})))

    def delete_versions(self, versions: Iterable[tuple[str, str]]) -> None:
        """Deletes the records of versions (name and version)."""
        for name, version in versions:
            self.tables.delete("versions", *self._same(equals("name", name), equals("version", version)))

    def verdicts(self, condition: sge.Condition) -> list[CheckVerdict]:
        """What checks have found, where a condition holds."""
        return [CheckVerdict.of_row(row) for row in self._select("checks", condition)]

    def add_verdict(self, verdict: CheckVerdict) -> None:
        """Records what a check found, once for each run."""
        self._insert_once("checks", verdict.values(), "name", "version", "run")

    def certificates(self, name: str, version: str) -> list[Certificate]:
        """What is known of a version on other warehouses."""
        rows = self._select("certificates", equals("name", name), equals("version", version))
        return [Certificate.of_row(row) for row in rows]

    def add_certificate(self, certificate: Certificate) -> None:
        """Records that a version is the same on two warehouses."""
        self._insert("certificates", certificate.values())

    def environments_of_runs(self) -> dict[str, str]:
        """Every run that ended, and the environment that it was for."""
        return {row["run"]: row["environment"] for row in self._select("runs", columns=("run", "environment"))}

    def last_run(self, environment: str) -> datetime.datetime | None:
        """When a run for an environment last ended; None, if none did."""
        its = equals("environment", environment)
        found = self.tables.select("runs", *self._same(its), columns=("ended_at",), newest="ended_at")
        return found[0]["ended_at"] if found else None

    def runs(self, environment: str | None = None) -> list[Run]:
        """What is recorded of the runs for an environment, or for any, that ended, and of what else changed it."""
        conditions = [equals("environment", environment)] if environment is not None else []
        return [Run.of_row(row) for row in self._select("runs", *conditions)]

    def add_run(self, run: Run) -> None:
        """Records that a run ended, once for each status."""
        self._insert_once("runs", vars(run), "environment", "run", "status")

    def _update_version(self, version: Version, values: Mapping[str, Any]) -> None:
        same = self._same(equals("name", version.name), equals("version", version.version))
        self.tables.update("versions", values, *same)

    def _insert(self, table: str, values: Mapping[str, Any]) -> None:
        self.tables.insert(table, {"pipeline": self.name, **values})

    def _insert_once(self, table: str, values: Mapping[str, Any], *same: str) -> None:
        self.tables.insert_once(table, {"pipeline": self.name, **values}, "pipeline", *same)

    def _same(self, *conditions: sge.Condition) -> list[sge.Condition]:
        return [equals("pipeline", self.name), *conditions]

    def _select(self, table: str, *conditions: sge.Condition, columns: Iterable[str] = ()) -> list[dict[str, Any]]:
        return self.tables.select(table, *self._same(*conditions), columns=columns)
