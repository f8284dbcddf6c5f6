"""Every activity, declared once: its name, its request and its result. All that workflows know of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from entrepot.planning.plan import Plan
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

Q = TypeVar("Q", bound=Request | TenantInput)
R = TypeVar("R")


@dataclass(frozen=True)
class Activity(Generic[Q, R]):
    """One activity: workflows `call` it, and a method that `implements` it is the other end."""

    name: str
    request: type[Q]
    result: type[R]
    by_hand: bool = False
    """Whether people start it by itself, with JSON: what does not fit the request is then refused in a sentence."""


PREPARE = Activity("prepare", RunInput, Prepared)
EXTRACT = Activity("extract", ExtractRequest, Load)
LOAD = Activity("load", LoadRequest, StepResult)
LOAD_TABLES = Activity("load_tables", LoadTablesRequest, StepResult)
PLAN = Activity("plan", PlanRequest, Plan)
TRANSFORM = Activity("transform", Batch, list[StepResult])
TRAIN = Activity("train", StepRef, StepResult)
PUBLISH = Activity("publish", StepRef, StepResult)
OF_ONE_STEP = {each.name: each for each in (TRAIN, PUBLISH)}
"""Those that make a single step, by the step's stage; of `TRANSFORM` one makes several."""
PROMOTE = Activity("promote", PromoteRequest, Promoted)
RECORD_FAILURE = Activity("record_failure", RecordFailureRequest, type(None))

ROLLBACK = Activity("rollback", RollbackInput, Promoted)
GC = Activity("gc", GcInput, GcResult)
DROP = Activity("drop", DropInput, Dropped)
REPAIR = Activity("repair", RepairInput, Repaired)
VERSIONS = Activity("versions", Target, list[VersionRow], by_hand=True)
CHECKS = Activity("checks", ChecksInput, list[CheckRow], by_hand=True)

PREPARE_PARITY = Activity("prepare_parity", ParityInput, PreparedParity)
COMPILE_PARITY = Activity("compile_parity", Compilation, dict[str, dict[str, str]])
LAST_LOAD = Activity("last_load", StepRef, dict[str, str])
ADOPT = Activity("adopt", Adoption, type(None))
COMPARE = Activity("compare", Comparison, TableParity)
REPORT = Activity("report", ParityReport, str)
