"""What to type to see what a failed step has read, and what it ran: a failure ends with it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from entrepot.errors import Conflict, EntrepotError
from entrepot.language.step import CheckStep, Step
from entrepot.planning.graph import Graph
from entrepot.planning.plan import short
from entrepot.protocol.messages import Context
from entrepot.secrets import scrub

MOST_TABLES, LONGEST = 4, 480
"""Tables that are named, and characters of a hint."""
_ENOUGH = 12
"""Characters of a version that tell it from others."""


@contextmanager
def hinted(graph: Graph, step: Step, context: Context, versions: Mapping[str, str]) -> Iterator[None]:
    """What fails in the block is noted with what to type to look at it."""
    try:
        yield
    except Conflict:
        raise
    except EntrepotError as error:
        error.add_note(_hint(graph, step, context, versions))
        raise


def noted(error: BaseException) -> str:
    """What was noted of an error of ours; empty, if nothing was."""
    notes = getattr(error, "__notes__", []) if isinstance(error, EntrepotError) else []
    return scrub("".join(notes))


def _hint(graph: Graph, step: Step, context: Context, versions: Mapping[str, str]) -> str:
    reads = (name for name in graph.table_inputs(step) if name in versions)
    tables = [name for name in reads if graph.steps[graph.producers[name]].produces == "Table"]
    named = [f"{name}@{versions[name][:_ENOUGH]}" for name in tables[:MOST_TABLES]]
    tenant = ["--tenant", context.tenant]
    commands = []
    if isinstance(step, CheckStep):
        commands.append(["checks", context.pipeline, *tenant, "--run", short(context.run)])
    if step.is_sql and named:
        given = [f"{n}={json.dumps(context.parameters[n])}" for n in step.reads if n in context.parameters]
        parameters = [word for each in given for word in ("-p", each)]
        commands.append(["sql", f"{context.pipeline}.{step.name}", *tenant, *parameters, "--reading", ",".join(named)])
    commands += [["show", context.pipeline, each, *tenant] for each in named]
    told, room = [], LONGEST
    for each in commands:
        line = f"`entrepot {shlex.join(each)}`"
        if len(line) <= room:
            room -= len(line)
            told.append(line)
    return f"; look: {', '.join(told)}" if told else ""
