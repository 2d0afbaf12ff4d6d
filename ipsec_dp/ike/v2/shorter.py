"""Shorter datagrams where longer ones are lost without a word: what is said again goes in smaller fragments (RFC 7383 §2.5.1).

A request without an answer leaves again as it was, for it may only have been lost, and from the second time on in smaller fragments
besides. What the peer has answered or sent then holds for its IKE SA, for those that take its place, and for a while for whoever is
at that address. An answer goes in no longer datagrams than its request came in, and in shorter ones when it is asked for again and
again, which by itself changes nothing else: anybody may send again what he has recorded.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.actions import Kind
from ipsec_dp.ike.peer import DEFAULT_DATAGRAM
from ipsec_dp.ike.pieces import message_room
from ipsec_dp.ike.v2.payloads import EncryptedFragment

if TYPE_CHECKING:
    from ipsec_dp.ike.actions import Path
    from ipsec_dp.ike.v2.context import Context, Task
    from ipsec_dp.ike.v2.exchanges import OutstandingRequest
    from ipsec_dp.ike.v2.sa import ReceivedMessage

SIZES: Final = (DEFAULT_DATAGRAM, 576)  # octets of IP datagram: what every link of IPv6 takes, what every host of IPv4 does
SHORTEST: Final = SIZES[-1]
FROM: Final = 2  # the retransmission from which on they are tried, one after the other


def longest(context: Context) -> int:
    """Octets of the IP datagrams that a message of ours goes in now."""
    return int(min(context.peer.datagram, context.abilities.longest))


def room(path: Path, octets: int) -> int:
    """Octets of IKE message in an IP datagram."""
    return message_room(path.remote.address.version, marker=path.natt, datagram=octets)


def request(context: Context, outstanding: OutstandingRequest[Task]) -> tuple[bytes, ...]:
    """What leaves besides our request as it was, which was just sent again; nothing while that is no longer than it may be."""
    sealed = outstanding.sealed
    datagrams = sealed.within(room(context.path, _size(longest(context), outstanding.attempt)), context.host.environment)
    return () if datagrams is sealed.datagrams else datagrams


def reply(context: Context, received: ReceivedMessage) -> tuple[bytes, ...]:
    """Our answer, which `received` asks for again, its ICV being good."""
    window = context.window
    window.asked_again += 1
    if received.message.get(EncryptedFragment) is not None:  # the first one, which is as long as any
        came(context, received.path, len(received.datagram), received.now)
    octets = _size(longest(context), window.asked_again)
    return window.sealed_reply.within(room(received.path, octets), context.host.environment)


def answered(context: Context, outstanding: OutstandingRequest[Task], now: float) -> None:
    """The ICV of an answer holds: if its request had to be divided anew, those that follow are so from the beginning."""
    if outstanding.sealed.divided:
        _learn(context, _size(longest(context), outstanding.attempt), now)


def came(context: Context, path: Path, octets: int, now: float) -> None:
    """A request has come in fragments, the longest of so many octets: whoever sends no longer ones has a reason."""
    _learn(context, max(_octets(path, octets), SHORTEST), now)


def keep(context: Context, now: float) -> None:
    """The peer has proven who it is."""
    if context.abilities.longest < inf:
        context.host.lengths.note(context.path.remote.address, context.abilities.longest, now)


def _learn(context: Context, octets: int, now: float) -> None:
    before = longest(context)
    if octets < before:
        context.abilities.longest = octets
        text = f"messages to {context.path.remote} go in datagrams of {octets} octets at the most now, not of {before}"
        context.report(Kind.NOTE, text)
    if context.authenticated:
        keep(context, now)


def _size(usual: int, times: int) -> int:
    """Octets of IP datagram of a message that is sent again for the so-manieth time."""
    smaller = [size for size in SIZES if size < usual]
    return usual if times < FROM or not smaller else smaller[min(times - FROM, len(smaller) - 1)]


def _octets(path: Path, message: int) -> int:
    """Of the IP datagram around a message of so many."""
    return message - room(path, 0)
