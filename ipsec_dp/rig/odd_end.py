"""An `OddWire` on the network of a rig: an odd peer with whole gateways in memory, by their clock.

with Network() as network:
    gateway = network.gateway(SITE)
    peer = OddResponder(agreed, OddEnd(network, "192.0.2.2", "192.0.2.1"))
    peer.await_call()
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from ipsec_dp.dataplane import Endpoint
from ipsec_dp.host.sockets import IKE_PORT, NAT_PORT
from ipsec_dp.ike import actions
from ipsec_dp.rig.memory_links import OuterDatagram
from ipsec_dp.rig.odd_wire import UdpPayload
from ipsec_dp.rig.wireshark import ESP_TABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ipsec_dp.rig.medium import Medium
    from ipsec_dp.rig.wires import Wire

MOVED = 10_000  # from one of our ports to the next


class OddEnd:
    """`address` is ours, `remote` the gateway's. `name`: by which impairments and ladders know it. `wire`: None, the network's.

    RigError: the name or the address is taken.
    """

    def __init__(self, network: Medium, address: str, remote: str, *, name: str = "odd", wire: Wire | None = None) -> None:
        self.name, self._network = name, network
        self.wires: Sequence[Wire] = (network.wire if wire is None else wire,)
        self._here, self._there = ip_address(address), ip_address(remote)
        self._ports = {False: IKE_PORT, True: NAT_PORT}
        self._inbox: list[UdpPayload] = []
        network.join(self, self.wires, [self._here])
        network.outer.takers[self._here] = self._take

    def _take(self, datagram: OuterDatagram) -> None:
        natt = datagram.destination.port == self._ports[True]
        if datagram.udp and datagram.destination.port == self._ports[natt]:
            self._inbox.append(UdpPayload(datagram.data, natt))

    # ---- as `OddWire`

    @property
    def path(self) -> actions.Path:
        return actions.Path(actions.Endpoint(self._here, self._ports[False]), actions.Endpoint(self._there, IKE_PORT))

    def now(self) -> float:
        return self._network.clock.now()

    def pace(self) -> None:
        """Nobody is flooded here."""

    def send(self, octets: bytes, *, natt: bool) -> None:
        here, there = Endpoint(self._here, self._ports[natt]), Endpoint(self._there, NAT_PORT if natt else IKE_PORT)
        self._network.check()
        self._network.transmit(OuterDatagram(here, there, octets))

    def receive(self, seconds: float) -> UdpPayload | None:
        self._network.check()
        if not self._inbox:
            self._network.loop.run(lambda: bool(self._inbox), self.now() + seconds)
        return self._inbox.pop(0) if self._inbox else None

    def move(self) -> None:
        self._ports = {natt: port + MOVED for natt, port in self._ports.items()}

    def close(self) -> None:
        """It is on no wire any more. Nothing when it is closed."""
        if self._network.outer.takers.pop(self._here, None) is not None:
            self._network.leave(self)

    # ---- as `ipsec_dp.rig.medium.Member`

    def step(self) -> int:
        return 0

    def touch(self, *, packets: bool = False) -> None:
        """It has nothing that looks."""

    def meet(self, arrival: Callable[[], None]) -> None:
        arrival()

    def wake(self) -> None:
        """It waits for nothing."""

    def too_big(self, datagram: OuterDatagram, mtu: int) -> None:
        """It sends what it was told to."""

    def waits_for(self) -> str:
        return f"{self.name}: an odd peer"

    def key_lines(self, table: str = ESP_TABLE) -> Sequence[str]:  # noqa: ARG002 (it has none)
        return ()
