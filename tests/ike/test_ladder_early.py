"""Packets may come before the answer to the request for their SA (RFC 7296 §2.8): each request says so before it leaves."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from ipsec_dp.ike.actions import Endpoint, Kind, Path
from ipsec_dp.ike.proposal import parse_esp

from .ladder import Ladder, packet, peer, proxy_id

TWO_A = (proxy_id("10.1.0.0/24", "10.2.0.0/24"), proxy_id("10.1.1.0/24", "10.2.1.0/24"))
TWO_B = tuple(type(one)(one.remote, one.local) for one in TWO_A)


def begin_auth(ladder):
    ladder.initiate("a")
    ladder.deliver("b")
    ladder.deliver("a")


def begin_rekey(ladder):
    ladder.up()
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock(), ike=False))


def begin_another(ladder):
    ladder.up()
    ladder.clock.advance(600)  # B refused it at first
    ladder.initiate("a", asks=packet("10.1.1.5", "10.2.1.5"))


def behind_nat(path, receiver):
    """B sees another port of A than A has."""
    remote = path.local if receiver == "a" else Endpoint(path.local.address, path.local.port + 20_000)
    local = path.remote if receiver == "b" else Endpoint(path.remote.address, path.remote.port - 20_000)
    return Path(local, remote, path.natt)


EXCHANGES = [begin_auth, begin_rekey, begin_another]


def made(begin):
    """A has two proxy IDs, B one of them: the first CHILD_SA carries that."""
    ladder = Ladder(a=[peer("a", proxy_ids=TWO_A)], b=[peer("b", proxy_ids=TWO_B[:1])])
    begin(ladder)
    return ladder


@pytest.mark.parametrize("begin", EXCHANGES)
def test_a_request_that_names_an_spi_says_so_before_it_leaves(begin):
    ladder = made(begin)
    (expected,) = ladder.a.sad.expected.values()
    (status,) = ladder.a.status
    assert (expected.tunnel, expected.path) == ("to-b", status.path)
    assert expected.spi in ladder.a.sad.reserved
    assert ladder.b.sad.expected == {}  # a responder has the SA before it answers
    ladder.settle()
    assert ladder.a.sad.expected == {}  # installed, or given back


@pytest.mark.parametrize("begin", EXCHANGES)
def test_when_the_ike_sa_ends_nothing_is_expected_any_more(begin):
    ladder = made(begin)
    ladder.a.do(ladder.a.core.leave("to-b", ladder.clock()))
    assert ladder.a.sad.expected == {}


def test_a_refusal_ends_it():
    ladder = Ladder(b=[peer("b", esp_proposals=parse_esp(["aes256gcm16-esn-noesn"]))])
    begin_auth(ladder)
    assert len(ladder.a.sad.expected) == 1
    ladder.settle()
    assert ladder.a.sad.expected == {}
    assert Kind.CHILD_FAILED in ladder.a.kinds()


def test_esp_in_udp_is_expected_as_such():
    ladder = Ladder()
    ladder.translate = behind_nat
    begin_auth(ladder)
    (expected,) = ladder.a.sad.expected.values()
    assert expected.udp
    assert expected.path.remote == Endpoint(ip_address("192.0.2.2"), 4500)
