"""The peers of tunnels as IKE is to meet them: what is known of their addresses, and how their ESP goes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ipsec_dp.keying.encapsulations import Encapsulations

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ipsec_dp.config import Tunnel
    from ipsec_dp.ike.interface import IkeCore
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ipsec.addresses import Address
    from ipsec_dp.keying.encapsulations import FindingState
    from ipsec_dp.util.clock import Clock
    from ipsec_dp.util.conditions import Conditions


class TunnelPeers:
    """By tunnel. The core hears of all at once, then of each by `apply`; not by `put`, since it hears of a reload as a whole.
    `no_esp`: as `Encapsulations`."""

    def __init__(
        self,
        peers: Mapping[str, Peer],
        tunnels: Iterable[Tunnel],
        core: IkeCore,
        conditions: Conditions,
        clock: Clock,
        no_esp: str | None,
    ) -> None:
        self._peers = dict(peers)
        self._core = core
        self.encapsulations = Encapsulations(self.apply, conditions, clock, no_esp)
        self.encapsulations.look(tunnels)
        core.set_peers(map(self.encapsulations.applied, self._peers.values()))

    def __getitem__(self, name: str) -> Peer:
        """As it is configured, with the addresses that are known."""
        return self._peers[name]

    def get(self, name: str) -> Peer | None:
        """As `[]`; None: there is no such tunnel."""
        return self._peers.get(name)

    def applied(self, name: str) -> Peer:
        """As IKE is to meet it now."""
        return self.encapsulations.applied(self._peers[name])

    def apply(self, name: str) -> None:
        """IKE meets the peer of a tunnel as it is to be met from now on."""
        if name in self._peers:
            self._core.set_peer(self.applied(name))

    def put(self, name: str, peer: Peer, *, keeps_addresses: bool) -> None:
        """Of a tunnel that is new or changed. `keeps_addresses`: its remotes are as they were, and names mean what they meant."""
        self._peers[name] = replace(peer, remotes=self._peers[name].remotes) if keeps_addresses else peer

    def forget(self, name: str) -> None:
        """The tunnel is gone."""
        self._peers.pop(name, None)

    def prove(self, peers: Mapping[str, Peer]) -> tuple[str, ...]:
        """What proves them has changed; the tunnels that are there. `apply` is to follow for each."""
        known = {name: peer for name, peer in peers.items() if name in self._peers}
        self._peers |= {name: replace(peer, remotes=self._peers[name].remotes) for name, peer in known.items()}
        return tuple(known)

    def located(self, name: str, addresses: tuple[Address, ...]) -> None:
        """What the remotes of a tunnel mean now, its names among them. IKE SAs stay as they are, and the next call asks anew."""
        peer = self._peers.get(name)
        if peer is not None and peer.remotes != addresses:
            self._peers[name] = replace(peer, remotes=addresses)
            self.apply(name)

    def take_findings(self, findings: Mapping[str, FindingState]) -> None:
        """What `encapsulations` of another process exported. Of tunnels that are not here, or that have it written how their ESP
        goes, nothing is taken. Raises ValueError for what was never exported."""
        for name, state in findings.items():
            if name in self._peers and self._peers[name].encapsulation == "auto":
                self.encapsulations.resume(name, state)
