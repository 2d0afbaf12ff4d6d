"""Fragments of a peer's messages on their way in: of whom they are taken, and what is done with what became whole."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.actions import NO_SPI
from ipsec_dp.ike.errors import IkeSyntaxError
from ipsec_dp.ike.v1 import words
from ipsec_dp.ike.v1.fragment import IsakmpFragments
from ipsec_dp.ike.v1.message import parse_fragment, parse_isakmp_header
from ipsec_dp.ike.v1.states import IsakmpState
from ipsec_dp.ike.v1.wire import HEADER, PayloadKind

if TYPE_CHECKING:
    from ipsec_dp.ike.v1.context import IsakmpContext
    from ipsec_dp.ike.v1.sa import ReceivedDatagram

_ASKED: Final = frozenset({IsakmpState.SA_SENT, IsakmpState.AGGRESSIVE_SENT})  # we announced them, and the peer could not yet


def collect(context: IsakmpContext, received: ReceivedDatagram) -> ReceivedDatagram | None:
    """The message that a fragment has made whole; None: others lack, or it is not due. Raises IkeSyntaxError."""
    header = received.header
    due = context.abilities.fragmentation or context.state in _ASKED
    if not due or header.cookie_r == NO_SPI:
        context.host.count("out_of_window")
        return None
    piece = parse_fragment(received.datagram[HEADER:])
    text = partial(words.fragment, header, piece.number, len(received.datagram))
    context.host.environment.trace.described(received.datagram, text, proven=False)
    if context.fragments is None:
        context.fragments = IsakmpFragments()
    whose = (received.path, header.exchange, header.message_id, piece.id)
    whole = context.fragments.add(whose, piece, received.now, partial(_may_hold, context, received))
    context.deadlines.fragments_at = context.fragments.deadline
    return None if whole is None else _read(received, whole)


def _may_hold(context: IsakmpContext, received: ReceivedDatagram, octets: int) -> bool:
    if context.established or context.host.may_hold(context, received.path.remote.address, octets):
        return True
    context.host.count("refused")
    return False


def _read(received: ReceivedDatagram, whole: bytes) -> ReceivedDatagram:
    """It is of the same ISAKMP SA, and no fragment again."""
    header, first = parse_isakmp_header(whole)
    if (header.cookie_i, header.cookie_r) != (received.header.cookie_i, received.header.cookie_r) or first == PayloadKind.FRAGMENT:
        raise IkeSyntaxError("fragments of another ISAKMP SA's message, or of a fragment")
    return replace(received, header=header, first=first, datagram=whole, arrived=received.datagram)


def forget(context: IsakmpContext, now: float) -> None:
    """What did not become whole in time."""
    if context.fragments is not None:
        context.fragments.expire(now)
        context.deadlines.fragments_at = context.fragments.deadline
    if context.deadlines.fragments_at == inf:
        context.fragments = None
        context.host.holds_nothing(context)
