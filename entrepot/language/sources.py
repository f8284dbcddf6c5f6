"""Sources as data: files and database tables, read without a detour through Python objects.

Anything else is a source, too: whatever dlt takes, or an iterable of dicts or Arrow tables.
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
    """The files of one raw table: `Files("data/*.csv", nulls=["NA"])`. Changed files are recognised by their content.

    Attributes:
        path: A local path, a glob, or any fsspec URL. A `.zip` holds one file; `.gz`, `.bz2`, `.xz` and `.zst` are read
            as is.
        format: Taken from the name's ending unless given.
        nulls: The texts that stand for NULL in CSV.
        types: Columns to ibis types, where the inferred ones would be wrong: `{"year": "int32"}`.
        rename: Columns, as the files call them, to the names that they shall have: `{"Preis (€)": "price"}`.
        delimiter: What separates the fields of a CSV line. Default: what a first line like `sep=;` says, a tab for
            `.tsv`, else a comma.
        header: Whether the first line of CSV names the columns.
        names: The names of the columns of CSV, in the place of the header's.
        skip: How many lines of CSV come before the header, or before the first row.
        quote: What stands around fields of CSV that have delimiters in them; nothing, if none does.
        escape: What stands before a quote within quotes; default: another quote.
        decimal: What stands before the fraction of a number of CSV.
        thousands: What stands between the thousands of a number of CSV.
        records: Where in a JSON object the array of rows is: `data.items`.
        hive_partitioning: Whether folders like `year=2024` are columns, beside those that the files have: whole
            numbers and dates where these are written as the folders say, else text, such as `month=01`.
        encoding: Of CSV and JSON.
        bad_rows: `fail` with file and line, or `reject`: set them aside in the table `<table>__rejected`.
        short_rows: Whether CSV rows with fewer fields than the header are `bad`, or what they lack is NULL (`nulls`).
        disposition: `replace` reads all files when one has changed. `append` reads those that are new or changed; a
            changed file's rows take the place of its earlier ones, and a file that is gone keeps its rows, unless it
            is there under another name; the column `_file` says where a row is from. `merge` puts the rows of new and
            changed files in the place of rows with the same key; of several files the last by path counts. `scd2`
            compares all rows with those of before by key.
        key: The columns that tell a row from the others, for `merge` and `scd2`.
        deleted: With `merge`, the column that says that a row is gone.
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
    """A table or view of a database, read as Arrow: `PostgresTable("env:SHOP_DB", "orders", cursor="updated_at")`.

    Attributes:
        url: Where the database is: `postgresql://user@host/db`. With a password in it only by reference: `env:NAME` or
            `file:PATH`.
        table: Its name, with its schema where that is not the default one: `sales.orders`.
        columns: The columns to bring; default: all.
        types: Columns to ibis types, where the table's own would be wrong: `{"price": "decimal(38, 18)"}`. A NUMERIC
            without limits is taken as `decimal(38, 9)`, and what does not fit is refused. What no warehouse has, such
            as an interval or a range, is text.
        rename: Columns, as the database calls them, to the names that they shall have. All other options use the
            database's names.
        cursor: The column by which new rows are told from those of before: a time or a number that only grows.
        start: Where the cursor begins at the first load; default: at the first row.
        lag: How far behind the greatest cursor value each load begins again, for rows that appear late: seconds for
            times, a number for numbers.
        cursor_not_after: The greatest value that the cursor moves to; default: for times a day ahead of now. Rows
            beyond it, which a wrong date makes, are brought with each load, in their own place, and told.
        disposition: Default: `merge` with a cursor and a key, `append` with a cursor alone, else `replace`.
        key: The columns that tell a row from the others.
        deleted: With `merge`, the column that says that a row is gone.
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
