"""The messages between a gateway and its successor: whole and checked, or one sentence and nothing left open."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import threading

import pytest

from ipsec_dp.gateway.upgrade import messages, stream
from ipsec_dp.gateway.upgrade.messages import MessageKind, Ready, UpgradeRefused, body_of, message_of
from ipsec_dp.gateway.upgrade.stream import HEAD_OCTETS, HandOverChannel, HandOverError, check_body, head_for, head_of

BODY = b"what is said"
S = 5.0
EIGHT_MIB = 8 << 20  # what is received as one piece


@pytest.fixture
def ends():
    ours, theirs = HandOverChannel.pair()
    there = HandOverChannel(theirs)
    yield ours, there
    ours.close()
    there.close()


def opened():
    return len(os.listdir("/proc/self/fd"))


def test_a_message_arrives_as_it_left_with_its_descriptors_in_order(ends):
    ours, there = ends
    pipes = [os.pipe() for _ in range(300)]  # more than go with one octet of the stream
    given = [end for pipe in pipes for end in pipe]
    sending = threading.Thread(target=ours.send, args=(MessageKind.OFFER, BODY, given), kwargs={"seconds": S})
    sending.start()
    got = there.receive(seconds=S)
    sending.join()
    assert (got.kind, bytes(got.body), len(got.descriptors)) == (MessageKind.OFFER, BODY, 600)
    assert [os.fstat(each).st_ino for each in got.descriptors] == [os.fstat(each).st_ino for each in given]
    assert not any(os.get_inheritable(each) for each in got.descriptors)
    for each in given:
        os.close(each)
    got.close()


def test_whoever_has_a_message_wipes_it_and_closes_what_came_with_it(ends):
    ours, there = ends
    before = opened()
    ours.send(MessageKind.STATE, BODY, [0], seconds=S)
    got = there.receive(seconds=S)
    assert opened() == before + 1
    got.close()
    assert (opened(), bytes(got.body)) == (before, bytes(len(BODY)))


def test_nothing_of_a_long_message_is_left_beside_it(ends, monkeypatch):
    ours, there = ends
    wiped = []
    monkeypatch.setattr(stream, "wipe", lambda piece: wiped.append(bytes(piece)))
    body = os.urandom(5 * EIGHT_MIB // 2)
    sending = threading.Thread(target=ours.send, args=(MessageKind.STATE, body), kwargs={"seconds": S})
    sending.start()
    got = there.receive(seconds=S)
    sending.join()
    assert bytes(got.body) == body
    assert [len(piece) for piece in wiped] == [EIGHT_MIB, EIGHT_MIB, EIGHT_MIB // 2]
    assert b"".join(wiped) == body


@pytest.mark.parametrize(
    ("place", "says"),
    [(0, "no message of a gateway"), (9, "form"), (10, "what none has"), (12, "what none has"), (16, "what none has")],
)
def test_a_head_with_anything_else_in_it_is_refused(place, says):
    head = bytearray(head_for(MessageKind.STATE, BODY))
    head[place] ^= 0xFF
    with pytest.raises(HandOverError, match=says):
        head_of(head)


@pytest.mark.parametrize("octets", [0, 1, HEAD_OCTETS - 1, HEAD_OCTETS + 1])
def test_a_head_of_another_length_is_refused(octets):
    with pytest.raises(HandOverError, match="was cut"):
        head_of(bytes(octets))


def test_every_changed_bit_is_noticed():
    """Of the front beside what is refused anyway, of the digest and of the body."""
    head = head_for(MessageKind.STATE, BODY, 3)
    for place in range(8 * len(head + BODY)):
        octets = bytearray(head + BODY)
        octets[place // 8] ^= 1 << place % 8
        with pytest.raises(HandOverError):
            check_body(head_of(octets[:HEAD_OCTETS]), octets[HEAD_OCTETS:])


@pytest.mark.parametrize("octets", [0, 1, HEAD_OCTETS, HEAD_OCTETS + 3])
def test_a_message_that_ends_before_its_end_is_one_error(octets):
    ours, theirs = socket.socketpair()
    before = opened()
    with theirs, contextlib.closing(HandOverChannel(ours)) as channel:
        theirs.sendall((head_for(MessageKind.STATE, BODY) + BODY)[:octets])
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(HandOverError, match="has gone"):
            channel.receive(seconds=S)
        assert opened() == before


def test_nothing_is_waited_for_longer_than_it_may_take(ends):
    with pytest.raises(HandOverError, match="in time"):
        ends[0].receive(seconds=0.01)
    with pytest.raises(HandOverError, match="in time"):
        ends[0].send(MessageKind.STATE, bytes(64 << 20), seconds=0.05)


def test_whoever_waits_until_a_message_is_taken_says_meanwhile_that_it_lives(ends, monkeypatch):
    monkeypatch.setattr(stream, "ALIVE_S", 0.01)
    ours, there = ends
    beats, enough = [], threading.Event()

    def alive():
        beats.append(1)
        if len(beats) == 3:
            enough.set()

    def takes():
        assert enough.wait(20.0)
        there.receive(seconds=20.0).close()

    taking = threading.Thread(target=takes)
    taking.start()
    ours.send(MessageKind.STATE, bytes(5 * EIGHT_MIB), seconds=20.0, waiting=alive)
    taking.join()
    assert len(beats) >= 3


def test_whoever_waits_for_a_message_says_meanwhile_that_it_lives(ends, monkeypatch):
    """Before it begins, and in the middle."""
    monkeypatch.setattr(stream, "ALIVE_S", 0.01)
    ours, theirs = socket.socketpair()
    whole = head_for(MessageKind.STATE, BODY) + BODY
    parts, beats = [whole[:10], whole[10:-1], whole[-1:]], []

    def alive():
        beats.append(len(parts))
        if beats.count(len(parts)) == 2:
            theirs.sendall(parts.pop(0))

    with theirs, contextlib.closing(HandOverChannel(ours)) as channel:
        got = channel.receive(seconds=S, waiting=alive)
    assert got.body == BODY
    assert beats == [3, 3, 2, 2, 1, 1]


def test_a_length_that_is_announced_takes_no_memory():
    ours, theirs = socket.socketpair()
    with theirs, contextlib.closing(HandOverChannel(ours)) as channel:
        front = stream.FRONT.pack(stream.MAGIC, stream.FORM, MessageKind.STATE, 0, stream.BODY_MAX)
        theirs.sendall(front + bytes(32))
        theirs.shutdown(socket.SHUT_WR)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(HandOverError, match="has gone"):
            channel.receive(seconds=S)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def test_descriptors_that_do_not_fit_are_one_error_and_none_stays_open(ends):
    ours, there = ends
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    ours.send(MessageKind.OFFER, BODY, [0] * 8, seconds=S)
    before = opened()
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 3, limits[1]))
    try:
        with pytest.raises(HandOverError, match="do not fit"):
            there.receive(seconds=S)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert opened() == before


def test_the_end_of_the_other_side_is_seen_without_reading(ends):
    ours, there = ends
    assert not ours.has_ended()
    assert not ours.wait_end(0.0)
    there.send(MessageKind.READY, BODY, seconds=S)
    assert not ours.wait_end(0.0)
    there.close()
    assert ours.has_ended()
    assert ours.wait_end(0.0)
    assert bytes(ours.receive(seconds=S).body) == BODY


# ---- what they say


def test_a_message_is_read_where_it_may_come():
    assert message_of(MessageKind.READY, body_of(Ready("1.0")), Ready, UpgradeRefused) == Ready("1.0")
    assert message_of(MessageKind.REFUSED, body_of(UpgradeRefused("no")), Ready, UpgradeRefused) == UpgradeRefused("no")


@pytest.mark.parametrize("kind", [0, MessageKind.OFFER, MessageKind.STATE, 7])
def test_what_is_not_its_turn_is_refused(kind):
    with pytest.raises(HandOverError, match="not its turn"):
        message_of(kind, body_of(Ready("1.0")), Ready, UpgradeRefused)


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x91" * 5000, body_of(UpgradeRefused("no"))[:-1], body_of(Ready("1"))[1:]])
def test_what_has_not_the_form_of_its_message_is_one_sentence(body):
    with pytest.raises(HandOverError, match="does not have the form"):
        message_of(MessageKind.READY, body, Ready)


def test_a_field_of_a_later_program_is_passed_over():
    later = bytearray()
    messages.ENCODER.encode_into({"program": "2.0", "more": 1}, later)
    assert message_of(MessageKind.READY, later, Ready) == Ready("2.0")
