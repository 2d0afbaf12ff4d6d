"""The guard in the kernel: protected traffic does not leave in clear, and what claims to be protected does not come in.

    hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB

Only gwA has a guard; the gateways route to each other in clear, so without the guard everything arrives (the positive controls).
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import socket
import subprocess
import sys
from functools import partial

import pytest

from ipsec_dp.host import MARK, HostError, nft
from ipsec_dp.host.guard import GuardRule, separate
from ipsec_dp.host.guard_table import Guard
from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.ipsec.selectors import Range, SelectorPair
from ipsec_dp.rig import netns
from tests.netns import harness
from tests.netns.traffic import until

R = AddressRange.of


def guarded(local, remote, *, bypass=False, **bounds):
    return GuardRule(SelectorPair(local, remote, **bounds), bypass)


NETS = [(R(local), R(remote)) for local, remote in zip(netns.SITE_A_NETS, netns.SITE_B_NETS, strict=True)]
A_TO_B = [guarded(local, remote) for local, remote in NETS]
INSIDE = [local for local, _ in NETS]
EVERYTHING = separate([guarded(R("0.0.0.0/0"), R("0.0.0.0/0")), guarded(R("::/0"), R("::/0"))], INSIDE)

GUARD = Guard("test")


@pytest.fixture
def guard(sites):
    """Applies a guard on gwA."""
    made = Guard("test")

    def apply(selectors, tunnels=()):
        harness.run(sites.gw_a, lambda: made.apply(selectors, tunnels))

    return apply


def counts(gateway):
    return {name: count.packets for name, count in harness.run(gateway, GUARD.counts).items() if count.packets}


def test_forwarded_cleartext_does_not_leave(sites, guard, tmp_path):
    def both():
        return [harness.pings(sites.host_a, b) for _, b in harness.BOTH]

    control = harness.crossed(sites.gw_a, "wan", tmp_path / "without", both)
    assert control.packets == {"icmp": 2, "icmpv6": 2}
    guard(A_TO_B)
    assert harness.crossed(sites.gw_a, "wan", tmp_path / "with", both).packets == {}
    assert counts(sites.gw_a) == {"cleartext_out4": 1, "cleartext_out6": 1}


def test_the_gateways_own_cleartext_does_not_leave(sites, guard, tmp_path):
    def both():
        for inner, (_, b) in zip(netns.GW_A_INNER, harness.BOTH, strict=True):
            sites.gw_a.run("ping", "-c", "1", "-W", "0.3", "-I", inner, b, check=False)

    assert harness.crossed(sites.gw_a, "wan", tmp_path / "without", both).packets == {"icmp": 2, "icmpv6": 2}
    guard(A_TO_B)
    assert harness.crossed(sites.gw_a, "wan", tmp_path / "with", both).packets == {}


def test_spoofed_cleartext_does_not_come_in(sites, guard, tmp_path):
    def both():
        return [harness.pings(sites.host_b, a) for a, _ in harness.BOTH]

    assert harness.crossed(sites.host_a, "eth0", tmp_path / "without", both).packets == {"icmp": 2, "icmpv6": 2}
    guard(A_TO_B)
    assert harness.crossed(sites.host_a, "eth0", tmp_path / "with", both).packets == {}
    assert counts(sites.gw_a) == {"cleartext_in4": 1, "cleartext_in6": 1}


def test_other_traffic_passes(sites, guard):
    guard(A_TO_B)
    for address in netns.GW_B_OUTER:
        assert harness.reaches(sites.gw_a, address)
        assert harness.reaches(sites.host_a, address)
    for address in netns.GW_A_INNER:
        assert harness.reaches(sites.host_a, address)
    assert counts(sites.gw_a) == {}


def test_by_the_tunnel_interface_it_may_leave(sites, guard, tmp_path):
    """And by no other of its name or of its number."""
    made = harness.tun(sites.gw_a, "ipsec0")
    sites.gw_a.ip(*(f"route add {net} dev ipsec0" for net in netns.SITE_B_NETS))

    def into(*devices):
        guard(A_TO_B, devices)
        path = tmp_path / f"tunnel{len(devices)}"
        return harness.crossed(
            sites.gw_a, "ipsec0", path, lambda: [harness.pings(sites.host_a, b) for _, b in harness.BOTH]
        ).packets

    assert into((made.index, "ipsec0")) == {"icmp": 1, "icmpv6": 1}
    assert counts(sites.gw_a) == {}
    assert into((made.index + 1, "ipsec0"), (made.index, "ipsec1")) == {}
    made.close()
    assert counts(sites.gw_a) == {"cleartext_out4": 1, "cleartext_out6": 1}


def test_ports_decide_and_fragments_without_ports_go_with_the_protected(sites, guard, tmp_path):
    guard([guarded(local, remote, protocol=Range(17, 17), remote_ports=Range(9, 9)) for local, remote in NETS])
    for _, b in harness.BOTH:
        found = harness.crossed(sites.gw_a, "wan", tmp_path / "9", partial(harness.send_udp, sites.host_a, (b, 9), bytes(3000)))
        assert found.packets["udp"] == found.packets["udp-fragment"] == 0
        found = harness.crossed(sites.gw_a, "wan", tmp_path / "10", partial(harness.send_udp, sites.host_a, (b, 10)))
        assert found.packets["udp"] == 1


def test_fragments_that_hide_their_protocol_do_not_leave(sites, guard, tmp_path):
    """An IPv6 fragment whose next header is one more extension header: what it belongs to cannot be seen."""
    guard([guarded(*NETS[1], protocol=Range(17, 17))])
    fragment = bytes((60, 0)) + (8 << 3 | 1).to_bytes(2, "big") + bytes(4)  # next: destination options; offset 8; more to come

    def send():
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW, 44) as sender:
            sender.sendto(fragment + b"plaintext" * 8, (netns.HOST_B[1], 0))

    def sent():
        sites.host_a.call(send)

    assert harness.crossed(sites.gw_a, "wan", tmp_path / "x", sent).packets == {}
    harness.run(sites.gw_a, GUARD.remove)
    assert harness.crossed(sites.gw_a, "wan", tmp_path / "y", sent).packets.total() == 1


def test_bypass_before_protect_passes(sites, guard):
    local, remote = NETS[0]
    guard([guarded(R("10.1.0.2"), R("10.2.0.2"), protocol=Range(1, 1), bypass=True), guarded(local, remote)])
    assert harness.reaches(sites.host_a, netns.HOST_B[0])
    with pytest.raises(netns.NetnsError):
        sites.gw_a.run("ping", "-c", "1", "-W", "0.2", "-I", netns.GW_A_INNER[0], netns.HOST_B[0])


def test_masquerading_does_not_hide_it(sites, guard, tmp_path):
    nat = "table inet nat { chain post { type nat hook postrouting priority srcnat; oifname wan masquerade; }; }"
    sites.gw_a.run("nft", "-f", "-", stdin=nat)
    assert harness.reaches(sites.host_a, netns.HOST_B[0])
    guard(A_TO_B)
    found = harness.crossed(sites.gw_a, "wan", tmp_path / "x", lambda: [harness.pings(sites.host_a, b) for _, b in harness.BOTH])
    assert found.packets == {}


def test_destination_translation_does_not_let_spoofed_cleartext_in(sites, guard):
    chain = "chain pre { type nat hook prerouting priority dstnat; ip daddr 192.0.2.1 icmp type 8 dnat ip to 10.1.0.2; }"
    sites.gw_a.run("nft", "-f", "-", stdin=f"table inet nat {{ {chain}; }}")
    assert harness.reaches(sites.host_b, "192.0.2.1")
    guard(A_TO_B)
    assert not harness.pings(sites.host_b, "192.0.2.1")
    assert counts(sites.gw_a)["cleartext_in4"] == 1


KILLED = """
import asyncio, os, signal
from tests.netns import test_guard
asyncio.run(test_guard.GUARD.apply(test_guard.A_TO_B, []))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_survives_the_process_and_is_adopted(sites, guard, tmp_path):
    run = subprocess.run(sites.gw_a.argv(sys.executable, "-c", KILLED), timeout=30, check=False)
    assert run.returncode == -9
    assert harness.run(sites.gw_a, nft.tables) == ["ipsec_dp_test"]
    assert not harness.pings(sites.host_a, netns.HOST_B[0])
    guard(A_TO_B)
    assert counts(sites.gw_a) == {"cleartext_out4": 1}, "a guard that replaces another goes on counting"
    harness.run(sites.gw_a, GUARD.remove)
    assert harness.run(sites.gw_a, nft.tables) == []
    assert harness.reaches(sites.host_a, netns.HOST_B[0])
    harness.run(sites.gw_a, GUARD.remove)


