"""Errors that say what was wrong, where, and what is known instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


class EntrepotError(Exception):
    """The base class of all errors of Entrepot: a problem that somebody can act on, told in a sentence.

    A run that meets one fails, since trying again would not help; `entrepot.errors.Unavailable` alone is tried again.

    Examples:
        ```python
        from entrepot import BadInput, EntrepotError

        try:
            raise BadInput("the service 'shop' has no table 'order'; it has 'orders'")
        except EntrepotError as error:
            assert "it has 'orders'" in str(error)
        ```
    """


class BadInput(EntrepotError):
    """The input can never work: an unknown name, a wrong type, a missing file or column.

    A function of yours that reads a source raises it where asking the source again would not help.

    Examples:
        ```python
        from entrepot import BadInput


        def region(name: str) -> str:
            if name not in ("eu", "us"):
                raise BadInput(f"unknown region {name!r}; known: 'eu', 'us'")
            return f"https://{name}.example.com"
        ```
    """


class StepFailed(EntrepotError):
    """A user's step raised, or the warehouse refused what it computes."""


class CheckFailed(EntrepotError):
    """A blocking check or a contract found violating rows; nothing was published."""


class LimitExceeded(StepFailed):
    """A step would read more than the tenant's limit allows."""


class Conflict(EntrepotError):
    """Somebody else moved the same pointers first."""


class Unavailable(EntrepotError):
    """Something that a run needs cannot be used now: a warehouse, a file, a disk, a source. The step is tried again.

    Examples:
        ```python
        from entrepot.errors import Unavailable


        def checked(status: int) -> None:
            if status == 503:
                raise Unavailable("the service 'shop' is down for maintenance")
        ```
    """


class NotYetKnown(Unavailable):
    """A worker does not know a tenant or pipeline which another knows, or which its tenant file may say soon."""


class Contended(Unavailable):
    """Another run writes the same at this moment. When it is through, it is there, or the way is free."""


@dataclass(frozen=True)
class Location:
    """Where in a user's code something stands."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a pipeline, and where."""

    text: str
    at: Location | None = None

    def __str__(self) -> str:
        return f"{self.at}: {self.text}" if self.at else self.text


class PipelineError(EntrepotError):
    """Everything that is wrong with a pipeline, at once, each problem with its file and line.

    Attributes:
        pipeline: The pipeline's name.
        problems: The problems found, each with a `text` and the place `at` which it is.

    Examples:
        ```python
        from entrepot import Pipeline, PipelineError, Table

        shop = Pipeline("shop")


        @shop.transform
        def by_country(sales: Table) -> Table:
            return sales.group_by("country").agg()


        try:
            shop.graph
        except PipelineError as error:
            assert len(error.problems) == 1
        ```
    """

    def __init__(self, pipeline: str, problems: Iterable[Problem]) -> None:
        self.pipeline = pipeline
        self.problems = tuple(problems)
        count = len(self.problems)
        heading = f"pipeline {pipeline!r} has {count} problem{'s' if count > 1 else ''}"
        super().__init__("\n  ".join([f"{heading}:", *map(str, self.problems)]))


def listed(names: Iterable[str], *, most: int = 12) -> str:
    """Names as text for a sentence: quoted, sorted, cut after `most`."""
    every = sorted(names)
    text = ", ".join(repr(name) for name in every[:most])
    if len(every) > most:
        text += f" and {len(every) - most} more"
    return text or "none"


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """The sentence for a name that does not exist: the nearest names, and those that are known."""
    every = list(known)
    text = repr(name)
    shown = text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]}…"
    near = difflib.get_close_matches(str(name)[:_LONGEST_NAME], every, n=3)
    hint = f"; did you mean {' or '.join(repr(n) for n in near)}?" if near else "."
    return f"unknown {what} {shown}{hint} Known: {listed(every)}"


_LONGEST_NAME = 200
