"""fakesnow's engine, with what it lacks put right: functions, error codes and Arrow.

fakesnow turns Snowflake's SQL into DuckDB's. Everything here is done by replacing a function of fakesnow with one that
wraps it, in `correct()`, so that what is changed can be read in one place.
"""

from __future__ import annotations

import re
from string import Template
from typing import Any

import duckdb
import fakesnow.arrow
import fakesnow.copy_into
import fakesnow.cursor
import fakesnow.info_schema
import fakesnow.transforms
import pyarrow as pa
import pyarrow.compute as pc
import sqlglot
from snowflake.connector.errors import ProgrammingError
from sqlglot import exp

Cursor = fakesnow.cursor.FakeSnowflakeCursor


def correct() -> None:
    """Puts the corrections in place. To be called once, before anything runs."""
    fakesnow.arrow.timestamp_to_sf_struct = timestamps_with_null(fakesnow.arrow.timestamp_to_sf_struct)
    fakesnow.transforms.integer_precision = whole_numbers
    fakesnow.transforms.numeric_agg_implicit_cast = exact_sums(fakesnow.transforms.numeric_agg_implicit_cast)
    fakesnow.copy_into._get_table_columns = column_names
    fakesnow.copy_into._match_parquet_columns = matched
    fakesnow.info_schema.SQL_CREATE_INFORMATION_SCHEMA_TABLES_VIEW = Template(
        fakesnow.info_schema.SQL_CREATE_INFORMATION_SCHEMA_TABLES_VIEW.template + VIEWS_TOO
    )
    Cursor._transform = with_functions(Cursor._transform)
    Cursor._execute = with_error_codes(Cursor._execute)
    Cursor._describe_last_sql = described(Cursor._describe_last_sql)


# Arrow


def timestamps_with_null(original: Any) -> Any:
    """A NULL timestamp is a NULL struct. fakesnow makes a struct of NULLs, which the client's 5.x refuses."""

    def convert(timestamps: pa.Array | pa.ChunkedArray) -> pa.Array:
        if isinstance(timestamps, pa.ChunkedArray):
            timestamps = timestamps.combine_chunks()
        if not timestamps.null_count:
            return original(timestamps)
        filled = original(timestamps.fill_null(0))
        parts = [filled.field(i) for i in range(filled.type.num_fields)]
        return pa.StructArray.from_arrays(parts, fields=list(filled.type), mask=pc.is_null(timestamps))

    return convert


# Columns of an answer


def described(original: Any) -> Any:
    """Asks DuckDB at once. fakesnow first parses the statement once more, which took half of its time."""

    def describe(self: Any) -> list[Any]:
        try:
            rows: list[Any] = self._duck_conn.execute(f"DESCRIBE {self._last_sql}", self._last_params).fetchall()
        except duckdb.Error:
            rows = original(self)
        return rows

    return describe


# INFORMATION_SCHEMA

# Snowflake's TABLES has views too; fakesnow's has tables alone.
VIEWS_TOO = """
union all by name
select
    database_name as "TABLE_CATALOG",
    schema_name as "TABLE_SCHEMA",
    view_name as "TABLE_NAME",
    'VIEW' as "TABLE_TYPE"
from duckdb_views
where database_name = '${catalog}' and not internal and schema_name not in ('main', '_fs_information_schema')
"""


# Types

WHOLE = {exp.DataType.Type.INT, exp.DataType.Type.SMALLINT, exp.DataType.Type.TINYINT}


def whole_numbers(node: exp.Expression) -> exp.Expression:
    """INT, and NUMBER without digits, are BIGINT, which is fast and what clients make of them.

    A NUMBER(38, 0) that is written so stays a decimal of 38 digits: fakesnow makes it a BIGINT too, which cannot hold
    what Snowflake's can.
    """
    if isinstance(node, exp.DataType):
        bare_number = node.this == exp.DataType.Type.DECIMAL and not node.expressions
        if bare_number or node.this in WHOLE:
            return exp.DataType(this=exp.DataType.Type.BIGINT, nested=False, prefix=False)
    return node


def exact_sums(original: Any) -> Any:
    """A sum is as exact as what is summed. fakesnow makes every sum a DOUBLE, so that texts can be summed too."""

    def transform(node: exp.Expression) -> exp.Expression:
        summed = node.this if isinstance(node, exp.Sum) else None
        result = original(node)
        if summed is not None:  # the result may have been given the name that Snowflake gives it
            (result.this if isinstance(result, exp.Alias) else result).set("this", summed)
        return result

    return transform


