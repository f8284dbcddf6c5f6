"""Statements of Snowflake that fakesnow does not know, put into ones that it does."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field

import sqlglot
from sqlglot.tokens import TokenType

COMMENT = re.compile(r"\s*(?:/\*.*?\*/|--[^\n]*(?:\n|$))", re.S)
DDL = re.compile(r"(create|drop|undrop|alter\s+(?!session\b)|comment\s+on|grant|revoke)\b", re.I)
# CREATE TEMPORARY TABLE and STAGE leave a transaction alone; every other DDL ends it.
TEMPORARY = re.compile(r"create\s+(or\s+replace\s+)?temp", re.I)
SUCCESS = "select 'Statement executed successfully.' as \"status\""

# Without meaning for a server on one machine.
IGNORED = re.compile(
    r"(grant|revoke|use\s+(role|warehouse|secondary)|((create|drop|alter)\s+(or\s+replace\s+)?(role|warehouse|user)))\b",
    re.I,
)
STAGE_IN_QUOTES = re.compile(r"'(@(?:[^'\\]|''|\\.)*)'")
FILE_FORMAT = re.compile(r"file_format\s*=\s*(\([^()]*\))", re.I)
CREATE_STAGE = re.compile(
    r"create\s+(?:or\s+replace\s+)?(?:temp\w*\s+)?stage\s+(?:if\s+not\s+exists\s+)?(\S+).*?file_format\s*=\s*(\([^)]*\))",
    re.I | re.S,
)
CLONE = re.compile(r"create\s+(or\s+replace\s+)?(?:transient\s+)?table\s+(\S+)\s+clone\s+(\S+?)\s*;?\s*$", re.I)
SWAP = re.compile(r"alter\s+table\s+(?:if\s+exists\s+)?(\S+)\s+swap\s+with\s+(\S+?)\s*;?\s*$", re.I)
QUALIFIED_TEMPORARY = re.compile(r'create\s+(?:or\s+replace\s+)?temp\w*\s+(?=table\s+(?:"[^"]+"|\w+)\s*\.)', re.I)
DESCRIBE_RESULT = re.compile(r"describe\s+result\s+last_query_id\(\)", re.I)


@dataclass(frozen=True)
class Plan:
    """What is run in place of one statement: the answer is that of the last of `steps`; `after` is always run."""

    steps: list[str]
    after: list[str] = field(default_factory=list)


def head(sql: str) -> str:
    """The statement without the comments and spaces before it."""
    while found := COMMENT.match(sql):
        sql = sql[found.end() :]
    return sql.strip()


def split(sql: str) -> list[str]:
    """The statements of a text that has several; semicolons inside of strings and names are none."""
    if ";" not in sql or re.match(r"put\b", head(sql), re.I):
        return [sql]
    found, start = [], 0
    for token in sqlglot.tokenize(sql, read="snowflake"):
        if token.token_type == TokenType.SEMICOLON:
            found.append(sql[start : token.start])
            start = token.end + 1
    found.append(sql[start:])
    return [one for one in found if head(one)] or [sql]


def is_ddl(sql: str) -> bool:
    """Whether Snowflake commits the open transaction before it."""
    return bool(DDL.match(head(sql))) and not TEMPORARY.match(head(sql))


def parameters_set(sql: str) -> dict[str, str | None]:
    """The session parameters that ALTER SESSION sets, or unsets (None)."""
    text = head(sql)
    if found := re.match(r"alter\s+session\s+set\s+(.*)", text, re.I | re.S):
        pairs = re.findall(r"(\w+)\s*=\s*('(?:[^']|'')*'|[^\s,;]+)", found[1])
        return {name.upper(): value.strip("'").replace("''", "'") for name, value in pairs}
    if found := re.match(r"alter\s+session\s+unset\s+(.*)", text, re.I | re.S):
        return {name.upper(): None for name in re.findall(r"\w+", found[1])}
    return {}


class Rewriter:
    """Rewrites statements; remembers the file formats of stages, which fakesnow forgets."""

    def __init__(self) -> None:
        self._formats: dict[str, str] = {}

    def plan(self, sql: str, last_select: str | None) -> Plan:
        """What to run for a statement. `last_select`: the session's last query, for DESCRIBE RESULT."""
        text = head(sql)
        if IGNORED.match(text):
            return Plan([SUCCESS])
        if re.match(r"(put|copy|list|ls|remove|rm)\s", text, re.I):
            # A path without quotes may have `/*`, which would begin a comment.
            text = re.sub(r"^put\s+(file://\S+)", r"put '\1'", text, flags=re.I)
            return Plan([self._copy(STAGE_IN_QUOTES.sub(unquoted_stage, text))])
        if found := QUALIFIED_TEMPORARY.match(text):  # DuckDB has no temporary tables in a schema
            return Plan(["create " + text[found.end() :]])
        if found := CREATE_STAGE.match(text):
            self._formats[found[1].upper()] = found[2]
        if found := CLONE.match(text):
            return Plan([f"create {found[1] or ''}table {found[2]} as select * from {found[3]}"])
        if found := SWAP.match(text):
            return Plan(swap(found[1], found[2]))
        if DESCRIBE_RESULT.match(text) and last_select:
            view = f'"_RESULT_{secrets.token_hex(4)}"'
            return Plan([f"create view {view} as {last_select}", f"describe view {view}"], [f"drop view {view}"])
        return Plan([sql])

    def _copy(self, text: str) -> str:
        """COPY INTO as fakesnow reads it. Other statements about stages are left as they are."""
        if not re.match(r"copy\s", text, re.I):
            return text
        stage = re.search(r"@([\w.\"]+)", text)
        known = self._formats.get(stage[1].upper()) if stage else None
        if known and not FILE_FORMAT.search(text):
            text = f"{text.rstrip().rstrip(';')} FILE_FORMAT = {known}"
        # It wants no commas between the options of a format, and a bare MATCH_BY_COLUMN_NAME.
        text = FILE_FORMAT.sub(lambda found: f"FILE_FORMAT = {found[1].replace(',', ' ')}", text)
        text = re.sub(r"match_by_column_name\s*=\s*'(\w+)'", r"MATCH_BY_COLUMN_NAME = \1", text, flags=re.I)
        return re.sub(r"GET\(\$1,\s*'([^']*)'\)", r'$1:"\1"', text, flags=re.I)


