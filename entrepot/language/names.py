"""Names that come from outside: of tenants, pipelines, environments, steps, tables, schemas, warehouses and runs.

Each kind is a type here, and is checked once, where it comes in: in a message, the tenant file, the command line, or
the graph of a pipeline. They stand in paths, schemas, workflow ids and logs; so people write them in small ASCII
letters, digits, `_` and some `-` alone, and no two are one where large and small letters are. Columns are data: they
are not of these kinds, and are quoted wherever they stand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

from entrepot.errors import BadInput, listed

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core import CoreSchema

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
LONGEST_NAME = 40
NESTED = re.compile(rf"{NAME.pattern}(__{NAME.pattern})+")
"""A table of what was nested in another, as dlt names it: `orders__items`."""
LONGEST_NESTED = 80
"""Leaves room for a version's suffix within the 63 characters that the narrowest warehouses allow."""
NOMINAL_TIME = "nominal_time"
"""What every step may take without declaring it: the time for which a run computes, in UTC and without zone."""
RESERVED = frozenset({"entrepot", "information_schema", "main", "public", "tenant", "environment", "run", NOMINAL_TIME})
DEVICES = frozenset({"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))})
"""What no file may be called where a lake lies on a share of Windows."""
DEFAULT_ENVIRONMENT = "prod"
"""Where runs publish unless they are told otherwise; its tables stand in the pipeline's own schema."""
FAILED = "failed_"
"""What a failed run has left is called so, and the run: it can be looked at like an environment, and not be run."""
VERSIONS = "v"
"""What the schemas of versions have behind the pipeline's; so no environment is called that."""
CONTRACT_SUFFIX = ".contract"
"""`departures.contract` is the check that the contract of `departures` stands for; users cannot write a dot."""
EVERY_PIPELINE = "*"
"""In the place of a pipeline's name, where all of a tenant's are meant."""
_LONGEST_SHOWN = 60


def shown(value: object) -> str:
    """A value for a sentence: in quotes, cut, and so that what cannot be seen, or looks like another letter, can be."""
    text = ascii(value)
    if len(text) <= _LONGEST_SHOWN:
        return text
    size = f" ({len(value):,} characters)" if isinstance(value, str) else ""
    return f"{text[:_LONGEST_SHOWN]}…{size}"


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of name. As an annotation of `str` it makes pydantic check the names of messages and settings."""

    refusal: str
    """What a sentence says of what is none: `cannot be an environment`."""
    rule: str
    """What is allowed, in words."""
    pattern: re.Pattern[str]
    longest: int
    taken: Mapping[str, str] = field(default_factory=dict)
    """Names that are allowed otherwise, each with why it is not."""
    besides: frozenset[str] = frozenset()
    """Words that stand for something else than a name."""

    def why_not(self, name: str) -> str | None:
        """Why a name is none of this kind; None, if it is one."""
        if name in self.besides:
            return None
        if name in DEVICES:
            return "some file systems call a device so"
        if name in self.taken:
            return self.taken[name]
        return None if len(name) <= self.longest and self.pattern.fullmatch(name) else self.rule

    def problem(self, name: str) -> str | None:
        """A sentence that says why a name is none of this kind; None, if it is one."""
        why = self.why_not(name)
        return f"{shown(name)} {self.refusal}: {why}" if why else None

    def check(self, name: str) -> str:
        """The name.

        Raises:
            BadInput: if it is none of this kind.
        """
        if problem := self.problem(name):
            raise BadInput(problem)
        return name

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema  # the command line wants names, and starts without pydantic

        return core_schema.no_info_after_validator_function(self._valid, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        written = "|".join([self.pattern.pattern, *map(re.escape, sorted(self.besides))])
        return {**handler(schema), "pattern": f"^({written})$", "maxLength": self.longest}

    def _valid(self, name: str) -> str:
        if problem := self.problem(name):
            raise ValueError(problem)
        return name


_LETTERS = f"use at most {LONGEST_NAME} lower-case letters, digits and single underscores, and begin with a letter"

TENANT = Kind(
    "is no tenant's name",
    "a tenant's name has up to 63 lower-case letters, digits, '-' and '_'",
    re.compile(r"[a-z0-9][a-z0-9_-]*"),
    63,  # it stands in workflow ids, between slashes, and is a fairness key: Temporal allows 64 bytes
)
PIPELINE = Kind(
    "cannot name a pipeline",
    _LETTERS,
    NAME,
    LONGEST_NAME,
    dict.fromkeys(RESERVED, f"it is reserved, as are {listed(RESERVED)}"),
)
ENVIRONMENT = Kind(
    "cannot be an environment",
    f"{_LETTERS}; it stands in the names of schemas, where 'pr_A' and 'pr_a' are one",
    NAME,
    LONGEST_NAME,
    {VERSIONS: f"the schemas of versions end in '__{VERSIONS}'"},
)
STEP = Kind("cannot name a step or table", _LETTERS, NAME, LONGEST_NAME)
RAW = replace(STEP, pattern=NESTED, longest=LONGEST_NESTED)
"""A table that comes in, nested in another."""
TABLE = replace(
    STEP,
    pattern=re.compile(rf"({NAME.pattern}|{NESTED.pattern})({re.escape(CONTRACT_SUFFIX)})?"),
    longest=LONGEST_NESTED + len(CONTRACT_SUFFIX),
)
"""A step, a table, or the check of a contract, as runs name them."""
SETTING = Kind(
    "is not a valid name", "use at most 40 lower-case letters, digits and single underscores", NAME, LONGEST_NAME
)
"""What the tenant file names: warehouses, schedules."""
SCHEMA = Kind("is not a valid name", "use at most 63 lower-case letters, digits and single underscores", NAME, 63)
ID = Kind(
    "is no id of a run or version",
    "it has up to 100 letters, digits, '-' and '_'",
    re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*"),
    100,
)

TenantName = Annotated[str, TENANT]
PipelineName = Annotated[str, PIPELINE]
PipelineNames = Annotated[str, replace(PIPELINE, besides=frozenset({EVERY_PIPELINE}))]
"""A pipeline, or every one."""
EnvironmentName = Annotated[str, ENVIRONMENT]
TableName = Annotated[str, TABLE]
WarehouseName = Annotated[str, replace(SETTING, refusal="is no warehouse's name")]
MaybeWarehouse = Annotated[str, replace(SETTING, refusal="is no warehouse's name", besides=frozenset({""}))]
"""A warehouse; empty: the tenant's first."""
Id = Annotated[str, ID]
"""A run or a version."""
MaybeId = Annotated[str, replace(ID, besides=frozenset({""}))]
