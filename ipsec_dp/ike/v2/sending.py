"""Messages of ours on their way out: protected, in one datagram or in fragments (RFC 7296 §3.14, RFC 7383)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.ike.actions import Send
from ipsec_dp.ike.v2 import shorter
from ipsec_dp.ike.v2.fragment import seal_datagrams
from ipsec_dp.ike.v2.message import Header, Message, build_message
from ipsec_dp.ike.v2.sealed import Content, Sealed
from ipsec_dp.ike.v2.wire import ExchangeType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.ike.actions import Path
    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.payloads import Payload


def request_header(context: Context, exchange: ExchangeType, message_id: int) -> Header:
    """The header of a request of ours."""
    return Header(context.sa.spi_i, context.sa.spi_r, exchange, context.sa.request_flags, message_id)


def seal(context: Context, header: Header, payloads: list[Payload], *, whole: bool = False) -> Sealed:
    """The datagrams of a message; a `whole` one is not divided, however long it is. Those of IKE_SA_INIT are not protected."""
    payloads = context.host.environment.shaped(header, payloads)
    sealed = _sealed(context, header, payloads, whole=whole)
    context.host.environment.trace.sealed(payloads, sealed.datagrams)
    return sealed


def _sealed(context: Context, header: Header, payloads: list[Payload], *, whole: bool) -> Sealed:
    outgoing, rng = context.sa.outgoing, context.host.environment.rng
    if header.exchange == ExchangeType.IKE_SA_INIT or outgoing is None:
        return Sealed((build_message(Message(header, tuple(payloads))),))
    fragment, room = context.abilities.fragmentation and not whole, shorter.room(context.path, shorter.longest(context))
    datagrams = seal_datagrams(outgoing, header, payloads, rng, room=room, fragment=fragment)
    long = fragment and max(map(len, datagrams)) > shorter.room(context.path, shorter.SHORTEST)
    return Sealed(datagrams, Content(outgoing, header, tuple(payloads)) if long else None)


def transmit(context: Context, datagrams: Iterable[bytes], path: Path, *, whole: bool = False) -> None:
    """Hand datagrams to the driver."""
    context.emit(*(Send(datagram, path, whole) for datagram in datagrams))
