"""IKE fragmentation: order, repetition, what does not belong there (RFC 7383 §2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.wire import ExchangeType, NotifyType
from ipsec_dp.rig.conformance.kit import ALIVE_S, Cases, Kit, NotApplicableError, accepted, came_up, demand
from ipsec_dp.rig.odd_parts import build_parts

if TYPE_CHECKING:
    from ipsec_dp.rig.odd_peer import OddPeer

CASES = Cases()
UNLESS: Final = "it does not announce IKEV2_FRAGMENTATION_SUPPORTED"


def fragmenting(kit: Kit) -> OddPeer:
    """A peer with an IKE SA that takes fragments."""
    peer = kit.fresh()
    message = accepted(peer.init())
    if message.notify(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED) is None:
        raise NotApplicableError(UNLESS)
    return peer


def pieces(peer: OddPeer, total: int = 3) -> list[bytes]:
    """Its IKE_AUTH request in so many fragments."""
    return peer.fragments(ExchangeType.IKE_AUTH, peer.auth_parts(), total)


def answered(peer: OddPeer, datagrams: list[bytes]) -> None:
    """These complete the IKE_AUTH request."""
    came_up(peer, peer.authenticated_by(peer.ask_by(datagrams)))


def waits(kit: Kit, peer: OddPeer, datagrams: list[bytes]) -> None:
    """These do not."""
    match, since = peer.answers(peer.sa.next_id), len(peer.heard)
    for octets in datagrams:
        peer.send(octets)
    kit.alive(peer)
    demand(peer.listen(match, kit.grace, since) is None, "it is answered")


def forged(octets: bytes) -> bytes:
    return octets[:-1] + bytes([octets[-1] ^ 1])


@CASES.add("RFC 7383 §2.4", "IKE_AUTH in fragments is taken", unless=UNLESS)
def fragments_of_ike_auth(kit: Kit) -> None:
    peer = fragmenting(kit)
    answered(peer, pieces(peer))


@CASES.add("RFC 7383 §2.4", "an INFORMATIONAL request in fragments is taken", unless=UNLESS)
def fragments_of_informational(kit: Kit) -> None:
    peer = fragmenting(kit)
    came_up(peer, peer.auth())
    notifies = [p.Notify(40_000, bytes(60)) for _ in range(6)]  # of an unknown type: nothing follows of them
    demand(peer.ask_by(peer.fragments(ExchangeType.INFORMATIONAL, notifies, 3)) is not None, "no answer")


@CASES.add("RFC 7383 §2.6", "fragments are taken in any order", unless=UNLESS)
def fragments_in_another_order(kit: Kit) -> None:
    peer = fragmenting(kit)
    answered(peer, pieces(peer)[::-1])


@CASES.add("RFC 7383 §2.6", "a fragment that comes twice counts once", unless=UNLESS)
def fragments_twice(kit: Kit) -> None:
    peer = fragmenting(kit)
    first, *rest = pieces(peer)
    answered(peer, [first, first, *rest])


@CASES.add("RFC 7383 §2.6", "a message of which a fragment is missing is not answered before it is there", unless=UNLESS)
def fragments_with_a_gap(kit: Kit) -> None:
    peer = fragmenting(kit)
    first, second, third = pieces(peer)
    waits(kit, peer, [first, third])
    answered(peer, [second])


@CASES.add("RFC 7383 §2.6", "a fragment whose ICV does not hold is discarded, and the right one counts after it", unless=UNLESS)
def fragments_with_a_wrong_icv(kit: Kit) -> None:
    peer = fragmenting(kit)
    first, second, third = pieces(peer)
    waits(kit, peer, [first, forged(second), third])
    answered(peer, [second])


@CASES.add("RFC 7383 §2.5", "a fragment whose number is 0 or above their total is discarded", unless=UNLESS)
def fragments_of_impossible_numbers(kit: Kit) -> None:
    peer = fragmenting(kit)
    first, plain = build_parts(peer.auth_parts())
    impossible = ((first, 0, 2), (0, 3, 2), (first, 0, 0), (first, 2, 1))
    waits(kit, peer, [peer.fragment(ExchangeType.IKE_AUTH, fields, plain) for fields in impossible])
    answered(peer, pieces(peer))


@CASES.add("RFC 7383 §2.6", "fragments of a larger total take the place of those that are there", unless=UNLESS)
def fragments_of_a_larger_total(kit: Kit) -> None:
    peer = fragmenting(kit)
    peer.send(pieces(peer, 2)[0])
    answered(peer, pieces(peer, 4))


@CASES.add("RFC 7383 §2.6", "a fragment of a smaller total than those that are there is discarded", unless=UNLESS)
def fragments_of_a_smaller_total(kit: Kit) -> None:
    peer = fragmenting(kit)
    small, large = pieces(peer, 2), pieces(peer, 4)
    waits(kit, peer, [large[0], *small])
    answered(peer, large[1:])


@CASES.add("RFC 7383 §2.6.1", "a repeated first fragment has the response again, another one has not", unless=UNLESS)
def fragments_repeated(kit: Kit) -> None:
    peer = fragmenting(kit)
    first, second, third = pieces(peer)
    match = peer.answers(peer.sa.next_id)
    answered(peer, [first, second, third])
    since = len(peer.heard)
    peer.send(second)
    kit.alive(peer)
    demand(peer.listen(match, kit.grace, since) is None, "the second has the response again")
    peer.send(first)
    demand(peer.listen(match, ALIVE_S, since) is not None, "the first does not have it")


@CASES.add("RFC 7383 §2.5", "a message in one fragment is taken", unless=UNLESS)
def fragments_of_one(kit: Kit) -> None:
    peer = fragmenting(kit)
    answered(peer, pieces(peer, 1))
