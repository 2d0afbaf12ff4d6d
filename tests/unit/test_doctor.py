"""What `doctor` makes of a host: each lack named with what it means and what helps."""

from __future__ import annotations

import json
import resource
import shutil
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_address, ip_network

import pytest

from ipsec_dp.cli import doctor, network_checks, route_checks
from ipsec_dp.cli.checks import Check, Host
from ipsec_dp.gateway import unlocked_keys
from ipsec_dp.host import MARK, HostError, link_names, privilege, probe, xfrm
from ipsec_dp.host.decision import Way
from ipsec_dp.host.filters import Filter
from ipsec_dp.host.foreign_rules import Taken
from ipsec_dp.host.outer import OuterRoute
from ipsec_dp.host.routing_rules import RouteQuestion, RoutingRule
from ipsec_dp.host.xfrm import XfrmPolicy
from ipsec_dp.ike import kem
from tests.doubles.config import configured, tunnel

GOOD = {
    "proc/self/status": "Name:\tx\nCapEff:\t0000000000003400\n",
    "proc/cpuinfo": "processor : 0\nflags\t\t: fpu aes pclmulqdq avx2 vaes hypervisor\n",
    "proc/sys/net/ipv4/ip_forward": "1\n",
    "proc/sys/net/ipv6/conf/all/forwarding": "1\n",
    "proc/sys/net/ipv4/conf/all/rp_filter": "0\n",
    "proc/sys/net/ipv4/conf/eth0/rp_filter": "2\n",
    "proc/sys/kernel/osrelease": "6.12.9-amd64\n",
    "sys/bus/acpi/drivers/vmgenid/VMGENCTR:00": "",
}


@pytest.fixture
def host(tmp_path):
    """A host on which all is well, but for the files given."""

    def make(**changes):
        for path, text in {**GOOD, **changes}.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            if text is not None:
                (tmp_path / path).write_text(text)
        return Host(tmp_path)

    return make


FILE_CHECKS = (
    doctor.capabilities,
    doctor.processor,
    network_checks.forwarding,
    network_checks.reverse_path_filter,
    network_checks.saved_ruleset,
    doctor.generation,
)


def test_all_well(host):
    found = [finding for check in FILE_CHECKS for finding in check(host())]
    assert {finding.state for finding in found} == {"ok"}
    assert all(finding.means == finding.remedy == "" for finding in found)


STRICT = "proc/sys/net/ipv4/conf/{}/rp_filter"
LACKS = [
    (doctor.capabilities, {"proc/self/status": "CapEff:\t0000000000003000\n"}, "fail", "no CAP_NET_BIND_SERVICE", "root"),
    (doctor.capabilities, {"proc/self/status": "CapEff:\t0000000000002400\n"}, "fail", "no CAP_NET_ADMIN", "root"),
    (doctor.capabilities, {"proc/self/status": "CapEff:\t0000000000001400\n"}, "warn", "no CAP_NET_RAW", "root"),
    (doctor.processor, {"proc/cpuinfo": "flags : fpu sse2\n"}, "warn", "no AES instructions", "chacha20poly1305"),
    (network_checks.forwarding, {"proc/sys/net/ipv4/ip_forward": "0\n"}, "warn", "off", "net.ipv4.ip_forward=1"),
    (network_checks.forwarding, {"proc/sys/net/ipv6/conf/all/forwarding": "0\n"}, "warn", "off", "net.ipv6.conf.all.forwarding=1"),
    (network_checks.reverse_path_filter, {STRICT.format("eth0"): "1\n"}, "warn", "strict on eth0", "conf.eth0.rp_filter=2"),
    (
        network_checks.reverse_path_filter,
        {STRICT.format("all"): "1\n", STRICT.format("eth0"): "0\n"},
        "warn",
        "strict on eth0",
        "eth0",
    ),
    (doctor.generation, {"sys/bus/acpi/drivers/vmgenid/VMGENCTR:00": None}, "warn", "the hypervisor gives none", "down"),
    (doctor.generation, {"proc/sys/kernel/osrelease": "6.1.0-18-amd64\n"}, "warn", "from 6.10 on", "down"),
]


