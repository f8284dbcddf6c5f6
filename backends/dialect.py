"""How a warehouse writes things: its SQL, its types, and the one place for what names mean to it.

A name means the same everywhere. It is always quoted, so no word is reserved. Where a warehouse turns unquoted names
into capitals (Snowflake), names in small letters are stored in capitals, so that people need no quotes there either.
Two names that differ only in case are one name, which may not stand twice in a table or a schema.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import ibis.common.exceptions as exc
import sqlglot.expressions as sge
from ibis.backends.sql.compilers.base import SQLGlotCompiler
from ibis.backends.sql.datatypes import SqlglotType

from entrepot.backends.base import TableName
from entrepot.backends.sql.compiling import by_name, naming
from entrepot.backends.sql.digest import Formulas
from entrepot.errors import BadInput

if TYPE_CHECKING:
    import ibis
    import ibis.expr.datatypes as dt
    import ibis.expr.schema as sch

_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*")
_CAPITALS = re.compile(r"[A-Z_][A-Z0-9_$]*")


@dataclass(frozen=True)
class Identifiers:
    """What a warehouse says about names."""

    longest_table: int
    """Characters, or bytes."""
    longest_column: int
    in_bytes: bool = False
    """How long a name is counts in bytes of UTF-8."""
    capitals: bool = False
    """Unquoted names become capitals."""
    reserved_prefixes: tuple[str, ...] = ()
    """Beginnings of names, in any case, that the warehouse keeps for itself."""
    in_column: Callable[[str], bool] = lambda _: True
    """Whether a column's name may have a character."""
    in_table: Callable[[str], bool] = lambda _: True
    """Whether a table's name may have a character."""
    in_schema: Callable[[str], bool] = lambda _: True
    """Whether a schema's name may have a character."""

    def stored(self, name: str) -> str:
        """A name as it stands in the warehouse."""
        return name.upper() if self.capitals and _PLAIN.fullmatch(name) else name

    def shown(self, name: str) -> str:
        """A name that stands in the warehouse, as a user would have written it."""
        return name.lower() if self.capitals and _CAPITALS.fullmatch(name) else name


@dataclass(frozen=True, eq=False)
class Dialect:
    """A warehouse's SQL. Needs no client and no connection."""

    name: str
    """Of the sqlglot dialect."""
    compiler: type[SQLGlotCompiler]
    """Of ibis, or one of our own that corrects it."""
    types: type[SqlglotType]
    """Of ibis, or one of our own that corrects it."""
    identifiers: Identifiers
    formulas: Formulas
    """How it writes digests."""
    python_functions: bool = False
    """An expression may call functions written in Python (`ibis.udf.scalar.python`)."""

    @cached_property
    def _naming(self) -> type[SQLGlotCompiler]:
        return naming(self.compiler)

    def compile(self, expression: ibis.Table, *, pretty: bool = False) -> str:
        """The SELECT that computes an expression.

        Raises:
            ibis.common.exceptions.IbisError: if the warehouse lacks an operation or a type.
        """
        return self.write(by_name(self._naming().to_sqlglot(expression)), pretty=pretty)

    def write(self, tree: sge.Expr, *, pretty: bool = False) -> str:
        """A statement, given as sqlglot's tree with names as users write them."""
        if self.identifiers.capitals:
            tree = _walkable(tree).transform(self._stored)
        return tree.sql(self.name, pretty=pretty)

    def _stored(self, node: sge.Expr) -> sge.Expr:
        if isinstance(node, sge.Identifier):
            return sge.to_identifier(self.identifiers.stored(node.name), quoted=True)
        return node

    def identifier(self, name: str) -> str:
        """A name, quoted."""
        return _identifier(self, name)

    def table(self, name: TableName) -> str:
        """A table's or view's name, quoted."""
        return f"{self.identifier(name.schema)}.{self.identifier(name.table)}"

    def literal(self, text: str) -> str:
        """A text in quotes."""
        return sge.Literal.string(text).sql(self.name)

    def type(self, dtype: dt.DataType) -> str:
        """The warehouse's name of an ibis type."""
        return _type(self, dtype.copy(nullable=True))

    def dtype(self, text: str) -> dt.DataType:
        """The ibis type of a warehouse's type."""
        return _dtype(self, text)

    def definitions(self, schema: sch.Schema) -> dict[str, str]:
        """Each column's name and type, as a statement that makes a table has them.

        Raises:
            BadInput: for a type that no column can have.
        """
        return {name: f"{self.identifier(name)} {self._held(name, dtype)}" for name, dtype in schema.items()}

    def _held(self, name: str, dtype: dt.DataType) -> str:
        try:
            return self.type(dtype)
        except (exc.UnsupportedBackendType, KeyError) as error:
            why = f"{self.name} has no such type" if isinstance(error, KeyError) else error
            raise BadInput(f"column {name!r}: {why}; cast {name!r} from {dtype} to another type first") from error

    def casts(self, schema: sch.Schema) -> str:
        """Columns of these names, cast to these types: what stands between SELECT and FROM."""
        return ", ".join(
            f"CAST({self.identifier(n)} AS {self.type(t)}) AS {self.identifier(n)}" for n, t in schema.items()
        )

    def check_schema(self, name: str) -> None:
        """Raises BadInput for a schema's name that the warehouse cannot have."""
        self._check(name, "schema", self.identifiers.longest_table, self.identifiers.in_schema)

    def check_table(self, name: str) -> None:
        """Raises BadInput for a table's name that the warehouse cannot have."""
        self._check(name, "table", self.identifiers.longest_table, self.identifiers.in_table)

    def check_columns(self, names: Iterable[str]) -> None:
        """Raises BadInput for names of columns that one table cannot have in this warehouse."""
        seen: dict[str, str] = {}
        for name in names:
            self._check(name, "column", self.identifiers.longest_column, self.identifiers.in_column)
            if (other := seen.setdefault(name.lower(), name)) != name:
                raise BadInput(f"the columns {other!r} and {name!r} differ only in case, and are one to a warehouse")

    def _check(self, name: str, what: str, longest: int, may_have: Callable[[str], bool]) -> None:
        is_bytes = self.identifiers.in_bytes
        size, unit = (len(name.encode()), "bytes") if is_bytes else (len(name), "characters")
        if size > longest:
            raise BadInput(f"a {what} of {self.name} cannot be called {name!r}: it has {size} {unit} of {longest}")
        for char in name:
            if not may_have(char):
                raise BadInput(f"a {what} of {self.name} cannot be called {name!r}: {char!r} may not be in a name")
        for prefix in self.identifiers.reserved_prefixes:
            if name.upper().startswith(prefix):
                raise BadInput(f"a {what} of {self.name} cannot be called {name!r}: {prefix!r} is reserved")


def _walkable(tree: Any) -> Any:
    """The same tree, with lists for the tuples that ibis gives to windows and ORDER BY: sqlglot walks past those."""
    for key, value in list(tree.args.items()):
        if isinstance(value, tuple):
            tree.set(key, list(value))
    for child in tree.iter_expressions():
        _walkable(child)
    return tree


@lru_cache(maxsize=16_384)
def _identifier(dialect: Dialect, name: str) -> str:
    return sge.to_identifier(dialect.identifiers.stored(name), quoted=True).sql(dialect.name)


@lru_cache(maxsize=4096)
def _type(dialect: Dialect, dtype: dt.DataType) -> str:
    return str(dialect.types.to_string(dtype))


@lru_cache(maxsize=4096)
def _dtype(dialect: Dialect, text: str) -> dt.DataType:
    return dialect.types.from_string(text)
