"""Payloads are encrypted with the first key or the tenant's own, and decrypted with any; what is wrong is told."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from temporalio.api.common.v1 import Payload
from temporalio.converter import ActivitySerializationContext, SerializationContext, WorkflowSerializationContext

from entrepot.errors import BadInput
from entrepot.secrets import scrub
from entrepot.worker.payloads import codec
from entrepot.worker.payloads.codec import CannotDecrypt, Codec

Set = Callable[..., None]
PLAIN = Payload(metadata={"encoding": b"json/plain"}, data=b'{"tenant": "acme"}')


def key(number: int) -> str:
    return base64.b64encode(bytes([number]) * 32).decode()


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Set:
    """Writes the keys that hold from now on."""
    monkeypatch.setenv(codec.SETTING, f"file:{tmp_path / 'keys'}")

    def write(**named: int) -> None:
        lines = [f"{name.replace('__', '.')}:{key(number)}" for name, number in named.items()]
        (tmp_path / "keys").write_text("\n".join(lines))

    return write


def key_id(payload: Payload) -> str:
    return payload.metadata[codec.KEY_ID].decode()


async def test_payloads_are_encrypted_and_come_back_as_they_were(keys: Set) -> None:
    keys(a=1)
    (one, other) = await Codec().encode([PLAIN, PLAIN])
    assert one.metadata["encoding"] == codec.ENCODING
    assert b"acme" not in one.SerializeToString()
    assert one.data != other.data  # each has a nonce of its own
    assert await Codec().decode([one, PLAIN, other]) == [PLAIN] * 3
    assert await Codec().encode([one]) == [one]


@settings(max_examples=30)
@given(st.binary(max_size=300), st.dictionaries(st.text(max_size=8), st.binary(max_size=20), max_size=3))
async def test_any_payload_comes_back_as_it_was(data: bytes, metadata: dict[str, bytes]) -> None:
    payload = Payload(metadata={**metadata, "encoding": b"json/plain"}, data=data)
    assert await Codec().decode(await Codec().encode([payload])) == [payload]


async def test_without_the_setting_payloads_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(codec.SETTING)
    assert await Codec().encode([PLAIN]) == await Codec().decode([PLAIN]) == [PLAIN]


async def test_keys_are_rotated_while_everything_runs(keys: Set) -> None:
    """The new key is added behind the old one everywhere, then moved to the front; at the end the old one goes."""
    keys(old=1)
    (first,) = await Codec().encode([PLAIN])
    keys(old=1, new=2)
    (second,) = await Codec().encode([PLAIN])
    keys(new=2, old=1)
    (third,) = await Codec().encode([PLAIN])
    assert [key_id(each) for each in (first, second, third)] == ["old", "old", "new"]
    assert await Codec().decode([first, second, third]) == [PLAIN] * 3
    keys(new=2)
    assert await Codec().decode([third]) == [PLAIN]
    with pytest.raises(CannotDecrypt, match=r"^the payload was encrypted with the key 'old'; known here: 'new'$"):
        await Codec().decode([first])


async def test_a_wrong_key_is_a_sentence(keys: Set, monkeypatch: pytest.MonkeyPatch) -> None:
    keys(a=1)
    (encrypted,) = await Codec().encode([PLAIN])
    keys(a=2)
    with pytest.raises(
        CannotDecrypt, match="was encrypted with another key 'a' than the one to which ENTREPOT_PAYLOAD"
    ):
        await Codec().decode([encrypted])
    keys(a=1)
    encrypted.data = encrypted.data[:-1]
    for data in (encrypted.data, b"", b"short"):
        encrypted.data = data
        with pytest.raises(CannotDecrypt, match="or was changed since"):
            await Codec().decode([encrypted])
    monkeypatch.delenv(codec.SETTING)
    with pytest.raises(CannotDecrypt, match="the key 'a'; ENTREPOT_PAYLOAD_KEYS is not set here"):
        await Codec().decode([encrypted])


async def test_a_tenants_key_encrypts_what_is_the_tenants(keys: Set) -> None:
    keys(common=1, acme__2=2, acme__1=3)
    used = {}
    for workflow_id in ("acme/flights", "acme:gc", "acme", "acme2/flights", "globex/flights", "", "Ä"):
        context = WorkflowSerializationContext(namespace="default", workflow_id=workflow_id)
        (encrypted,) = await Codec().with_context(context).encode([PLAIN])
        used[workflow_id] = key_id(encrypted)
        assert await Codec().decode([encrypted]) == [PLAIN]
    own = dict.fromkeys(("acme/flights", "acme:gc", "acme"), "acme.2")
    assert used == {**own, **dict.fromkeys(("acme2/flights", "globex/flights", "", "Ä"), "common")}
    assert Codec("acme").with_context(SerializationContext()) == Codec()
    keys(acme__2=2)
    with pytest.raises(BadInput, match=r"has keys of tenants alone \('acme.2'\); add one for the rest"):
        await Codec("globex").encode([PLAIN])


async def test_a_tenants_key_encrypts_what_an_activity_is_given_that_is_in_no_workflow(keys: Set) -> None:
    """`entrepot versions` and `entrepot checks` start such activities: rows that a check found are in the answer."""
    keys(common=1, acme__1=2)

    async def used(workflow_id: str | None, activity_id: str | None) -> str:
        context = ActivitySerializationContext(
            namespace="default",
            activity_id=activity_id,
            activity_type="checks",
            activity_task_queue="entrepot",
            workflow_id=workflow_id,
            workflow_type=None,
            is_local=False,
        )
        (encrypted,) = await Codec().with_context(context).encode([PLAIN])
        return key_id(encrypted)

    assert await used(None, "acme/flights:checks:1f") == await used("", "acme/flights:checks:1f") == "acme.1"
    assert await used("acme/flights", "1") == "acme.1"
    assert await used("globex/flights", "acme") == await used(None, ":served:1f") == await used(None, None) == "common"


async def test_several_references_are_read_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a key").write_text(f"a:{key(1)}")
    monkeypatch.setenv("OTHERS", f"b:{key(2)} c:{key(3)}")
    monkeypatch.setenv(codec.SETTING, f"file:{tmp_path / 'a key'}, env:OTHERS")
    assert list(codec.keys()) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "ENTREPOT_PAYLOAD_KEYS, env:KEYS: there is no key"),
        (key(7), "key 1: write ID:KEY, of which the id has letters, digits, '.', '-' and '_'"),
        ("a:", "key 1: write ID:KEY"),
        ("ä:" + key(7), "key 1: write ID:KEY"),
        ("a:geheim!", "key 1 ('a') is not base64; `openssl rand -base64 32` makes one"),
        ("b:" + key(1) + "\na:Z2VoZWlt", "key 2 ('a') has 6 bytes, and must have 32"),
        (f"a:{key(1)}\na:{key(2)}", "key 2: another key has the id 'a', too"),
    ],
)
def test_what_is_wrong_with_a_key_is_said_without_it(text: str, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(codec.SETTING, "env:KEYS")
    monkeypatch.setenv("KEYS", text)
    with pytest.raises(BadInput) as refused:
        codec.keys()
    assert sentence in str(refused.value)
    assert not any(part in str(refused.value) for part in ("geheim", "Z2VoZWlt", key(7)))


def test_a_key_itself_is_refused_and_one_that_is_known_is_not_told(monkeypatch: pytest.MonkeyPatch, keys: Set) -> None:
    keys(a=5)
    codec.keys()
    assert scrub(f"see {key(5)}") == "see ***"
    monkeypatch.setenv(codec.SETTING, f"a:{key(8)}")
    with pytest.raises(
        BadInput, match="must be a reference such as 'env:NAME' or 'file:PATH', never a key itself"
    ) as no:
        codec.keys()
    assert key(8) not in str(no.value)
    monkeypatch.setenv(codec.SETTING, "env:NOT_SET")
    with pytest.raises(BadInput, match="ENTREPOT_PAYLOAD_KEYS: the environment variable NOT_SET is not set"):
        codec.keys()
