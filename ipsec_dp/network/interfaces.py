"""The TUN interfaces of a gateway: made, attached to the data plane, addressed, and as wide as their tunnels need.

They live no longer than this process: what `make` makes is taken away by the exit stack it is given.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from ipaddress import ip_interface
from typing import TYPE_CHECKING

from ipsec_dp.dataplane import Offload, owner_of
from ipsec_dp.host import HostError, tun
from ipsec_dp.host.bulk import Bulk, InterfaceAddress
from ipsec_dp.network.carrier import carrier_interfaces
from ipsec_dp.network.inheritance import InheritedTun
from ipsec_dp.network.interface_mtu import interface_mtu
from ipsec_dp.network.workers import attach_inherited, attach_interface, detach_interface
from ipsec_dp.util.slices import in_slices
from ipsec_dp.util.text import named
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Container, Iterable, Mapping
    from contextlib import AsyncExitStack

    from pyroute2 import AsyncIPRoute

    from ipsec_dp.config import Config, Tunnel
    from ipsec_dp.databases.spd import Spd
    from ipsec_dp.dataplane import DataPlane
    from ipsec_dp.ipsec.addresses import Interface
    from ipsec_dp.util.conditions import Conditions

log = logging.getLogger(__name__)

UNSET_SHOWN = 3
WITHOUT_SETTINGS = (
    "the kernel may send packets of its own into it, which no proxy ID holds and which are dropped, and a strict reverse path "
    "filter drops what comes out; set them for interfaces to come (net.ipv4.conf.default.…, net.ipv6.conf.default.…), in a "
    "container by its runtime (--sysctl)"
)
LOOK_SLICE_S = 0.002  # of the loop at once, while thousands of devices are looked at


class LinuxInterfaces:
    """`network.host.HostInterfaces` by /dev/net/tun and rtnetlink, in the network namespace of the calling thread."""

    def __init__(
        self,
        config: Config,
        netlink: Callable[[], AsyncIPRoute],
        exempt: Callable[[], Awaitable[None]],
        conditions: Conditions | None = None,
    ) -> None:
        """`exempt` is awaited when interfaces were made, and when they are about to go: what `indices` has is ours."""
        self._config, self._netlink, self._exempt, self._conditions = config, netlink, exempt, conditions
        self._plane: DataPlane | None = None
        self._spd: Spd | None = None
        self._tuns: dict[str, tun.Tun] = {}
        self._addresses: dict[str, set[Interface]] = {}  # by interface
        self._mtus: dict[str, int] = {}  # the largest packet that each tunnel is to get from the kernel
        self._interface_mtus: dict[str, int] = {}
        self._resizing: set[str] = set()  # by us, at this moment
        self._inherited: dict[str, list[Offload]] = {}  # offloads of those that were taken and are not attached yet
        self._lost: dict[str, tun.Trouble] = {}  # those that are gone until `restore` makes them again

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
        stack.push_async_callback(self._remove_all)
        for name in dict.fromkeys(tunnel.interface for tunnel in self._config.tunnels):
            self._make(name)
        await self._exempt()

    def _make(self, name: str) -> None:
        plane, spd = self._attached_to
        owners = [(tunnel, owner_of(spd.tunnel_numbers[tunnel.name], plane.workers)) for tunnel in self._tunnels_of(name)]
        remotes = [(prefix, owner) for tunnel, owner in owners for s in tunnel.selectors for prefix in s.remote.prefixes]
        self._tuns[name] = device = attach_interface(plane, name, spd.interface_numbers[name], remotes)
        device.alias = tun.alias_of(self._config.name)
        if name in carrier_interfaces(self._config.tunnels).values():  # before it is up
            self.set_carrier(name, False)

    # ---- from another process, and to one

    def inherited(self, descriptor: Callable[[int], int]) -> list[InheritedTun]:
        """Every interface as it is. `descriptor` gives the place of one in what is handed over."""
        plane, spd = self._attached_to
        if self._lost:
            raise HostError(f"interface {next(iter(self._lost))} is gone, and not made again yet")
        return [
            InheritedTun(
                name=name,
                index=device.index,
                vnet_header=device.vnet_header,
                descriptors=[descriptor(each) for each in device.descriptors],
                on=[int(plane.tun_offloads(spd.interface_numbers[name], worker)) for worker in range(plane.workers)],
                mtu=self._interface_mtus[name],
                addresses=sorted(map(str, self._addresses.get(name, ()))),
                reader=device.reader,
                alias=device.alias,
                carrier=device.carrier,
                unset=list(device.unset),
                written=list(device.written),
            )
            for name, device in self._tuns.items()
        ]

    def take(self, tuns: Iterable[InheritedTun], mtus: Mapping[str, int], taken: Callable[[int], int]) -> None:
        """These are ours too: before anything asks `indices`. `taken` gives the descriptor of a place."""
        self._mtus = dict(mtus)
        for each in tuns:
            device = tun.Tun(each.name, each.index, each.vnet_header, [], each.reader, each.alias, each.carrier)
            device.unset, device.written = list(each.unset), list(each.written)
            self._tuns[each.name] = device
            device.descriptors += map(taken, each.descriptors)
            self._addresses[each.name] = {ip_interface(address) for address in each.addresses}
            self._interface_mtus[each.name] = each.mtu
            self._inherited[each.name] = [Offload(on) for on in each.on]

    def renew_taken(self, tuns: Iterable[InheritedTun], mtus: Mapping[str, int]) -> None:
        """What became of them since `take`."""
        self._mtus = dict(mtus)
        for each in tuns:
            device = self._tuns[each.name]
            device.carrier, device.unset, device.written = each.carrier, list(each.unset), list(each.written)
            self._addresses[each.name] = {ip_interface(address) for address in each.addresses}
            self._interface_mtus[each.name] = each.mtu

    def attach_taken(self, stack: AsyncExitStack, plane: DataPlane, spd: Spd) -> None:
        """`make`, of those that were taken: nothing in the kernel changes. HostError: they are not those of the configuration."""
        self._plane, self._spd = plane, spd
        stack.callback(self._close_all)
        wanted = {tunnel.interface for tunnel in self._config.tunnels}
        if wanted != self._tuns.keys():
            there, others = (named(sorted(each), UNSET_SHOWN) for each in (self._tuns, wanted))
            raise HostError(f"the interfaces are {there}, and those of the configuration {others}")
        for name, device in self._tuns.items():
            attach_inherited(plane, spd.interface_numbers[name], device, self._inherited.pop(name))
            self._tell_unset(name, device.unset)

    def _close_all(self) -> None:
        """Our descriptors of them; who goes on has others."""
        for device in self._tuns.values():
            device.close()
        self._tuns.clear()

    def _remove(self, names: Iterable[str]) -> None:
        for name in list(names):
            self._detach(name).close()
            self._addresses.pop(name, None)

    def _detach(self, name: str) -> tun.Tun:
        plane, spd = self._attached_to
        detach_interface(plane, spd.interface_numbers[name])
        self._tell_unset(name, [])
        return self._tuns.pop(name)

    async def _remove_all(self) -> None:
        await self._remove_exempt(self._tuns)

    async def _remove_exempt(self, names: Iterable[str]) -> None:
        """First none of them is exempt any more: a name that is free is anybody's."""
        devices = [self._detach(name) for name in list(names)]
        for device in devices:
            self._addresses.pop(device.name, None)
        try:
            await self._exempt()
        finally:
            for device in devices:
                device.close()

    @property
    def _attached_to(self) -> tuple[DataPlane, Spd]:
        if self._plane is None or self._spd is None:
            raise HostError("there is no data plane yet")
        return self._plane, self._spd

    async def reconfigure(self, config: Config, mtus: Mapping[str, int]) -> None:
        """As `Host.reconfigure`; what was made of it is taken away again when it fails."""
        present, new = self._tuns.keys() | self._lost.keys(), {tunnel.interface for tunnel in config.tunnels}
        self._config = config
        self._mtus.update(mtus)
        made: list[str] = []
        try:
            for name in sorted(new - present):
                self._make(name)
                made.append(name)
                await self._configure(name)
            if made:
                await self._exempt()
        except HostError:
            await self._remove_exempt(made)
            raise
        concerned = {config.tunnel(name).interface for name in mtus} & self._tuns.keys()
        for name in sorted(concerned - set(made)):
            await self._configure(name)

    def remove_unused(self) -> list[str]:
        """As `Host.remove_unused_interfaces`: the guard is closed for the present configuration, so none of them is exempt."""
        unused = sorted((self._tuns.keys() | self._lost.keys()) - {tunnel.interface for tunnel in self._config.tunnels})
        self._remove(self._tuns.keys() & unused)
        for name in self._lost.keys() & unused:
            del self._lost[name]
        for name in [name for name in self._mtus if not self._config.has_tunnel(name)]:
            del self._mtus[name]
        return unused

    async def set_mtus(self, mtus: Mapping[str, int]) -> None:
        self._mtus = dict(mtus)
        for name in self._tuns:
            await self._configure(name)

    async def apply_mtus(self, mtus: Mapping[str, int]) -> None:
        """The interfaces' part of `Host.apply_mtus`. Tunnels that it does not know keep theirs: a reload adds some."""
        self._mtus = self._mtus | dict(mtus)
        for name in dict.fromkeys(tunnel.interface for tunnel in self._config.tunnels):  # a reload takes others away afterwards
            device, mtu = self._tuns.get(name), await asyncio.to_thread(self._interface_mtu, name)
            if device is not None and self._interface_mtus[name] != mtu:
                self._interface_mtus[name] = mtu
                self._resizing.add(name)
                try:
                    await tun.set_mtu(self._netlink(), device, mtu)
                finally:
                    self._resizing.discard(name)

    async def _configure(self, name: str) -> None:
        device = self._tuns[name]
        addresses = [address for tunnel in self._tunnels_of(name) for address in tunnel.addresses]
        self._interface_mtus[name] = await asyncio.to_thread(self._interface_mtu, name)
        before = self._addresses.get(name, set())
        self._addresses[name] = await tun.configure(self._netlink(), device, addresses, self._interface_mtus[name])
        await tun.remove_addresses(self._netlink(), device, before - set(addresses))
        self._tell_unset(name, device.unset)

    def _tell_unset(self, name: str, unset: list[str]) -> None:
        """What the host refused, as long as it does: a read-only /proc/sys, or IPv6 disabled."""
        settings = [each for each in unset if each.startswith("net.")]
        texts = {"settings": f"interface {name}: {named(settings, UNSET_SHOWN)}; {WITHOUT_SETTINGS}"} if settings else {}
        texts |= {each: f"interface {name}: {each}; packets from there cannot be sent" for each in unset if each not in settings}
        if self._conditions is not None:
            self._conditions.become(f"interface {name}", texts)

    def set_carrier(self, interface: str, on: bool) -> None:
        """One that cannot (before Linux 5.0) keeps its carrier: what finds no SA is dropped."""
        if interface in self._lost:
            return
        try:
            self._tuns[interface].set_carrier(on)
        except HostError as error:
            log.warning("%s", error, extra=told("carrier_refused", interface=interface))

    # ---- what others make of them

    async def troubles(self, names: Iterable[str] | None = None) -> dict[str, tun.Trouble]:
        """As `HostInterfaces`."""
        found: dict[str, tun.Trouble] = {}
        present: set[InterfaceAddress] | None = None
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asking:
            async for name in in_slices(tuple(self._tuns if names is None else names), LOOK_SLICE_S):
                if (device := self._tuns.get(name)) is None:
                    continue
                trouble = device.trouble(self._interface_mtus[name], asking)
                if trouble is None and (wanted := self._addresses.get(name)):
                    present = await _all_addresses() if present is None else present
                    trouble = _unaddressed(device, wanted, present)
                if trouble is not None and not (trouble.fault is tun.Fault.RESIZED and name in self._resizing):
                    found[name] = trouble
        return found | self._lost

    async def restore(self, interface: str, trouble: tun.Trouble) -> None:
        """As `HostInterfaces`. What is gone is exempt no longer before anybody else can have its name for long."""
        if interface in self._tuns and trouble.fault.gone:
            self._lost[interface] = trouble
            await self._remove_exempt([interface])  # one that was moved goes from where it is now
            self._attached_to[0].reclaim()  # with the data plane's descriptors, unless a loop is at it still
        if interface in self._lost:
            self._make(interface)
            del self._lost[interface]
            await self._exempt()
        elif trouble.fault is tun.Fault.RENAMED:
            await tun.rename(self._netlink(), self._tuns[interface])
        elif trouble.fault is tun.Fault.CARRIER:
            self._tuns[interface].set_carrier(self._tuns[interface].carrier)
        await self._configure(interface)

    def _tunnels_of(self, interface: str) -> list[Tunnel]:
        return [tunnel for tunnel in self._config.tunnels if tunnel.interface == interface]

    def _interface_mtu(self, interface: str) -> int:
        return interface_mtu(self._tunnels_of(interface), self._mtus)


async def _all_addresses() -> set[InterfaceAddress]:
    with Bulk() as bulk:
        return set(await bulk.addresses())


def _unaddressed(device: tun.Tun, wanted: Iterable[Interface], present: Container[InterfaceAddress]) -> tun.Trouble | None:
    missing = [each for each in wanted if InterfaceAddress(device.index, each.ip.packed, each.network.prefixlen) not in present]
    return tun.Trouble(tun.Fault.UNADDRESSED, ", ".join(sorted(map(str, missing)))) if missing else None
