"""The peers of all tunnels: by the tunnel's name, and by the addresses that a stranger's first message has (RFC 4301 §4.4.3)."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from ipsec_dp.ike.certificates import Trust
from ipsec_dp.ike.peer import SignatureAuth
from ipsec_dp.ike.strangers import LIMITS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography import x509

    from ipsec_dp.ike.actions import Path
    from ipsec_dp.ike.identity import Identity
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ipsec.addresses import Address


class Candidates:
    """Who somebody may be: `peers`, the likeliest first. What messages are compared with is found once for all of them, so that a
    stranger's message costs the same however many tunnels there are."""

    def __init__(self, peers: tuple[Peer, ...]) -> None:
        self.peers = peers

    @cached_property
    def offers(self) -> tuple[Peer, ...]:
        """One peer for each set of IKE proposals that there is."""
        return tuple({peer.ike_proposals: peer for peer in reversed(self.peers)}.values())[::-1]

    @cached_property
    def authorities(self) -> tuple[x509.Certificate, ...]:
        """Of all that authenticate by certificates."""
        trusts = [peer.auth.trust for peer in self.peers if isinstance(peer.auth, SignatureAuth)]
        return tuple(dict.fromkeys(authority for trust in trusts for authority in trust.authorities))

    @cached_property
    def authority_hashes(self) -> bytes:
        """As a CERTREQ to a stranger names them. Of too many none, which asks for a certificate of whomever, so that the answer
        stays short."""
        return Trust(self.authorities).authority_hashes() if len(self.authorities) <= LIMITS.authorities_named else b""

    @cached_property
    def _by_identity(self) -> dict[object, tuple[Peer, ...]]:
        found: dict[object, list[Peer]] = {}
        for peer in self.peers:
            found.setdefault(None if peer.remote_id is None else peer.remote_id.meaning(), []).append(peer)
        return {meaning: tuple(peers) for meaning, peers in found.items()}

    def expecting(self, identity: Identity, address: Identity) -> tuple[Peer, ...]:
        """Those that expect this identity; `address` is that of the peer's address, which stands for one that is not configured."""
        meaning = identity.meaning()
        by_address = self._by_identity.get(None, ()) if meaning == address.meaning() else ()
        return self._by_identity.get(meaning, ()) + by_address


class PeerTable:
    """What the tunnels say now."""

    def __init__(self, peers: Iterable[Peer] = ()) -> None:
        self._of_tunnel = {peer.tunnel: peer for peer in peers}
        self._at: dict[tuple[Address | None, Address | None], list[Peer]] = {}  # by remote and local address; None: any
        self._candidates: dict[tuple[tuple[Address | None, Address | None], ...], Candidates] = {}  # by the keys of `_at` that fit
        for peer in self._of_tunnel.values():
            for address in peer.remotes or (None,):
                self._at.setdefault((address, peer.local), []).append(peer)

    def __getitem__(self, tunnel: str) -> Peer:
        """KeyError: no such tunnel."""
        return self._of_tunnel[tunnel]

    def get(self, tunnel: str) -> Peer | None:
        return self._of_tunnel.get(tunnel)

    def candidates(self, path: Path) -> Candidates | None:
        """Who may be calling: tunnels with that very address before those that take any; None: nobody."""
        remotes, locals_ = (path.remote.address, None), (path.local.address, None)
        keys = tuple(key for remote in remotes for local in locals_ if (key := (remote, local)) in self._at)
        if not keys:
            return None
        if keys not in self._candidates:
            self._candidates[keys] = Candidates(tuple(peer for key in keys for peer in self._at[key]))
        return self._candidates[keys]
