"""`ipsec-dp doctor`: what this host offers, what it lacks, what that means, and the command that helps. It changes nothing."""

from __future__ import annotations

import contextlib
import resource
from dataclasses import asdict
from typing import TYPE_CHECKING

from ipsec_dp.cli.checks import Check, Host
from ipsec_dp.cli.encapsulation_checks import encapsulations
from ipsec_dp.cli.names_in_use import REMEDY, names_in_use
from ipsec_dp.cli.network_checks import (
    forwarding,
    ipv6,
    nftables,
    packet_filter,
    ports,
    reverse_path_filter,
    saved_ruleset,
    settings,
    xfrm_policies,
)
from ipsec_dp.cli.options import show_json
from ipsec_dp.cli.route_checks import configurations, peer_ways, rules_before_ours
from ipsec_dp.errors import IpsecDpError
from ipsec_dp.gateway import unlocked_keys
from ipsec_dp.host import HostError, privilege, probe
from ipsec_dp.host.offload_trial import OffloadTrial
from ipsec_dp.host.super_packets import OffloadFaults
from ipsec_dp.ike import kem
from ipsec_dp.ipsec.transforms import KEMS
from ipsec_dp.util.text import shown_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipsec_dp.cli.checks import State

# <linux/capability.h>: number, name, how bad its absence is, what it is for
CAPABILITIES: tuple[tuple[int, str, State, str], ...] = (
    (10, "CAP_NET_BIND_SERVICE", "fail", "IKE's port 500 needs it"),
    (12, "CAP_NET_ADMIN", "fail", "TUN interfaces, routes, the guard and marks need it"),
    (13, "CAP_NET_RAW", "warn", "no IP protocol 50: ESP goes in UDP alone; ICMP messages are not heard, and monitors cannot ask"),
)
# What each offload is for, and what its absence costs.
OFFLOADS: dict[str, str] = {
    "checksum": "every packet's checksum is computed in software",
    "tso4": "IPv4 TCP crosses the interface packet by packet: several times slower",
    "tso6": "IPv6 TCP crosses the interface packet by packet: several times slower",
    "uso": "UDP crosses the interface packet by packet (Linux 6.2 and newer can do better)",
    "udp_tunnel": "VXLAN and Geneve cross the interface packet by packet (Linux 6.17 and newer can do better)",
    "udp_segment": "each outer packet costs a system call's share (Linux 4.18 and newer can do better)",
    "udp_gro": "each received packet is handled alone (Linux 5.0 and newer can do better)",
}
FOR_SOME = {"udp_tunnel"}  # whose absence costs those alone who have such traffic
MEMLOCK_OCTETS = 32 << 20  # the keys of 10,000 tunnels with room to spare
VMGENID_LINUX = (6, 10)
TRIAL_S = 8.0  # for super-packets: all kinds may lose their packets each time


def tun_device(_: Host) -> list[Check]:
    """/dev/net/tun, and the offloads of a device made with it."""
    try:
        offloads = probe.tun_offloads()
    except (HostError, OSError) as error:
        if not privilege.has(privilege.NET_ADMIN):
            return [Check("TUN device", "fail", str(error), "whether interfaces can be made is not known", "run as root")]
        return [Check("TUN device", "fail", str(error), "no tunnel interface can be made", "modprobe tun")]
    missing = [name for name, there in offloads.items() if not there]
    found = Check("TUN device", "ok", "/dev/net/tun makes interfaces")
    if FOR_SOME.issuperset(missing):
        means = "; ".join(OFFLOADS[name] for name in missing)
        return [found, Check("TUN offloads", "ok", ", ".join(name for name, there in offloads.items() if there), means)]
    means = "; ".join(OFFLOADS[name] for name in missing)
    return [found, Check("TUN offloads", "warn", f"without {', '.join(missing)}", means, "a newer kernel")]


def super_packets(_: Host) -> list[Check]:
    """Whether super-packets of TUN devices come out as they went in."""
    try:
        with contextlib.closing(OffloadTrial.start()) as trial:
            found = trial.result(TRIAL_S)
    except OSError as error:
        found = OffloadFaults(untried=str(error))
    if found.wrong:
        wrong = "; ".join(f"{name}: {fault}" for name, fault in found.wrong.items())
        means = "the gateway leaves these offloads off, and such packets cross the interface one by one"
        return [Check("super-packets", "warn", wrong, means, "another kernel")]
    tried = f"as they should be: {', '.join(found.tried)}" if found.tried else "not tried"
    return [Check("super-packets", "ok", tried, found.untried)]


def udp_offloads(_: Host) -> list[Check]:
    """UDP_SEGMENT and UDP_GRO."""
    offloads = probe.udp_offloads()
    missing = [name for name, there in offloads.items() if not there]
    if not missing:
        return [Check("UDP offloads", "ok", ", ".join(offloads))]
    means = "; ".join(OFFLOADS[name] for name in missing)
    return [Check("UDP offloads", "warn", f"without {', '.join(missing)}", means, "a newer kernel")]


def capabilities(host: Host) -> list[Check]:
    """The effective capabilities of this process, which are those that `up` would have."""
    effective = privilege.effective(host.read("proc/self/status"))
    return [
        Check("privilege", "ok", name)
        if effective >> number & 1
        else Check(
            "privilege", state, f"no {name}", means, f"run as root, use the service unit, or give it to the container: {name}"
        )
        for number, name, state, means in CAPABILITIES
    ]


