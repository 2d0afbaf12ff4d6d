"""What a person is told of a peer that calls by another version of IKE than its tunnel speaks: which, and what to write where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.actions import NO_SPI, Cause, Event, Kind, Origin
from ipsec_dp.util.text import shown

if TYPE_CHECKING:
    from ipsec_dp.ike.actions import Endpoint

_TEXTS: Final = {
    1: 'calls by IKEv1, and the tunnel speaks IKEv2: set the peer to IKEv2, or write version = "1" or "2-preferred" here',
    2: 'calls by IKEv2, and the tunnel speaks IKEv1: set the peer to IKEv1, or write version = "2" or "2-preferred" here',
}
_PINNED: Final = (
    "calls by IKEv1, and the tunnel is pinned to IKEv2, by which its peer has authenticated: set the peer to IKEv2 again; "
    "if nobody but you has changed it: ipsec-dp unpin {tunnel}"
)


def begins(datagram: bytes) -> bool:
    """Whether it is the first message of somebody, whatever the version."""
    return datagram[len(NO_SPI) : 2 * len(NO_SPI)] == NO_SPI


def called(tunnel: str, version: int, datagram: bytes, remote: Endpoint, *, pinned: bool) -> Event:
    """`version`: of the message; `pinned`: the tunnel might have spoken it. Nobody has proven anything."""
    text = f"{remote} {_PINNED.format(tunnel=tunnel) if pinned else _TEXTS[version]} (not authenticated)"
    kind = Kind.IKEV1 if version == 1 else Kind.WARNING
    return Event(kind, tunnel, datagram[: len(NO_SPI)], NO_SPI, "", shown(text), Cause.REFUSED, origin=Origin.CLAIMED)