# COPY INTO ... MATCH_BY_COLUMN_NAME


def column_names(table: exp.Table, connection: Any, database: str | None, schema: str | None) -> list[str]:
    """The names of a table's columns as they are. fakesnow makes them upper case, and so misses those in quotes."""
    return [row[0] for row in fakesnow.copy_into._describe_table(table, connection, database, schema)]


def matched(of_file: list[str], of_table: list[str], mode: Any) -> dict[str, str]:
    """The file's column for each of the table's columns that has one."""
    if mode == fakesnow.copy_into.MatchByColumnName.CASE_SENSITIVE:
        return {name: name for name in of_table if name in of_file}
    by_upper = {name.upper(): name for name in of_file}
    return {name: by_upper[name.upper()] for name in of_table if name.upper() in by_upper}


# Functions

NUMBER = "DECIMAL(38, 0)"
HEXADECIMAL = re.compile("X+")
SIDES = {"LEADING": "LTRIM", "TRAILING": "RTRIM"}
FORMAT_OF_TIME = re.compile("yy|mm|mon|dd|hh|mi|ss|ff", re.I)


def with_functions(original: Any) -> Any:
    """Writes functions that fakesnow passes on wrongly in terms of what DuckDB has."""

    def transform(self: Any, expression: exp.Expression, params: Any) -> exp.Expression:
        facts = getattr(self._conn, "facts", {})
        # From the leaves up, as what replaces a node holds that node's own parts.
        for node in reversed(list(expression.bfs())):
            new = function(fact(node, facts))
            if new is not node:
                node.replace(new)
        return original(self, expression, params)

    return transform


def fact(node: exp.Expression, facts: dict[str, str]) -> exp.Expression:
    """A function about the session, such as CURRENT_USER(), as its value."""
    if isinstance(node, exp.Func):
        name = node.name.upper() if isinstance(node, exp.Anonymous) else node.sql_names()[0]
        if name in facts:
            return exp.Literal.string(facts[name])
    return node


def function(node: exp.Expression) -> exp.Expression:
    """One node of the tree of a statement, put into other words if DuckDB needs it."""
    if isinstance(node, exp.MD5NumberLower64):
        return md5_half(node.this, from_digit=17)
    if isinstance(node, exp.MD5NumberUpper64):
        return md5_half(node.this, from_digit=1)
    if isinstance(node, exp.BitwiseAnd | exp.BitwiseOr | exp.BitwiseXor):
        return bits(node)
    if isinstance(node, exp.BitwiseLeftShift | exp.BitwiseRightShift):
        return shift(node)
    if isinstance(node, exp.ToChar):
        return text_of(node)
    if isinstance(node, exp.ToNumber) and HEXADECIMAL.fullmatch(node.text("format")):
        digits = exp.Concat(expressions=[exp.Literal.string("0x"), node.this.copy()])
        return exp.cast(exp.cast(digits, exp.DataType.Type.UBIGINT), NUMBER)
    if isinstance(node, exp.Uniform):
        return uniform(node)
    if isinstance(node, exp.Pad):  # DuckDB takes an INTEGER for the length, and nothing larger
        node.set("expression", exp.Anonymous(this="_standin_integer", expressions=[node.expression.copy()]))
    if isinstance(node, exp.Trim) and node.expression and node.text("position").upper() in SIDES:
        name = SIDES[node.text("position").upper()]
        return exp.Anonymous(this=name, expressions=[node.this.copy(), node.expression.copy()])
    if isinstance(node, exp.Div | exp.Mod):
        # DuckDB gives infinity or NULL for a division by zero.
        node.set("expression", exp.Anonymous(this="_standin_not_zero", expressions=[node.expression.copy()]))
    return node


def uniform(node: exp.Uniform) -> exp.Expression:
    """A random number between two: fakesnow makes RANDOM() a whole one, as it is alone, here too."""
    low, high = node.this.copy(), node.expression.copy()
    width = exp.paren(exp.Sub(this=high, expression=low), copy=False)
    random = exp.Anonymous(this="RANDOM", expressions=[])
    return exp.paren(exp.Add(this=low.copy(), expression=exp.Mul(this=width, expression=random)), copy=False)


