"""Several gateways, and the hosts behind them, on one clock: what joins them, what was sent, what happened.

with Network(seed=1) as net:
    a, b = net.gateway(SITE_A), net.gateway(SITE_B)
    net.advance(3600)
    print(net.ladder())
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol, Self
from weakref import WeakKeyDictionary

from ipsec_dp.host.sockets import IKE_PORT
from ipsec_dp.ipsec import iana
from ipsec_dp.rig import packets
from ipsec_dp.rig.capture import LINKTYPE_RAW, Writer
from ipsec_dp.rig.clock import EPOCH, NS_PER_S, Clock, RigTimer, check_step
from ipsec_dp.rig.ladder import Arrow, drawn
from ipsec_dp.rig.loop import RigError, RigLoop
from ipsec_dp.rig.memory_links import OuterNetwork
from ipsec_dp.rig.sent_log import KEPT_DATAGRAMS, SentLog
from ipsec_dp.rig.wires import Wire
from ipsec_dp.rig.wireshark import ESP_TABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ipsec_dp.ipsec.addresses import Address
    from ipsec_dp.rig.memory_links import OuterDatagram, OuterLink
    from ipsec_dp.rig.wires import Passing


class Member(Protocol):
    """A gateway, as those around it see it."""

    @property
    def name(self) -> str: ...

    @property
    def wires(self) -> Sequence[Wire]: ...

    def close(self) -> None: ...

    def step(self) -> int:
        """Runs the loops of its data plane; packets moved or dropped."""

    def touch(self, *, packets: bool = False) -> None:
        """Something reaches it; `packets`: its data plane."""

    def meet(self, arrival: Callable[[], None]) -> None:
        """A datagram arrives by this call, which is made when the gateway can take it."""

    def wake(self) -> None:
        """Time was moved on purpose."""

    def too_big(self, datagram: OuterDatagram, mtu: int) -> None:
        """A hop tells it that a datagram of its was not carried (RFC 1191)."""

    def waits_for(self) -> str:
        """In words, of each tunnel."""

    def key_lines(self, table: str = ESP_TABLE) -> Sequence[str]:
        """The lines of its `keylog`."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A datagram that was sent, and how often it arrives: 0, it is lost."""

    passing: Passing
    arrivals: int

    @property
    def arrow(self) -> Arrow:
        """As it is drawn."""
        one = self.passing
        return Arrow(one.at, one.sender, one.receiver, f"{described(one.datagram)}, {one.datagram.octets}", self.arrivals)

    def __str__(self) -> str:
        one, datagram = self.passing, self.passing.datagram
        fate = {0: "  lost", 1: ""}.get(self.arrivals, f"  {self.arrivals} times")
        return f"{one.at:12.3f}  {one.sender} -> {one.receiver}  {described(datagram)}, {datagram.octets} octets{fate}"


def described(datagram: OuterDatagram) -> str:
    """What it is, as far as it shows without keys."""
    data = datagram.data
    if not datagram.ike:
        if len(data) < 8:
            return "keepalive"
        return f"ESP {int.from_bytes(data[:4]):#010x} {int.from_bytes(data[4:8])}"
    message = data if IKE_PORT in (datagram.source.port, datagram.destination.port) else data[4:]
    if len(message) < 28:
        return "IKE, cut off"
    exchange, number = iana.name(iana.EXCHANGES, "exchange", message[18]), int.from_bytes(message[20:24])
    if message[17] >> 4 == 1:  # its messages are neither requests nor responses, and their IDs are drawn (RFC 2408 §3.1)
        return f"{exchange} {number:#010x}" if number else exchange
    return f"{exchange} {'response' if message[19] & 0x20 else 'request'} {number}"


class _Outer(OuterNetwork):
    """Between gateways there are wires."""

    def __init__(self, network: Medium) -> None:
        super().__init__()
        self._network = network

    def send(self, datagram: OuterDatagram) -> None:
        self._network.transmit(datagram)

    def hand_over(self, message: Callable[[], None]) -> None:
        message()


_MEDIA: WeakKeyDictionary[Wire, Medium] = WeakKeyDictionary()  # that each wire is part of


