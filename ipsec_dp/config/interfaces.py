"""The addresses that tunnels give their interfaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.config.check import tunnel_place
from ipsec_dp.ipsec.addresses import AddressRange

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipsec_dp.config import model
    from ipsec_dp.config.findings import Findings
    from ipsec_dp.ipsec.addresses import Interface


def check_addresses(tunnels: Sequence[model.Tunnel], findings: Findings) -> None:
    """An address is on one interface; tunnels that share one name its addresses alike, or in different networks."""
    owners: dict[object, tuple[str, str]] = {}
    for tunnel in tunnels:
        place = findings.at(tunnel_place(tunnel.name))
        for address in tunnel.addresses:
            owner, interface = owners.setdefault(address.ip, (tunnel.name, tunnel.interface))
            if interface != tunnel.interface:
                place.error(
                    "address", f'{address.ip} is also on {interface} (tunnel "{owner}")', "give each interface its own address"
                )
    for name, mine, owner, other in _contradicting(tunnels):
        findings.at(tunnel_place(name)).error(
            "address",
            f'{mine} and {other} of tunnel "{owner}" are in one network of one interface',
            "write the same address in both tunnels, or in one of them only",
        )


def _contradicting(tunnels: Sequence[model.Tunnel]) -> Iterator[tuple[str, Interface, str, Interface]]:
    """Tunnel and address, and the earlier tunnel on the same interface with another address in the same network."""
    seen: dict[str, list[tuple[str, Interface]]] = {}
    for tunnel in tunnels:
        if not tunnel.addresses:
            continue
        known = seen.setdefault(tunnel.interface, [])
        theirs = {address for _, address in known}
        new = [address for address in tunnel.addresses if address not in theirs]
        for address in new:
            for owner, other in known:
                if AddressRange.of(address.network).overlaps(AddressRange.of(other.network)):
                    yield tunnel.name, address, owner, other
                    break
        known += [(tunnel.name, address) for address in new]
