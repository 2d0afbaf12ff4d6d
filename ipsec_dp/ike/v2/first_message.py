"""A first message that comes to nothing: what its sender's operator, or ours, can read of it.

Somebody at the address of a configured peer may be that peer, and is worth a line; whoever else it is, is counted. Nothing is
proven: the event is `CLAIMED`, one of few, and reaches no tunnel's intent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.ike.actions import NO_SPI, Cause, Event, Kind, Origin
from ipsec_dp.ike.v2.wire import IKE_SPI
from ipsec_dp.util.text import shown

if TYPE_CHECKING:
    from ipsec_dp.ike.actions import Path
    from ipsec_dp.ike.errors import IkeError
    from ipsec_dp.ike.peer_table import Candidates
    from ipsec_dp.ike.v2.context import Context


def unreadable(
    candidates: Candidates | None, datagram: bytes, error: IkeError, path: Path, kind: Kind = Kind.IKE_FAILED
) -> Event | None:
    """Of a datagram of no IKE SA; None: nobody is expected at that very address."""
    if candidates is None or path.remote.address not in candidates.first.remotes:
        return None
    spi = datagram[:IKE_SPI].ljust(IKE_SPI, b"\0")
    text = f"a message of {len(datagram)} octets from {path.remote} cannot be read as IKEv2: {error} (not authenticated)"
    tunnel = candidates.first.tunnel
    return Event(kind, tunnel, spi, NO_SPI, "", shown(text), Cause.SYNTAX, origin=Origin.CLAIMED)


def unacceptable(context: Context, error: IkeError, path: Path) -> None:
    """An IKE_SA_INIT request that was read, and cannot be answered by an IKE SA."""
    text = f"IKE_SA_INIT from {path.remote} cannot be used: {error} (not authenticated)"
    context.report(Kind.IKE_FAILED, text, cause=Cause.SYNTAX)
