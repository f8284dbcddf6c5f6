"""Markdown for comments, held against a parser: whatever stands in names, values and sentences, it stays text."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from entrepot.planning.plan import Plan, PlannedStep
from entrepot.worker.cli import markdown as md

PARSER = MarkdownIt("gfm-like", {"html": True, "linkify": False})
PIECES = st.sampled_from([
    "|", "\\", "`", "``", "*", "_", "**b**", "<b>", "</details>", "<!--", "&lt;", "&#64;", "[a](b)", "![a](b)", "@all",
    "#12", "~~x~~", "http://evil.example", "www.evil.example", "\n", "\r\n", "\n\n# h", "\n```\n", "/close", " ", "a",
    "NULL", "\x00", "\u202e", "- ", "1. ", "\t", "~", "=", "|---|", "$x$", "!7", "é", "日本",
])  # fmt: skip
TEXTS = st.one_of(st.lists(PIECES, max_size=6).map("".join), st.text(max_size=20))


def shown(value: str) -> str:
    """What is to be seen of a text."""
    text = value.replace("\r\n", "↵").replace("\n", "↵").replace("\t", " ")
    return "".join(each if each.isprintable() else "\ufffd" for each in text)


def cells(text: str) -> Iterator[list[Token]]:
    """The cells of the only thing that stands in a text: a table."""
    tokens = PARSER.parse(text)
    assert [each.type for each in tokens if each.level == 0] == ["table_open", "table_close"]
    yield from (each.children or [] for each in tokens if each.type == "inline")


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4))
def test_sentences_and_code_in_cells_stay_what_they_are(rows: list[tuple[str, str]]) -> None:
    made = md.joined(md.table(("one", "two"), [(md.text(a), md.code(b, most=1000)) for a, b in rows]))
    [_, _, *found] = cells(made)
    assert len(found) == 2 * len(rows)
    for (sentence, value), said, code in zip(rows, found[::2], found[1::2], strict=True):
        assert {token.type for token in said} <= {"text", "text_special"}
        plain = "".join(token.content for token in said).replace("\u200b", "")
        assert plain.strip() == shown(sentence).replace("\u200b", "").strip()
        assert "".join(_content(code)) == shown(value)


def _content(tokens: list[Token]) -> Iterator[str]:
    if [token.type for token in tokens] == ["code_inline"]:
        yield tokens[0].content
        return
    assert (tokens[0].content, tokens[-1].content) == ("<code>", "</code>")
    for token in tokens[1:-1]:
        assert token.type in ("text", "text_special")
        yield token.content


@given(TEXTS)
def test_nobody_is_mentioned_and_nothing_is_linked(said: str) -> None:
    plain = html.unescape(md.text(said))
    assert not re.search(r"[@#!~%$]\w", plain)
    assert "://" not in md.text(said)
    assert not re.search(r"\bwww\.", md.text(said))


@given(st.lists(TEXTS, max_size=4))
def test_a_block_ends_where_it_ends(lines: list[str]) -> None:
    tokens = PARSER.parse(md.joined(["before", *md.block(lines), "after"]))
    assert [each.type for each in tokens if each.nesting >= 0 and each.level == 0] == [
        "paragraph_open", "fence", "paragraph_open",
    ]  # fmt: skip


def test_what_is_usual_reads_well() -> None:
    assert md.text("its code or a parameter changed and daily_sales changed") == (
        "its code or a parameter changed and daily_sales changed"
    )
    assert md.code("daily_sales") == "`daily_sales`"
    assert md.code("x" * 100).count("x") == md.LONGEST_VALUE


def test_a_plan_is_a_table_of_what_runs_first() -> None:
    steps = tuple(
        PlannedStep(name=name, kind="transform", action=action, why=why)
        for name, action, why in (("rest", "skip", "nothing changed"), ("work", "run", "rest_of (a|b) changed"))
    )
    lines = md.of_plan(
        Plan(steps=steps, versions={"work": "v1"}, moves={"work": "v1"}, removed=("old",)), ["compute work"]
    )
    text = md.joined(lines)
    assert text.index("`work`") < text.index("`rest`")
    assert "| `work` | transform | run | rest_of (a&#124;b) changed | `v1` |" in text
    assert "**1 of 2 steps** run, 1 name published, `old` removed." in text
    assert "and 1 more steps" in md.joined(md.of_plan(Plan(steps=steps, versions={}), most=1))
