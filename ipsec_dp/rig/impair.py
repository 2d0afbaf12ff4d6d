"""Faults on purpose: what becomes of the n-th message or ESP packet, and gateways that stand still, refuse or meet each other.

    lost = impair.drop(wire, impair.nth(impair.ike("CREATE_CHILD_SA", response=True), 1))
    a.rekey()
    a.wait("CHILD_SA rekeyed")
    assert lost.hits == 1

A fault is there until `end`, or while a `with` of it lasts; `hits` says how often it did something, so that a test can tell a
gateway that stands a fault from a fault that never was. The newest decides. Lifetimes are not negotiated in IKEv2, so a side that
ignores its soft or hard expiry is one whose configuration has longer ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Final, Self

from ipsec_dp.host.sockets import IKE_PORT
from ipsec_dp.ike.v2.payloads import Notify
from ipsec_dp.ike.v2.wire import ExchangeType, Flag, NotifyType
from ipsec_dp.rig.loop import RigError
from ipsec_dp.rig.wires import Arrival, corrupted

if TYPE_CHECKING:
    from ipsec_dp.ike.v2.message import Header
    from ipsec_dp.ike.v2.payloads import Payload
    from ipsec_dp.rig.memory_gateway import Gateway
    from ipsec_dp.rig.memory_links import OuterDatagram
    from ipsec_dp.rig.wires import Passing, Wire

Which = Callable[["Passing"], bool]
"""Whether a datagram is meant."""

SEQUENCE_END: Final = 1 << 32  # of the sequence numbers that a packet carries (RFC 4303 §2.2)
_HEADER: Final = 28  # octets of an IKE message's (RFC 7296 §3.1)


class Impairment:
    """One fault. `hits`: how often it did something."""

    def __init__(self, end: Callable[[], None]) -> None:
        self.hits = 0
        self._end: Callable[[], None] | None = end

    def end(self) -> None:
        """Nothing is amiss any more. Nothing when it has ended."""
        if self._end is not None:
            self._end()
            self._end = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


# ---- which datagrams


def everything(_: Passing) -> bool:
    """Each of them."""
    return True


def ike(exchange: str | None = None, *, response: bool | None = None, sender: str | None = None) -> Which:
    """IKE messages: of an exchange ("CREATE_CHILD_SA"), requests or responses alone, of one gateway. RigError: no such exchange."""
    if exchange is not None and exchange not in ExchangeType.__members__:
        raise RigError(f"no exchange {exchange!r}; there are: {', '.join(ExchangeType.__members__)}")

    def is_meant(passing: Passing) -> bool:
        message = _message(passing.datagram)
        return (
            message is not None
            and sender in (None, passing.sender)
            and (exchange is None or message[18] == ExchangeType[exchange])
            and response in (None, bool(message[19] & Flag.RESPONSE))
        )

    return is_meant


def _message(datagram: OuterDatagram) -> bytes | None:
    """The IKE message in it, without the non-ESP marker; None: there is none that is whole."""
    if not datagram.ike:
        return None
    message = datagram.data if IKE_PORT in (datagram.source.port, datagram.destination.port) else datagram.data[4:]
    return message if len(message) >= _HEADER else None


def esp(*, sender: str | None = None, spi: int | None = None) -> Which:
    """ESP packets: of one gateway, of one SA."""

    def is_meant(passing: Passing) -> bool:
        data = passing.datagram.data
        is_esp = not passing.datagram.ike and len(data) >= 8
        return is_esp and sender in (None, passing.sender) and spi in (None, int.from_bytes(data[:4]))

    return is_meant


def nth(which: Which, *numbers: int) -> Which:
    """Of those that `which` means these, counted from 1 and from now on."""
    if not numbers or min(numbers) < 1:
        raise RigError(f"datagrams are counted from 1, not from {min(numbers, default=0)}")
    met = 0

    def is_meant(passing: Passing) -> bool:
        nonlocal met
        if not which(passing):
            return False
        met += 1
        return met in numbers

    return is_meant


# ---- what becomes of them


def become(wire: Wire, which: Which, arrivals: Callable[[Passing], Sequence[Arrival]]) -> Impairment:
    """Those that are meant arrive as `arrivals` says, whatever else the wire does to others."""

    def rule(passing: Passing) -> Sequence[Arrival] | None:
        if not which(passing):
            return None
        fault.hits += 1
        return arrivals(passing)

    fault = Impairment(lambda: wire.rules.remove(rule))
    wire.rules.insert(0, rule)
    return fault


def drop(wire: Wire, which: Which) -> Impairment:
    """They are lost."""
    return become(wire, which, lambda _: ())


def double(wire: Wire, which: Which) -> Impairment:
    """They arrive twice, one right after the other."""
    return replay(wire, which, 0.0)


def delay(wire: Wire, which: Which, seconds: float) -> Impairment:
    """They arrive so much later."""
    if not 0 <= seconds < inf:
        raise RigError(f"seconds={seconds:g}: nothing arrives before it was sent, nor at the end of time")
    return become(wire, which, lambda passing: (Arrival(wire.delay + seconds, passing.datagram),))


def replay(wire: Wire, which: Which, seconds: float, times: int = 1) -> Impairment:
    """They arrive, and so many times again, each `seconds` after the one before."""
    if not 0 <= seconds < inf or times < 1:
        raise RigError(f"seconds={seconds:g}, times={times}: what is replayed comes again, and later")
    return become(
        wire, which, lambda passing: [Arrival(wire.delay + again * seconds, passing.datagram) for again in range(times + 1)]
    )


def alter(wire: Wire, which: Which, change: Callable[[bytes], bytes]) -> Impairment:
    """They arrive as `change` makes them, of what UDP carries or of the ESP packet."""
    return become(
        wire,
        which,
        lambda passing: (Arrival(wire.delay, replace(passing.datagram, data=change(passing.datagram.data))),),
    )


def corrupt(wire: Wire, which: Which, bit: int = 0) -> Impairment:
    """One bit of them is changed, counted from the first octet's highest."""
    return become(wire, which, lambda passing: (Arrival(wire.delay, corrupted(passing.datagram, bit)),))


