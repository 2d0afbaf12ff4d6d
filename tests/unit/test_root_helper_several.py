"""What stays root opens several secrets for one question, and none that it would not open for a question of its own."""

from __future__ import annotations

import errno
import os
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from ipsec_dp.gateway import root_helper, root_requests
from ipsec_dp.gateway.root_messages import OPEN, OPEN_SEVERAL, REQUEST_OCTETS_MAX
from ipsec_dp.gateway.root_requests import RootHelper
from ipsec_dp.host.descriptors import send
from ipsec_dp.util.opening import AHEAD_FILES, AHEAD_OCTETS
from tests.doubles.served_root import content, place_below, refused, served


@pytest.fixture
def place(tmp_path):
    return place_below(tmp_path)


def ahead(helper, *paths):
    """What each of those that were opened holds."""
    found = {}
    for path, descriptor in helper.open_ahead(list(map(str, paths))).items():
        with open(descriptor, "rb") as file:
            assert not os.get_inheritable(descriptor)
            found[Path(path).name] = file.read()
    return found


@contextmanager
def nothing_left_open(helper=None):
    """Nor by the helper, which closes what it gave away behind its answer, and before it hears of the next question."""
    before = os.listdir("/proc/self/fd")
    yield
    if helper is not None:
        assert refused(helper, "") == errno.EACCES
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_of_several_it_opens_what_the_configuration_names_and_nothing_else(place):
    secret = (place / "t.psk").read_bytes()
    with served(place) as helper, nothing_left_open(helper):
        asked = (place / "other.psk", place / "t.psk", "/etc/passwd", f"{place}/../etc/t.psk", "", "/", place / "b.toml")
        assert ahead(helper, *asked) == {"t.psk": secret}
        assert ahead(helper, place / "other.psk") == {}
        assert ahead(helper, place / "t.psk", place / "a.toml").keys() == {"t.psk", "a.toml"}
        assert ahead(helper, place / "t.psk", place / "t.psk") == {}, "each has one name"
        assert ahead(helper) == {}
        assert refused(helper, place / "other.psk") == errno.EACCES, "and it is told for each why not"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives links away")
def test_no_link_leads_several_to_what_it_would_not_lead_one_to(place, tmp_path):
    """At the end of a path to nothing, on the way to nothing that somebody else chose."""
    with served(place) as helper:
        (place / "t.psk").unlink()
        (place / "t.psk").symlink_to("other.psk")
        assert ahead(helper, place / "t.psk", place / "a.toml").keys() == {"a.toml"}
        place.rename(tmp_path / "moved")
        place.symlink_to(tmp_path / "moved")
        assert ahead(helper, place / "a.toml").keys() == {"a.toml"}, "root's own is followed"
        os.lchown(place, 65534, 65534)
        assert ahead(helper, place / "a.toml") == {}


def test_nobody_has_more_opened_at_once_than_the_most(place):
    with served(place) as helper, nothing_left_open(helper):
        others = range(AHEAD_FILES)
        assert ahead(helper, place / "t.psk", *others[1:]).keys() == {"t.psk"}
        assert ahead(helper, place / "t.psk", *("x" * 70 for _ in others[1:])) == {}, "more octets than a request has"
        assert content(helper, place / "t.psk")
        assert ahead(helper, place / "t.psk", *others) == {}
    assert AHEAD_OCTETS < REQUEST_OCTETS_MAX


def test_before_it_has_begun_it_opens_none_of_several(place):
    with served(place, begun=False) as helper:
        assert ahead(helper, place / "t.psk") == {}


@contextmanager
def answering(*answers):
    """A helper that says just these, and what it was asked."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    asked = []

    def serve():
        for head, text, descriptors in answers:
            asked.append(theirs.recv(REQUEST_OCTETS_MAX)[:1])
            send(theirs, struct.pack("=i", head) + text, *descriptors)
        theirs.shutdown(socket.SHUT_RDWR)

    with ThreadPoolExecutor(1) as pool, ours, theirs:
        served = pool.submit(serve)
        yield RootHelper(ours, os.getpid()), asked
        served.result(5)


def test_a_helper_of_a_former_version_is_asked_for_each_and_for_several_no_more(place):
    with open(place / "t.psk", "rb") as file, answering((errno.EINVAL, b"", ()), (0, b"", (file.fileno(),))) as (helper, asked):
        for _ in range(3):
            assert ahead(helper, place / "t.psk", place / "a.toml") == {}
        assert content(helper, place / "t.psk") == (place / "t.psk").read_bytes()
    assert asked == [OPEN_SEVERAL, OPEN]


def test_of_an_answer_that_there_was_no_room_for_nothing_is_taken(place):
    """Which descriptor is whose could not be told."""
    with open(place / "t.psk", "rb") as file, answering((0, b"++", (file.fileno(),))) as (helper, _), nothing_left_open():
        assert ahead(helper, place / "t.psk", place / "a.toml") == {}


def test_of_an_answer_to_a_path_that_stands_twice_nothing_is_taken(place):
    with open(place / "t.psk", "rb") as file:
        given = (file.fileno(), file.fileno())
        with answering((0, b"+++", given)) as (helper, _), nothing_left_open():
            assert ahead(helper, place / "t.psk", place / "t.psk", place / "a.toml") == {}, "two came, and there are two names"


class Silent(socket.socket):
    """Nothing comes by it, and nobody waits for that."""

    waits: float | None = None

    def settimeout(self, value):
        self.waits = value
        super().settimeout(0.001)


def test_several_have_as_long_as_each_would_have():
    """Where a file system is slow a helper that is late is taken for one that has ended."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with Silent(fileno=ours.detach()) as channel, theirs:
        assert RootHelper(channel, os.getpid()).open_ahead(["/a", "/b", "/c"]) == {}
        assert channel.waits == 3 * root_requests.ANSWER_S


def test_where_no_more_descriptors_may_be_on_their_way_that_is_an_error_and_it_goes_on(place, monkeypatch):
    full = [True]

    def refusing(channel, message, *descriptors):
        if descriptors and full.pop():
            raise OSError(errno.ETOOMANYREFS, os.strerror(errno.ETOOMANYREFS))
        send(channel, message, *descriptors)

    with served(place) as helper:
        with monkeypatch.context() as patch, nothing_left_open(helper):
            patch.setattr(root_helper, "send", refusing)
            assert refused(helper, place / "t.psk") == errno.ETOOMANYREFS
        assert content(helper, place / "t.psk"), "and goes on"
