"""What is sent over a channel is received as it was, however large it is and however it is cut."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.activities.runtime.isolation.channel import Channel, from_buffer, to_buffer


@pytest.fixture(scope="module")
def ends() -> Iterator[tuple[Channel, Channel]]:
    one, other = (Channel(each.detach()) for each in socket.socketpair())
    yield one, other
    one.close()
    other.close()


def sent(ends: tuple[Channel, Channel], *messages: object) -> list[object]:
    """What the other end receives, while this one still sends: much of it is more than the system keeps."""
    one, other = ends
    sending = threading.Thread(target=lambda: [one.send(message) for message in messages])
    sending.start()
    received = [other.receive() for _ in messages]
    sending.join()
    return received


ROWS = st.lists(
    st.fixed_dictionaries(
        {"n": st.none() | st.integers(-(2**63), 2**63 - 1), "s": st.none() | st.text(max_size=40), "l": st.just([1])}
    ),
    max_size=40,
)
MESSAGES = st.recursive(
    st.none() | st.integers() | st.text() | st.binary(max_size=300_000) | st.builds(pa.py_buffer, st.binary()),
    lambda each: st.lists(each, max_size=4) | st.tuples(each, each) | st.dictionaries(st.text(), each, max_size=3),
    max_leaves=12,
)


@given(st.lists(MESSAGES, max_size=4))
def test_messages_arrive_in_their_order(ends: tuple[Channel, Channel], messages: list[object]) -> None:
    assert sent(ends, *messages) == messages


@given(rows=ROWS, begin=st.integers(0, 40), length=st.integers(0, 40))
def test_rows_arrive_as_they_were_and_a_slice_without_the_others(
    ends: tuple[Channel, Channel], rows: list[dict[str, object]], begin: int, length: int
) -> None:
    schema = pa.schema({"n": pa.int64(), "s": pa.dictionary(pa.int32(), pa.string()), "l": pa.list_(pa.int8())})
    batch = pa.RecordBatch.from_pylist(rows, schema).slice(begin, length)
    [data] = sent(ends, to_buffer(batch))
    assert isinstance(data, pa.Buffer)
    [received] = from_buffer(data)
    assert received.equals(batch)
    received.validate(full=True)


def test_a_slice_of_many_rows_is_small() -> None:
    batch = pa.record_batch({"n": pa.array(range(1_000_000))})
    assert to_buffer(batch.slice(500_000, 10)).size < 2_000


def test_many_megabytes_are_not_copied_into_the_message(ends: tuple[Channel, Channel]) -> None:
    large = pa.record_batch({"n": pa.array(range(3_000_000))})
    before = pa.total_allocated_bytes()
    [data] = sent(ends, to_buffer(large))
    assert isinstance(data, pa.Buffer)
    [received] = from_buffer(data)
    assert received.equals(large)
    assert pa.total_allocated_bytes() - before < 1.2 * large.nbytes


def test_what_cannot_be_pickled_leaves_the_channel_as_it_was(ends: tuple[Channel, Channel]) -> None:
    with pytest.raises(Exception, match="pickle"):
        ends[0].send([b"much" * 100_000, lambda: None])
    assert sent(ends, "next") == ["next"]


def test_an_end_that_has_closed_is_told() -> None:
    one, other = (Channel(each.detach()) for each in socket.socketpair())
    assert not one.poll(0)
    other.close()
    assert one.poll(5)
    with pytest.raises(EOFError):
        one.receive()
    with pytest.raises(BrokenPipeError):
        one.send("anybody?")
    one.close()


def test_an_end_that_closes_within_a_message_is_told() -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(theirs.detach())
    ours.sendall(b"\x01\x00\x00\x00\xff")
    ours.close()
    with pytest.raises(EOFError):
        channel.receive()
    channel.close()
