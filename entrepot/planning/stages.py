"""The stages of a run, as data: what the workflow executes in turn, and what a dry run and the Web UI tell of it.

A stage holds what the plan says and nothing more. Making and explaining stages has no side effect; `workflows/run.py`
executes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from entrepot.language.step import KINDS
from entrepot.planning.plan import Plan, PlannedStep


@dataclass(frozen=True)
class Ingest:
    """Sources are read into the lake, and from there loaded into the warehouse. Nobody sees the new rows yet."""

    steps: tuple[PlannedStep, ...]


@dataclass(frozen=True)
class Compute:
    """Tables, checks, models and pages are made, each as soon as what it reads is there. Nobody sees them yet."""

    steps: tuple[PlannedStep, ...]


@dataclass(frozen=True)
class Verify:
    """Another of the tenant's warehouses computes the tables that are about to be shown, and has to agree."""

    tables: tuple[str, ...]
    warehouse: str


@dataclass(frozen=True)
class Promote:
    """The environment shows all of it, at once. It comes also where nothing moves: it records the run."""

    moves: tuple[str, ...]
    removes: tuple[str, ...]
    is_all: bool = True
    """Whether that is all, since nothing is ingested before it: what is made of new rows is not known until then."""


Stage = Ingest | Compute | Verify | Promote


def stages(plan: Plan, parity: str | None) -> tuple[Stage, ...]:
    """What is left to do for a plan, in order.

    Args:
        parity: The warehouse that has to agree, if any.
    """
    steps = plan.to_run()
    tables = tuple(sorted(s.name for s in plan.steps if KINDS[s.kind].is_computed_table() and s.name in plan.moves))
    every: list[Stage] = []
    if ingests := tuple(step for step in steps if KINDS[step.kind].is_source):
        every.append(Ingest(ingests))
    if computed := tuple(step for step in steps if not KINDS[step.kind].is_source):
        every.append(Compute(computed))
    if parity and tables:
        every.append(Verify(tables, parity))
    return (*every, Promote(tuple(sorted(plan.moves)), plan.removed, is_all=not ingests))


def explain(stage: Stage) -> str:
    """A stage in a sentence."""
    match stage:
        case Ingest(steps):
            return f"ingest {_named(step.name for step in steps)}"
        case Compute(steps):
            kinds = Counter(step.kind for step in steps)
            return f"compute {', '.join(f'{kind} {_named(s.name for s in steps if s.kind == kind)}' for kind in kinds)}"
        case Verify(tables, warehouse):
            return f"compare {_named(tables)} with {warehouse}"
        case Promote(moves, removes, is_all):
            promoted = [_named(moves)] if moves else []
            promoted += [] if is_all else ["what is new"]
            parts = [f"promote {', and '.join(promoted)}"] if promoted else []
            parts += [f"remove {_named(removes)}"] if removes else []
            return ", ".join(parts) or "promote nothing"


def _named(names: Iterable[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    every = list(names)
    if len(every) > most + 1:
        every = [*every[:most], f"{len(every) - most} more"]
    return " and ".join(filter(None, (", ".join(every[:-1]), every[-1])))
