"""The examples that a pipeline declares, computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from entrepot.errors import BadInput, EntrepotError
from entrepot.language.example import Example
from entrepot.pipeline import Pipeline
from entrepot.testing.differences import TOLERANCE, RowDifference, differences, report
from entrepot.testing.sessions import Session


@dataclass(frozen=True)
class Outcome:
    """How an example ended."""

    pipeline: str
    example: Example
    differences: tuple[RowDifference, ...] = ()
    why: str = ""
    """Row by row how it differs, or why it could not be computed; empty, if it is as expected."""
    is_bad_input: bool = False
    """Whether it cannot be computed as it stands: an unknown name, a table or column that is missing."""

    @property
    def passed(self) -> bool:
        """Whether it is as expected."""
        return not self.why


def computed(session: Session, pipeline: Pipeline, example: Example) -> Outcome:
    """Computes an example."""
    try:
        if not isinstance(example.given, Mapping):
            raise BadInput(
                f"`given` is a {type(example.given).__name__}; write it as a dict of names to rows and values"
            )
        if strange := [name for name in example.given if not isinstance(name, str)]:
            raise BadInput(f"`given` has the name {strange[0]!r}, which is no text")
        found = session.compute(pipeline, example.step, **example.given)
        different = differences(found, example.expect, ordered=example.ordered)
    except EntrepotError as error:
        return Outcome(pipeline.name, example, why=str(error), is_bad_input=isinstance(error, BadInput))
    if not different:
        return Outcome(pipeline.name, example)
    why = report(example.step, different, len(found), ordered=example.ordered, tolerance=TOLERANCE)
    return Outcome(pipeline.name, example, tuple(different), why)


def outcomes(pipeline: Pipeline, examples: Iterable[Example]) -> list[Outcome]:
    """Computes examples of a pipeline."""
    with Session() as session:
        return [computed(session, pipeline, example) for example in examples]


def assert_examples(pipeline: Pipeline) -> None:
    """Computes every example that a pipeline declares, as `entrepot test` does.

    Args:
        pipeline: The pipeline.

    Raises:
        AssertionError: If one is not as expected, or cannot be computed; it tells all of them.

    Examples:
        ```python
        from entrepot import Pipeline
        from entrepot.testing import assert_examples

        assert_examples(Pipeline("shop"))
        ```
    """
    failed = [each for each in outcomes(pipeline, pipeline.examples) if not each.passed]
    if failed:
        raise AssertionError("\n".join(f"{each.example.at}: {each.example}\n{each.why}" for each in failed))
