"""The peers of all tunnels: by the tunnel's name, and by the addresses that a stranger's first message has (RFC 4301 §4.4.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.ike.actions import Path
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ipsec.addresses import Address


class PeerTable:
    """What the tunnels say now."""

    def __init__(self, peers: Iterable[Peer] = ()) -> None:
        self._of_tunnel = {peer.tunnel: peer for peer in peers}
        self._at: dict[tuple[Address | None, Address | None], list[Peer]] = {}  # by remote and local address; None: any
        for peer in self._of_tunnel.values():
            for address in peer.remotes or (None,):
                self._at.setdefault((address, peer.local), []).append(peer)

    def __getitem__(self, tunnel: str) -> Peer:
        """KeyError: no such tunnel."""
        return self._of_tunnel[tunnel]

    def get(self, tunnel: str) -> Peer | None:
        return self._of_tunnel.get(tunnel)

    def candidates(self, path: Path) -> tuple[Peer, ...]:
        """Who may be calling: tunnels with that very address before those that take any."""
        remotes, locals_ = (path.remote.address, None), (path.local.address, None)
        return tuple(peer for remote in remotes for local in locals_ for peer in self._at.get((remote, local), ()))