def unquoted_stage(found: re.Match[str]) -> str:
    """`'@"DB"."S"."%T"/"1.2"/f.parquet'` without the quotes around it and those of its path."""
    reference = found[1].replace("''", "'")
    position, quoted = 0, False
    while position < len(reference) and (quoted or reference[position] != "/"):
        quoted ^= reference[position] == '"'
        position += 1
    return reference[:position] + reference[position:].replace('"', "")


def swap(first: str, second: str) -> list[str]:
    """ALTER TABLE ... SWAP WITH, in one transaction."""
    names = [re.findall(r'"(?:[^"]|"")*"|[^.]+', name) for name in (first, second)]
    prefixes = [".".join(name[:-1]) + "." * (len(name) > 1) for name in names]
    temporary = f'"_SWAP_{secrets.token_hex(4)}"'
    if prefixes[0].upper() == prefixes[1].upper():
        moves = [
            f"alter table {first} rename to {temporary}",
            f"alter table {second} rename to {names[0][-1]}",
            f"alter table {prefixes[0]}{temporary} rename to {names[1][-1]}",
        ]
    else:  # DuckDB does not rename from one schema into another
        moves = [
            f"create table {prefixes[0]}{temporary} as select * from {first}",
            f"create or replace table {first} as select * from {second}",
            f"create or replace table {second} as select * from {prefixes[0]}{temporary}",
            f"drop table {prefixes[0]}{temporary}",
        ]
    return ["begin", *moves, "commit"]