def text_of(node: exp.ToChar) -> exp.Expression:
    """TO_CHAR: its format is lost where the argument is a column, and a moment has a format without one too."""
    pattern = node.args.get("format")
    if pattern is None:
        return exp.Anonymous(this="_standin_to_char", expressions=[node.this.copy()])
    if not (isinstance(pattern, exp.Literal) and FORMAT_OF_TIME.search(pattern.name)):
        return node
    with_type = sqlglot.parse_one(f"to_char(null::timestamp_ntz, {pattern.sql()})", read="snowflake")
    with_type.this.set("this", node.this.copy())
    return with_type


def md5_half(value: exp.Expression, from_digit: int) -> exp.Expression:
    """16 hexadecimal digits of the MD5 as an unsigned number. DuckDB reads the bytes in the other order."""
    digits = exp.Substring(
        this=exp.MD5(this=value), start=exp.Literal.number(from_digit), length=exp.Literal.number(16)
    )
    text = exp.Concat(expressions=[exp.Literal.string("0x"), digits])
    return exp.cast(exp.cast(text, exp.DataType.Type.UBIGINT), NUMBER)


def bits(node: exp.Binary) -> exp.Expression:
    """Snowflake's numbers are decimals of 38 digits, and DuckDB has bit operations for whole numbers alone."""
    for side in ("this", "expression"):
        node.set(side, exp.cast(node.args[side], exp.DataType.Type.INT128))
    return exp.cast(node, NUMBER)


def shift(node: exp.Binary) -> exp.Expression:
    """A shift by multiplying: DuckDB refuses shifts of negative numbers, and of those that grow too long."""
    power = exp.cast(
        exp.Pow(this=exp.Literal.number(2), expression=exp.cast(node.expression, "INT")), exp.DataType.Type.INT128
    )
    value = exp.paren(exp.cast(node.this, exp.DataType.Type.INT128), copy=False)
    if isinstance(node, exp.BitwiseLeftShift):
        return exp.cast(exp.paren(exp.Mul(this=value, expression=power)), NUMBER)
    # Rounds down for negative numbers too, as the sign bit of an arithmetic shift does.
    below = exp.Anonymous(this="_standin_floor_div", expressions=[value, power])
    return exp.cast(below, NUMBER)


# What DuckDB lacks as a function, made in each database next to fakesnow's own.
MACROS = [
    # As the parameter TIMESTAMP_NTZ_OUTPUT_FORMAT is by default.
    """CREATE OR REPLACE MACRO _standin_to_char(x) AS (
        CASE WHEN typeof(x) = 'TIMESTAMP'
        THEN strftime(TRY_CAST(CAST(x AS VARCHAR) AS TIMESTAMP), '%Y-%m-%d %H:%M:%S.%g')
        ELSE CAST(x AS VARCHAR) END)""",
    # DuckDB's `//` rounds towards zero.
    "CREATE OR REPLACE MACRO _standin_floor_div(a, b) AS (a // b - CASE WHEN a % b < 0 THEN 1 ELSE 0 END)",
    "CREATE OR REPLACE MACRO _standin_integer(x) AS CAST(x AS INTEGER)",
    "CREATE OR REPLACE MACRO is_object(x) AS json_type(x) = 'OBJECT'",
    "CREATE OR REPLACE MACRO as_varchar(x) AS (CASE WHEN json_type(x) = 'VARCHAR' THEN x ->> '$' END)",
    """CREATE OR REPLACE MACRO as_boolean(x) AS (
        CASE WHEN json_type(x) = 'BOOLEAN' THEN TRY_CAST(x ->> '$' AS BOOLEAN) END)""",
    """CREATE OR REPLACE MACRO as_integer(x) AS (
        CASE WHEN json_type(x) IN ('BIGINT', 'UBIGINT') THEN TRY_CAST(x ->> '$' AS BIGINT) END)""",
    """CREATE OR REPLACE MACRO as_double(x) AS (
        CASE WHEN json_type(x) IN ('BIGINT', 'UBIGINT', 'DOUBLE') THEN TRY_CAST(x ->> '$' AS DOUBLE) END)""",
    "CREATE OR REPLACE MACRO _standin_not_zero(x) AS (CASE WHEN x = 0 THEN error('Division by zero') ELSE x END)",
]


# Errors

