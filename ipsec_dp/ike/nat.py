"""NAT detection, what follows from it, and the other abilities that IKE_SA_INIT tells (RFC 7296 §2.23)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.constant_time import bytes_eq

from ipsec_dp.ike.auth import parse_hash_algorithms
from ipsec_dp.ike.v2.payloads import Notify, Payload
from ipsec_dp.ike.v2.wire import NotifyType

if TYPE_CHECKING:
    from ipsec_dp.ike.actions import Endpoint
    from ipsec_dp.ike.v2.message import Message
    from ipsec_dp.ike.v2.session import IkeSession


def _detection_hash(spi_i: bytes, spi_r: bytes, end: Endpoint) -> bytes:
    """SHA-1 of SPIs, address and port (RFC 7296 §2.23): it only has to differ when a NAT changed something."""
    return hashlib.sha1(spi_i + spi_r + end.address.packed + end.port.to_bytes(2, "big"), usedforsecurity=False).digest()


def nat_detection(session: IkeSession, spi_i: bytes, spi_r: bytes) -> list[Payload]:
    """Both notifies. Forced encapsulation: a source that cannot be, so that the peer sees a NAT before us and takes UDP."""
    source = _detection_hash(spi_i, spi_r, session.path.local)
    if session.peer.encapsulation == "udp":
        source = session.host.environment.rng(len(source))
    return [
        Notify(NotifyType.NAT_DETECTION_SOURCE_IP, source),
        Notify(NotifyType.NAT_DETECTION_DESTINATION_IP, _detection_hash(spi_i, spi_r, session.path.remote)),
    ]


def note_abilities(session: IkeSession, message: Message) -> None:
    """What the peer's IKE_SA_INIT message says it can do, and whether there is a NAT on the way."""
    spis = (message.header.spi_i, message.header.spi_r)
    sources = [n.data for n in message.all(Notify) if n.notify_type == NotifyType.NAT_DETECTION_SOURCE_IP]
    destination = message.notify(NotifyType.NAT_DETECTION_DESTINATION_IP)
    session.natt_supported = bool(sources) and destination is not None
    if session.natt_supported and destination is not None:
        seen = _detection_hash(*spis, session.path.remote)
        session.nat_remote = not any(bytes_eq(seen, source) for source in sources)
        session.nat_local = not bytes_eq(_detection_hash(*spis, session.path.local), destination.data)
    session.fragmentation = message.notify(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED) is not None
    hashes = message.notify(NotifyType.SIGNATURE_HASH_ALGORITHMS)
    session.peer_hashes = None if hashes is None else parse_hash_algorithms(hashes.data)


def uses_udp(session: IkeSession) -> bool:
    """True when ESP of this SA goes in UDP (RFC 7296 §2.23): a NAT is there, or either side forces it."""
    if session.peer.encapsulation == "esp":
        return False
    return session.natt_supported and (session.nat_local or session.nat_remote or session.peer.encapsulation == "udp")


def float_port(session: IkeSession) -> None:
    """As initiator: go on from port 4500 once a NAT was seen (RFC 7296 §2.23)."""
    if uses_udp(session) and not session.path.natt:
        session.path = session.path.floated()