def wrong_icv(wire: Wire, which: Which) -> Impairment:
    """The last bit of them is changed, which is the ICV's of an ESP packet and of a protected IKE message."""
    return become(
        wire, which, lambda passing: (Arrival(wire.delay, corrupted(passing.datagram, 8 * len(passing.datagram.data) - 1)),)
    )


def truncate(wire: Wire, which: Which, octets: int) -> Impairment:
    """They end after so many octets of what UDP carries, or of the ESP packet."""
    if octets < 0:
        raise RigError(f"octets={octets}: nothing is shorter than empty")
    return alter(wire, which, lambda data: data[:octets])


# ---- gateways


def shape(gateway: Gateway, which: Callable[[Header], bool], change: Callable[[list[Payload]], list[Payload]]) -> Impairment:
    """The IKE messages of a gateway whose header is meant leave with what `change` makes of their payloads, properly protected."""
    site = gateway.site

    def shaper(header: Header, payloads: list[Payload]) -> list[Payload]:
        if not which(header):
            return payloads
        fault.hits += 1
        return change(payloads)

    fault = Impairment(lambda: site.shapers.remove(shaper))
    site.shapers.append(shaper)
    return fault


def refuse(gateway: Gateway, notify: str, exchange: str = "CREATE_CHILD_SA", times: int = 1) -> Impairment:
    """A gateway answers requests of an exchange, so many times, with an error alone ("NO_ADDITIONAL_SAS"), whatever it did itself.
    RigError: there is no such notify or exchange."""
    if notify not in NotifyType.__members__ or exchange not in ExchangeType.__members__:
        raise RigError(f"no notify {notify!r}, or no exchange {exchange!r}")

    def is_meant(header: Header) -> bool:
        answers = header.exchange == ExchangeType[exchange] and bool(header.flags & Flag.RESPONSE)
        return answers and fault.hits < times

    fault = shape(gateway, is_meant, lambda _: [Notify(NotifyType[notify])])
    return fault


def freeze(gateway: Gateway) -> Impairment:
    """A gateway stands still as a process that is stopped: what comes to it waits, and what is due is due when this ends."""
    site = gateway.site
    site.freeze()
    return Impairment(site.thaw)


def collide(one: Gateway, other: Gateway, tunnels: tuple[str | None, str | None] = (None, None), *, ike: bool = False) -> None:
    """Both ask for new keys at the same moment, so that their requests cross (RFC 7296 §2.8.1, §2.8.2)."""
    one.rekey(tunnels[0], ike=ike)
    other.rekey(tunnels[1], ike=ike)


def used_up(gateway: Gateway, sequence: int) -> Impairment:
    """The SAs that a gateway sends by from its next negotiation on begin behind this sequence number, as if so many packets had
    been sent: SEQUENCE_END - n for n packets before the high half of an ESN changes (RFC 4303 §3.3.3)."""
    plane = gateway.site.plane
    if plane is None or sequence < 0:
        raise RigError(f"sequence={sequence}: no SA of gateway {gateway.name} can begin there")
    before, plane.first_sequence = plane.first_sequence, sequence

    def end() -> None:
        plane.first_sequence = before

    return Impairment(end)
