"""TUN interfaces: what they look like, what never enters them, and that nothing of them stays."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytun

from ipsec_dp.host import HostError
from ipsec_dp.host.netlink import open_netlink
from ipsec_dp.host.tun import QUEUE_PACKETS, Fault, Trouble, configure, make, set_mtu
from ipsec_dp.rig import capture
from tests.netns import harness
from tests.netns.traffic import until

NOTHING_S = 0.5  # in which nothing happens, which is what is shown


@pytest.fixture
def alone(lab):
    return lab.namespace("alone", forwarding=True)


@pytest.fixture
def tun(alone):
    made = harness.tun(alone, "ipsec0", ("169.254.10.1/30", "fd00:a::1/64"))
    yield made
    made.close()


def shown(namespace, name):
    return json.loads(namespace.run("ip", "-j", "-d", "address", "show", "dev", name).stdout)[0]


def test_is_up_with_addresses_mtu_and_a_bounded_queue(alone, tun):
    link = shown(alone, "ipsec0")
    assert (link["mtu"], link["txqlen"]) == (1400, QUEUE_PACKETS)
    assert "UP" in link["flags"]
    assert [(each["local"], each["prefixlen"]) for each in link["addr_info"]] == [("169.254.10.1", 30), ("fd00:a::1", 64)]
    assert not link["linkinfo"]["info_data"]["persist"]
    assert tun.unset == []


@pytest.mark.parametrize(("everywhere", "here"), [("0", "0"), ("1", "2"), ("2", "0")])
def test_reverse_path_filter_is_loose_where_the_host_is_strict_and_the_hosts_stays(alone, everywhere, here):
    alone.sysctl(("net/ipv4/conf/all/rp_filter", everywhere))
    made = harness.tun(alone, "ipsec0")
    read = [Path("/proc/sys/net/ipv4/conf", name, "rp_filter").read_text for name in ("all", "default", "ipsec0")]
    assert alone.call(lambda: [text().strip() for text in read]) == [everywhere, "0", here]
    made.close()


@pytest.mark.parametrize(("ours", "theirs"), [(True, "off"), (False, "on")])
def test_a_carrier_that_somebody_else_set_is_seen_and_ours_is_not_one(alone, tun, ours, theirs):
    def trouble():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            return tun.trouble(1400, asking)

    alone.call(lambda: tun.set_carrier(ours))
    assert alone.call(trouble) is None
    alone.run("ip", "link", "set", "ipsec0", "carrier", theirs)
    assert until(lambda: alone.call(trouble), "what the kernel reports a little later") == Trouble(Fault.CARRIER, theirs)
    alone.call(lambda: tun.set_carrier(ours))
    assert alone.call(trouble) is None


def test_a_setting_that_somebody_else_wrote_is_seen(alone, tun):
    """rp_filter follows the host's: what it has to be depends on that for all interfaces."""

    def trouble():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            return tun.trouble(1400, asking)

    assert alone.call(trouble) is None
    for family, name, value in (
        ("ipv4", "rp_filter", "1"),
        ("ipv6", "accept_ra", "2"),
        ("ipv4", "ignore_routes_with_linkdown", "0"),
    ):
        path = f"net/{family}/conf/ipsec0/{name}"
        before = alone.call(Path("/proc/sys", path).read_text)
        alone.sysctl((path, value))
        assert alone.call(trouble) == Trouble(Fault.UNSET, f"net.{family}.conf.ipsec0.{name} = {value}")
        alone.sysctl((path, before))
    assert alone.call(trouble) is None
    alone.sysctl(("net/ipv4/conf/all/rp_filter", "1"))
    assert alone.call(trouble) == Trouble(Fault.UNSET, "net.ipv4.conf.ipsec0.rp_filter = 0")


def test_descriptor_is_not_inherited_by_programs(tun):
    assert not os.get_inheritable(tun.descriptors[0])


