"""What both sides make of `encapsulation`, by every version of IKE: they always mean the same (RFC 7296 §2.23, RFC 3947 §3.2)."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from ipsec_dp.ike.actions import Endpoint, Kind, Path
from ipsec_dp.ike.identity import Identity
from ipsec_dp.ike.peer import NAT_KEEPALIVE, Liveness
from ipsec_dp.ike.proposal import parse_ike
from tests.ike import ladder
from tests.ike.ladder import Ladder
from tests.ike.test_ladder_followup import ONE
from tests.ike.test_ladder_silence import blocked
from tests.ike.v1 import gateways
from tests.ike.v1.gateways import Gateways


def with_kem(site, **settings):
    """The first message on port 4500 is IKE_INTERMEDIATE."""
    return ladder.peer(site, **{"ike_proposals": parse_ike([ONE])} | settings)


WITH_KEM = "IKEv2 with IKE_INTERMEDIATE"
BY = {
    "IKEv2": (Ladder, ladder.peer),
    WITH_KEM: (Ladder, with_kem),
    "main mode": (Gateways, gateways.peer),
    "aggressive mode": (Gateways, gateways.aggressive),
}
UDP = {  # by what both have configured: whether ESP goes in UDP, and why, as each says
    ("auto", "auto"): (True, "auto", "auto"),
    ("auto", "udp"): (True, "auto", "configured"),
    ("udp", "auto"): (True, "configured", "auto"),
    ("udp", "udp"): (True, "configured", "configured"),
    ("auto", "esp"): (False, "peer", "configured"),
    ("esp", "auto"): (False, "configured", "peer"),
    ("udp", "esp"): (False, "peer", "configured"),
    ("esp", "udp"): (False, "configured", "peer"),
    ("esp", "esp"): (False, "configured", "configured"),
}
NO_LIVENESS, OFTEN = Liveness(0.0), Liveness(NAT_KEEPALIVE)

by_each = pytest.mark.parametrize("version", BY)


def made(version, a="auto", b="auto", **settings):
    """Both sides, not yet called."""
    kind, peer = BY[version]
    return kind([peer("a", encapsulation=a, **settings)], [peer("b", encapsulation=b, **settings)])


def up(sides):
    sides.initiate("a")
    sides.settle()
    sides.check()
    return [side.ups[-1] for side in (sides.a, sides.b)]


@by_each
@pytest.mark.parametrize("configured", UDP, ids="-".join)
def test_both_sides_agree_and_say_why(version, configured):
    udp, *whys = UDP[configured]
    sides = made(version, *configured)
    found = up(sides)
    assert [one.udp for one in found] == [udp, udp]
    assert [one.encapsulation_why for one in found] == whys
    assert [one.forced for one in found] == [udp and each == "udp" for each in configured]
    assert [one.nat for one in found] == ["none", "none"], "nobody takes for a NAT what is none"
    assert [install.udp for side in (sides.a, sides.b) for install in side.sad.inbound.values()] == [udp, udp]
    assert [one.path.remote.port for one in found] == [4500 if udp else 500] * 2, "IKE goes where ESP goes"


@by_each
@pytest.mark.parametrize("configured", ["auto", "udp"])
def test_a_nat_is_seen_all_the_same(version, configured):
    sides = made(version, configured, configured)
    before, behind = (ip_address(address) for address in ("203.0.113.1", ladder.ADDRESSES["a"]))

    def translate(path, receiver):
        if receiver == "b":
            return Path(path.remote, Endpoint(before, path.local.port + 40_000), path.natt)
        return Path(Endpoint(behind, path.remote.port - 40_000), path.local, path.natt)

    sides.b.core.set_peers([BY[version][1]("b", encapsulation=configured, remotes=())])
    sides.translate = translate
    found = up(sides)
    assert [one.nat for one in found] == ["local", "remote"]
    assert {one.encapsulation_why for one in found} == {"configured" if configured == "udp" else "nat"}
    sides.run(105)
    assert len(sides.a.keepalives) == 5
    assert sides.b.keepalives == []


@by_each
@pytest.mark.parametrize(
    ("configured", "liveness", "sent"),
    [("auto", NO_LIVENESS, 5), ("auto", OFTEN, 0), ("udp", NO_LIVENESS, 5), ("esp", NO_LIVENESS, 0)],
)
def test_a_firewall_is_kept_open_by_the_caller_unless_liveness_does(version, configured, liveness, sent):
    sides = made(version, configured, liveness=liveness)
    up(sides)
    sides.run(105)
    assert (len(sides.a.keepalives), sides.b.keepalives) == (sent, [])


@by_each
def test_what_only_a_nat_explains_is_not_followed(version):
    sides = made(version)
    up(sides)
    (child,) = sides.b.sad.sending
    elsewhere = Endpoint(ip_address("203.0.113.66"), 4500)
    sides.b.do(sides.b.core.peer_moved(sides.b.tunnel, child, elsewhere, sides.clock()))
    assert sides.b.moved == []


@by_each
@pytest.mark.parametrize(("configured", "udp", "why"), [("auto", True, "peer"), ("esp", False, "configured")])
def test_tunnels_that_differ_at_one_address_are_told_the_truth(version, configured, udp, why):
    """The called side does not know yet which of them it is, and takes what the caller wants; aggressive mode says who calls."""
    sides = made(version, configured)
    second = {"tunnel": "other", "remote_id": Identity.from_text("other.example")}
    peer = BY[version][1]
    sides.b.core.set_peers([peer("b", encapsulation="esp"), peer("b", encapsulation="auto", **second)])
    found = up(sides)
    known = version == "aggressive mode"
    assert [one.udp for one in found] == [udp and not known] * 2
    assert found[1].encapsulation_why == ("configured" if known else why)


# ---- port 4500 does not pass -----------------------------------------------------------------------------------------------------

FLOATS = ["IKEv2", WITH_KEM, "main mode"]  # message 3 of aggressive mode has no answer


def given_up(sides):
    return [event.text for event in sides.a.events if event.kind is Kind.NO_UDP]


@pytest.mark.parametrize("version", FLOATS)
@pytest.mark.parametrize(("configured", "times"), [("auto", 1), ("udp", 0)])
def test_what_goes_no_further_on_4500_is_told_once(version, configured, times):
    sides = made(version, configured)
    blocked(sides, 4500)
    sides.initiate("a")
    sides.run(11)
    assert given_up(sides) == [], "it may be slow"
    sides.run(60)
    assert len(given_up(sides)) == times
    if times:
        assert "on UDP port 500, and what is sent to port 4500 has no answer" in given_up(sides)[0]
    assert Kind.NO_UDP not in sides.b.kinds()


@pytest.mark.parametrize("version", FLOATS)
@pytest.mark.parametrize(("port", "sooner"), [(4500, 1), (500, 0)])
def test_an_icmp_message_about_it_only_makes_that_sooner(version, port, sooner):
    sides = made(version)
    lost, send = [], sides.wire.send
    sides.wire.send = lambda sender, receiver, data: lost.append(data) if data[1].natt else send(sender, receiver, data)
    sides.initiate("a")
    sides.settle()
    datagram, path = lost[-1]
    path = Path(path.local._replace(port=port), path.remote._replace(port=port), port == 4500)
    sides.a.do(sides.a.core.unreachable(datagram, path, "a firewall rejects it", sides.clock()))
    assert given_up(sides) == [], "nobody knows who sent it"
    sides.run(4)
    assert len(given_up(sides)) == sooner


@pytest.mark.parametrize("version", FLOATS)
def test_an_icmp_message_that_comes_late_puts_nothing_off(version):
    sides = made(version)
    lost, send = [], sides.wire.send
    sides.wire.send = lambda sender, receiver, data: lost.append(data) if data[1].natt else send(sender, receiver, data)
    sides.initiate("a")
    sides.run(5)
    sides.a.do(sides.a.core.unreachable(*lost[-1], "a firewall rejects it", sides.clock()))
    sides.run(9)
    assert len(given_up(sides)) == 1


@pytest.mark.parametrize("version", FLOATS)
def test_a_refusal_of_what_is_answered_means_nothing(version):
    sides = made(version)
    sides.initiate("a")
    sides.deliver("b")
    for _ in range(2 if version == "main mode" else 1):
        sides.deliver("a")
        sides.deliver("b")
    sent = [delivery.data for delivery, _ in sides.wire.log if delivery.sender == "a"][-1]
    sides.a.do(sides.a.core.unreachable(*sent, "a firewall rejects it", sides.clock()))
    sides.settle()
    sides.check()
    sides.run(60)
    assert given_up(sides) == []


@pytest.mark.parametrize("version", FLOATS)
def test_behind_a_nat_there_is_no_other_way(version):
    sides = made(version)
    sides.b.core.set_peers([BY[version][1]("b", remotes=())])
    sides.translate = lambda path, receiver: Path(
        path.remote, path.local._replace(address=ip_address("203.0.113.1")) if receiver == "b" else path.local, path.natt
    )
    blocked(sides, 4500)
    sides.initiate("a")
    sides.run(60)
    assert given_up(sides) == []