FLOOD = """
import socket, sys
sending = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    try:
        sending.sendto(b"flood", (sys.argv[1], 9))
    except OSError:
        pass  # ICMP says that it was dropped
"""
ELSEWHERE = guarded(R(netns.SITE_A_NETS[0]), R("10.9.0.0/24"), bypass=True)  # before it all are rules, without it all are in sets


@pytest.mark.parametrize("how", ["changed", "adopted", "restored"])
def test_replacing_it_opens_no_window(sites, tmp_path, how):
    """Windows of microseconds show only to a flood: it is replaced forty times or more, until ten thousand packets have met it."""

    async def replaced():
        begun = (await GUARD.counts())["cleartext_out4"].packets
        turn = 0
        while turn < 40 or turn % 10 or (await GUARD.counts())["cleartext_out4"].packets < begun + 10_000:
            turn += 1
            if how == "restored":  # somebody changed it
                await nft.transact(f"add chain inet {GUARD.table} somebodys\n")
                await GUARD.restore()
                continue
            guard = Guard("test") if how == "adopted" else GUARD
            await guard.apply([*A_TO_B, ELSEWHERE][: 3 - turn % 2], [])

    def replaced_under_load():
        harness.run(sites.gw_a, replaced)
        assert flood.poll() is None
        flood.terminate()

    assert harness.reaches(sites.host_a, netns.HOST_B[0]), "the positive control: it would arrive"
    harness.run(sites.gw_a, lambda: GUARD.apply(A_TO_B, []))
    flood = sites.host_a.spawn(sys.executable, "-c", FLOOD, netns.HOST_B[0])
    until(lambda: counts(sites.gw_a).get("cleartext_out4", 0) > 1000, "the flood dropped")
    assert harness.crossed(sites.gw_a, "wan", tmp_path / "x", replaced_under_load).packets == {}
    harness.run(sites.gw_a, GUARD.remove)


