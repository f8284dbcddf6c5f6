"""Whatever code raises is told in clean, short text, with the author's own line; and whether trying again can help."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.errors import BadInput, Contended, StepFailed, Unavailable
from entrepot.tracebacks import LONGEST, author_line, author_traceback, cut, describe, is_transient, origin

TEXTS = st.text(st.characters(codec=None), max_size=200) | st.text().map(lambda text: text * 3_000)


@settings(max_examples=60)
@given(TEXTS, st.integers(1, 300))
def test_any_text_becomes_one_that_can_be_kept(text: str, most: int) -> None:
    """It can be encoded, has no control characters, begins as the text does, and says how much is left out."""
    kept = cut(text, most)
    kept.encode()
    assert not any(ord(character) < 32 and character not in "\n\t" for character in kept)
    assert len(kept) <= most + len("… (1,000,000,000 more characters)")
    if text.isprintable() and len(text) <= most:
        assert kept == text


class Loud(str):
    """A text that is another whenever somebody formats it."""

    def __format__(self, _: str) -> str:
        return "loud" * 1_000_000

    def __len__(self) -> int:
        return 1


@settings(max_examples=60)
@given(TEXTS, st.sampled_from([ValueError, KeyError, RuntimeError, OSError, SystemExit, StepFailed]), st.integers(0, 5))
def test_any_exception_becomes_a_sentence(text: str, kind: type[BaseException], causes: int) -> None:
    error = kind(Loud(text))
    for _ in range(causes):
        outer = ExceptionGroup(text, [RuntimeError(text)])
        outer.__cause__, error = error, outer
    describe(error).encode()
    assert len(describe(error)) <= 2 * LONGEST + 50


def test_what_was_raised_is_told_with_where_it_began() -> None:
    first, last = ZeroDivisionError("no"), ValueError("yes")
    last.__cause__ = RuntimeError("between")
    last.__cause__.__cause__ = first
    assert describe(last) == "ValueError: yes, because of ZeroDivisionError: no"
    assert describe(StepFailed("the table is gone")) == "the table is gone"
    assert describe(TimeoutError()) == "TimeoutError"
    assert describe(ModuleNotFoundError("No module named 's3fs'")).endswith("'s3fs'; install it where the worker runs")
    full = os.strerror(errno.ENOSPC)
    assert describe(OSError(errno.ENOSPC, "", "/data")) == f"cannot write /data: {full}"
    assert (
        describe(OSError(errno.ENOSPC, "", "/tmp/read", None, "/data/written")) == f"cannot write /data/written: {full}"
    )


def test_a_column_of_another_type_than_its_author_thinks_is_named() -> None:
    sales = ibis.table({"amount": "string"}, name="sales")
    with pytest.raises(AttributeError) as raised:
        sales.agg(total=ibis._.amount.sum())
    assert describe(raised.value).endswith(
        "'StringColumn' object has no attribute 'sum': 'amount' is of the type string"
    )


AGAIN: list[BaseException] = [
    ConnectionResetError(), TimeoutError(), BlockingIOError(), MemoryError(), BrokenPipeError(),
    OSError(errno.ENOSPC, ""), OSError(errno.EROFS, ""), OSError(errno.EIO, ""), OSError(errno.EHOSTUNREACH, ""),
    requests.ConnectionError(), requests.ReadTimeout(), requests.HTTPError(response=requests.Response()),
    Unavailable("no"), Contended("no"), ExceptionGroup("", [RuntimeError(), TimeoutError()]),
]  # fmt: skip
NEVER: list[BaseException] = [
    TypeError(), KeyError("int256"), AttributeError(), ModuleNotFoundError("s3fs"), ImportError(), ValueError(),
    pa.ArrowInvalid("no"), pa.ArrowNotImplementedError("no"), NotImplementedError(), SyntaxError(), RecursionError(),
    FileNotFoundError(errno.ENOENT, ""), IsADirectoryError(), FileExistsError(), OSError(errno.ENAMETOOLONG, ""),
    UnicodeDecodeError("utf8", b"", 0, 1, ""), requests.exceptions.InvalidURL(), SystemExit(1), KeyboardInterrupt(),
    GeneratorExit(), StepFailed("no"), BadInput("no"), ExceptionGroup("", [TypeError(), TimeoutError()]),
]  # fmt: skip
OPEN: list[BaseException] = [RuntimeError(), OSError("odd"), Exception(), json.JSONDecodeError("", "", 0), EOFError()]
AGAIN[-4].response.status_code = 503  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("error", "verdict"),
    [*((e, True) for e in AGAIN), *((e, False) for e in NEVER), *((e, None) for e in OPEN)],
    ids=repr,
)
def test_whether_trying_again_can_help(error: BaseException, verdict: bool | None) -> None:
    assert is_transient(error) is verdict
    wrapped = RuntimeError("a library's own words")
    wrapped.__cause__ = error
    if isinstance(error, Exception):
        assert is_transient(wrapped) is verdict


@pytest.mark.parametrize("code", [400, 401, 403, 404, 408, 410, 422, 425, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("place", ["status_code", "status", "code", "response"])
def test_answers_of_http_by_their_code(code: int, place: str) -> None:
    error: Any = type("Answer", (Exception,), {})("what it says")
    if place == "response":
        error.response = type("Response", (), {"status_code": code})
    else:
        setattr(error, place, code)
    assert is_transient(error) is (code in (408, 425, 429, 500, 502, 503, 504))


def raised(text: str, folder: Path) -> Exception:
    """What code in a file of the author's raises."""
    (folder / "author.py").write_text(text)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - any
        exec(compile(text, str(folder / "author.py"), "exec"), {})
    return caught.value


def test_the_line_is_the_author_s_though_a_library_raised(tmp_path: Path) -> None:
    error = raised("import json\n\ndef read():\n    return json.loads('[')\n\nread()\n", tmp_path)
    assert str(author_line(error)) == f"{tmp_path}/author.py:4"
    way = author_traceback(error)
    assert way is not None
    lines = []
    while way is not None:
        lines.append((Path(way.tb_frame.f_code.co_filename).name, way.tb_lineno))
        way = way.tb_next
    assert lines[-3:-1] == [("author.py", 6), ("author.py", 4)]
    assert lines[-1][0] == "decoder.py"


def test_an_error_of_ours_came_from_the_author_s(tmp_path: Path) -> None:
    error = StepFailed("the step fails")
    error.__cause__ = raised("\n1 / 0", tmp_path)
    assert origin(error) is error.__cause__
    assert str(author_line(error)) == f"{tmp_path}/author.py:2"
    assert origin(StepFailed("by itself")) is None
