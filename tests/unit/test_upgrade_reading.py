"""A successor that is slow is waited for as long as it reads what it was sent; one that does not hangs, and is found out soon."""

from __future__ import annotations

import itertools
import threading

import pytest

from ipsec_dp.gateway.upgrade.messages import MessageKind
from ipsec_dp.gateway.upgrade.reading import STOOD_STILL_S, Reading
from ipsec_dp.gateway.upgrade.stream import HandOverChannel, HandOverError

EACH, LAST = 30.0, 70.0
MIB = 1 << 20


class Watched:
    """A successor with so many octets unread, a second after the other."""

    def __init__(self, unread: int = 0) -> None:
        self.unread, self.now = unread, 0.0
        self.reading = Reading(lambda: self.unread, EACH, LAST, lambda: self.now)

    def says(self, octets: int) -> None:
        self.unread += octets
        self.reading.said()

    def waits(self, seconds: float) -> None:
        """HandOverError."""
        until = self.now + seconds
        while self.now < until:
            self.now += 1.0
            self.reading.look()


def test_who_reads_a_little_now_and_then_may_take_as_long_as_it_does():
    watched = Watched(100)
    for _ in range(100):
        watched.waits(EACH)
        watched.unread -= 1
    watched.waits(LAST)


def test_who_reads_nothing_hangs():
    watched = Watched(100)
    watched.waits(EACH)
    with pytest.raises(HandOverError, match="the other process reads nothing any more"):
        watched.waits(1.0)


def test_who_has_read_all_has_its_time_to_say_so_and_no_more():
    watched = Watched(100)
    watched.waits(EACH)
    watched.unread = 0
    watched.waits(LAST)
    with pytest.raises(HandOverError, match="the other process says nothing any more"):
        watched.waits(2.0)


def test_more_that_is_sent_gives_who_hangs_no_time():
    watched = Watched(100)

    def says_more(seconds: float) -> None:
        for _ in range(int(seconds)):
            watched.says(100)
            watched.waits(1.0)

    says_more(EACH)
    with pytest.raises(HandOverError, match="reads nothing"):
        says_more(1.0)


def test_who_reads_each_piece_at_once_does_not_hang_while_the_next_is_made():
    watched = Watched()
    for _ in range(int(LAST)):
        watched.waits(2.0)
        watched.says(0)


def test_what_was_just_sent_is_not_as_old_as_the_silence_before_it():
    watched = Watched()
    watched.waits(EACH)
    watched.says(100)
    watched.waits(EACH)


def test_a_pause_of_both_processes_blames_nobody():
    """The host, or their container, stood still."""
    watched = Watched(100)
    for _ in range(int(EACH / STOOD_STILL_S)):
        watched.now += 3600.0
        watched.reading.look()


def test_the_kernel_says_what_of_a_message_is_unread():
    ours, theirs = HandOverChannel.pair()
    there = HandOverChannel(theirs)
    assert ours.unread == 0
    ours.send(MessageKind.STATE, bytes(MIB), seconds=5.0)
    assert MIB <= ours.unread < 2 * MIB
    ours.send(MessageKind.IKE, b"a piece", seconds=5.0)
    both = ours.unread
    there.receive(seconds=5.0).close()
    assert 0 < ours.unread < both - MIB
    there.receive(seconds=5.0).close()
    assert ours.unread == 0
    ours.close()
    there.close()


def test_who_empties_a_full_socket_again_and_again_reads():
    """Before and after each part that is taken it is as full as it was."""
    ours, theirs = HandOverChannel.pair()
    there, seconds = HandOverChannel(theirs), itertools.count()
    reading = Reading(lambda: ours.unread, 6.0, 6.0, lambda: float(next(seconds)))
    taking = threading.Thread(target=lambda: there.receive(seconds=60.0).close())
    taking.start()
    ours.send(MessageKind.STATE, bytes(200 * MIB), seconds=60.0, waiting=reading.look)
    taking.join()
    ours.close()
    there.close()


def test_who_has_just_spoken_has_all_its_time_again():
    """What is sent next takes a moment to be made."""
    watched = Watched(100)
    watched.unread = 0
    watched.waits(LAST)
    watched.reading.answered()
    watched.waits(LAST)