@pytest.mark.parametrize(("check", "files", "state", "found", "helps"), LACKS, ids=[f"{i}-{row[3]}" for i, row in enumerate(LACKS)])
def test_lack_is_named_with_what_helps(host, check, files, state, found, helps):
    (lack,) = [finding for finding in check(host(**files)) if finding.state != "ok"]
    assert lack.state == state
    assert found in lack.found
    assert lack.means
    assert helps in lack.remedy


def test_a_library_without_ml_kem_is_told_with_what_it_means(host, monkeypatch):
    (found,) = doctor.post_quantum(host())
    assert (found.state, found.found) == ("ok", "mlkem768, mlkem1024")
    monkeypatch.setattr(kem, "lack", lambda _: "this build of cryptography has no ML-KEM")
    (lack,) = doctor.post_quantum(host())
    assert (lack.state, lack.found) == ("warn", "this build of cryptography has no ML-KEM")
    assert "default proposals are offered without" in lack.means
    assert "cryptography" in lack.remedy


def test_who_may_make_no_interface_is_not_told_that_the_module_lacks(host, monkeypatch):
    def refuse():
        raise HostError("not permitted: making an interface takes CAP_NET_ADMIN (run as root)")

    monkeypatch.setattr(probe, "tun_offloads", refuse)
    for permitted, remedy in ((True, "modprobe tun"), (False, "run as root")):
        monkeypatch.setattr(privilege, "has", lambda _, permitted=permitted: permitted)
        (check,) = doctor.tun_device(host())
        assert (check.state, check.remedy) == ("fail", remedy)


def test_loose_filter_on_all_relaxes_a_strict_interface(host):
    files = {STRICT.format("all"): "2\n", STRICT.format("eth0"): "1\n"}
    assert [finding.state for finding in network_checks.reverse_path_filter(host(**files))] == ["ok"]


@pytest.mark.parametrize(
    ("files", "state", "found", "helps"),
    [
        ({}, "ok", "on", ""),
        ({"proc/sys/net/ipv6/conf/all/disable_ipv6": "1\n"}, "warn", "disabled by sysctl (all)", "conf.all.disable_ipv6=0"),
        ({"proc/sys/net/ipv6/conf/default/disable_ipv6": "1\n"}, "warn", "sysctl (default)", "conf.default.disable_ipv6=0"),
    ],
)
def test_disabled_ipv6(host, files, state, found, helps):
    (finding,) = network_checks.ipv6(host(**files))
    assert (finding.state, found in finding.found, helps in finding.remedy) == (state, True, True)


def test_a_kernel_without_ipv6(tmp_path):
    (finding,) = network_checks.ipv6(Host(tmp_path))
    assert (finding.state, "IPv4 works" in finding.means) == ("warn", True)


def filtered(monkeypatch, objects):
    async def listed():
        if objects is None:
            raise HostError("nft -j list ruleset: Operation not permitted")
        return Filter(objects)

    monkeypatch.setattr(network_checks, "host_filter", listed)
    monkeypatch.setattr(network_checks, "tunnel_interfaces", lambda: ["ipsec7"])


def closed(hook):
    return {"chain": {"family": "inet", "table": "filter", "name": hook, "type": "filter", "hook": hook, "policy": "drop"}}


