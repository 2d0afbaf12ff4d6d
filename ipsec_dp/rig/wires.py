"""What lies between the gateways of a rig: wires that lose, delay, jitter, reorder, double and corrupt, that are cut, have an MTU
or a NAT in them. All of it by one seed: the same run each time.

    wire = Wire(loss=0.1, delay=0.02, jitter=0.005, seed=7)
    with Gateway(SITE_A, wire=wire) as a, Gateway(SITE_B, wire=wire) as b:
        wire.cut()
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from ipsec_dp.dataplane import Endpoint
from ipsec_dp.rig.clock import Randomness
from ipsec_dp.rig.loop import RigError

if TYPE_CHECKING:
    from ipsec_dp.ipsec.addresses import Address
    from ipsec_dp.rig.memory_links import OuterDatagram

HELD_S = 0.05  # how much later a datagram comes that others overtake


@dataclass(frozen=True, slots=True)
class Passing:
    """A datagram on its way. `number` counts those of its direction from 1; `at`: when it was sent, seconds of the clock."""

    number: int
    sender: str
    receiver: str
    datagram: OuterDatagram
    at: float


class Arrival(NamedTuple):
    """A datagram that is to arrive, so many seconds after it was sent."""

    after: float
    datagram: OuterDatagram


Rule = Callable[[Passing], Sequence[Arrival] | None]
"""What becomes of a datagram instead of what the wire would do: its arrivals (none: it is lost); None: what the wire does."""


@dataclass(slots=True)
class NatMapping:
    """What a NAT remembers: `used`, seconds of the clock, is when it last let something out."""

    inside: Endpoint
    port: int
    used: float


class NatBox:
    """A NAT in front of the gateway `inside`: what it sends comes from `address`, by a port for each of its own.

    `expires`: seconds without a datagram from inside, after which a mapping is gone; None: never. Endpoint-independent (RFC 4787):
    whoever knows a mapping's port reaches the inside by it.
    """

    def __init__(self, inside: str, address: str, *, expires: float | None = None, first_port: int = 20000) -> None:
        self.inside, self.address, self.expires = inside, ip_address(address), expires
        self._next = first_port
        self._mappings: dict[tuple[Endpoint, bool], NatMapping] = {}
        self.of_kernel = False  # in a namespace: then its mappings are the kernel's

    def rebind(self) -> None:
        """Every mapping gets another port with the next datagram from inside, as after the NAT was started anew.
        RigError: in a namespace."""
        if self.of_kernel:
            raise RigError("a NAT of namespaces does not rebind: use a gateway in memory")
        self._mappings.clear()

    def out(self, datagram: OuterDatagram, now: float) -> OuterDatagram:
        """A datagram from inside, as the outside sees it."""
        key = datagram.source, datagram.udp
        mapping = self._mappings.get(key)
        if mapping is None or self._expired(mapping, now):
            mapping = self._mappings[key] = NatMapping(datagram.source, self._next if datagram.udp else 0, now)
            self._next += 1
        mapping.used = now
        return replace(datagram, source=Endpoint(self.address, mapping.port))

    def into(self, datagram: OuterDatagram, now: float) -> OuterDatagram | None:
        """A datagram from outside, as the inside gets it; None: nobody inside has asked for it."""
        port = datagram.destination.port
        for (_, udp), mapping in self._mappings.items():
            if udp == datagram.udp and mapping.port == port and not self._expired(mapping, now):
                return replace(datagram, destination=mapping.inside)
        return None

    def _expired(self, mapping: NatMapping, now: float) -> bool:
        return self.expires is not None and now - mapping.used > self.expires


def _chance(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise RigError(f"{name}={value:g} is no probability: write 0 to 1")
    return value


class Wire:
    """What joins the gateways that are made with it, each of which reaches each of the others.

    loss, reorder, duplicate, corrupt: probabilities for each datagram. delay, jitter: seconds, jitter at the most and evenly
    spread; what is reordered comes HELD_S later. mtu: octets of the largest outer packet; a longer one with DF is dropped and its
     sender told (RFC 1191), without it arrives all the same, as fragments would. All can be changed at any time. seed: of its
    chances; None: the clock's.
    """

    def __init__(
        self,
        *,
        loss: float = 0.0,
        delay: float = 0.001,
        jitter: float = 0.0,
        reorder: float = 0.0,
        duplicate: float = 0.0,
        corrupt: float = 0.0,
        mtu: int = 1500,
        nat: NatBox | None = None,
        seed: int | str | None = None,
    ) -> None:
        for name, value in (("loss", loss), ("reorder", reorder), ("duplicate", duplicate), ("corrupt", corrupt)):
            _chance(name, value)
        if not (0 <= delay < inf and 0 <= jitter < inf):
            raise RigError(f"delay={delay:g}, jitter={jitter:g}: a wire delivers nothing before it was sent")
        if mtu < 576:
            raise RigError(f"mtu={mtu}: every path takes 576 octets (RFC 791)")
        self.loss, self.delay, self.jitter, self.reorder = loss, delay, jitter, reorder
        self.duplicate, self.corrupt, self.mtu, self.nat, self.seed = duplicate, corrupt, mtu, nat, seed
        self.rules: list[Rule] = []
        self.ends: list[str] = []
        self._random = Randomness(f"wire {seed}")
        self._cut: set[tuple[str | None, str | None]] = set()
        self._numbers: Counter[tuple[str, str]] = Counter()

    def join(self, name: str, seed: int | str) -> None:
        """A gateway is at an end. RigError: another of this name is."""
        if name in self.ends:
            raise RigError(f"a wire has two ends of the name {name!r}: give gateways different names, by [gateway] name")
        if not self.ends and self.seed is None:
            self._random = Randomness(f"wire of {seed}")
        self.ends.append(name)

    def leave(self, name: str) -> None:
        """The gateway is there no longer."""
        self.ends.remove(name)

    def cut(self, sender: str | None = None, receiver: str | None = None) -> None:
        """Loses everything from `sender` to `receiver` (None: anybody) until `mend`. RigError: the wire has no such end."""
        for name in (sender, receiver):
            if name is not None and name not in self.ends:
                raise RigError(f"the wire has no end {name!r}; it has: {', '.join(self.ends) or 'none'}")
        self._cut.add((sender, receiver))

    def mend(self) -> None:
        """Carries everything again."""
        self._cut.clear()

    def passed(self, datagram: OuterDatagram, sender: str, receiver: str, now: float) -> tuple[Passing, list[Arrival]]:
        """What becomes of a datagram that is sent now."""
        self._numbers[sender, receiver] += 1
        passing = Passing(self._numbers[sender, receiver], sender, receiver, datagram, now)
        for rule in self.rules:
            arrivals = rule(passing)
            if arrivals is not None:
                return passing, list(arrivals)
        if self._cut & {(None, None), (sender, None), (None, receiver), (sender, receiver)}:
            return passing, []
        return passing, list(self._arrivals(datagram))

    def _arrivals(self, datagram: OuterDatagram) -> list[Arrival]:
        random, arrivals = self._random, []
        if self.loss and random.chance() < self.loss:
            return []
        for _ in range(2 if self.duplicate and random.chance() < self.duplicate else 1):
            after = self.delay + (self.jitter * random.chance() if self.jitter else 0.0)
            if self.reorder and random.chance() < self.reorder:
                after += HELD_S
            damaged = self.corrupt and random.chance() < self.corrupt
            arrivals.append(Arrival(after, corrupted(datagram, random.number(8 * len(datagram.data))) if damaged else datagram))
        return arrivals

    def inside(self, address: Address) -> str | None:
        """The gateway that is reached by an address of the NAT; None: it is not the NAT's."""
        return self.nat.inside if self.nat is not None and self.nat.address == address else None


def corrupted(datagram: OuterDatagram, bit: int) -> OuterDatagram:
    """With one bit changed, counted from the first octet's highest; behind the last it begins again."""
    octets = bytearray(datagram.data)
    if octets:
        octets[bit // 8 % len(octets)] ^= 0x80 >> bit % 8
    return replace(datagram, data=bytes(octets))
