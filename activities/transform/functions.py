"""An author's functions in Python that a warehouse calls: what they give for rows, their step's process says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import ibis
import pyarrow as pa

from entrepot.activities.runtime.isolation.builder import Builder
from entrepot.activities.runtime.isolation.channel import from_buffer, to_buffer
from entrepot.language.step import Step
from entrepot.planning.expressions.built import Built, elsewhere


class Functions:
    """Lets a builder's process answer for functions of expressions."""

    def __init__(self, builder: Builder) -> None:
        self._builder = builder
        self._raised: list[BaseException] = []

    def answered(self, expression: ibis.Table, step: Step, question: Callable[..., pa.Buffer], *arguments: Any) -> None:
        """From now on the functions that an expression calls are answered for.

        Args:
            question: Called in the process with its `Call`, the step, the arguments, the function's number as in
                `Built`, and rows; it gives what `values` gives.
        """
        for function in elsewhere(expression):
            function.call = partial(self._called, step, question, arguments)

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Raises what a function raised as it was, not as the warehouse tells it."""
        self._raised.clear()
        try:
            yield
        except Exception:
            if not self._raised:
                raise
            raise self._raised[0] from None

    def _called(
        self,
        step: Step,
        question: Callable[..., pa.Buffer],
        arguments: tuple[Any, ...],
        number: int,
        *columns: pa.ChunkedArray,
    ) -> pa.Array:
        if self._raised:  # its process is another by now, and the warehouse is about to end
            raise self._raised[0]
        arrays = [column.combine_chunks() for column in columns]
        rows = to_buffer(pa.record_batch(arrays, names=[str(each) for each in range(len(arrays))]))
        try:
            answer = self._builder.ask(step, question, *arguments, number, rows)
        except BaseException as error:
            self._raised.append(error)
            raise
        [batch] = from_buffer(answer)
        return batch.column(0)


def values(built: Built, number: int, rows: pa.Buffer) -> pa.Buffer:
    """What a function of an expression gives for rows, in the process that has it."""
    function, dtype, takes_arrays = built.function(number)
    [batch] = from_buffer(rows)
    if takes_arrays:
        given = function(*map(pa.chunked_array, ([column] for column in batch.columns)))
    else:
        given = pa.array([function(*row) for row in zip(*(c.to_pylist() for c in batch.columns), strict=True)], dtype)
    if isinstance(given, pa.ChunkedArray):
        given = given.combine_chunks()
    return to_buffer(pa.record_batch([given], names=["0"]))
