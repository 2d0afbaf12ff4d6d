"""Which packets of a gateway a host's filter has to let pass, and the command that lets one pass a chain that may drop it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ipsec_dp.host import MARK
from ipsec_dp.host.filter_listing import LEGACY_TABLE
from ipsec_dp.host.filters import FilterPacket
from ipsec_dp.host.sockets import IKE_PORT, NAT_PORT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ipsec_dp.host.filters import DroppingChain, Filter

FIREWALLD = "firewalld"
IPTABLES = {"ip": "iptables", "ip6": "ip6tables"}
# How each program of a filter says what passes.
WORDS: dict[str, dict[str, str]] = {
    "nft": {"iif": "iifname {}", "oif": "oifname {}", "udp": "udp dport {}", "esp": "meta l4proto esp"},
    "iptables": {"iif": "-i {}", "oif": "-o {}", "udp": "-p udp --dport {}", "esp": "-p esp"},
    FIREWALLD: {
        "iif": "--zone=trusted --add-interface={}",
        "oif": "--zone=trusted --add-interface={}",
        "udp": "--add-port={}/udp",
        "esp": "--add-protocol=esp",
    },
}


class Wanted(NamedTuple):
    """A packet that has to pass: what it is, for a person, and by which `WORDS` it is let pass."""

    what: str
    packet: FilterPacket
    word: str
    value: str


def of_tunnels(interface: str) -> list[Wanted]:
    """What is forwarded into a TUN interface and out of it."""
    return [
        wanted
        for version in (4, 6)
        for wanted in (
            Wanted("what is forwarded into a tunnel", FilterPacket("forward", version, oif=interface), "oif", interface),
            Wanted("what is forwarded out of a tunnel", FilterPacket("forward", version, iif=interface), "iif", interface),
        )
    ]


def outer(hook: str, versions: Iterable[int] = (4, 6), kinds: Sequence[str] = ("ike", "udp", "esp")) -> list[Wanted]:
    """Our outer packets at `input` or `output`, the first of a flow; `kinds`: IKE, ESP in UDP (and IKE there), ESP."""
    mark = MARK if hook == "output" else 0
    return [_outer(FilterPacket(hook, version, mark=mark), kind) for version in versions for kind in kinds]


def _outer(common: FilterPacket, kind: str) -> Wanted:
    what = "sends" if common.hook == "output" else "receives"
    if kind == "esp":
        packet = FilterPacket(common.hook, common.version, protocol="esp", mark=common.mark)
        return Wanted(f"ESP that this host {what}", packet, "esp", "")
    port = IKE_PORT if kind == "ike" else NAT_PORT
    packet = FilterPacket(common.hook, common.version, protocol="udp", sport=port, dport=port, mark=common.mark)
    return Wanted(f"{'IKE' if kind == 'ike' else 'ESP in UDP'} that this host {what}", packet, "udp", str(port))


def remedy(chain: DroppingChain, wanted: Wanted) -> str:
    """The command that lets the packet pass this chain."""
    if chain.table == FIREWALLD:
        return f"firewall-cmd {WORDS[FIREWALLD][wanted.word].format(wanted.value)}"
    if chain.family in IPTABLES and chain.chain == chain.hook.upper():
        program = IPTABLES[chain.family] + ("-legacy" if chain.table == LEGACY_TABLE else "")
        return f"{program} -I {chain.chain} {WORDS['iptables'][wanted.word].format(wanted.value)} -j ACCEPT"
    words = WORDS["nft"][wanted.word].format(wanted.value)
    return f"nft insert rule {chain.family} {chain.table} {chain.chain} {words} accept"


def dropped(found: Filter, several: Iterable[Wanted]) -> dict[DroppingChain, list[Wanted]]:
    """Each chain that may drop some of these packets, with which."""
    chains: dict[DroppingChain, list[Wanted]] = {}
    for wanted in several:
        for chain in found.dropping(wanted.packet):
            chains.setdefault(chain, []).append(wanted)
    return chains
