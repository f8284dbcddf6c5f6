"""Sources as data: files and database tables, read as Arrow without a detour through Python objects.

An ingest step may also return what dlt takes, or an iterable of dicts or Arrow tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Format = Literal["csv", "parquet", "json"]
"""`json` is one JSON object a line, objects one after another on lines of their own, or one array of objects."""

Disposition = Literal["replace", "append", "merge", "scd2"]
"""How new rows are combined with existing rows. `replace`: only the new ones count. `append`: they are added. `merge`:
they replace existing rows with the same key. `scd2`: rows that changed or are gone keep the time until which they
held."""


@dataclass(frozen=True)
class Files:
    """The files of one raw table. Changed files are recognised by their content, whatever they are called.

    Args:
        path: A local path, a glob (`data/*.csv`) or any fsspec URL. A `.zip` holds one file; `.gz`, `.bz2`, `.xz` and
            `.zst` are decompressed.
        format: `"csv"`, `"parquet"` or `"json"`. Default: what the file's name ends in.
        nulls: The texts that are NULL in CSV. Default: the empty text.
        types: Columns mapped to ibis types, where the inferred ones would be wrong: `{"year": "int32"}`. Default: all
            types are inferred.
        rename: Columns, as the files call them, mapped to the names that they get: `{"Preis (€)": "price"}`. Default:
            the files' names in small letters, where letters and digits of all scripts stay and all else is an
            underscore.
        delimiter: What separates the fields of a CSV line. Default: what a first line such as `sep=;` says, a tab for
            `.tsv`, else a comma.
        header: Whether the first line of CSV names the columns. Default: true.
        names: The names of the columns of CSV, instead of the header's. Default: the header's.
        skip: The number of lines before the header of CSV, or before the first row. Default: 0.
        quote: The character around fields of CSV that contain delimiters; empty for none. Default: `"`.
        escape: The character before a quote within a quoted field. Default: another quote.
        decimal: The decimal mark of numbers in CSV. Default: a point.
        thousands: The thousands separator of numbers in CSV. Default: none.
        records: Where in a JSON object the array of rows is: `"data.items"`. Default: the file is the rows.
        hive_partitioning: Whether folders such as `year=2024` are columns beside those of the files: whole numbers and
            dates where they are written as such, else text, such as `month=01`. Default: false.
        encoding: The encoding of CSV and JSON. Default: UTF-8.
        bad_rows: With `"fail"`, a row that cannot be read fails the step with file and line. With `"reject"`, it is set
            aside in the table `<table>__rejected`. Default: `"fail"`.
        short_rows: Whether CSV rows with fewer fields than the header are `"bad"`, or the missing fields are NULL
            (`"nulls"`). Default: `"bad"`.
        disposition: How new rows are combined with existing rows. `"replace"` reads all files when one has changed.
            `"append"` reads new and changed files: the rows of a changed file replace its earlier ones, those of a
            removed file stay unless it has only been renamed, and the column `_file` says where a row comes from.
            `"merge"` replaces existing rows with the same key; of several files with one key, the last by path counts.
            `"scd2"` compares whole snapshots by key, and keeps for each row the times between which it held. Default:
            `"replace"`.
        key: The columns that identify a row; required with `"merge"` and `"scd2"`.
        deleted: With `"merge"`, a column that marks rows that were deleted. Default: none.

    Examples:
        ```python
        from entrepot import Files, Pipeline

        shop = Pipeline("shop")


        @shop.ingest(tables=["sales", "sales__rejected"])
        def sales():
            return Files("data/sales-*.csv.gz", nulls=["", "NA"], disposition="append", bad_rows="reject")
        ```
    """

    path: str
    format: Format | None = None
    nulls: Sequence[str] = ("",)
    types: Mapping[str, str] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)
    delimiter: str | None = None
    header: bool = True
    names: Sequence[str] = ()
    skip: int = 0
    quote: str = '"'
    escape: str | None = None
    decimal: str = "."
    thousands: str = ""
    records: str = ""
    hive_partitioning: bool = False
    encoding: str = "utf-8"
    bad_rows: Literal["fail", "reject"] = "fail"
    short_rows: Literal["bad", "nulls"] = "bad"
    disposition: Disposition = "replace"
    key: Sequence[str] = ()
    deleted: str | None = None


@dataclass(frozen=True)
class PostgresTable:
    """A table or view of a PostgreSQL database, read as Arrow. It needs the extra `entrepot[postgres]`.

    Args:
        url: Where the database is: `postgresql://user@host/db`. A URL with a password is given by reference: `env:NAME`
            reads an environment variable of the worker, `file:PATH` a file.
        table: The table's name, with its schema unless that is the default one: `"sales.orders"`.
        columns: The columns to read. Default: all.
        types: Columns mapped to ibis types, where the table's own would be wrong: `{"price": "decimal(38, 18)"}`. A
            NUMERIC without limits is read as `decimal(38, 9)`, and a value that does not fit is refused. Types that no
            warehouse has, such as intervals and ranges, are read as text.
        rename: Columns, as the database calls them, mapped to the names that they get. All other options use the
            database's names. Default: the database's names.
        cursor: A column by which new rows are found: a time or a number that only grows. Default: none, and every load
            reads the whole table.
        start: Where the first load begins. Default: at the first row.
        lag: How far behind the watermark each load begins again, to find rows that appear late: seconds if the cursor
            is a time, else a number. Default: none: rows at the watermark itself are recognised.
        cursor_not_after: The largest value to which the watermark moves. Rows beyond it (mistyped dates) are read again
            by each load, replace their earlier copies, and are reported. Default: a day from now if the cursor is a
            time, else no limit.
        disposition: How new rows are combined with existing rows: `"replace"`, `"append"`, `"merge"` or `"scd2"`.
            Default: `"merge"` with a cursor and a key, `"append"` with a cursor alone, else `"replace"`.
        key: The columns that identify a row; required with `"merge"` and `"scd2"`.
        deleted: With `"merge"`, a column that marks rows that were deleted. Default: none.

    Examples:
        ```python
        from entrepot import Pipeline, PostgresTable

        shop = Pipeline("shop")


        @shop.ingest
        def customers():
            return PostgresTable("env:SHOP_DB", "sales.customers", cursor="updated_at", key=["id"], lag=300)
        ```
    """

    url: str
    table: str
    columns: Sequence[str] = ()
    types: Mapping[str, str] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)
    cursor: str | None = None
    start: str | int | None = None
    lag: float | None = None
    cursor_not_after: str | int | float | None = None
    disposition: Disposition | None = None
    key: Sequence[str] = ()
    deleted: str | None = None
