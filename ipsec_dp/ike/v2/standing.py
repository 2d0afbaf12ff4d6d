"""What is known of one IKE SA: how its handshake went, who is at both ends, and what the peer can do."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

from ipsec_dp.ike.peer_table import Candidates
from ipsec_dp.ike.ppk import PpkAgreement
from ipsec_dp.ike.v2.int_auth import IntAuth
from ipsec_dp.ike.v2.tolerance import Notes

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography import x509

    from ipsec_dp.ike.actions import Endpoint
    from ipsec_dp.ike.authenticated import Account
    from ipsec_dp.ike.certificates import Verified
    from ipsec_dp.ike.identity import Identity
    from ipsec_dp.ike.v2.exchanges import UnprovenError
    from ipsec_dp.ipsec.transforms import Group


@dataclass(slots=True)
class Abilities:
    """What the peer can do, as its messages say."""

    longest: float = inf  # octets of IP datagram that get there, where longer ones were lost or are not sent (`shorter`)
    longest_until: float = inf  # then longer ones are tried again
    followed: bool = False  # the peer sends no longer ones; none of ours was lost
    slow: bool = False  # it answered late, and in longer ones than it was asked in: it may have been slow, or the way narrow
    fragmentation: bool = False  # RFC 7383
    hashes: frozenset[int] | None = None  # of its signatures (RFC 7427); None: it knows only the classic methods
    single_pair: bool = False  # it takes one pair of selectors in an exchange
    notes: Notes = field(default_factory=Notes)  # what they say besides


@dataclass(slots=True)
class Handshake:
    """IKE_SA_INIT as it went, and IKE_INTERMEDIATE."""

    request_key: tuple[bytes, Endpoint]  # by which a duplicate request finds its way
    candidates: Candidates  # who it may be
    nonces: tuple[bytes, bytes] = (b"", b"")  # Ni, Nr, for AUTH
    messages: tuple[bytes, bytes] = (b"", b"")  # request and response as sent, for AUTH
    further: list[Group] = field(default_factory=list)  # additional key exchanges that are still to come
    int_auth: IntAuth = field(default_factory=IntAuth)
    ppk: PpkAgreement = field(default_factory=PpkAgreement)
    floated: bool = False  # it began on port 500, and goes on on 4500
    repeated: int = 0  # times that the peer asked again, unauthenticated, for what we had answered
    other_request: bytes = b""  # the peer's same request with a COOKIE, or without the one that the first had
    hints: list[UnprovenError] = field(default_factory=list)  # unauthenticated refusals
    unreachable: bool = False  # an ICMP message says that ours do not get to port 4500
    spoken: bool = False  # something came for our request that is IKEv2, and does not refuse it
    unspoken: bool = False  # our request was sent as often as it is, and nothing such came


@dataclass(slots=True)
class Ends:
    """Who is at both ends, and how the peer showed it."""

    called: bool  # we began the IKE SA that was authenticated: rekeys leave it
    identities: tuple[Identity, Identity] | None = None  # ours, the peer's
    certificates: tuple[x509.Certificate, ...] = ()  # by which the peer proved itself
    until: datetime | None = None  # when the first of them, or of those above them, runs out
    listed_until: datetime | None = None  # when the first CRL does that has to say that they are not revoked
    renew_at: datetime | None = None  # when it is tried to have others before that
    initial_contact: bool = False  # whoever called sent it
    account: Account | None = None  # what its requests have cost, of this identity's IKE SAs together

    def hold(self, verified: Verified) -> None:
        """The peer's certificates have been judged: they are good for so long."""
        self.until, self.listed_until = verified.until, verified.listed_until

    @property
    def theirs(self) -> Identity | None:
        """The peer's identity, once it is known or expected."""
        return None if self.identities is None else self.identities[1]

    def meaning(self) -> object:
        """The same for the same two identities, however they are written; None before they are known."""
        return None if self.identities is None else tuple(identity.meaning() for identity in self.identities)
