"""The data plane of a gateway in memory: the C core, which notes the keys that it gets and whether it has something to do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from ipsec_dp.dataplane import DataPlane, Direction, Limits
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.host.sockets import NAT_PORT
from ipsec_dp.network.outer_sockets import NON_ESP_MARKER
from ipsec_dp.rig.wireshark import esp_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipsec_dp.dataplane import MemoryDatagram, MemoryPacket, OuterPath, Policy, SaHandle, SaParams

SA_SLOTS = 4096  # inbound SAs at the most
KEEPALIVE = b"\xff"  # RFC 3948 §2.3


class Busy(Protocol):
    """Who hears that a data plane gets something to do."""

    def __call__(self, *, control: bool = False) -> None:
        """`control`: it only passes it on, to IKE, or to nobody."""


class MemoryPlane(DataPlane):
    """`busy` is called whenever it gets something to do."""

    def __init__(self, busy: Busy, *, seed: int, **options: Any) -> None:
        super().__init__(sa_slots=SA_SLOTS, seed=seed, **options)
        self.closed = False
        self._busy = busy
        self.keys: list[str] = []
        self.first_sequence = 0  # the last number that new outbound SAs have used already
        self.limitless: Callable[[], bool] = lambda: False  # whether new SAs have limits in neither octets nor packets
        self.next_spis: dict[int, Callable[[], None]] = {}  # reserved ones, which are given next, and who is told
        self._outbound: dict[int, SaHandle] = {}  # the newest by SPI

    def install(self, params: SaParams, worker: int = 0) -> SaHandle:
        self._busy()
        self.keys.append(esp_line(params))
        if self.first_sequence and params.direction is Direction.OUTBOUND:
            params = replace(params, sequence=self.first_sequence)
        if self.limitless():
            params = replace(params, limits=Limits())
        handle = super().install(params, worker)
        if params.direction is Direction.OUTBOUND:
            self._outbound[params.spi] = handle
        return handle

    def allocate_spi(self, random: int, receiver: int = 0) -> int:
        if not self.next_spis:
            return super().allocate_spi(random, receiver)
        spi = next(iter(self.next_spis))
        self.next_spis.pop(spi)()
        return spi

    def reserve_spi(self, spi: int, given: Callable[[], None]) -> bool:
        """The next SPI that is allocated is this one, and `given` is called then; False: its slot is taken."""
        tried: list[int] = []
        try:
            while spi not in tried:
                tried.append(super().allocate_spi(spi))
        except DataPlaneError:
            return False
        finally:
            for other in tried:
                if other != spi:
                    self.release_spi(other)
        self.next_spis[spi] = given
        return True

    def skip_numbers(self, spi: int, packets: int) -> None:
        """`skip`, of the newest outbound SA of an SPI. Raises DataPlaneError; KeyError: there never was one."""
        self.skip(self._outbound[spi], packets)

    def switch(self, tunnel: int, child: int, outbound: SaHandle | None) -> None:
        self._busy()
        super().switch(tunnel, child, outbound)

    def set_path(self, handle: SaHandle, path: OuterPath) -> None:
        self._busy()
        super().set_path(handle, path)

    def install_policy(self, policy: Policy) -> None:
        self._busy()
        super().install_policy(policy)

    def push_tun(self, interface: int, packet: bytes | MemoryPacket, worker: int = 0) -> None:
        self._busy()
        super().push_tun(interface, packet, worker)

    def push_link(self, link: int, datagram: MemoryDatagram, worker: int = 0) -> None:
        udp = datagram.local is not None and datagram.local.port == NAT_PORT
        self._busy(control=udp and (datagram.data == KEEPALIVE or datagram.data.startswith(NON_ESP_MARKER)))
        super().push_link(link, datagram, worker)

    def close(self) -> None:
        self.closed = True
        super().close()

    def step(self, now: int) -> int:
        """Both loops of every worker, once; packets moved or dropped."""
        return sum(self.step_outbound(now, worker=each) + self.step_inbound(now, worker=each) for each in range(self.workers))
