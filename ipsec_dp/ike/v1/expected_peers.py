"""The peers that are to speak IKEv1, and the addresses at which they are expected, which the data plane reserves something for."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ipsec_dp.ike.peer_table import PeerTable

if TYPE_CHECKING:
    from ipsec_dp.ike.environment import Watcher
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ipsec.addresses import Address


class ExpectedPeers(PeerTable):
    """By tunnel; each address is told of once, however many tunnels have it."""

    def __init__(self, watcher: Watcher) -> None:
        super().__init__()
        self._watcher = watcher
        self._remotes: dict[str, tuple[Address, ...]] = {}
        self._places: Counter[Address] = Counter()

    def __bool__(self) -> bool:
        return bool(self._remotes)

    def set(self, peer: Peer) -> None:
        super().set(peer)
        before, self._remotes[peer.tunnel] = self._remotes.get(peer.tunnel, ()), tuple(dict.fromkeys(peer.remotes))
        self._move(before, self._remotes[peer.tunnel])

    def discard(self, tunnel: str) -> None:
        super().discard(tunnel)
        self._move(self._remotes.pop(tunnel, ()), ())

    def clear(self) -> None:
        """No tunnel is to speak IKEv1 any more."""
        for tunnel in tuple(self._remotes):
            self.discard(tunnel)

    def _move(self, before: tuple[Address, ...], after: tuple[Address, ...]) -> None:
        """A tunnel's peer is expected elsewhere now."""
        if before == after:
            return
        for address in after:
            self._places[address] += 1
            if self._places[address] == 1:
                self._watcher.ikev1_peer(address, there=True)
        for address in before:
            self._places[address] -= 1
            if not self._places[address]:
                del self._places[address]
                self._watcher.ikev1_peer(address, there=False)