# ---- 0.0.0.0/0 and ::/0 on both sides: all is protected but the networks inside, and the host itself is not locked out ----------


def test_everything_protected_still_carries_the_tunnel_and_the_link(sites, guard, tmp_path):
    guard(EVERYTHING)
    sites.gw_a.ip("neigh flush dev wan")
    for address in netns.GW_B_OUTER:

        def tunnel(address=address):
            harness.send_udp(sites.gw_a, (address, 4500), b"sealed, as it were", source_port=4500, mark=MARK)

        assert harness.crossed(sites.gw_b, "wan", tmp_path / "x", tunnel).packets["esp-udp"] == 1
        with pytest.raises(OSError, match=os.strerror(errno.EPERM)):
            harness.send_udp(sites.gw_a, (address, 4500), b"not marked")
        assert not harness.pings(sites.gw_a, address)
    for address in netns.GW_A_INNER:
        assert harness.reaches(sites.host_a, address)
    for a, b in harness.BOTH:
        assert not harness.pings(sites.host_a, b)
        assert not harness.pings(sites.host_b, a)


def test_everything_protected_still_receives_the_tunnel(sites, guard):
    guard(EVERYTHING)

    def received(address, port, payload=b"sealed"):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        receiver = sites.gw_a.call(lambda: socket.socket(family, socket.SOCK_DGRAM))
        with receiver:
            receiver.bind((address, port))
            receiver.settimeout(1.0)
            harness.send_udp(sites.gw_b, (address, port), payload)
            try:
                return receiver.recv(5000)
            except TimeoutError:
                return None

    for address in netns.GW_A_OUTER:
        assert received(address, 4500) == b"sealed"
        assert received(address, 500) == b"sealed"
        assert received(address, 500, bytes(3000)) == bytes(3000), "an IKE message in fragments"
        assert received(address, 4501) is None


def test_a_forwarded_packet_with_our_mark_does_not_pass(sites, guard, tmp_path):
    marking = f"table inet marking {{ chain pre {{ type filter hook prerouting priority mangle; meta mark set {MARK}; }}; }}"
    sites.gw_a.run("nft", "-f", "-", stdin=marking)
    guard(EVERYTHING)
    found = harness.crossed(sites.gw_a, "wan", tmp_path / "x", lambda: [harness.pings(sites.host_a, b) for _, b in harness.BOTH])
    assert found.packets == {}


@pytest.mark.parametrize("port", [4500, 4501])
@pytest.mark.parametrize("version", [0, 1], ids=["ipv4", "ipv6"])
def test_path_mtu_errors_about_our_own_packets_come_in_and_others_do_not(sites, guard, port, version):
    guard(EVERYTHING)
    host_b = netns.HOST_B[version]
    sites.gw_b.ip("link set lan mtu 1300")
    level, recverr, discover = ((socket.IPPROTO_IP, 11, 10), (socket.IPPROTO_IPV6, 25, 23))[version]  # <linux/in.h>, <linux/in6.h>

    def learned():
        family = (socket.AF_INET, socket.AF_INET6)[version]
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
            sender.setsockopt(level, recverr, 1)
            sender.setsockopt(level, discover, 3)  # PMTUDISC_PROBE: DF set, whatever was learned
            sender.bind(("", port))
            sender.sendto(bytes(1400), (host_b, 9))
            sender.setblocking(True)
            sender.settimeout(1.0)
            try:
                sender.recv(1)
            except OSError as error:
                return error.errno
            return None

    assert sites.gw_a.call(learned) == (errno.EMSGSIZE if port == 4500 else None)


def test_missing_nft_names_the_package(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(HostError, match="apt-get install nftables"):
        asyncio.run(GUARD.exists())