def test_the_kernel_sends_nothing_of_its_own_into_it(alone, tun, tmp_path):
    """The descriptor stays silent where an ordinary interface would solicit routers and announce its groups."""
    os.set_blocking(tun.descriptors[0], False)
    time.sleep(NOTHING_S)
    with pytest.raises(BlockingIOError):
        os.read(tun.descriptors[0], 2000)


def test_packets_routed_into_it_come_out_of_the_descriptor(alone, tun):
    harness.send_udp(alone, ("169.254.10.2", 9), b"to the other end")
    packet = os.read(tun.descriptors[0], 2000)
    assert capture.kind(packet) == "udp"
    assert packet.endswith(b"to the other end")


def test_goes_when_the_last_descriptor_closes(alone, tun):
    tun.close()
    assert alone.run("ip", "link", "show", "ipsec0", check=False).returncode != 0


def test_vanished_device_is_noticed(alone, tun):
    assert not tun.vanished()
    alone.ip("link delete ipsec0")
    assert tun.vanished()


def test_the_kernel_is_not_asked_for_what_the_link_is_already(alone, tun):
    """It would report each request as a change, and a gateway looks at all of its routes then."""

    async def asked(mtu):
        found = []
        async with open_netlink() as ipr:

            def link(*what, **values):
                found.append(values)
                return ipr.link(*what, **values)

            await configure(SimpleNamespace(link=link, addr=ipr.addr), tun, ("169.254.10.1/30", "fd00:a::1/64"), mtu)
        return found

    def configured(mtu):
        return harness.run(alone, partial(asked, mtu))

    assert configured(1400) == []
    assert configured(1300)
    assert configured(1300) == []
    alone.ip("link set ipsec0 down")
    assert configured(1300)
    link = shown(alone, "ipsec0")
    assert (link["mtu"], "UP" in link["flags"]) == (1300, True)


def test_mtu_of_a_running_interface(alone, tun):
    async def change():
        async with open_netlink() as ipr:
            await set_mtu(ipr, tun, 1300)

    harness.run(alone, change)
    assert shown(alone, "ipsec0")["mtu"] == 1300


def test_queues(alone):
    made = alone.call(lambda: make("many", queues=3, vnet_header=True))
    assert len(made.descriptors) == 3
    assert shown(alone, "many")["linkinfo"]["info_data"]["vnet_hdr"]
    made.close()


@pytest.mark.parametrize("name", ["ipsec0", "lo"])
def test_name_that_is_taken(alone, tun, name):
    with pytest.raises(HostError, match=f"interface {name}: an interface of this name exists already"):
        alone.call(lambda: make(name))


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ipsec%d", "x" * 16])
def test_name_that_cannot_be(name):
    with pytest.raises(ValueError, match="not the name of an interface"):
        make(name)


@pytest.mark.parametrize("mtu", [575, 65536])
def test_mtu_out_of_range(alone, tun, mtu):
    async def change():
        async with open_netlink() as ipr:
            await set_mtu(ipr, tun, mtu)

    with pytest.raises(ValueError, match="576 to 65535"):
        harness.run(alone, change)


def test_address_that_the_kernel_refuses_is_named(alone):
    with pytest.raises(HostError, match=r"interface bad: address ff02::1/64: "):
        harness.tun(alone, "bad", ("10.0.0.1/32", "ff02::1/64"))


@pytest.mark.parametrize(("number", "helps"), [(errno.ENOENT, "modprobe tun"), (errno.EPERM, "CAP_NET_ADMIN")])
def test_reasons_say_what_helps(monkeypatch, number, helps):
    def refuse(**_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(pytun, "TunTapDevice", refuse)
    with pytest.raises(HostError, match=helps):
        make("ipsec0")


KILLED = """
import os, signal
from ipsec_dp.host import tun
made = tun.make("ipsec0")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_is_left_of_a_killed_process(alone):
    assert subprocess.run(alone.argv(sys.executable, "-c", KILLED), timeout=30, check=False).returncode == -9
    assert alone.run("ip", "link", "show", "ipsec0", check=False).returncode != 0
