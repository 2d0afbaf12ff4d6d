"""Outer sockets in memory, and the network between them: what one gateway sends, another one gets."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from ipsec_dp.dataplane import Df, Encapsulation, Endpoint, MemoryDatagram
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.host import HostError
from ipsec_dp.host.sockets import IKE_PORT, NAT_PORT
from ipsec_dp.network.outer_sockets import NON_ESP_MARKER
from ipsec_dp.rig.memory_plane import KEEPALIVE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ipsec_dp.config import Config
    from ipsec_dp.dataplane import DataPlane
    from ipsec_dp.ipsec.addresses import Address

QUEUE_PACKETS = 256


class Stepped(Protocol):
    """Whose loops `carry` runs."""

    def step(self) -> int:
        """One step of each loop; packets moved or dropped."""


@dataclass(frozen=True, slots=True)
class OuterDatagram:
    """One datagram between gateways. `data`: what UDP carries, or the ESP packet itself; ports are 0 then. `whole`: the DF bit."""

    source: Endpoint
    destination: Endpoint
    data: bytes
    udp: bool = True
    tos: int = 0
    whole: bool = False

    @property
    def octets(self) -> int:
        """With its IP and UDP headers."""
        return len(self.data) + (20 if self.source.address.version == 4 else 40) + (8 if self.udp else 0)

    @property
    def ike(self) -> bool:
        """An IKE message, behind the non-ESP marker or not."""
        return self.udp and (IKE_PORT in (self.source.port, self.destination.port) or self.data[:4] == NON_ESP_MARKER)


@dataclass(frozen=True, slots=True)
class OuterLink:
    """A link of a data plane."""

    plane: DataPlane
    number: int
    encapsulation: Encapsulation


class OuterNetwork:
    """Who is where: the hosts' outer addresses, and the datagrams on their way, which arrive at once."""

    def __init__(self) -> None:
        self.hosts: list[Stepped] = []
        self.links: dict[tuple[Address, Encapsulation], OuterLink] = {}
        self.port_500: dict[Address, Callable[[bytes, Endpoint, Endpoint], None]] = {}
        self.takers: dict[Address, Callable[[OuterDatagram], None]] = {}  # of whatever comes there, where no gateway is
        self.lost = 0

    def send(self, datagram: OuterDatagram) -> None:
        """It leaves its sender."""
        self.arrive(datagram)

    def arrive(self, datagram: OuterDatagram) -> None:
        """It reaches whoever has its destination, by port 500 or by a link; else it is lost."""
        here = datagram.destination
        if here.address in self.takers:
            self.takers[here.address](datagram)
            return
        received = self.port_500.get(here.address)
        if datagram.udp and here.port == IKE_PORT and received is not None:
            self.hand_over(partial(received, datagram.data, here, datagram.source))
            return
        link = self.links.get((here.address, Encapsulation.UDP if datagram.udp else Encapsulation.ESP))
        if link is None or (datagram.udp and here.port != NAT_PORT):
            self.lost += 1
            return
        df = Df.SET if datagram.whole else Df.CLEAR
        try:
            link.plane.push_link(link.number, MemoryDatagram(datagram.data, here, datagram.source, datagram.tos, df))
        except DataPlaneError:  # its queue is full
            self.lost += 1

    def hand_over(self, message: Callable[[], None]) -> None:
        """Port 500 of a gateway gets a message."""
        asyncio.get_running_loop().call_soon(message)

    def carry(self) -> int:
        """Runs the loops of all gateways until nothing moves; how many packets did."""
        total, moved = 0, 1
        while moved:
            moved = sum(host.step() for host in self.hosts) + sum(map(self.pull, list(self.links.values())))
            total += moved
        return total

    def pull(self, link: OuterLink) -> int:
        """What a data plane has sent by a link leaves; how many datagrams."""
        pulled = 0
        for worker in range(link.plane.workers):
            while (sent := link.plane.pull_link(link.number, worker)) is not None:
                if sent.local is not None and sent.remote is not None:
                    udp = link.encapsulation is Encapsulation.UDP
                    self.send(OuterDatagram(sent.local, sent.remote, sent.data, udp, sent.tos, whole=sent.df is Df.SET))
                pulled += 1
        return pulled


class MemoryLinks:
    """`ipsec_dp.network.host.OuterLinks` by links of the data plane that are queues."""

    def __init__(self, network: OuterNetwork, plane: DataPlane, denied: Mapping[Encapsulation, str] = {}) -> None:
        """`denied`: what the host permits no links of, and why."""
        self._network, self._plane, self._denied = network, plane, denied
        self._mine: dict[tuple[Address, Encapsulation], OuterLink] = {}
        self.faults: dict[str, str] = {}  # by what the socket is
        self.unmendable: dict[str, str] = {}
        self.refuses: str | None = None  # why the host sends no IKE message

    def reconfigure(self, config: Config) -> None:
        """There are no buffers here."""

    @property
    def buffers(self) -> tuple[int, int] | None:
        return None

    def unavailable(self, encapsulation: Encapsulation) -> str | None:
        return self._denied.get(encapsulation)

    def link(self, local: Endpoint, encapsulation: Encapsulation) -> int:
        key = local.address, encapsulation
        if encapsulation in self._denied:
            raise HostError(self._denied[encapsulation])
        if key not in self._mine:
            (number,) = {
                self._plane.attach_memory_link(encapsulation, local, QUEUE_PACKETS, worker) for worker in range(self._plane.workers)
            }
            self._mine[key] = self._network.links[key] = OuterLink(self._plane, number, encapsulation)
        return self._mine[key].number

    @property
    def opened(self) -> Iterable[OuterLink]:
        """Those that there are."""
        return self._mine.values()

    def listen_ike(self, local: Address, received: Callable[[bytes, Endpoint, Endpoint], None]) -> None:
        self.link(Endpoint(local, NAT_PORT), Encapsulation.UDP)
        self._network.port_500[local] = received

    def send_ike(self, local: Address, remote: Endpoint, message: bytes, *, natt: bool, whole: bool = False) -> str | None:
        here = Endpoint(local, NAT_PORT if natt else IKE_PORT)
        self._plane.ike_sent(here, remote, message)
        if self.refuses is not None:
            return self.refuses
        self._network.send(OuterDatagram(here, remote, NON_ESP_MARKER + message if natt else message, whole=whole))
        return None

    def send_keepalive(self, local: Address, remote: Endpoint) -> None:
        self._plane.keepalive_sent(Endpoint(local, NAT_PORT), remote)
        self._network.send(OuterDatagram(Endpoint(local, NAT_PORT), remote, KEEPALIVE))

    def broken(self) -> dict[str, str]:
        return dict(self.faults)

    def reopen(self, what: str) -> None:
        if what in self.unmendable:
            raise HostError(self.unmendable[what])
        del self.faults[what]

    def close(self) -> None:
        for key in self._mine:
            del self._network.links[key]
            self._network.port_500.pop(key[0], None)
        self._mine.clear()
