"""A secret's value is in nothing that a process says, however it is written there; and nothing else is hidden."""

from __future__ import annotations

import base64
import html
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from entrepot import secrets
from entrepot.errors import BadInput
from entrepot.secrets import Secret, refer, register, scrub
from entrepot.tracebacks import cut, describe


@pytest.fixture(autouse=True)
def _nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_resolved", {})
    monkeypatch.setattr(secrets, "_named", set())


WRITTEN: dict[str, Callable[[str], str]] = {
    "as it is": lambda value: value,
    "in Python": lambda value: repr({"x": value}),
    "in JSON": lambda value: json.dumps({"x": value}),
    "in a text in a text": lambda value: repr(KeyError(repr([value, "'"]))),
    "in JSON in JSON": lambda value: json.dumps(json.dumps([json.dumps(value)])),
    "in JSON of UTF-8": lambda value: json.dumps({"x": value}, ensure_ascii=False),
    "in SQL": lambda value: "ATTACH '" + value.replace("'", "''") + "'",
    "in HTML": lambda value: f"<p>{html.escape(value)}</p>",
    "in a URL": lambda value: f"https://host/?x={quote(value, safe='')}&y=1",
    "in a path": lambda value: f"https://host/{quote(value)}",
    "in a form": lambda value: f"x={quote_plus(value)}&y=1",
    "in small hexadecimal digits": lambda value: re.sub("%..", lambda code: code[0].lower(), quote(value)),
    "in bytes": lambda value: value.encode().hex(),
    "in base64": lambda value: base64.b64encode(value.encode()).decode(),
    "in base64 for URLs": lambda value: base64.urlsafe_b64encode(value.encode()).decode(),
    "in a header": lambda value: f"Basic {base64.b64encode(f'user:{value}'.encode()).decode()}",
    "in another header": lambda value: f"Basic {base64.b64encode(f'me:{value}:'.encode()).decode()}",
    "among letters": lambda value: f"abc{value}abc",
}
VALUES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=8, max_size=40)


@settings(max_examples=40)
@given(VALUES)
def test_no_way_of_writing_it_tells_a_secret(value: str) -> None:
    """What a text says, once every way of writing it is undone, does not have the value, nor most of it."""
    assume(not value.isalpha() and not value.isdigit() and "*" not in value)
    register(value, "env:X")
    for how, write in WRITTEN.items():
        told = scrub(f"it failed: {write(value)} was refused")
        assert secrets.MASK in told, how
        assert write(value) not in told, how
        assert len(told) < len("it failed:  was refused") + 40, how


@settings(max_examples=60)
@given(st.text(max_size=200), VALUES)
def test_what_has_no_secret_in_it_is_told_as_it_is(text: str, value: str) -> None:
    assume(not any(sign in text for sign in ("=", "://", "'", '"')) and value not in text)
    register(value, "env:X")
    assume(not any(form in text for form in secrets._known()[0]))
    assert scrub(text) == text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cannot reach postgresql://me:geheim@host/db", "cannot reach postgresql://me:***@host/db"),
        ("cannot reach mysql+pymysql://me:p@ss:word@host:1/db", "cannot reach mysql+pymysql://me:***@host:1/db"),
        ("ftp://:geheim@host/a and http://host:8080/x@y", "ftp://:***@host/a and http://host:8080/x@y"),
        ("host=h user=me password=geheim dbname=x", "host=h user=me password=*** dbname=x"),
        ("host=h password='ge heim' dbname=x", "host=h password='***' dbname=x"),
        ("https://h/?api_key=abc&x=1&X-Amz-Signature=ff", "https://h/?api_key=***&x=1&X-Amz-Signature=***"),
        ("https://h/c?sv=1&sig=abc%3D", "https://h/c?sv=1&sig=***"),
        ("{'user': 'me', 'password': 'geheim'}", "{'user': 'me', 'password': '***'}"),
        ('{"client_secret": "geheim"}', '{"client_secret": "***"}'),
        ("{'Authorization': 'Basic bWU6Z2VoZWlt'}", "{'Authorization': 'Basic ***'}"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("with bearer abcdefghijklmnopqrst", "with bearer ***"),
    ],
)
def test_what_stands_in_a_secrets_place_is_hidden_though_nobody_knows_it(text: str, told: str) -> None:
    assert scrub(text) == told
    assert scrub(told) == told


@pytest.mark.parametrize(
    "text",
    [
        "tenants.acme.backend: `password` must be a reference such as 'env:NAME'",
        "PostgresTable(url, password=env:SHOP) cannot be read",
        "max_tokens=512, tokenizer=gpt, key=id",
        '{"versions": {"token": "3f2a9c", "tokens": "77aa01"}}',
        "password authentication failed for user 'postgres'",
        "see https://host:8080/docs and mail me@host",
    ],
)
def test_what_only_looks_like_a_secret_is_told(text: str) -> None:
    assert scrub(text) == text


