"""What `ipsec-dp doctor` looks at of this host's network: ports, forwarding, filters of packets, and another IPsec."""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import TYPE_CHECKING

from ipsec_dp.cli.checks import Check
from ipsec_dp.host import PROTOCOL, HostError, claim, guard, nft_state, probe, xfrm
from ipsec_dp.host.bulk import FAMILIES, Bulk
from ipsec_dp.host.filter_listing import host_filter
from ipsec_dp.host.filter_remedies import dropped, of_tunnels, outer, remedy
from ipsec_dp.host.routes import interface_name
from ipsec_dp.host.sockets import IKE_PORT, NAT_PORT
from ipsec_dp.util.text import named

if TYPE_CHECKING:
    from ipsec_dp.cli.checks import Host

USUAL_INTERFACE = "ipsec0"  # where no gateway runs
INTERFACES_MAX = 16
GATEWAYS_SHOWN = 3
NO_NFTABLES = "there is no guard, so `up` refuses and leaves what is protected unreachable"
POLICIES_SHOWN = 3
RULESETS = (("etc", "nftables.conf"), ("etc", "nftables.rules"), ("etc/nftables", "*.nft"), ("etc/sysconfig", "nftables.conf"))


def ports(host: Host) -> list[Check]:
    """UDP 500 and 4500."""
    findings: list[Check] = []
    for port in (IKE_PORT, NAT_PORT):
        name = f"UDP port {port}"
        try:
            free = probe.udp_port_free(port)
        except OSError as error:
            findings.append(Check(name, "fail", str(error.strerror), "IKE cannot listen here", "run as root"))
            continue
        owners = [] if free else probe.udp_port_owners(port)
        if not free and not owners and (gateways := claim.names(host.read("proc/thread-self/net/unix"))):
            # A gateway does not let others look into it, nor does a container that lacks CAP_SYS_PTRACE.
            findings.append(Check(name, "ok", f"in use, and a gateway runs here: {named(gateways, GATEWAYS_SHOWN)}"))
        elif free or (owners and all(owner.startswith("ipsec-dp ") for owner in owners)):
            findings.append(Check(name, "ok", "free" if free else f"in use by {', '.join(owners)}"))
        else:
            whose = ", ".join(owners) or "another program"
            means = "two IKE daemons cannot share an address"
            findings.append(Check(name, "fail", f"in use by {whose}", means, f"ss -ulpn 'sport = :{port}' shows it; stop it"))
    return findings