def processor(host: Host) -> list[Check]:
    """The instructions that AES-GCM is fast with."""
    lines = host.read("proc/cpuinfo").splitlines()
    flags = set(next((line.partition(":")[2] for line in lines if line.startswith(("flags", "Features"))), "").split())
    fast = [flag for flag in ("aes", "pclmulqdq", "pmull", "avx2", "vaes", "vpclmulqdq", "avx512f") if flag in flags]
    if "aes" in flags and flags & {"pclmulqdq", "pmull"}:
        return [Check("processor", "ok", ", ".join(fast))]
    means = "AES-GCM runs in software, many times slower; ChaCha20-Poly1305 suffers less"
    return [Check("processor", "warn", "no AES instructions", means, 'proposals = ["chacha20poly1305"] in [tunnel.esp]')]


def provider(_: Host) -> list[Check]:
    """Which library seals and opens, after its known-answer tests."""
    try:
        from ipsec_dp.dataplane import DataPlane

        with DataPlane(sa_slots=256, tunnels=1, interfaces=1) as plane:
            name, reason = plane.provider, plane.provider_reason
    except (ImportError, OSError, IpsecDpError) as error:
        return [Check("data plane", "fail", str(error), "no packet can be sealed", "make setup, or install the package anew")]
    if not reason:
        return [Check("data plane", "ok", name)]
    means = "small packets cost about four times as much to seal"
    return [
        Check("data plane", "warn", f"{name}: {reason}", means, "apt-get install libipsec-mb-dev, then install the package anew")
    ]


def post_quantum(_: Host) -> list[Check]:
    """Whether the library of IKE has ML-KEM."""
    name, lacks = "post-quantum keys", {lack for each in KEMS if (lack := kem.lack(each)) is not None}
    if not lacks:
        return [Check(name, "ok", ", ".join(each.keyword for each in KEMS))]
    means = "the default proposals are offered without ML-KEM, and what is recorded of such tunnels today can be read later"
    return [Check(name, "warn", "; ".join(sorted(lacks)), means, "pip install --force-reinstall --only-binary :all: cryptography")]


def locked_memory(host: Host) -> list[Check]:
    """How much memory `up` may lock: all of it, or keys of the data plane alone, as many as the limit allows."""
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    raises = privilege.effective(host.read("proc/self/status")) >> privilege.SYS_RESOURCE & 1
    if soft == resource.RLIM_INFINITY or raises:
        return [Check("locked memory", "ok", "not limited")]
    found = f"{soft >> 20} MiB"
    if not unlocked_keys.has_swap(host.read("proc/swaps")):
        return [Check("locked memory", "ok", f"{found}, and there is no swap")]
    means = unlocked_keys.IKES if soft >= MEMLOCK_OCTETS else unlocked_keys.ALL
    return [Check("locked memory", "warn", found, means, unlocked_keys.REMEDY)]


def generation(host: Host) -> list[Check]:
    """Whether a clone of this machine would notice that it is one."""
    if "hypervisor" not in host.read("proc/cpuinfo").split():
        return [Check("VM generation ID", "ok", "not a virtual machine")]
    device = host.names("sys/bus/*/drivers/vmgenid/*VMG*") + host.names("sys/bus/*/drivers/vmgenid/*vmgen*")
    release = host.read("proc/sys/kernel/osrelease").split(".")
    recent = len(release) > 1 and release[1].isdecimal() and (int(release[0]), int(release[1])) >= VMGENID_LINUX
    if device and recent:
        return [Check("VM generation ID", "ok", "the kernel tells of clones")]
    found = "the hypervisor gives none" if not device else "Linux tells of clones from 6.10 on"
    means = "a machine cloned or restored while SAs are up repeats nonces unnoticed"
    return [Check("VM generation ID", "warn", found, means, "ipsec-dp down before each snapshot")]


def interface_names(host: Host) -> list[Check]:
    """Whether the interfaces of the configurations that the service unit starts can be made, or somebody else has their names."""
    return [
        Check("interface names", "warn", f"{finding.file}: {finding.wrong}", "the gateway does not start", REMEDY)
        for config in configurations(host)
        for finding in names_in_use(config)
    ]


CHECKS: tuple[Callable[[Host], list[Check]], ...] = (
    capabilities,
    tun_device,
    super_packets,
    udp_offloads,
    processor,
    provider,
    post_quantum,
    locked_memory,
    ports,
    nftables,
    settings,
    forwarding,
    reverse_path_filter,
    ipv6,
    packet_filter,
    saved_ruleset,
    xfrm_policies,
    generation,
    interface_names,
    peer_ways,
    encapsulations,
    rules_before_ours,
)


def checks(host: Host | None = None) -> list[Check]:
    """Everything that is looked at, in order."""
    host = Host() if host is None else host
    return [finding for check in CHECKS for finding in check(host)]


def run(json: bool = False) -> int:
    """Prints what was found, as a table or as one JSON object. 1 when something fails, else 0."""
    findings = [Check(**shown_all(asdict(finding))) for finding in checks()]
    if json:
        show_json({"schema": 1, "findings": [asdict(finding) for finding in findings]}, 1)
    else:
        _show(findings)
    return 1 if any(finding.state == "fail" for finding in findings) else 0


COLOURS: dict[State, str] = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def _show(findings: list[Check]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    for finding in findings:
        lines = [Text(finding.found)]
        lines += [Text(finding.means, style="dim")] if finding.means else []
        lines += [Text(f"what helps: {finding.remedy}")] if finding.remedy else []
        table.add_row(Text(finding.state, style=COLOURS[finding.state]), finding.name, Text("\n").join(lines))
    Console().print(table)
