"""What is known of one ISAKMP SA: how phase 1 goes, who is at both ends, and what the peer can do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ipsec_dp.ike.actions import Cause
from ipsec_dp.ike.nat import Said
from ipsec_dp.ike.peer_table import Candidates

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography import x509

    from ipsec_dp.ike.dh import KeyExchange
    from ipsec_dp.ike.identity import Identity
    from ipsec_dp.ike.traffic_selectors import ProxyId


@dataclass(slots=True)
class Negotiation:
    """Phase 1 as it goes on. `last_in`, `last_out`: the digest of the peer's last message, and our answer to it, for its
    duplicate: whoever begins has not shown that he may have us keep 64 KB."""

    candidates: Candidates  # who it may be
    sa_body: bytes = b""  # SAi_b
    nonces: tuple[bytes, bytes] = (b"", b"")  # Ni_b, Nr_b
    publics: tuple[bytes, bytes] = (b"", b"")  # g^xi, g^xr
    key: KeyExchange | None = None
    iv: bytes = b""
    peer_id: bytes = b""  # IDii_b of message 1 of aggressive mode
    last_in: bytes = b""
    last_out: bytes = b""
    refused: bytes = b""  # the last block of a message 6 that proved nothing
    hints: list[tuple[str, Cause | None]] = field(default_factory=list)  # unauthenticated refusals
    unreachable: bool = False  # an ICMP message says that ours do not get to port 4500
    floated: bool = False  # it began on port 500, and goes on on 4500
    asked: tuple[ProxyId | None, ...] = ()  # what the ISAKMP SA is made for; None: all that is configured
    initial_contact: bool = False
    repeated: bool = False  # the peer sent its last message again
    answers_kept_back: bool = False  # which was told


@dataclass(slots=True)
class PeersAbilities:
    """What its vendor IDs say."""

    nat_t: bytes = b""  # the vendor ID of the best that both know
    said: Said = Said.TRUTH  # about our address, where NAT-T is agreed on
    dpd: bool = False
    fragmentation: bool = False
    vendors: tuple[str, ...] = ()  # by name
    unknown_vendors: int = 0


@dataclass(slots=True)
class Proven:
    """Who is at both ends, and by what the peer has shown it."""

    identities: tuple[Identity, Identity] | None = None  # ours, the peer's
    certificates: tuple[x509.Certificate, ...] = ()
    until: datetime | None = None  # when the first of them runs out
