"""The peers of all tunnels: by the tunnel's name, and by the addresses that a stranger's first message has (RFC 4301 §4.4.3)."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

from ipsec_dp.ike.certificates import Trust
from ipsec_dp.ike.peer import SignatureAuth
from ipsec_dp.ike.strangers import LIMITS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cryptography import x509

    from ipsec_dp.ike.actions import Path
    from ipsec_dp.ike.identity import Identity
    from ipsec_dp.ike.peer import Encapsulation, Mode, Peer, SharedKeyAuth
    from ipsec_dp.ike.ppk import Ppk
    from ipsec_dp.ike.proposal import Proposal
    from ipsec_dp.ipsec.addresses import Address


K = TypeVar("K")


class _Group:
    """The peers of one place, by tunnel. What messages are compared with is found once for all of them, at the first question, and
    follows them one by one."""

    def __init__(self, peers: Iterable[Peer] = ()) -> None:
        self.peers = {peer.tunnel: peer for peer in peers}
        self._offers: dict[_Offer, dict[str, Peer]] | None = None
        self._by_identity: dict[object, dict[str, Peer]] = {}
        self._by_ppk: dict[bytes, dict[str, Peer]] = {}
        self._trusted: Counter[x509.Certificate] = Counter()
        self._encapsulations: Counter[Encapsulation] = Counter()
        self._authorities: tuple[x509.Certificate, ...] | None = None

    def add(self, peer: Peer) -> None:
        self.peers[peer.tunnel] = peer
        if self._offers is not None:
            self._note(peer, self._offers)

    def discard(self, peer: Peer) -> None:
        del self.peers[peer.tunnel]
        if self._offers is None:
            return
        _take_out(self._offers, _offer(peer), peer)
        _take_out(self._by_identity, _meaning(peer), peer)
        for ppk in peer.ppks:
            _take_out(self._by_ppk, ppk.id, peer)
        self._trusted -= Counter(_authorities(peer))
        self._encapsulations -= Counter((peer.encapsulation,))
        self._authorities = None

    def _note(self, peer: Peer, offers: dict[_Offer, dict[str, Peer]]) -> None:
        offers.setdefault(_offer(peer), {})[peer.tunnel] = peer
        self._by_identity.setdefault(_meaning(peer), {})[peer.tunnel] = peer
        for ppk in peer.ppks:
            self._by_ppk.setdefault(ppk.id, {})[peer.tunnel] = peer
        self._trusted.update(_authorities(peer))
        self._encapsulations[peer.encapsulation] += 1
        self._authorities = None

    @property
    def offers(self) -> dict[_Offer, dict[str, Peer]]:
        """The peers with each set of IKE proposals and kind of proof."""
        if self._offers is None:
            self._offers = {}
            for peer in self.peers.values():
                self._note(peer, self._offers)
        return self._offers

    def expecting(self, meaning: object) -> Iterable[Peer]:
        """Those with an identity that means this; None: without one."""
        return self._by_identity.get(meaning, {}).values() if self.offers else ()

    def with_ppk(self, ppk_id: bytes | None = None) -> Iterable[Peer]:
        """Those that have a PPK of this name; None: the first that has any."""
        if not self.offers:
            return ()
        of_name = next(iter(self._by_ppk.values()), {}) if ppk_id is None else self._by_ppk.get(ppk_id, {})
        return of_name.values()

    @property
    def encapsulations(self) -> Iterable[Encapsulation]:
        """What they have written, each once."""
        return self._encapsulations.keys() if self.offers else ()

    @property
    def authorities(self) -> tuple[x509.Certificate, ...]:
        """Of those that authenticate by certificates."""
        if self._authorities is None:
            self._authorities = tuple(self._trusted) if self.offers else ()
        return self._authorities


_Offer = tuple["tuple[Proposal, ...]", "type[SharedKeyAuth | SignatureAuth]", "Mode"]


def _offer(peer: Peer) -> _Offer:
    """What the first answer to a stranger depends on: IKEv1 agrees on the kind of proof with the algorithms, and has two modes."""
    return peer.ike_proposals, type(peer.auth), peer.mode


def _take_out(index: dict[K, dict[str, Peer]], key: K, peer: Peer) -> None:
    del index[key][peer.tunnel]
    if not index[key]:
        del index[key]


def _meaning(peer: Peer) -> object:
    return None if peer.remote_id is None else peer.remote_id.meaning()


def _authorities(peer: Peer) -> tuple[x509.Certificate, ...]:
    return peer.auth.trust.authorities if isinstance(peer.auth, SignatureAuth) else ()


@lru_cache(maxsize=8)
def _hashes(authorities: tuple[x509.Certificate, ...]) -> bytes:
    return Trust(authorities).authority_hashes()


class Candidates:
    """Who somebody may be, the likeliest first. A stranger's message costs the same however many tunnels there are."""

    def __init__(self, peers: Iterable[Peer] = (), groups: tuple[_Group, ...] = ()) -> None:
        self._groups = groups or (_Group(peers),)

    @property
    def peers(self) -> tuple[Peer, ...]:
        """All of them."""
        return tuple(_once(peer for group in self._groups for peer in group.peers.values()))

    @property
    def first(self) -> Peer:
        """The likeliest."""
        return next(iter(self._groups[0].peers.values()))

    @property
    def encapsulations(self) -> Iterable[Encapsulation]:
        """What is configured for those at the likeliest place."""
        return self._groups[0].encapsulations

    @property
    def offers(self) -> tuple[Peer, ...]:
        """One peer for each set of IKE proposals, kind of proof and mode that there is at a place."""
        return tuple(next(iter(peers.values())) for group in self._groups for peers in group.offers.values())

    @property
    def authorities(self) -> tuple[x509.Certificate, ...]:
        """Of all that authenticate by certificates."""
        if len(self._groups) == 1:
            return self._groups[0].authorities
        return tuple(dict.fromkeys(authority for group in self._groups for authority in group.authorities))

    @property
    def authority_hashes(self) -> bytes:
        """As a CERTREQ to a stranger names them. Of too many none, which asks for a certificate of whomever, so that the answer
        stays short."""
        return _hashes(self.authorities) if len(self.authorities) <= LIMITS.authorities_named else b""

    @property
    def have_ppks(self) -> bool:
        """Whether one of them has a PPK."""
        return any(group.with_ppk() for group in self._groups)

    def ppks(self, ppk_id: bytes) -> Iterator[Ppk]:
        """The PPKs of this name, of whichever of them."""
        peers = (peer for group in self._groups for peer in group.with_ppk(ppk_id))
        return (ppk for peer in peers for ppk in peer.ppks if ppk.id == ppk_id)

    def expecting(self, identity: Identity, address: Identity) -> tuple[Peer, ...]:
        """Those that expect this identity; `address` is that of the peer's address, which stands for one that is not configured."""
        meaning = identity.meaning()
        meanings = (meaning, None) if meaning == address.meaning() else (meaning,)
        return tuple(_once(peer for each in meanings for group in self._groups for peer in group.expecting(each)))


