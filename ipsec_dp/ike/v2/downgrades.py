"""What is told of an IKE SA whose keys do not withstand a quantum adversary who records today, though ours could have.

A warning is for what somebody has to look after: ML-KEM or a PPK was written for the tunnel, or this very peer has had it before.
Of a peer that knows nothing of the default proposals' ML-KEM it is told once, where its IKE SA is said to be up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ipsec_dp.ike import post_quantum

if TYPE_CHECKING:
    from ipsec_dp.ike.identity import Identity
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.v2.sa import IkeSa

REMEMBERED: Final = 4096  # peers that have proven who they are

_LESS: Final = "the keys do not withstand a quantum adversary who records today"


class Downgrade(NamedTuple):
    """One line, and whether it is a warning."""

    text: str
    warns: bool


class Withstood(NamedTuple):
    """Whether keys between these two, of a tunnel, ever withstood."""

    tunnel: str
    identities: tuple[Identity, Identity]
    ever: bool

    @property
    def who(self) -> object:
        """The same for the same two, however they are written."""
        return self.tunnel, tuple(identity.meaning() for identity in self.identities)


class Downgrades:
    """Of one gateway, from its start: whether keys with a peer (tunnel and identities) ever withstood, of the newest REMEMBERED."""

    def __init__(self) -> None:
        self._withstood: dict[object, Withstood] = {}

    def of(self, peer: Peer, identities: tuple[Identity, Identity], sa: IkeSa) -> Downgrade | None:
        """`sa` is up between these: what is to be told; None: nothing, or nothing new."""
        withstands = sa.post_quantum.seed != "none"
        before = self.note(Withstood(peer.tunnel, identities, withstands))
        if withstands or not (peer.ppks or post_quantum.possible(peer.ike_proposals)):
            return None
        if before:
            return Downgrade(f"{_LESS}, as they did before: now the peer took no ML-KEM and no PPK, but {sa.suite}", True)
        if peer.ppks or not peer.by_default:
            return Downgrade(f"{_LESS}: the peer took no ML-KEM and no PPK, but {sa.suite}", True)
        return Downgrade(f"{_LESS}: the peer takes no ML-KEM", False) if before is None else None

    @property
    def known(self) -> list[Withstood]:
        """Of all peers, the newest last."""
        return list(self._withstood.values())

    def ever(self, peer: Peer, identities: tuple[Identity, Identity]) -> bool | None:
        """Of one; None: it is not known."""
        found = self._withstood.get(Withstood(peer.tunnel, identities, False).who)
        return None if found is None else found.ever

    def note(self, one: Withstood) -> bool | None:
        """It is the newest; what was known of it, None: it was not."""
        before = self._withstood.pop(one.who, None)
        self._withstood[one.who] = one._replace(ever=one.ever or (before is not None and before.ever))
        if len(self._withstood) > REMEMBERED:
            del self._withstood[next(iter(self._withstood))]
        return None if before is None else before.ever