@pytest.mark.parametrize("value", ["", "a", "dev", "abc12", "postgres", "PRODUCTION", "Databricks", "1234567"])
def test_a_short_value_or_a_word_is_hidden_in_a_secrets_place_alone(value: str) -> None:
    register(value, "env:X")
    text = "role 'postgres' in PRODUCTION on Databricks: 1234567 rows of dev, abc12"
    assert scrub(text) == text
    assert scrub(f"postgresql://me:{value or 'x'}@host") == "postgresql://me:***@host"


def test_the_parts_of_a_secret_are_secret_too() -> None:
    """The password of a URL, as it is and as it stands there; the lines of a key; what in JSON is none of the rest."""
    register("postgresql://me:p%40ss-w0rd@host:5432/shop?sslpassword=ge-heim", "env:URL")
    register(
        "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhk\nAoIBAQDEVadqJ3j5m\n-----END PRIVATE KEY-----", "file:KEY"
    )
    account = {"project_id": "acme-data", "private_key": "-----BEGIN\nMIIEvQIBADANBgkXXX\n", "token_uri": "https://o/t"}
    register(json.dumps(account), "file:JSON")
    for told in (
        "p%40ss-w0rd",
        "p@ss-w0rd",
        "ge-heim",
        "MIIEvQIBADANBgkqhk",
        "AoIBAQDEVadqJ3j5m",
        "MIIEvQIBADANBgkXXX",
    ):
        assert scrub(f"it has {told} in it") == "it has *** in it"
    assert scrub("acme-data at host:5432") == "acme-data at host:5432"


def test_whoever_reads_a_secret_makes_it_known_and_its_last_values_stay_so(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("value-0\n")
    secret = Secret(f"file:{tmp_path / 'key'}", "tenant 'acme'")
    assert scrub("value-0") == "value-0"
    for number in range(5):
        (tmp_path / "key").write_text(f"value-{number}\n")
        assert secret.read() == f"value-{number}"
    assert scrub("value-1, value-2, value-3, value-4") == "value-1, ***, ***, ***"
    assert "value" not in repr(secret)


def test_environment_variables_are_secrets_if_their_name_says_so_or_somebody_names_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = tmp_path / "key.json"
    key.touch()
    monkeypatch.setenv("SOURCES__SHOP__API_KEY", "canary-1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-2")
    monkeypatch.setenv("DATABASE_URL", "mysql://me:canary-3@host/db")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))  # says where, not what
    monkeypatch.setenv("SHOP", "canary-4")
    assert scrub("canary-1 canary-2 canary-3 canary-4") == "*** *** *** canary-4"
    refer("env:SHOP")
    (tmp_path / "token").write_text("canary-5")
    refer(f"file:{tmp_path / 'token'}")
    refer(f"file:{tmp_path / 'missing'}")
    assert scrub("canary-4 canary-5 mysql://me@host/db") == "*** *** mysql://me@host/db"
    assert scrub(str(key)) == str(key)


def test_a_sentence_is_scrubbed_before_it_is_cut() -> None:
    register("canary-of-many-letters", "env:X")
    assert cut("it was canary-of-many-letters", 15) == "it was ***"
    told = describe(RuntimeError("canary-of-many-letters" * 10), 40)
    assert "canary" not in told


@pytest.mark.timeout(120)  # where it took the square of the length, it would take hours
@pytest.mark.parametrize(
    "piece", ["a", "password", "://a:", "'a", "password='", "'password': '", "bearer ", "%41", "a=b@"]
)
def test_a_text_of_megabytes_takes_no_longer_than_its_length_says(piece: str) -> None:
    for value in ("canary-of-many-letters", "\\'canary'\\", "\\\ncanary", "'canary"):
        register(value, value)
    long = piece * (400_000 // len(piece))
    assert "canary" not in scrub(f"{long} canary-of-many-letters")


def test_what_a_process_prints_is_scrubbed_whoever_prints_it() -> None:
    code = """if True:
        import logging, os, sys, warnings
        from entrepot.secrets import scrub_output
        scrub_output()
        logging.basicConfig()
        value = os.environ["SHOP_PASSWORD"]
        print("print", value)
        sys.stdout.writelines([value])
        logging.warning("log %s", value)
        warnings.warn(f"warning {value}")
        raise RuntimeError(value)
    """
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"SHOP_PASSWORD": "canary-1", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "canary" not in done.stdout + done.stderr.replace(code, "")
    for said in ("print ***", "log ***", "warning ***", "RuntimeError: ***"):
        assert said in done.stdout + done.stderr


def test_a_secret_that_is_not_there_is_a_sentence() -> None:
    with pytest.raises(BadInput, match="tenant 'acme': the environment variable NOT_SET is not set for this worker"):
        Secret("env:NOT_SET", "tenant 'acme'").read()
