"""Faults on purpose: what becomes of the n-th message or ESP packet, and gateways that stand still, refuse or meet each other.

    lost = impair.drop(wire, impair.nth(impair.ike("CREATE_CHILD_SA", response=True), 1))
    a.rekey()
    a.wait("CHILD_SA rekeyed")
    assert lost.hits == 1

A fault is there until `end`, or while a `with` of it lasts; `hits` says how often it did something, so that a test can tell a
gateway that stands a fault from a fault that never was. The newest decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Final, Self

from ipsec_dp.errors import DataPlaneError
from ipsec_dp.host.sockets import IKE_PORT
from ipsec_dp.ike.v1.wire import ExchangeMode, NotifyCode
from ipsec_dp.ike.v2.payloads import Notify
from ipsec_dp.ike.v2.wire import FIRST_STATUS_NOTIFY, ExchangeType, Flag, NotifyType
from ipsec_dp.ipsec.spi import spi_text
from ipsec_dp.rig.loop import RigError
from ipsec_dp.rig.wires import Arrival, corrupted

if TYPE_CHECKING:
    from ipsec_dp.ike.v2.message import Header, Message
    from ipsec_dp.ike.v2.payloads import Payload
    from ipsec_dp.rig.memory_gateway import Gateway
    from ipsec_dp.rig.memory_links import OuterDatagram
    from ipsec_dp.rig.wires import Passing, Wire

Which = Callable[["Passing"], bool]
"""Whether a datagram is meant."""

SEQUENCE_END: Final = 1 << 32  # of the sequence numbers that a packet carries (RFC 4303 §2.2)
_OF_CHILD: Final = frozenset(  # errors of IKE_AUTH that leave the IKE SA (RFC 7296 §1.2)
    {
        NotifyType.NO_PROPOSAL_CHOSEN,
        NotifyType.SINGLE_PAIR_REQUIRED,
        NotifyType.NO_ADDITIONAL_SAS,
        NotifyType.INTERNAL_ADDRESS_FAILURE,
        NotifyType.FAILED_CP_REQUIRED,
        NotifyType.TS_UNACCEPTABLE,
    }
)
_OF_IKEV1: Final = frozenset({"QUICK", "MAIN", "AGGRESSIVE"})
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


def refuse(
    gateway: Gateway, notify: str, exchange: str = "CREATE_CHILD_SA", times: int = 1, *, data: bytes = b"", after: float = 0.0
) -> Impairment:
    """A gateway refuses requests of an exchange, so many times, by an error ("NO_ADDITIONAL_SAS"), and does nothing of them.

    Of IKE_AUTH the errors that are about a CHILD_SA refuse that alone (RFC 7296 §1.2), any other one the IKE SA. `data`: of the
    notify, the group of INVALID_KE_PAYLOAD. `after`: seconds by which the answer is late. Of IKEv1 it is message 1 of "QUICK",
    "MAIN" or "AGGRESSIVE", without `data` and `after`. RigError: no such error or exchange.
    """
    if exchange in _OF_IKEV1:
        return _refuse_isakmp(gateway, notify, ExchangeMode[exchange], times, plain=not data and not after)
    if exchange not in ExchangeType.__members__ or not _is_error(notify):
        raise RigError(f"no notify {notify!r} of an error, or no exchange {exchange!r}")
    if after < 0:
        raise RigError(f"after={after:g}: nobody answers before he was asked")
    kind, site = NotifyType[notify], gateway.site

    def refuser(message: Message, child: bool) -> Notify | None:
        in_auth = message.header.exchange == ExchangeType.IKE_AUTH
        if message.header.exchange != ExchangeType[exchange] or fault.hits >= times or child != (in_auth and kind in _OF_CHILD):
            return None
        fault.hits += 1
        gone = message.notify(NotifyType.REKEY_SA) if kind is NotifyType.CHILD_SA_NOT_FOUND else None
        return Notify(kind, data) if gone is None else Notify(kind, data, gone.protocol, gone.spi)

    def end() -> None:
        site.interference.refusers.remove(refuser)
        for late in delays:
            late.end()

    fault = Impairment(end)
    late_ones = carrying(gateway, notify) if after else None
    delays = [] if late_ones is None else [delay(wire, late_ones, after) for wire in site.wires]
    site.interference.refusers.append(refuser)
    return fault


def _refuse_isakmp(gateway: Gateway, notify: str, exchange: ExchangeMode, times: int, *, plain: bool) -> Impairment:
    if notify not in NotifyCode.__members__ or NotifyCode[notify] >= NotifyCode.CONNECTED:
        raise RigError(f"no notification {notify!r} of an error of IKEv1")
    if not plain:
        raise RigError("data, after: of IKEv2")
    refusers = gateway.site.interference.isakmp_refusers

    def refuser(met: int) -> int | None:
        if met != exchange or fault.hits >= times:
            return None
        fault.hits += 1
        return NotifyCode[notify]

    fault = Impairment(lambda: refusers.remove(refuser))
    refusers.append(refuser)
    return fault


def _is_error(notify: str) -> bool:
    return notify in NotifyType.__members__ and NotifyType[notify] < FIRST_STATUS_NOTIFY


def carrying(gateway: Gateway, notify: str) -> Which:
    """IKE messages of a gateway that carry a notify ("REKEY_SA", "NO_ADDITIONAL_SAS"), protected or not, and every time that they
    are sent: from now on. RigError: no such notify."""
    if notify not in NotifyType.__members__:
        raise RigError(f"no notify {notify!r}; there are: {', '.join(NotifyType.__members__)}")
    carriers: set[bytes] = set()

    def read(header: Header, payloads: list[Payload]) -> None:
        if any(isinstance(payload, Notify) and payload.notify_type == NotifyType[notify] for payload in payloads):
            carriers.add(header.spi_i + header.spi_r + bytes([header.exchange, header.flags]) + header.message_id.to_bytes(4))

    def is_meant(passing: Passing) -> bool:
        message = _message(passing.datagram)
        return message is not None and passing.sender == gateway.name and message[:16] + message[18:24] in carriers

    gateway.site.readers.append(read)
    return is_meant


def ignore_expiry(gateway: Gateway, *, soft: bool = True, hard: bool = True) -> Impairment:
    """A gateway passes over the limits that its SAs come to meanwhile, in time, octets, packets and sequence numbers: soft ones, at
    which it would ask for new keys, and hard ones, at which it would end them. They do not come again. SAs that are made while
    hard ones are ignored have none in octets and packets. It answers as ever."""
    interference = gateway.site.interference
    ignored = [is_hard for is_hard, wanted in ((False, soft), (True, hard)) if wanted]

    def passed_over(is_hard: bool) -> None:
        fault.hits += is_hard in ignored

    def end() -> None:
        interference.ignored.subtract(ignored)
        interference.ears.remove(passed_over)

    fault = Impairment(end)
    interference.ignored.update(ignored)
    interference.ears.append(passed_over)
    return fault


def jump(gateway: Gateway, packets: int, tunnel: str | None = None) -> None:
    """The sequence numbers of the SAs that a gateway sends by go on as if so many packets more had been sent and lost, at once.
    RigError: they have not so many left, or there is no SA."""
    sas = [sa for sa in gateway.sas(tunnel) if sa.spi_out]
    if packets < 1 or not sas:
        raise RigError(f"packets={packets}: no SA of gateway {gateway.name} can go on there")
    for sa in sas:
        try:
            gateway.site.skip_numbers(int(sa.spi_out or "", 16), packets)
        except DataPlaneError as error:
            raise RigError(f"packets={packets}: {error}") from error


def reuse_spi(gateway: Gateway, spi: int | str) -> Impairment:
    """The next SA that a gateway makes receives by this SPI, which may have been another SA's, its own or another gateway's.
    RigError: it has an SA by it now (RFC 4303 §2.1)."""
    plane, wanted = gateway.site.plane, int(spi, 16) if isinstance(spi, str) else spi

    def given() -> None:
        fault.hits += 1

    def end() -> None:
        if plane is not None and plane.next_spis.pop(wanted, None) is not None:
            plane.release_spi(wanted)

    fault = Impairment(end)
    if plane is None or not plane.reserve_spi(wanted, given):
        raise RigError(f"gateway {gateway.name} has an SA by SPI {spi_text(wanted)}, or one in its place")
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
