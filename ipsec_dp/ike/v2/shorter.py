"""Shorter datagrams where longer ones are lost without a word: what is said again goes in smaller fragments (RFC 7383 §2.5.1).

A request without an answer leaves again as it was, for it may only have been lost, and from the second time on in smaller fragments
besides. What the peer has answered or sent then holds for its IKE SA, for those that take its place, and for whoever is at that
address; but not for ever: ten minutes later a longer request is tried again. An answer goes in no longer datagrams than its request
came in, and in shorter ones when it is asked for again and again, which by itself changes nothing else: anybody may send again what
he has recorded.

Two things show that longer ones do get there. Who answers late, and in longer datagrams than the shorter request had, may have been
slow to answer the long one: it takes a second such answer to believe that the way is narrow. And where the peer has only been
followed in sending no longer ones, it is followed in sending longer ones again.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike import silence
from ipsec_dp.ike.actions import Kind
from ipsec_dp.ike.peer import DEFAULT_DATAGRAM
from ipsec_dp.ike.pieces import message_room
from ipsec_dp.ike.v2.lengths import REMEMBERED_S
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


def try_longer(context: Context, now: float) -> None:
    """A request of ours is about to be made: what was found out too long ago may not be so any more."""
    if now >= context.abilities.longest_until:
        _forget(context)


def request(context: Context, outstanding: OutstandingRequest[Task]) -> tuple[bytes, ...]:
    """What leaves besides our request as it was, which was just sent again; nothing while that is no longer than it may be."""
    sealed = outstanding.sealed
    datagrams = sealed.within(room(context.path, _size(longest(context), outstanding.attempt)), context.host.environment)
    return () if datagrams is sealed.datagrams else datagrams


def reply(context: Context, received: ReceivedMessage) -> tuple[bytes, ...]:
    """Our answer, which `received` asks for again, its ICV being good; wherever that came from, it is divided for the peer's way.

    The first fragment is as long as any. Shorter ones than this request ever came in say once that the peer has a reason for them;
    sent again, by whom it may be, they say nothing.
    """
    window, octets = context.window, len(received.datagram)
    window.asked_again += 1
    if received.message.get(EncryptedFragment) is not None and octets < window.asked_in:
        window.asked_in = octets
        came(context, octets, received.now)
    size = _size(longest(context), window.asked_again)
    return window.sealed_reply.within(room(context.path, size), context.host.environment)


def answered(context: Context, outstanding: OutstandingRequest[Task], octets: int, now: float) -> None:
    """The ICV of an answer holds, whose longest datagram has so many octets: if its request had to be divided anew, those that
    follow are so from the beginning."""
    sealed, abilities = outstanding.sealed, context.abilities
    if not sealed.divided:
        abilities.slow &= sealed.content is None  # what was not divided got there as it was
        return
    size = _size(longest(context), outstanding.attempt)
    if octets > room(context.path, size) and not abilities.slow:
        abilities.slow = True
    else:
        _learn(context, size, now)


def came(context: Context, octets: int, now: float) -> None:
    """A request has come in fragments, the longest of so many octets: whoever sends no longer ones has a reason."""
    _learn(context, max(_octets(context, octets), SHORTEST), now, followed=True)


def came_longer(context: Context, octets: int) -> None:
    """A new message of the peer's has come, its longest datagram of so many octets: it had a reason for shorter ones, and has none
    any more."""
    if context.abilities.followed and _octets(context, octets) > context.abilities.longest:
        _forget(context)


def keep(context: Context) -> None:
    """The peer has proven who it is."""
    abilities = context.abilities
    if abilities.longest < inf:
        context.host.lengths.note(context.path.remote.address, abilities.longest, abilities.longest_until)


def _learn(context: Context, octets: int, now: float, *, followed: bool = False) -> None:
    """That it is as it was already is nothing new, and no reason to believe it for longer."""
    before, abilities = longest(context), context.abilities
    if octets >= before:
        return
    abilities.longest, abilities.longest_until, abilities.followed = octets, now + REMEMBERED_S, followed
    remote = context.path.remote
    if followed:
        context.report(
            Kind.NOTE, f"messages to {remote} go in datagrams of {octets} octets at the most now, not of {before}, as its own"
        )
    else:  # it was told that nothing came
        context.report(Kind.WARNING, silence.shorter_get_there(remote, octets, before, round(REMEMBERED_S / 60)))
    if context.authenticated:
        keep(context)


def _forget(context: Context) -> None:
    """Longer ones are tried again."""
    abilities = context.abilities
    abilities.longest, abilities.longest_until, abilities.followed = inf, inf, False
    if context.authenticated:
        context.host.lengths.forget(context.path.remote.address)


def _size(usual: int, times: int) -> int:
    """Octets of IP datagram of a message that is sent again for the so-manieth time."""
    smaller = [size for size in SIZES if size < usual]
    return usual if times < FROM or not smaller else smaller[min(times - FROM, len(smaller) - 1)]


def _octets(context: Context, message: int) -> int:
    """Of the IP datagram around a message of so many."""
    return message - room(context.path, 0)
