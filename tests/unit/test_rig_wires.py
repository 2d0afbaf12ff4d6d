"""What the wires of a rig do to datagrams, and what gateways make of it."""

from __future__ import annotations

import subprocess
import sys
import time
from ipaddress import ip_address
from pathlib import Path

import pytest

from ipsec_dp.dataplane import Endpoint
from ipsec_dp.rig import NatBox, Network, RigError, Wire
from ipsec_dp.rig.memory_links import QUEUE_PACKETS, OuterDatagram
from ipsec_dp.rig.packets import udp, udp_of_size
from tests.unit.rig_sites import DAY, site, sites

ROOT = Path(__file__).resolve().parents[2]
HELLO, BACK = udp("10.1.0.5", "10.2.0.5", b"hello"), udp("10.2.0.5", "10.1.0.5", b"back")
ESP = "  [tunnel.esp]\n  proposals = {}\n"


def crossing(a, b, packets):
    """Of these packets from a to b those that arrive, in their order."""
    for packet in packets:
        a.inject(packet)
    a.clock.advance(1)
    return b.received()


def numbered(count):
    return [udp("10.1.0.5", "10.2.0.5", number.to_bytes(2)) for number in range(count)]


def test_a_wire_without_faults_carries_everything_in_order():
    with sites() as (a, b):
        assert crossing(a, b, numbered(50)) == numbered(50)
        assert {sent.arrivals for sent in a.network.log} == {1}


def test_loss_is_as_much_as_was_asked_for():
    with sites() as (a, b):
        a.network.wire.loss = 0.3
        assert 200 * 0.5 < len(crossing(a, b, numbered(200))) < 200 * 0.9
        a.network.wire.loss = 1.0
        assert crossing(a, b, numbered(5)) == []


def test_what_is_doubled_comes_once_and_what_overtakes_comes_earlier():
    with sites() as (a, b):
        a.network.wire.duplicate = 1.0
        assert crossing(a, b, numbered(20)) == numbered(20)
        assert b.counters()["replay"] == 20
        a.network.wire.duplicate, a.network.wire.reorder = 0.0, 0.5
        came = crossing(a, b, numbered(50))
        assert came != numbered(50)
        assert sorted(came) == sorted(numbered(50))


def test_what_is_corrupted_is_dropped_and_told_apart():
    with sites() as (a, b):
        a.network.wire.corrupt = 1.0
        assert crossing(a, b, numbered(20)) == []
        counters = b.counters()
        assert sum(counters.get(reason, 0) for reason in ("icv", "unknown_spi", "replay")) == 20


def test_delay_and_jitter_are_seconds():
    with sites(Wire(delay=0.2, jitter=0.1)) as (a, b):
        a.inject(HELLO)
        began = a.clock.now()
        b.wait("packet")
        assert 0.2 <= a.clock.now() - began <= 0.3


def test_what_is_cut_is_lost_until_it_is_mended():
    with sites() as (a, b):
        a.network.wire.cut("a", "b")
        assert crossing(a, b, [HELLO]) == []
        assert crossing(b, a, [BACK]) == [BACK], "the other direction is whole"
        a.network.wire.mend()
        assert crossing(a, b, [HELLO]) == [HELLO]
        with pytest.raises(RigError, match="no end 'c'; it has: b, a"):
            a.network.wire.cut("c")


def test_liveness_finds_a_wire_that_is_cut_and_the_tunnel_comes_back():
    with sites(tables=DAY) as (a, _):
        a.network.wire.cut()
        a.wait("IKE SA down", timeout=3600)
        a.network.wire.mend()
        a.wait("up", timeout=3600)


def test_an_mtu_is_found_by_the_message_of_the_hop():
    with sites(Wire(mtu=1400)) as (a, b):
        a.network.wire.mtu = 1200
        big = udp("10.1.0.5", "10.2.0.5", bytes(1272), df=True)
        before = a.tunnel().path_mtu
        assert crossing(a, b, [big]) == []
        assert (before, a.tunnel().path_mtu) == (1400, 1200), "at once, without a probe"
        small = udp_of_size("10.1.0.5", "10.2.0.5", 1100)
        assert crossing(a, b, [small]) == [small]


def behind_nat(nat):
    """Gateway a calls from behind it."""
    network = Network(wire=Wire(nat=nat))
    b, a = network.gateway(site("b", remote="any")), network.gateway(site("a"))
    a.wait("up")
    b.wait("up")
    return network, a, b


def test_a_nat_is_found_and_carries_both_ways():
    network, a, b = behind_nat(NatBox("a", "203.0.113.1"))
    with network:
        assert a.tunnel().encapsulation_why == "nat"
        assert b.tunnel().remote == "203.0.113.1"
        assert crossing(a, b, [HELLO]) == [HELLO]
        assert crossing(b, a, [BACK]) == [BACK]


def test_a_nat_that_rebinds_is_followed_by_what_is_authentic():
    nat = NatBox("a", "203.0.113.1")
    network, a, b = behind_nat(nat)
    with network:
        nat.rebind()
        assert crossing(b, a, [BACK]) == [], "nobody has told the NAT of this port"
        assert crossing(a, b, [HELLO]) == [HELLO]
        network.advance(60)
        assert crossing(b, a, [BACK]) == [BACK]