def test_chains_that_may_drop_what_tunnels_carry(monkeypatch, host):
    filtered(monkeypatch, [closed("forward"), closed("input")])
    forward, incoming = network_checks.packet_filter(host())
    assert (forward.state, forward.found) == ("warn", "chain inet filter forward (policy drop)")
    assert forward.means == "it may drop what is forwarded into a tunnel, what is forwarded out of a tunnel"
    assert forward.remedy == (
        "nft insert rule inet filter forward oifname ipsec7 accept; nft insert rule inet filter forward iifname ipsec7 accept"
    )
    assert incoming.remedy.split("; ") == [
        "nft insert rule inet filter input udp dport 500 accept",
        "nft insert rule inet filter input udp dport 4500 accept",
        "nft insert rule inet filter input meta l4proto esp accept",
    ]
    filtered(monkeypatch, [])
    assert [finding.state for finding in network_checks.packet_filter(host())] == ["ok"]
    filtered(monkeypatch, None)
    (finding,) = network_checks.packet_filter(host())
    assert (finding.state, "not permitted" in finding.found) == ("warn", True)


def test_policies_of_another_ipsec(monkeypatch, host):
    one = XfrmPolicy("out", ip_network("10.1.0.0/24"), ip_network("10.2.0.0/24"), False)
    monkeypatch.setattr(xfrm, "policies", lambda: [one] * 5)
    (finding,) = network_checks.xfrm_policies(host())
    assert finding.state == "warn"
    assert finding.found.startswith("5: out 10.1.0.0/24 to 10.2.0.0/24, ")
    assert "ip xfrm policy" in finding.remedy
    monkeypatch.setattr(xfrm, "policies", list)
    assert network_checks.xfrm_policies(host())[0].state == "ok"
    monkeypatch.setattr(xfrm, "policies", partial(refuse, HostError("policies: no")))
    assert network_checks.xfrm_policies(host())[0].state == "warn"


def test_machine_that_is_not_virtual_needs_no_generation(host):
    files = {"proc/cpuinfo": "flags : aes pclmulqdq\n", "sys/bus/acpi/drivers/vmgenid/VMGENCTR:00": None}
    assert doctor.generation(host(**files))[0].state == "ok"


def refuse(error, *_):
    raise error


def test_no_tun_device(monkeypatch, host):
    monkeypatch.setattr(probe, "tun_offloads", partial(refuse, HostError("/dev/net/tun is not there")))
    (finding,) = doctor.tun_device(host())
    assert (finding.state, finding.remedy) == ("fail", "modprobe tun")


def test_an_offload_for_some_alone_is_no_warning(monkeypatch, host):
    monkeypatch.setattr(probe, "tun_offloads", lambda: {"checksum": True, "udp_tunnel": False})
    finding = doctor.tun_device(host())[-1]
    assert (finding.state, finding.found, finding.means) == ("ok", "checksum", doctor.OFFLOADS["udp_tunnel"])


@pytest.mark.parametrize(
    ("check", "name", "lack"), [(doctor.tun_device, "tun_offloads", "uso"), (doctor.udp_offloads, "udp_offloads", "udp_gro")]
)
def test_missing_offload_is_named_with_its_cost(monkeypatch, host, check, name, lack):
    monkeypatch.setattr(probe, name, lambda: {"checksum": True, lack: False})
    finding = check(host())[-1]
    assert (finding.state, finding.found, finding.means) == ("warn", f"without {lack}", doctor.OFFLOADS[lack])


@pytest.mark.parametrize(
    ("free", "owners", "state", "found"),
    [
        (True, [], "ok", "free"),
        (False, ["charon (pid 7)"], "fail", "in use by charon (pid 7)"),
        (False, ["ipsec-dp (pid 7)"], "ok", "in use by ipsec-dp (pid 7)"),
        (False, [], "fail", "in use by another program"),
    ],
)
def test_ports(monkeypatch, host, free, owners, state, found):
    monkeypatch.setattr(probe, "udp_port_free", lambda _: free)
    monkeypatch.setattr(probe, "udp_port_owners", lambda _: owners)
    assert [(finding.state, finding.found) for finding in network_checks.ports(host())] == [(state, found)] * 2