def _once(peers: Iterable[Peer]) -> Iterable[Peer]:
    """Who has a name may stand at its address and at any."""
    return {peer.tunnel: peer for peer in peers}.values()


_Place = tuple["Address | None", "Address | None"]


class PeerTable:
    """What the tunnels say now."""

    def __init__(self, peers: Iterable[Peer] = ()) -> None:
        self._of_tunnel: dict[str, Peer] = {}
        self._at: dict[_Place, _Group] = {}
        for peer in peers:
            self.set(peer)

    def set(self, peer: Peer) -> None:
        """What its tunnel says from now on, in the place of what it said. Where it stays, its group does: whoever has begun there
        has this one, and is not proven yet."""
        before, places = self._of_tunnel.get(peer.tunnel), _places(peer)
        self._of_tunnel[peer.tunnel] = peer
        for place in places:
            group = self._at.setdefault(place, _Group())
            if peer.tunnel in group.peers:
                group.discard(group.peers[peer.tunnel])
            group.add(peer)
        if before is not None:
            self._leave(before, set(_places(before)).difference(places))

    def discard(self, tunnel: str) -> None:
        """There is no such tunnel any more."""
        peer = self._of_tunnel.pop(tunnel, None)
        if peer is not None:
            self._leave(peer, _places(peer))

    def _leave(self, peer: Peer, places: Iterable[_Place]) -> None:
        for place in places:
            self._at[place].discard(peer)
            if not self._at[place].peers:
                del self._at[place]

    def __getitem__(self, tunnel: str) -> Peer:
        """KeyError: no such tunnel."""
        return self._of_tunnel[tunnel]

    def get(self, tunnel: str) -> Peer | None:
        return self._of_tunnel.get(tunnel)

    def candidates(self, path: Path) -> Candidates | None:
        """Who may be calling: tunnels with that very address before those that take any; None: nobody."""
        remotes, locals_ = (path.remote.address, None), (path.local.address, None)
        groups = tuple(self._at[place] for remote in remotes for local in locals_ if (place := (remote, local)) in self._at)
        return Candidates(groups=groups) if groups else None


def _places(peer: Peer) -> list[_Place]:
    """Where it may call from, and to: remote and local address, None: any."""
    anywhere = (None,) if peer.named or not peer.remotes else ()
    return [(address, peer.local) for address in (*dict.fromkeys(peer.remotes), *anywhere)]