def test_a_nat_that_forgets_is_kept_by_keepalives():
    forgetful = NatBox("a", "203.0.113.1", expires=30)
    network, a, b = behind_nat(forgetful)
    with network:
        network.advance(3600)
        assert crossing(b, a, [BACK]) == [BACK]
        forgetful.expires = 1e-9
        network.advance(10)
        assert crossing(b, a, [BACK]) == [], "the control: it does forget"


@pytest.mark.parametrize(
    ("options", "wrong"),
    [({"loss": 1.5}, "no probability"), ({"delay": -1}, "before it was sent"), ({"jitter": -0.1}, "before"), ({"mtu": 100}, "576")],
)
def test_a_wire_that_cannot_be_is_refused(options, wrong):
    with pytest.raises(RigError, match=wrong):
        Wire(**options)


def test_wires_between_two_go_before_the_one_for_all():
    with sites() as (a, b):
        lossy = a.network.between("a", "b", Wire(loss=1.0))
        assert crossing(a, b, [HELLO]) == []
        lossy.loss = 0.0
        assert crossing(a, b, [HELLO]) == [HELLO]
        with pytest.raises(RigError, match="no gateway 'c'"):
            a.network.between("a", "c", Wire())
        with pytest.raises(RigError, match="two ends of the name 'a'"):
            a.network.between("a", "a", Wire())


# ---- time, and the same again


@pytest.mark.measure
@pytest.mark.alone("the bar is little more than what it takes, and a busy neighbour makes the same work take longer")
def test_a_day_is_less_than_a_second():
    """With 10 % loss and reordering; the processor's seconds, since others may use the machine."""
    with sites(Wire(loss=0.1, reorder=0.1, seed=1), tables=DAY) as (a, b):
        began = time.process_time()
        a.clock.advance(86400)
        took = time.process_time() - began
        assert (a.tunnel().state, b.tunnel().state) == ("up", "up")
        kinds = [str(event.kind) for event in a.events()]
        assert kinds.count("CHILD_SA rekeyed") >= 4
        assert kinds.count("IKE SA rekeyed") >= 3
        assert sum("INFORMATIONAL request" in str(sent) for sent in a.network.log) > 86400 / 600
    assert took < 1.0


def test_what_ike_sends_by_port_4500_wakes_nobody_unless_it_is_dropped(monkeypatch):
    with sites(tables=DAY) as (a, b):
        a.clock.advance(60)
        before, woken, touch = b.plane.counters(), [], b.site.touch

        def touched(*, packets=False):
            woken.append(packets)
            touch(packets=packets)

        monkeypatch.setattr(b.site, "touch", touched)
        a.clock.advance(1200)
        passed = b.plane.counters()
        assert passed.ike_in > before.ike_in
        assert passed.keepalives_in > before.keepalives_in
        assert set(woken) == {False}, "it hears of them as on port 500"
        here, there = (Endpoint(ip_address(f"192.0.2.{number}"), 4500) for number in (1, 2))
        for number in range(QUEUE_PACKETS):
            a.network.outer.arrive(OuterDatagram(here, there, bytes(4) + number.to_bytes(28)))
        a.clock.advance(1)
        assert b.plane.counters().drops != passed.drops, "more at once than there is room for"
        assert True in woken


DATAGRAMS = """
import hashlib, sys
from ipsec_dp.rig import Wire
from ipsec_dp.rig.packets import udp
from tests.unit.rig_sites import sites
tables = '  [tunnel.ike]\\n  lifetime = "2h"\\n  [tunnel.esp]\\n  lifetime = "1h"\\n  proposals = ["' + sys.argv[2] + '"]\\n'
with sites(Wire(loss=0.1, delay=0.02, jitter=0.01, reorder=0.1, duplicate=0.1), seed=int(sys.argv[1]), tables=tables) as (a, b):
    for number in range(20):
        a.inject(udp("10.1.0.5", "10.2.0.5", bytes([number])))
        a.clock.advance(600)
    digest = hashlib.sha256()
    for sent in a.network.log:
        digest.update(str(sent).encode() + sent.passing.datagram.data)
    print(len(a.network.log), digest.hexdigest())
"""


def datagrams(seed, suite):
    """How many a process of its own sends, and a digest of when each went and of its octets."""
    done = subprocess.run(
        [sys.executable, "-c", DATAGRAMS, str(seed), suite], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    number, digest = done.stdout.split()
    return int(number), digest


@pytest.mark.parametrize("suite", ["aes256gcm16-esn", "aes128-sha256"])  # CBC's IVs are the C core's own
def test_one_seed_is_the_same_octets_in_two_processes_and_another_is_not(suite):
    first = datagrams(1, suite)
    assert first[0] > 100
    assert datagrams(1, suite) == first
    assert datagrams(2, suite) != first


@pytest.mark.slow
@pytest.mark.measure
def test_a_day_at_the_default_settings_is_less_than_ten_seconds(caplog):
    caplog.set_level("ERROR", "ipsec_dp")  # hundreds of lines that nobody reads
    with sites(Wire(loss=0.1, reorder=0.1, seed=1)) as (a, b):
        began = time.process_time()
        a.clock.advance(86400)
        took = time.process_time() - began
        assert (a.tunnel().state, b.tunnel().state) == ("up", "up")
        assert len(a.network.log) + a.network.log.left_out > 2 * 86400 / 10
    assert took < 10.0
