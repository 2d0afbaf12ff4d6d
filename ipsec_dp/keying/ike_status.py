"""What IKE knows of a tunnel, for `status`."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import msgspec

from ipsec_dp.keying.status import IkeSaStatus, KeyingStatus, PostQuantumStatus
from ipsec_dp.keying.tunnel_state import UP, tunnel_state

if TYPE_CHECKING:
    from ipsec_dp.config import Tunnel
    from ipsec_dp.ike.interface import IkeCore, IkeStatus
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.keying.initiation import Intent
    from ipsec_dp.keying.tunnel_peers import TunnelPeers


def keying_status(core: IkeCore, tunnel: Tunnel, intent: Intent, peers: TunnelPeers, now: float) -> KeyingStatus:
    """Of the newest IKE SA that is up, else of the newest that is to come up."""
    name, peer = tunnel.name, peers[tunnel.name]
    sas = core.latest(name, now)
    up = [sa for sa in sas if sa.state in UP]
    newest = up[-1] if up else sas[-1] if sas else None
    state, text, error = tunnel_state(sas, intent, now)
    encapsulation, why = peers.encapsulations.shown(up[-1], peer) if up else (None, None)
    again = core.retransmissions(name)
    return KeyingStatus(
        state=state,
        state_text=text,
        remote=", ".join(map(str, tunnel.remotes)) or "any" if newest is None else str(newest.path.remote.address),
        last_error=error,
        nat="none" if newest is None else newest.nat,
        ike=_ike_sa(up[-1], core.fallback(name, now)) if up else None,
        remote_in_dns=_in_dns(peer, newest),
        up_at=intent.up_at,
        came_up_at=intent.came_up_at,
        encapsulation=encapsulation,
        encapsulation_why=why,
        silent=any(sa.silence is not None for sa in sas),
        heard_at=max([sa.heard for sa in sas], default=-inf),
        tally=intent.tally if again == 0 else msgspec.structs.replace(intent.tally, retransmissions=again),
        pinned=core.pinned(name),
    )


def _in_dns(peer: Peer, newest: IkeStatus | None) -> bool | None:
    return newest.path.remote.address in peer.remotes if newest is not None and peer.named and peer.remotes else None


def _ike_sa(sa: IkeStatus, fallback: str | None) -> IkeSaStatus:
    return IkeSaStatus(
        spi_i=sa.spi_i.hex(),
        spi_r=sa.spi_r.hex(),
        role=sa.role,
        proposal=sa.proposal,
        age_s=round(sa.age_s, 1),
        rekey_in_s=round(sa.rekey_in_s, 1),
        remote_id=sa.remote_id,
        version=sa.version,
        fallback=fallback,
        vendors=sa.vendors,
        unknown_vendors=sa.unknown_vendors,
        post_quantum=PostQuantumStatus.of(sa.post_quantum),
    )
