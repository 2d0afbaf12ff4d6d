"""A line for each message that arrives or leaves: what it is and what is in it, by names and sizes. Never a value: no key, nonce,
public value, identity or certificate.

    out 192.0.2.1:500 > 192.0.2.2:500 IKE_SA_INIT request 0 [I] 356 octets 1c…_00…: SA(3 proposals) KE(x25519, 32 octets) …
    in 192.0.2.2:500 > 192.0.2.1:500 IKE_AUTH response 1 [R] 224 octets 1c…_88…: IDr(FQDN, 11 octets) AUTH(shared key, 32 octets) …
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from ipsec_dp.ike.errors import IkeError
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.message import Message, parse_message
from ipsec_dp.ike.v2.wire import ExchangeType, Flag
from ipsec_dp.ipsec import iana
from ipsec_dp.util.text import named

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ipsec_dp.ike.actions import Path
    from ipsec_dp.ike.v2.message import Header
    from ipsec_dp.ike.v2.payloads import Payload

SHOWN: Final = 24  # payloads of a line
REMEMBERED: Final = 256  # datagrams of ours whose content is known, so that a repeat is shown as one
_FLAGS: Final = {Flag.INITIATOR: "I", Flag.VERSION: "V", Flag.RESPONSE: "R"}


class MessageTrace:
    """`environment.Trace`. `write` gets each line, and whether the message is authentic, or for somebody who has keys."""

    def __init__(self, write: Callable[[str, bool], None]) -> None:
        self._write = write
        self._arrived: tuple[bytes, Path] | None = None  # not written yet: it may be opened first
        self._made: OrderedDict[bytes, str] = OrderedDict()
        self._described: OrderedDict[bytes, tuple[str, bool]] = OrderedDict()  # datagrams of another version

    def arrived(self, datagram: bytes, path: Path) -> None:
        self._arrived = datagram, path

    def opened(self, message: Message) -> None:
        if self._arrived is not None:
            datagram, path = self._arrived
            self._arrived = None
            self._write(_line("in", message.header, len(datagram), _remote_first(path), _all(message.payloads)), True)

    def handled(self) -> None:
        if self._arrived is not None:
            datagram, path = self._arrived
            self._arrived = None
            text, proven = self._described.pop(datagram, (None, False))
            ends = _remote_first(path)
            self._write(_unopened("in", datagram, ends) if text is None else f"in {ends} {text}", proven)

    def sealed(self, payloads: Sequence[Payload], datagrams: Sequence[bytes]) -> None:
        for number, datagram in enumerate(datagrams, 1):
            piece = f"fragment {number} of {len(datagrams)}: " if len(datagrams) > 1 else ""
            self._made[datagram] = piece + ((_all(payloads) or "empty") if number == 1 else "…")
            if len(self._made) > REMEMBERED:
                self._made.popitem(last=False)

    def described(self, datagram: bytes, text: Callable[[], str], *, proven: bool) -> None:
        self._described[datagram] = text(), proven
        if len(self._described) > REMEMBERED:
            self._described.popitem(last=False)

    def left(self, datagram: bytes, path: Path) -> None:
        ends = f"{path.local} > {path.remote}"
        if datagram in self._described:
            text, proven = self._described[datagram]
            self._described[datagram] = text if text.startswith("again: ") else f"again: {text}", proven
            self._write(f"out {ends} {text}", proven)
            return
        content = self._made.get(datagram)
        if content is None:
            self._write(_unopened("out", datagram, ends), False)
            return
        self._made[datagram] = content if content.startswith("again: ") else f"again: {content}"
        header = parse_message(datagram).header
        self._write(_line("out", header, len(datagram), ends, content), header.exchange != ExchangeType.IKE_SA_INIT)


def _remote_first(path: Path) -> str:
    return f"{path.remote} > {path.local}"


def _line(direction: str, header: Header, octets: int, ends: str, content: str) -> str:
    exchange = iana.name(iana.EXCHANGES, "exchange", header.exchange)
    what = f"{'response' if header.is_response else 'request'} {header.message_id}"
    flags = "".join(name for bit, name in _FLAGS.items() if header.flags & bit)
    spis = f"{header.spi_i.hex()}_{header.spi_r.hex()}"
    return f"{direction} {ends} {exchange} {what} [{flags}] {octets} octets {spis}: {content or 'empty'}"


def _unopened(direction: str, datagram: bytes, ends: str) -> str:
    """Of a message of which only the outside is known."""
    try:
        message = parse_message(datagram)
    except IkeError as error:
        return f"{direction} {ends} {len(datagram)} octets: cannot be read: {error}"
    return _line(direction, message.header, len(datagram), ends, _all(message.payloads))


def _all(payloads: Sequence[Payload]) -> str:
    return named(payloads, SHOWN, " ", text=_text)


def _text(payload: Payload) -> str:
    name, inside = iana.PAYLOADS[payload.type], _INSIDE.get(type(payload))
    return name if inside is None else f"{name}({inside(payload)})"


def _octets(data: bytes) -> str:
    return f"{len(data)} octets"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _notify(one: p.Notify) -> str:
    return iana.notify_text(one.notify_type) + (f", {_octets(one.data)}" if one.data else "")


def _delete(one: p.Delete) -> str:
    spis = f", {_counted(len(one.spis), 'SPI')}" if one.spis else ""
    return iana.name(iana.PROTOCOLS, "protocol", one.protocol) + spis


def _identity(one: p.IdentificationInitiator | p.IdentificationResponder) -> str:
    return f"{iana.name(iana.IDENTITIES, 'type', one.id_type)}, {_octets(one.data)}"


def _selectors(one: p.TrafficSelectorsInitiator | p.TrafficSelectorsResponder) -> str:
    return _counted(len(one.selectors), "selector")


_INSIDE: Final[dict[type[Payload], Callable[[Any], str]]] = {
    p.SecurityAssociation: lambda one: _counted(len(one.proposals), "proposal"),
    p.KeyExchangePayload: lambda one: f"{iana.name(iana.KEY_EXCHANGES, 'group', one.group)}, {_octets(one.data)}",
    p.IdentificationInitiator: _identity,
    p.IdentificationResponder: _identity,
    p.Certificate: lambda one: f"{iana.name(iana.ENCODINGS, 'encoding', one.encoding)}, {_octets(one.data)}",
    p.CertificateRequest: lambda one: f"{iana.name(iana.ENCODINGS, 'encoding', one.encoding)}, {_octets(one.authorities)}",
    p.Authentication: lambda one: f"{iana.name(iana.AUTHENTICATIONS, 'method', one.method)}, {_octets(one.data)}",
    p.Nonce: lambda one: _octets(one.data),
    p.Notify: _notify,
    p.Delete: _delete,
    p.VendorId: lambda one: _octets(one.data),
    p.TrafficSelectorsInitiator: _selectors,
    p.TrafficSelectorsResponder: _selectors,
    p.Encrypted: lambda one: f"{_octets(one.data)}, not opened",
    p.EncryptedFragment: lambda one: f"fragment {one.number} of {one.total}, {_octets(one.data)}",
    p.Configuration: lambda one: _counted(len(one.attributes), "attribute"),
    p.Eap: lambda one: _octets(one.data),
}
