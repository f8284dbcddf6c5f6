"""Every activity, declared once: its name, its request and its result. All that workflows know of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from entrepot.planning.plan import Plan
from entrepot.protocol.backfills import BackfillInput, PreparedBackfill, Stands, StandsRequest
from entrepot.protocol.environments import (
    Created,
    CreateInput,
    DiffInput,
    EnvironmentDiff,
    EnvironmentRow,
    FreshnessInput,
    FreshnessRow,
    Needed,
    PromoteInput,
    PublishRow,
    RunRow,
    RunsInput,
    Watched,
    WatchInput,
)
from entrepot.protocol.hooks import Hooks
from entrepot.protocol.maintenance import (
    CheckRow,
    ChecksInput,
    DropInput,
    Dropped,
    GcInput,
    GcResult,
    Repaired,
    RepairInput,
    RollbackInput,
    VersionRow,
)
from entrepot.protocol.messages import (
    Batch,
    Delivered,
    Delivery,
    ExtractRequest,
    Load,
    LoadRequest,
    LoadTablesRequest,
    PlanRequest,
    Prepared,
    Promoted,
    PromoteRequest,
    RecordFailureRequest,
    Request,
    RunInput,
    StepRef,
    StepResult,
    Target,
    TenantInput,
)
from entrepot.protocol.parity import (
    Adoption,
    Comparison,
    Compilation,
    ParityInput,
    ParityReport,
    PreparedParity,
    TableParity,
)
from entrepot.protocol.products import (
    CheckContractsInput,
    ContractDifference,
    ContractFile,
    ProductRow,
    ProductsInput,
)
from entrepot.protocol.slots import Holders, SlotsGranted, SlotsRequest
from entrepot.protocol.triggers import Announcement, Marks, ProbeInput, RunAsked, RunEnded

Q = TypeVar("Q", bound=Request | TenantInput)
R = TypeVar("R")


@dataclass(frozen=True)
class Activity(Generic[Q, R]):
    """One activity: workflows `call` it, and a method that `implements` it is the other end.

    People can start each by itself, with JSON: what does not fit the request is refused in a sentence.
    """

    name: str
    request: type[Q]
    result: type[R]
    is_work: bool = False
    """Whether it may take long. It then runs in slots of its own, for which nothing else has to wait."""


PREPARE = Activity("prepare", RunInput, Prepared)
EXTRACT = Activity("extract", ExtractRequest, Load, is_work=True)
LOAD = Activity("load", LoadRequest, StepResult, is_work=True)
LOAD_TABLES = Activity("load_tables", LoadTablesRequest, StepResult, is_work=True)
PLAN = Activity("plan", PlanRequest, Plan)
PREPARE_BACKFILL = Activity("prepare_backfill", BackfillInput, PreparedBackfill)
STANDS = Activity("stands", StandsRequest, Stands)
END_INTERVAL = Activity("end_interval", Target, type(None))
TRANSFORM = Activity("transform", Batch, list[StepResult], is_work=True)
TRAIN = Activity("train", StepRef, StepResult, is_work=True)
PUBLISH = Activity("publish", StepRef, StepResult, is_work=True)
OF_ONE_STEP = {each.name: each for each in (TRAIN, PUBLISH)}
"""Those that make a single step, by the step's stage; of `TRANSFORM` one makes several."""
PROMOTE = Activity("promote", PromoteRequest, Promoted)
RECORD_FAILURE = Activity("record_failure", RecordFailureRequest, type(None))
SLOTS = Activity("slots", SlotsRequest, SlotsGranted)
CLOSED_RUNS = Activity("closed_runs", Holders, list[str])
HOOKS: Activity[RunInput, Hooks] = Activity("hooks", RunInput, Hooks)
DELIVER = Activity("deliver", Delivery, Delivered)
ANNOUNCE = Activity("announce", Announcement, type(None))
PROBE = Activity("probe", ProbeInput, Marks)
CODE = Activity("code", ProbeInput, Marks)
RUN_ENDED = Activity("run_ended", RunAsked, RunEnded)

ROLLBACK = Activity("rollback", RollbackInput, Promoted)
GC = Activity("gc", GcInput, GcResult, is_work=True)
DROP = Activity("drop", DropInput, Dropped, is_work=True)
REPAIR = Activity("repair", RepairInput, Repaired, is_work=True)
CREATE = Activity("create", CreateInput, Created)
DIFF = Activity("diff", DiffInput, EnvironmentDiff, is_work=True)
PREPARE_PROMOTION = Activity("prepare_promotion", PromoteInput, PromoteInput)
PROMOTE_ENVIRONMENT = Activity("promote_environment", PromoteInput, Promoted)
ENVIRONMENTS = Activity("environments", TenantInput, list[EnvironmentRow])
HISTORY = Activity("history", Target, list[PublishRow])
RUNS = Activity("runs", RunsInput, list[RunRow])
FRESHNESS = Activity("freshness", FreshnessInput, list[FreshnessRow])
WATCHED = Activity("watched", WatchInput, Watched)
NEEDED = Activity("needed", ProbeInput, list[Needed])
PRODUCTS = Activity("products", ProductsInput, list[ProductRow])
CONTRACTS = Activity("contracts", ProductsInput, list[ContractFile])
CHECK_CONTRACTS = Activity("check_contracts", CheckContractsInput, list[ContractDifference])
VERSIONS = Activity("versions", Target, list[VersionRow])
CHECKS = Activity("checks", ChecksInput, list[CheckRow])

PREPARE_PARITY = Activity("prepare_parity", ParityInput, PreparedParity)
COMPILE_PARITY = Activity("compile_parity", Compilation, dict[str, dict[str, str]])
LAST_LOAD = Activity("last_load", StepRef, dict[str, str])
ADOPT = Activity("adopt", Adoption, type(None), is_work=True)
COMPARE = Activity("compare", Comparison, TableParity, is_work=True)
REPORT = Activity("report", ParityReport, str)
END_PARITY = Activity("end_parity", ParityInput, type(None))


def work_queue(task_queue: str) -> str:
    """The task queue of the activities that may take long, beside that of workflows and of all that is short."""
    return f"{task_queue}{_STEPS}"


def is_work_queue(task_queue: str) -> bool:
    """Whether it is one of those."""
    return task_queue.endswith(_STEPS)


_STEPS = "-steps"
