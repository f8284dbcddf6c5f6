"""Expressions on their way between processes.

ibis's nodes can be pickled; not so the class that ibis makes of each function that its author declares
(`ibis.udf.scalar.python`). Such a class is made again where it arrives, by what ibis knows of it. The author's own
function stays where it is: it is somebody's code, and who wants its values asks that process (see `functions`).
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import ibis
import ibis.expr.operations as ops
import pyarrow as pa
from ibis.expr.operations.udf import InputType

from entrepot.identity.expression import Nodes, nodes_of

_DECLARED = (ops.ScalarUDF, ops.AggUDF)
_ATTRIBUTES = ("__config__", "__udf_namespace__", "__module__", "__func_name__", "dtype")


class Built:
    """What a step has built. As bytes until it is asked for: a plan needs few of its expressions, and to read one takes
    longer than to write it.

    Args:
        made: The nodes of the expression, or they as bytes.
    """

    def __init__(self, made: Nodes | bytes) -> None:
        self._made = made

    def __reduce__(self) -> tuple[type[Built], tuple[bytes]]:
        return Built, (self._made if isinstance(self._made, bytes) else _Pickler.dumped(self._made)[0],)

    @cached_property
    def _functions(self) -> list[type[ops.Node]]:
        return _Pickler.dumped(nodes_of(self.read()))[1]

    def read(self) -> ibis.Table:
        """The expression."""
        root = _loaded(self._made) if isinstance(self._made, bytes) else next(reversed(self._made))
        made: ibis.Table = root.to_expr()
        return made

    def function(self, number: int) -> tuple[Callable[..., Any], pa.DataType, bool]:
        """An author's function that it calls, by its number as an `Elsewhere`: itself, the type of what it gives, and
        whether it takes and gives Arrow arrays instead of values."""
        found: Any = self._functions[number]
        return found.__func__.fget(None), found.dtype.to_pyarrow(), found.__input_type__ is InputType.PYARROW


class Elsewhere:
    """An author's function that another process has: what stands for it where an expression has arrived.

    It takes and gives Arrow arrays, whatever the author's own takes.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.call: Callable[..., Any] | None = None
        """Gets its values, given its number and its arguments."""

    def __call__(self, *arguments: Any) -> Any:
        """Its values for these columns."""
        assert self.call is not None
        return self.call(self.number, *arguments)


def elsewhere(expression: ibis.Table) -> list[Elsewhere]:
    """The functions of an expression that other processes have."""
    found = (getattr(node, "__func__", None) for node in expression.op().find(_DECLARED))
    return [function for function in found if isinstance(function, Elsewhere)]


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.functions: list[type[ops.Node]] = []

    @classmethod
    def dumped(cls, nodes: Nodes) -> tuple[bytes, list[type[ops.Node]]]:
        """The bytes, and the classes of the author's functions; each expression that is built so has them in the same
        order.

        Each node is written by itself and finds those that it is made of written before, so a thousand of them one
        within the other are no deeper than two.
        """
        pickler = cls(file := io.BytesIO())
        pickler.dump(len(nodes))
        for node in nodes:
            pickler.dump(node)
        return file.getvalue(), pickler.functions

    def reducer_override(self, obj: Any) -> Any:
        if not (isinstance(obj, type) and issubclass(obj, _DECLARED) and obj not in _DECLARED):
            return NotImplemented
        made: Any = obj
        number = None
        if made.__input_type__ is not InputType.BUILTIN:
            number = len(self.functions)
            self.functions.append(obj)
        base: Any = next(each for each in _DECLARED if issubclass(obj, each))
        declared = {
            name: parameter.annotation
            for name, parameter in made.__signature__.parameters.items()
            if name not in base.__signature__.parameters
        }
        known = {name: getattr(obj, name) for name in _ATTRIBUTES}
        return _made_again, (obj.__name__, base, declared, known, number)


def _loaded(data: bytes) -> ops.Node:
    unpickler = pickle.Unpickler(io.BytesIO(data))
    *_, root = (unpickler.load() for _ in range(unpickler.load()))
    return root


def _made_again(
    name: str, base: type[ops.Node], declared: Mapping[str, Any], known: Mapping[str, Any], number: int | None
) -> type:
    function = None if number is None else Elsewhere(number)
    kind = InputType.BUILTIN if number is None else InputType.PYARROW
    return type(name, (base,), {**declared, **known, "__input_type__": kind, "__func__": property(lambda _: function)})