@pytest.mark.parametrize(
    ("limit", "raises", "swaps", "state", "found", "means"),
    [
        (8 << 20, False, "Filename\n/swap\n", "warn", "8 MiB", unlocked_keys.ALL),
        (64 << 20, False, "Filename\n/swap\n", "warn", "64 MiB", unlocked_keys.IKES),
        (64 << 20, False, "", "warn", "64 MiB", unlocked_keys.IKES),
        (64 << 20, False, "Filename\n", "ok", "64 MiB, and there is no swap", ""),
        (8 << 20, True, "Filename\n/swap\n", "ok", "not limited", ""),
        (-1, False, "Filename\n/swap\n", "ok", "not limited", ""),
    ],
)
def test_locked_memory(monkeypatch, host, limit, raises, swaps, state, found, means):
    """`up` raises the limit where it has CAP_SYS_RESOURCE."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    files = {"proc/self/status": f"CapEff:\t{0x1000000 if raises else 0x4000:016x}\n", "proc/swaps": swaps}
    (finding,) = doctor.locked_memory(host(**files))
    assert (finding.state, finding.found, finding.means) == (state, found, means)
    assert finding.remedy == ("" if state == "ok" else unlocked_keys.REMEDY)


def test_no_nft(monkeypatch, host):
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    (finding,) = network_checks.nftables(host())
    assert (finding.state, finding.remedy) == ("fail", "apt-get install nftables")


def test_data_plane_says_which_provider(host):
    (finding,) = doctor.provider(host())
    assert finding.state in ("ok", "warn")
    assert finding.found.startswith(("intel-ipsec-mb", "openssl"))


SOME = [Check("a", "ok", "x"), Check("b", "warn", "y", "costs", "do"), Check("c", "fail", "[z]", "stops", "do that")]


@pytest.mark.parametrize(("findings", "status"), [(SOME, 1), (SOME[:2], 0)])
def test_output_and_exit_status(monkeypatch, capsys, findings, status):
    monkeypatch.setattr(doctor, "checks", lambda: findings)
    assert doctor.run(json=True) == status
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema"] == 1
    assert [row["name"] for row in answer["findings"]] == [finding.name for finding in findings]
    assert doctor.run() == status
    text = capsys.readouterr().out
    assert all(finding.found in text and finding.remedy in text for finding in findings)


def test_a_name_that_somebody_elses_interface_has_is_a_warning(host, tmp_path, monkeypatch):
    one = host()
    assert doctor.interface_names(one) == []
    (tmp_path / "etc/ipsec-dp").mkdir(parents=True)
    configured(tmp_path / "etc/ipsec-dp", tunnel())
    assert doctor.interface_names(one) == []
    monkeypatch.setattr(link_names, "taken_names", lambda _: {"ipsec0": ("tun", "ipsec-dp other")})
    (found,) = doctor.interface_names(one)
    assert found.state == "warn"
    assert "an interface named ipsec0 is there already (tun, ipsec-dp other), and `up` will be refused" in found.found
    monkeypatch.setattr(link_names, "taken_names", lambda _: {"ipsec0": ("tun", "ipsec-dp gw")})
    assert doctor.interface_names(one) == [], "the gateway of this configuration made it"


# ---- routing

PEER, LOCAL = ip_address("192.0.2.2"), ip_address("192.0.2.1")
FOREIGN = RoutingRule(version=4, priority=100, target=100)


class Kernel:
    """`Decisions`: where packets of ours go, and others."""

    def __init__(self, ours="eth0", others="ipsec0"):
        self.ours, self.others, self.asked = ours, others, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def way(self, asked):
        self.asked.append(asked)
        return Way(self.ours, 254, FOREIGN if self.ours != "eth0" else None)


@asynccontextmanager
async def no_netlink():
    yield None


@pytest.fixture
def routing(monkeypatch, host, tmp_path):
    """A host with one configuration; what the kernel says is given by `says`."""
    one = host()
    (tmp_path / "etc/ipsec-dp").mkdir(parents=True)
    monkeypatch.setattr(route_checks, "open_netlink", no_netlink)
    monkeypatch.setattr(route_checks, "tunnel_interfaces", list)

    def says(kernel, error=None):
        async def outer_route(_, remote, *, local):
            assert remote == PEER
            if error is not None:
                raise HostError(error)
            return OuterRoute(local or LOCAL, 2, 1500, None)

        monkeypatch.setattr(route_checks, "Decisions", lambda: kernel)
        monkeypatch.setattr(route_checks, "outer_route", outer_route)
        return one

    return says


def test_without_a_configuration_routing_is_not_asked(host):
    assert route_checks.peer_ways(host()) == route_checks.rules_before_ours(host()) == []


def test_the_way_to_a_peer_is_asked_with_source_and_mark(routing, tmp_path):
    configured(tmp_path / "etc/ipsec-dp", tunnel())
    kernel = Kernel()
    (good,) = route_checks.peer_ways(routing(kernel))
    assert (good.state, good.found) == ("ok", "192.0.2.2 from 192.0.2.1 by eth0")
    assert kernel.asked == [RouteQuestion(PEER, LOCAL, mark=MARK)]
    (bad,) = route_checks.peer_ways(routing(Kernel("ipsec0")))
    assert bad.state == "warn"
    assert "leads into ipsec0, a tunnel's interface, in spite of the mark: rule 100 (from all lookup 100) decides that" in bad.found
    (bad,) = route_checks.peer_ways(routing(Kernel(), "no route to 192.0.2.2"))
    assert (bad.state, 'tunnel "to-b": no route to 192.0.2.2' in bad.found, bool(bad.remedy)) == ("warn", True, True)


def test_many_peers_without_a_way_are_counted(routing, tmp_path):
    configured(tmp_path / "etc/ipsec-dp", *(tunnel(f"t{number}", interface=f"ipsec{number}") for number in range(9)))
    found = route_checks.peer_ways(routing(Kernel(), "no route"))
    assert len(found) == route_checks.SHOWN + 1
    assert found[-1].found == "and 4 more peers without one"


def test_rules_of_others_that_take_what_is_to_enter_a_tunnel(routing, tmp_path, monkeypatch):
    configured(tmp_path / "etc/ipsec-dp", tunnel())
    taken = Taken(FOREIGN, RouteQuestion(ip_address("10.2.0.1"), ip_address("10.1.0.1")), "eth0")

    def rules(found):
        async def answer(config, tunnels):
            assert (config.name, tunnels) == ("gw", {"ipsec0"})
            return found

        monkeypatch.setattr(route_checks, "rules_in_the_way", answer)
        return route_checks.rules_before_ours(routing(Kernel()))

    (found,) = rules([(0, taken)])
    assert (found.state, "10.1.0.1 to 10.2.0.1 leaves by eth0" in found.found) == ("warn", True)
    assert found.remedy == taken.remedy(0)
    assert [each.state for each in rules([])] == ["ok"]


@pytest.mark.parametrize("path", ["etc/nftables.conf", "etc/nftables/saved.nft", "etc/sysconfig/nftables.conf"])
def test_a_ruleset_that_was_saved_while_a_gateway_ran_is_named(host, path):
    """At boot it closes the host as it was then, and every restart of nftables makes it anew."""
    saved = "flush ruleset\ntable inet filter {\n}\ntable inet ipsec_dp_site_2da {\n}\n"
    (found,) = network_checks.saved_ruleset(host(**{path: saved}))
    assert (found.state, f"/{path}" in found.found, "ipsec_dp" in (found.remedy or "")) == ("warn", True, True)
    (good,) = network_checks.saved_ruleset(host(**{path: "flush ruleset\ntable inet filter {\n}\n"}))
    assert good.state == "ok"
