"""The MTUs of interfaces and routes, so that the kernel reports "too big" and fragments as each tunnel needs it.

An interface has the largest MTU of its tunnels, and routes into narrower tunnels have one of their own: a small MTU of one peer
never affects another. IPv6 never gets less than 1280 octets (RFC 8200 §5), for which the data plane has outer packets fragmented.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.config.packets import IPV6_MTU_MIN
from ipsec_dp.host.tun import MTU_MIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ipsec_dp.config import Config, Tunnel
    from ipsec_dp.ipsec.addresses import Network


def _least(mtu: int, version: int) -> int:
    return max(mtu, IPV6_MTU_MIN if version == 6 else MTU_MIN)


def interface_mtu(tunnels: Iterable[Tunnel], mtus: Mapping[str, int]) -> int:
    """Octets, for an interface of these tunnels; `mtus`: the largest packet that each is to get, by name."""
    held = list(tunnels)
    widest = max(mtus[tunnel.name] for tunnel in held)
    if widest >= IPV6_MTU_MIN:  # no least MTU is more
        return widest
    return max(_least(mtus[tunnel.name], selector.version) for tunnel in held for selector in tunnel.selectors)


def interface_mtus(tunnels: Iterable[Tunnel], mtus: Mapping[str, int]) -> dict[str, int]:
    """`interface_mtu` of every interface."""
    interfaces: dict[str, list[Tunnel]] = {}
    for tunnel in tunnels:
        interfaces.setdefault(tunnel.interface, []).append(tunnel)
    return {name: interface_mtu(held, mtus) for name, held in interfaces.items()}


def route_mtus(config: Config, mtus: Mapping[str, int]) -> dict[Network, int]:
    """Octets for each prefix whose tunnel takes less than its interface does; of several tunnels of a prefix, the least."""
    by_name = {tunnel.name: tunnel for tunnel in config.tunnels}
    routed = [(prefix, tunnel) for tunnel in config.tunnels for prefix in tunnel.routes]
    routed += [(route.prefix, by_name[route.tunnel]) for route in config.routes]
    return narrowed(routed, interface_mtus(config.tunnels, mtus), mtus)


def narrowed(routed: Iterable[tuple[Network, Tunnel]], wide: Mapping[str, int], mtus: Mapping[str, int]) -> dict[Network, int]:
    """`route_mtus` of these prefixes, where the interfaces have the MTUs `wide` (octets, by name)."""
    found: dict[Network, int] = {}
    for prefix, tunnel in routed:
        mtu = _least(mtus[tunnel.name], prefix.version)
        if mtu < wide[tunnel.interface]:
            found[prefix] = min(mtu, found.get(prefix, mtu))
    return found