class Medium:
    """A clock, wires, and the gateways on them. `wire`: what joins gateways that are made without one. `clock`: None, a new one
    with `seed`. `log`: how many datagrams are remembered, for drawings and captures; None: all. Close it, or use `with`: that
    closes every gateway."""

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        wire: Wire | None = None,
        seed: int | str = 0,
        log: int | None = KEPT_DATAGRAMS,
    ) -> None:
        if log is not None and log < 0:
            raise RigError(f"log={log}: no fewer than 0 datagrams can be remembered; None means all")
        if clock is not None and clock.runner is not None:
            raise RigError("this clock is another network's: gateways of one clock are on one network")
        self.clock = Clock(seed=seed) if clock is None else clock
        self.wire = Wire() if wire is None else wire
        self.gateways: dict[str, Member] = {}
        self.busy: dict[Member, None] = {}  # those whose data planes have something to do
        self.log: SentLog[Sent] = SentLog(log)
        self.outer = _Outer(self)
        self._between: dict[frozenset[str], Wire] = {}
        self._owners: dict[Address, str] = {}
        self.loop = RigLoop(self.clock, self._carry)
        self.clock.runner = self.advance
        self.closed = False
        self.owned = False  # it ends with its last gateway
        self._adopt(self.wire)

    @classmethod
    def of(cls, wire: Wire) -> Medium | None:
        """The medium that a wire is part of; None: none, or one that is closed."""
        medium = _MEDIA.get(wire)
        return None if medium is None or medium.closed else medium

    def _adopt(self, wire: Wire) -> None:
        if self.of(wire) not in (None, self):
            raise RigError("this wire is in another network: one wire joins gateways of one network")
        _MEDIA[wire] = self

    # ---- gateways and wires

    def between(self, one: str, other: str, wire: Wire) -> Wire:
        """`wire` joins these two from now on, instead of what joins all. RigError: there is no such gateway."""
        for name in (one, other):
            if name not in self.gateways:
                raise RigError(f"no gateway {name!r} on this network; there are: {', '.join(self.gateways) or 'none'}")
        if one == other:
            raise RigError(f"a wire has two ends of the name {one!r}")
        self._adopt(wire)
        for name in (one, other):
            if name not in wire.ends:
                wire.join(name, self.clock.seed)
        self._between[frozenset((one, other))] = wire
        return wire

    def join(self, gateway: Member, wires: Iterable[Wire], addresses: Iterable[Address]) -> None:
        """A gateway comes. RigError: its name or an address is taken."""
        self.check()
        if gateway.name in self.gateways:
            raise RigError(f"a wire has two ends of the name {gateway.name!r}: give gateways different names, by [gateway] name")
        for address in addresses:
            if address in self._owners:
                raise RigError(f"{gateway.name} and {self._owners[address]} both have the address {address}")
        for wire in wires:
            self._adopt(wire)
            wire.join(gateway.name, self.clock.seed)
        self.gateways[gateway.name] = gateway
        self._owners |= dict.fromkeys(addresses, gateway.name)

    def leave(self, gateway: Member) -> None:
        """It is gone."""
        self.gateways.pop(gateway.name, None)
        self.busy.pop(gateway, None)
        self._owners = {address: name for address, name in self._owners.items() if name != gateway.name}
        for wire in {*gateway.wires, *self._between.values()}:
            if gateway.name in wire.ends:
                wire.leave(gateway.name)
        self._between = {ends: wire for ends, wire in self._between.items() if gateway.name not in ends}

    def check(self) -> None:
        """RigError: it is closed."""
        if self.closed:
            raise RigError("the network is closed")

    def close(self) -> None:
        """Closes every gateway. Nothing when it is closed."""
        if self.closed:
            return
        try:
            for gateway in list(self.gateways.values()):
                gateway.close()
        finally:
            self.closed = True
            self.loop.end()
            self.clock.runner = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- time

    def advance(self, seconds: float) -> None:
        """Lets so many seconds happen. ValueError for a step back."""
        self.check()
        check_step(seconds)
        self.loop.run(lambda: False, self.clock.now() + seconds)
        for gateway in self.gateways.values():
            gateway.wake()
        self.loop.run(lambda: True)

    def jump(self) -> float:
        """Lets the next event happen, whenever it is due; the time then. RigError: nothing is to come any more."""
        self.check()
        when = self.clock.next_event
        if when is None:
            raise RigError(f"nothing is to come any more: {self.standstill()}")
        self.loop.run(lambda: False, when)
        return self.clock.now()

    def run(self, goal: Callable[[], bool], timeout: float) -> bool:
        """Lets things happen until `goal` holds, which may ask nothing of a gateway, for `timeout` seconds at the most;
        whether it does. RigError: nothing is to come any more, so that it never will."""
        self.check()
        reached = self.loop.run(goal, self.clock.now() + timeout, waits=True)
        if self.loop.stuck:
            raise RigError(f"nothing is to come any more: {self.standstill()}")
        return reached

    def run_asking(self, goal: Callable[[], bool], timeout: float) -> bool:
        """`run` for a goal that may ask gateways: it is asked after each event, when nothing runs."""
        end = self.clock.now() + timeout
        while not goal():
            now = self.clock.now()
            if now >= end:
                return False
            self.run(lambda before=now: self.clock.now() > before, end - now)  # type: ignore[misc]
        return True

    def standstill(self) -> str:
        """Who waits for what."""
        states = "; ".join(gateway.waits_for() for gateway in self.gateways.values())
        return f"{states or 'there is no gateway'}; tasks: {self.loop.waiting() or 'none'}"

    # ---- datagrams

    def _carry(self) -> bool:
        """Steps the data planes that have something to do; whether anything moved."""
        moved = 0
        while self.busy:
            moved += self.busy.popitem()[0].step()
        if moved:
            self.loop.look()
        return moved > 0

    def transmit(self, datagram: OuterDatagram) -> None:
        """A gateway sends a datagram: the wire between the two decides what becomes of it."""
        sender = self._owners.get(datagram.source.address)
        if sender is None:
            self.outer.lost += 1
            return
        receiver, wire = self._way(sender, datagram.destination.address)
        if wire is None or receiver is None:
            self.outer.lost += 1
            return
        if datagram.octets > wire.mtu and datagram.whole:
            self.outer.lost += 1
            self.gateways[sender].too_big(datagram, wire.mtu)
            return
        now = self.clock.now()
        nat = wire.nat
        if nat is not None and nat.inside == sender:
            datagram = nat.out(datagram, now)
        passing, arrivals = wire.passed(datagram, sender, receiver, now)
        self.log.append(Sent(passing, len(arrivals)))
        for after, arriving in arrivals:
            self.clock.at(now + after, RigTimer(self._arrive, (arriving, receiver, wire)))

    def _way(self, sender: str, address: Address) -> tuple[str | None, Wire | None]:
        """Who has the address, and the wire to him."""
        wires = [wire for ends, wire in self._between.items() if sender in ends]
        wires += self.gateways[sender].wires if sender in self.gateways else []
        receiver = self._owners.get(address)
        for wire in wires:
            inside = wire.inside(address)
            if inside is not None:
                return inside, wire
            if receiver in wire.ends and sender in wire.ends:
                return receiver, wire
        return receiver, None

    def _arrive(self, datagram: OuterDatagram, receiver: str, wire: Wire) -> None:
        there: OuterDatagram | None = datagram
        if wire.nat is not None and wire.nat.inside == receiver:
            there = wire.nat.into(datagram, self.clock.now())
        if there is None or receiver not in self.gateways:
            self.outer.lost += 1
            return
        self.gateways[receiver].touch()
        self.gateways[receiver].meet(partial(self.outer.arrive, there))

    def pull(self, links: Iterable[OuterLink]) -> int:
        """What data planes have sent leaves; how many datagrams."""
        return sum(map(self.outer.pull, links))

    # ---- what happened

    def ladder(self, last: int | None = None) -> str:
        """The datagrams that were sent, as a drawing; `last`: no more than so many, the newest."""
        gone = self.log.left_out
        shown = self.log if last is None else self.log[-last:]
        return f"{gone} older datagrams are not remembered\n" * bool(gone and last is None) + drawn(each.arrow for each in shown)

    def capture(self, gateway: str | None = None) -> bytes:
        """Every datagram that was sent (to or by one gateway), whatever became of it, as a pcapng file of IP packets."""
        file = io.BytesIO()
        writer = Writer(file, LINKTYPE_RAW)
        epoch = round(EPOCH.timestamp() * NS_PER_S)
        for sent in self.log:
            if gateway not in (None, sent.passing.sender, sent.passing.receiver):
                continue
            writer.write(epoch + round(sent.passing.at * NS_PER_S), packet_of(sent.passing.datagram))
        return file.getvalue()

    def keylog(self, table: str = ESP_TABLE) -> str:
        """The keys of all gateways, each line once, as that table of Wireshark's has them: ESP_TABLE, IKE_TABLE, IKEV1_TABLE."""
        return "".join(dict.fromkeys(f"{line}\n" for gateway in self.gateways.values() for line in gateway.key_lines(table)))


def packet_of(datagram: OuterDatagram) -> bytes:
    """The IP packet of a datagram."""
    source, destination = datagram.source, datagram.destination
    ends = str(source.address), str(destination.address)
    if datagram.udp:
        return packets.udp(*ends, datagram.data, ports=(source.port, destination.port), tos=datagram.tos, df=datagram.whole)
    if source.address.version == 4:
        return packets.ipv4(*ends, datagram.data, protocol=50, tos=datagram.tos, df=datagram.whole)
    return packets.ipv6(*ends, datagram.data, protocol=50, tos=datagram.tos)