MISSING_TABLE = re.compile(
    r'Table with name "?(?P<name>[^ ]+?)"? does not exist(?: because schema "(?P<schema>[^"]+)")?'
)
MISSING_CATALOG = re.compile(r'Catalog "(?P<name>[^"]+)" does not exist')
MISSING_SCHEMA = re.compile(
    r'[Ss]chema (?:with name )?"?(?P<name>[^ "]+)"? does not exist|No schema named "(?P<other>[^"]+)"'
)
MISSING_COLUMN = re.compile(r'Referenced column "(?P<name>[^"]+)"|does not have a column named "(?P<other>[^"]+)"')
MISSING_FUNCTION = re.compile(r"Function with name (?P<name>\S+) does not exist")
EXISTS = re.compile(r'with name "(?P<name>[^"]+)" already exists')


def with_error_codes(original: Any) -> Any:
    """Every error of DuckDB reaches the client as the error of Snowflake that the same mistake gives there."""

    def execute(self: Any, transformed: exp.Expression, params: Any = None) -> None:
        try:
            original(self, transformed, params)
        except duckdb.InterruptException:
            raise  # the query that was cancelled knows, and answers for itself
        except duckdb.Error as error:
            raise snowflake_error(error, databases(self)) from error
        except ProgrammingError as error:
            if isinstance(error.__cause__, duckdb.Error):
                raise snowflake_error(error.__cause__, databases(self), error) from error.__cause__
            raise

    return execute


def databases(cursor: Any) -> set[str]:
    """The names of the databases that there are."""
    with cursor._duck_conn.cursor() as other:
        return {name for (name,) in other.execute("select database_name from duckdb_databases()").fetchall()}


def snowflake_error(
    error: duckdb.Error, known: set[str], by_fakesnow: ProgrammingError | None = None
) -> ProgrammingError:
    """Snowflake's code, SQLSTATE and text for an error of DuckDB. `known`: the databases that there are."""
    text = str(error).split("\n", maxsplit=1)[0]
    compilation = "SQL compilation error:\n"
    if found := MISSING_CATALOG.search(text):
        return error_of(2003, "02000", f"{compilation}Database '{found['name']}' does not exist or not authorized.")
    if found := MISSING_TABLE.search(text):
        return missing_table(found["name"], found["schema"], known)
    if "SET schema: No catalog + schema" in text:
        return error_of(2043, "02000", f"{compilation}Object does not exist, or operation cannot be performed.")
    if found := MISSING_SCHEMA.search(text):
        name = found["name"] or found["other"]
        return error_of(2003, "02000", f"{compilation}Schema '{name}' does not exist or not authorized.")
    if found := MISSING_FUNCTION.search(text):
        return error_of(2140, "42601", f"{compilation}Unknown function {found['name'].upper()}")
    if found := MISSING_COLUMN.search(text):
        name = found["name"] or found["other"]
        return error_of(904, "42000", f"{compilation}error line 1 at position 0\ninvalid identifier '{name}'")
    if found := EXISTS.search(text):
        return error_of(2002, "42710", f"{compilation}Object '{found['name']}' already exists.")
    if isinstance(error, duckdb.TransactionException) and "onflict" in text:
        # Snowflake waits for the lock of the other transaction, and says this when it has waited too long.
        return error_of(625, "57014", f"Statement has locked table in another transaction, not yet released: {text}")
    if "Division by zero" in text:
        return error_of(100051, "22012", "Division by zero")
    if isinstance(error, duckdb.ConversionException) and "Could not convert string" in text:
        return error_of(100038, "22018", f"Numeric value is not recognized: {text}")
    if isinstance(error, duckdb.OutOfRangeException):
        return error_of(100132, "22003", f"Number out of representable range: {text}")
    if isinstance(error, duckdb.ConstraintException) and "NOT NULL" in text:
        return error_of(100072, "22000", f"NULL result in a non-nullable column: {text}")
    return by_fakesnow or error_of(2043, "02000", f"{compilation}{text}")


def missing_table(name: str, schema: str | None, known: set[str]) -> ProgrammingError:
    """What is missing is named: a database or schema on the way to the table, or the table itself."""
    if schema is None:
        kind, what, state = "Object", name.replace('"', ""), "42S02"
    elif "." in schema and (database := schema.split(".")[0]) not in known:
        kind, what, state = "Database", database, "02000"
    else:
        kind, what, state = "Schema", schema, "02000"
    return error_of(2003, state, f"SQL compilation error:\n{kind} '{what}' does not exist or not authorized.")


def error_of(number: int, state: str, text: str) -> ProgrammingError:
    error = ProgrammingError(msg=text, errno=number, sqlstate=state)
    error.msg = text  # without the code before it: the client puts that there
    return error
