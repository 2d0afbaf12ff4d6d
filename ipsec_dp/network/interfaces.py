"""The TUN interfaces of a gateway: made, attached to the data plane, addressed, and as wide as their tunnels need.

They live no longer than this process: what `make` makes is taken away by the exit stack it is given.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ipsec_dp.dataplane import owner_of
from ipsec_dp.host import HostError, tun
from ipsec_dp.network.carrier import carrier_interfaces
from ipsec_dp.network.interface_mtu import interface_mtu
from ipsec_dp.network.workers import attach_interface, detach_interface

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AsyncExitStack

    from pyroute2 import AsyncIPRoute

    from ipsec_dp.config import Config, Tunnel
    from ipsec_dp.databases.spd import Spd
    from ipsec_dp.dataplane import DataPlane
    from ipsec_dp.ipsec.addresses import Interface

log = logging.getLogger("ipsec_dp")


class LinuxInterfaces:
    """`network.host.HostInterfaces` by /dev/net/tun and rtnetlink, in the network namespace of the calling thread."""

    def __init__(self, config: Config, netlink: Callable[[], AsyncIPRoute]) -> None:
        self._config, self._netlink = config, netlink
        self._plane: DataPlane | None = None
        self._spd: Spd | None = None
        self._tuns: dict[str, tun.Tun] = {}
        self._addresses: dict[str, set[Interface]] = {}  # by interface
        self._mtus: dict[str, int] = {}  # the largest packet that each tunnel is to get from the kernel
        self._interface_mtus: dict[str, int] = {}

    @property
    def indices(self) -> dict[str, int]:
        """The kernel's number of each interface."""
        return {name: device.index for name, device in self._tuns.items()}

    @property
    def mtus(self) -> dict[str, int]:
        """Of each tunnel, in octets."""
        return dict(self._mtus)

    def mtu_of(self, tunnel: str) -> int:
        return self._mtus[tunnel]

    async def make(self, stack: AsyncExitStack, plane: DataPlane, spd: Spd) -> None:
        self._plane, self._spd = plane, spd
        stack.callback(self._remove, self._tuns)
        for name in dict.fromkeys(tunnel.interface for tunnel in self._config.tunnels):
            self._make(name)

    def _make(self, name: str) -> None:
        plane, spd = self._attached_to
        owners = [(tunnel, owner_of(spd.tunnel_numbers[tunnel.name], plane.workers)) for tunnel in self._tunnels_of(name)]
        remotes = [(prefix, owner) for tunnel, owner in owners for s in tunnel.selectors for prefix in s.remote.prefixes]
        self._tuns[name] = attach_interface(plane, name, spd.interface_numbers[name], remotes)
        if name in carrier_interfaces(self._config.tunnels).values():  # before it is up
            self.set_carrier(name, False)

    def _remove(self, names: Iterable[str]) -> None:
        plane, spd = self._attached_to
        for name in list(names):
            detach_interface(plane, spd.interface_numbers[name])
            self._tuns.pop(name).close()
            self._addresses.pop(name, None)

    @property
    def _attached_to(self) -> tuple[DataPlane, Spd]:
        if self._plane is None or self._spd is None:
            raise HostError("there is no data plane yet")
        return self._plane, self._spd

    async def reconfigure(self, config: Config, mtus: Mapping[str, int]) -> None:
        """As `Host.reconfigure`; what was made of it is taken away again when it fails."""
        present, new = set(self._tuns), {tunnel.interface for tunnel in config.tunnels}
        self._config = config
        self._mtus.update(mtus)
        made: list[str] = []
        try:
            for name in sorted(new - present):
                self._make(name)
                made.append(name)
                await self._configure(name)
        except HostError:
            self._remove(made)
            raise
        concerned = {config.tunnel(name).interface for name in mtus}
        for name in sorted(concerned - set(made)):
            await self._configure(name)

    def remove_unused(self) -> list[str]:
        """As `Host.remove_unused_interfaces`."""
        unused = sorted(set(self._tuns) - {tunnel.interface for tunnel in self._config.tunnels})
        self._remove(unused)
        for name in [name for name in self._mtus if not self._config.has_tunnel(name)]:
            del self._mtus[name]
        return unused

    async def set_mtus(self, mtus: Mapping[str, int]) -> None:
        self._mtus = dict(mtus)
        for name in self._tuns:
            await self._configure(name)

    async def apply_mtus(self, mtus: Mapping[str, int]) -> None:
        """The interfaces' part of `Host.apply_mtus`."""
        self._mtus = dict(mtus)
        for name in dict.fromkeys(tunnel.interface for tunnel in self._config.tunnels):  # a reload takes others away afterwards
            device, mtu = self._tuns[name], await asyncio.to_thread(self._interface_mtu, name)
            if self._interface_mtus[name] != mtu:
                self._interface_mtus[name] = mtu
                await tun.set_mtu(self._netlink(), device, mtu)

    async def _configure(self, name: str) -> None:
        device = self._tuns[name]
        addresses = [address for tunnel in self._tunnels_of(name) for address in tunnel.addresses]
        self._interface_mtus[name] = await asyncio.to_thread(self._interface_mtu, name)
        await tun.configure(self._netlink(), device, addresses, self._interface_mtus[name])
        await tun.remove_addresses(self._netlink(), device, self._addresses.get(name, set()) - set(addresses))
        self._addresses[name] = set(addresses)
        for refused in device.unset:
            log.warning("interface %s: a setting stays as it was: %s", name, refused)

    def set_carrier(self, interface: str, on: bool) -> None:
        """One that cannot (before Linux 5.0) keeps its carrier: what finds no SA is dropped."""
        try:
            self._tuns[interface].set_carrier(on)
        except HostError as error:
            log.warning("%s", error)

    def _tunnels_of(self, interface: str) -> list[Tunnel]:
        return [tunnel for tunnel in self._config.tunnels if tunnel.interface == interface]

    def _interface_mtu(self, interface: str) -> int:
        return interface_mtu(self._tunnels_of(interface), self._mtus)
