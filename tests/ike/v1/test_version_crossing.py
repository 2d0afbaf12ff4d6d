"""What both versions share, and what is told where the two sides of a tunnel speak different ones."""

from typing import Any

import pytest

from ipsec_dp.ike.actions import Kind, Origin
from ipsec_dp.ike.core import IkeVersions
from ipsec_dp.ike.identity import Identity
from tests.ike import ladder as v2
from tests.ike.ladder import proxy_id

from .gateways import Gateways, peer, texts
from .preferring import fallen, pinned, preferring

# --- a peer that calls by the other version -----------------------------------------------------------------------------


def called(ours: Any, theirs: Any):
    """What a says when b calls."""
    gateways = Gateways([ours], [theirs])
    gateways.initiate("b")
    gateways.settle()
    return gateways


@pytest.mark.parametrize(
    "more", [(), (peer("a", tunnel="elsewhere", remotes=(v2.ip_address("192.0.2.9"),)),)], ids=["alone", "beside"]
)
def test_a_peer_that_calls_by_ikev1_is_told_of_with_its_tunnel(more):
    """Whether IKEv1 is there for another tunnel or not."""
    gateways = Gateways([v2.peer("a"), *more], [peer("b")])
    gateways.initiate("b")
    gateways.settle()
    (event,) = gateways.a.events
    assert (event.kind, event.tunnel, event.origin) == (Kind.IKEV1, "to-b", Origin.CLAIMED)
    assert "192.0.2.2:500 calls by IKEv1, and the tunnel speaks IKEv2: set the peer to IKEv2" in event.text
    assert gateways.modes("a") == []
    assert gateways.a.core.counters().ikev1 == 1


def test_one_that_calls_by_ikev2_too():
    gateways = called(peer("a"), v2.peer("b"))
    (event,) = gateways.a.events
    assert (event.kind, event.tunnel, event.origin) == (Kind.WARNING, "to-b", Origin.CLAIMED)
    assert "192.0.2.2:500 calls by IKEv2, and the tunnel speaks IKEv1: set the peer to IKEv1" in event.text
    assert gateways.modes("a") == []


def test_of_a_pinned_tunnel_it_is_said_how_to_unpin_it():
    gateways: Any = pinned()
    gateways.a.do(gateways.a.core.terminate("to-b", gateways.clock()))
    gateways.settle()
    gateways.b.core = IkeVersions(gateways.b.core.environment, [peer("b")])
    gateways.initiate("b")
    gateways.settle()
    said = texts(gateways.a, Kind.IKEV1)[-1]
    assert "calls by IKEv1, and the tunnel is pinned to IKEv2, by which its peer has authenticated" in said
    assert "ipsec-dp unpin to-b" in said
    assert gateways.a.core.pinned("to-b") is True


@pytest.mark.parametrize(("ours", "theirs"), [(peer, peer), (v2.peer, v2.peer), (preferring, v2.peer), (preferring, peer)])
def test_nothing_is_told_of_versions_where_a_tunnel_speaks_that_of_its_peer(ours, theirs):
    gateways = called(ours("a"), theirs("b"))
    gateways.check()
    assert not any("calls by" in event.text for event in gateways.a.events)


# --- pinned, and no longer ------------------------------------------------------------------------------------------------


def test_whether_a_tunnel_is_pinned_is_known():
    assert Gateways([v2.peer("a")]).a.core.pinned("to-b") is None
    assert fallen().a.core.pinned("to-b") is False
    gateways = pinned()
    assert gateways.a.core.pinned("to-b") is True
    gateways.a.core.unpin("to-b")
    assert gateways.a.core.pinned("to-b") is False


def test_unpinned_while_up_a_peer_that_comes_by_ikev1_is_met_by_that_alone():
    """It has shown who it is: what was by IKEv2 is of no use to it any more, and both would send at once."""
    gateways = pinned()
    gateways.a.core.unpin("to-b")
    gateways.check()
    gateways.b.core = IkeVersions(gateways.b.core.environment, [peer("b")])
    gateways.initiate("b")
    gateways.run(30)
    assert gateways.up_by() == [1]
    assert len(gateways.a.sad.sending) == len(gateways.a.sad.inbound) == 1


# --- selectors belong to identities ---------------------------------------------------------------------------------------

ROAD = proxy_id("10.2.0.0/16", "10.9.0.0/24")
VERSIONS = {1: peer, 2: v2.peer}


@pytest.mark.parametrize("first", [1, 2])
def test_what_an_identity_has_by_one_version_no_other_gets_by_the_other(first):
    second = 3 - first
    names = {"alice": first, "bob": second}
    who = {name: Identity.from_text(f"{name}.example") for name in names}
    back = ROAD._replace(local=ROAD.remote, remote=ROAD.local)
    gateways = Gateways(
        [VERSIONS[version]("a", tunnel=name, local_id=who[name], proxy_ids=(back,)) for name, version in names.items()],
        [
            VERSIONS[version]("b", tunnel=name, remotes=(), remote_id=who[name], proxy_ids=(ROAD,))
            for name, version in names.items()
        ],
    )

    def call(name):
        gateways.a.do(gateways.a.core.initiate(name, gateways.path("a"), gateways.clock()))
        gateways.settle()

    call("alice")
    assert len(gateways.b.sad.sending) == 1
    call("bob")
    (text,) = texts(gateways.b, Kind.CHILD_FAILED)
    assert text.startswith("bob.example asks for 10.2.0.0/16 <-> 10.9.0.0/24, and ")
    assert "alice.example" in text
    assert len(gateways.b.sad.sending) == 1
    gateways.b.do(gateways.b.core.terminate("alice", gateways.clock()))
    gateways.settle()
    gateways.b.do(gateways.b.core.terminate("bob", gateways.clock()))
    gateways.settle()
    gateways.run(60)
    call("bob")
    assert len(gateways.b.sad.sending) == 1, "once nobody has it any more"