def nftables(_: Host) -> list[Check]:
    """The program that the guard is made with."""
    path = shutil.which("nft", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    if path is None:
        return [Check("nftables", "fail", "nft is not installed", NO_NFTABLES, "apt-get install nftables")]
    try:
        asyncio.run(_ask_nftables())
    except nft_state.NoNftablesError:
        remedy = "modprobe nf_tables on the machine whose kernel this is, or another kernel"
        return [Check("nftables", "fail", "this kernel has no nftables", NO_NFTABLES, remedy)]
    except (HostError, OSError):
        pass  # whoever may not ask still may see whether the program is there
    return [Check("nftables", "ok", path)]


async def _ask_nftables() -> None:
    with nft_state.NftState() as state:
        await state.generation()


def settings(host: Host) -> list[Check]:
    """Whether interfaces can be given the settings that they need: container runtimes mount /proc/sys read-only."""
    if not host.is_read_only("proc/sys"):
        return [Check("settings of interfaces", "ok", "/proc/sys can be written")]
    means = "interfaces keep the settings of new ones: the kernel may send packets of its own into tunnels, which are dropped"
    remedy = "have the runtime set net.ipv6.conf.default.addr_gen_mode=1 and net.ipv4.conf.default.rp_filter=0 (--sysctl)"
    return [Check("settings of interfaces", "warn", "/proc/sys is read-only", means, remedy)]


def forwarding(host: Host) -> list[Check]:
    """Whether this host routes for others."""
    findings = []
    for name, path, setting in (
        ("IPv4 forwarding", "proc/sys/net/ipv4/ip_forward", "net.ipv4.ip_forward"),
        ("IPv6 forwarding", "proc/sys/net/ipv6/conf/all/forwarding", "net.ipv6.conf.all.forwarding"),
    ):
        if host.read(path) == "1":
            findings.append(Check(name, "ok", "on"))
        else:
            means = "only this host itself can use tunnels, not a network behind it"
            findings.append(Check(name, "warn", "off", means, f"sysctl -w {setting}=1"))
    return findings


def reverse_path_filter(host: Host) -> list[Check]:
    """Interfaces whose strict filter would drop a peer's packets when everything is routed into the tunnel."""
    everywhere = host.read("proc/sys/net/ipv4/conf/all/rp_filter") or "0"
    interfaces = [name for name in host.names("proc/sys/net/ipv4/conf/*") if name not in ("all", "default", "lo")]
    values = {name: host.read(f"proc/sys/net/ipv4/conf/{name}/rp_filter") or "0" for name in interfaces}
    strict = [name for name, value in values.items() if max(everywhere, value) == "1"]
    if not strict:
        return [Check("reverse path filter", "ok", "not strict")]
    means = "with 0.0.0.0/0 in the tunnel, the way back to the peer leads there too, and the kernel drops what the peer sends"
    remedy = "; ".join(f"sysctl -w net.ipv4.conf.{name.replace('.', '/')}.rp_filter=2" for name in strict)
    return [Check("reverse path filter", "warn", f"strict on {', '.join(strict)}", means, remedy)]


def ipv6(host: Host) -> list[Check]:
    """Whether IPv6 is turned off, as a whole or for interfaces to come, ours among them."""
    settings = ("all", "default")
    off = [name for name in settings if host.read(f"proc/sys/net/ipv6/conf/{name}/disable_ipv6") == "1"]
    if not host.names("proc/sys/net/ipv6/conf/*"):
        means = "tunnels over IPv6 or for IPv6 cannot be made; IPv4 works"
        return [Check("IPv6", "warn", "this kernel has none, or was started with ipv6.disable=1", means, "start it without")]
    if not off:
        return [Check("IPv6", "ok", "on")]
    means = "tunnels over IPv6 or for IPv6 carry nothing; IPv4 works"
    remedy = "; ".join(f"sysctl -w net.ipv6.conf.{name}.disable_ipv6=0" for name in off)
    return [Check("IPv6", "warn", f"disabled by sysctl ({', '.join(off)})", means, remedy)]


def saved_ruleset(host: Host) -> list[Check]:
    """Files that are loaded at boot and have tables of a gateway, as one has that was saved while it ran."""
    paths = [f"{place}/{name}" for place, pattern in RULESETS for name in host.names(f"{place}/{pattern}")]
    found = [f"/{path}" for path in paths if f"table inet {guard.TABLE_PREFIX.rstrip('_')}" in host.read(path)]
    if not found:
        return [Check("saved rulesets", "ok", "none has tables of a gateway")]
    means = "at boot they close what a gateway protected when they were saved, whether one runs or not"
    remedy = f"take the tables whose names begin with {guard.TABLE_PREFIX.rstrip('_')} out of them; a gateway makes its own"
    return [Check("saved rulesets", "warn", f"{', '.join(found)}: tables of a gateway are in there", means, remedy)]


def packet_filter(_: Host) -> list[Check]:
    """Chains of the host's own filter that may drop our outer packets, or what is forwarded into tunnels and out of them."""
    try:
        found = asyncio.run(host_filter())
    except HostError as error:
        means = "whether the host's own filter drops what tunnels carry is not known"
        return [Check("packet filter", "warn", str(error), means, "run as root, with nft installed")]
    interfaces = tunnel_interfaces() or [USUAL_INTERFACE]
    wanted = [each for name in interfaces[:INTERFACES_MAX] for each in of_tunnels(name)] + outer("input") + outer("output")
    findings = []
    for chain, several in dropped(found, wanted).items():
        means = f"it may drop {', '.join(dict.fromkeys(each.what for each in several))}"
        remedies = "; ".join(dict.fromkeys(remedy(chain, each) for each in several))
        findings.append(Check("packet filter", "warn", f"chain {chain}", means, remedies))
    return findings or [Check("packet filter", "ok", "no chain drops IKE, ESP or what tunnels carry")]


def tunnel_interfaces() -> list[str]:
    """The interfaces that routes of gateways lead into, in this network namespace."""

    async def found() -> list[int]:
        with Bulk() as bulk:
            return [route.interface for version in FAMILIES for route in await bulk.routes(version, protocol=PROTOCOL)]

    try:
        return sorted({interface_name(index) for index in asyncio.run(found()) if index})
    except HostError:
        return []


def xfrm_policies(_: Host) -> list[Check]:
    """Policies of the kernel's own IPsec."""
    try:
        found = xfrm.policies()
    except HostError as error:
        return [Check("XFRM policies", "warn", str(error), "whether another IPsec is at work is not known", "run as root")]
    if not found:
        return [Check("XFRM policies", "ok", "none")]
    shown = ", ".join(map(str, found[:POLICIES_SHOWN])) + (", …" if len(found) > POLICIES_SHOWN else "")
    means = "the kernel's own IPsec seals or drops what they match: our outer packets, and what comes out of our tunnels"
    remedy_text = "ip xfrm policy shows them; stop the daemon that made them (systemctl stop strongswan), then ip xfrm policy flush"
    return [Check("XFRM policies", "warn", f"{len(found)}: {shown}", means, remedy_text)]
