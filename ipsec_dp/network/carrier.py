"""The carrier of tunnel interfaces: where routes decide what enters a tunnel, its interface shows whether the tunnel is up.

This holds for an interface with a single tunnel that is route-based (it protects everything, so that routes choose) and not on
demand: it has a carrier while the tunnel has an SA to send by. Without a carrier the kernel skips the routes through the interface
(ours, and those that a person or a routing daemon made), takes the next best one, and ends at the guard; a routing daemon sees the
link go down. Every other interface always has a carrier: one on demand must get its first packet, a shared one is not down because
one of its tunnels is, and proxy IDs name what they protect, so that their packets wait for the SA.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ipsec_dp.config import Config, Tunnel


def carrier_interfaces(tunnels: Iterable[Tunnel]) -> dict[str, str]:
    """The interfaces whose carrier shows the state of their tunnel, by the name of that tunnel."""
    by_interface: dict[str, list[Tunnel]] = {}
    for tunnel in tunnels:
        by_interface.setdefault(tunnel.interface, []).append(tunnel)
    alone = [owners[0] for owners in by_interface.values() if len(owners) == 1]
    return {tunnel.name: tunnel.interface for tunnel in alone if _route_based(tunnel)}


def _route_based(tunnel: Tunnel) -> bool:
    everything = any(selector.remote.everything for selector in tunnel.selectors)
    return everything and tunnel.manual is None and tunnel.start != "on-demand"


class InterfaceCarriers:
    """A service. `set_carrier` turns the carrier of an interface on or off, `is_up` says whether a tunnel can send."""

    name = "carriers"

    def __init__(self, set_carrier: Callable[[str, bool], None], is_up: Callable[[str], bool]) -> None:
        self._set, self._is_up = set_carrier, is_up
        self._interfaces: dict[str, str] = {}  # by tunnel

    async def apply(self, config: Config) -> None:
        """Gives every interface the carrier that it should have now."""
        self._interfaces = carrier_interfaces(config.tunnels)
        shown = {interface: self._is_up(name) for name, interface in self._interfaces.items()}
        for interface in {tunnel.interface for tunnel in config.tunnels}:
            self._set(interface, shown.get(interface, True))

    def changed(self, tunnel: str) -> None:
        """CHILD_SAs of a tunnel were installed or removed."""
        interface = self._interfaces.get(tunnel)
        if interface is not None:
            self._set(interface, self._is_up(tunnel))

    def restored(self, interface: str) -> None:
        """An interface was made anew, without a carrier where that shows the state of its tunnel."""
        for tunnel, its in self._interfaces.items():
            if its == interface:
                self._set(its, self._is_up(tunnel))

    async def close(self) -> None:
        """Nothing is left to do: the interfaces themselves go."""
        self._interfaces = {}
