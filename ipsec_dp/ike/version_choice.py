"""Which version of IKE the next call of a tunnel speaks that prefers IKEv2 (`version = "2-preferred"`).

The way down is long, the way up short:

| what happened | what follows |
| --- | --- |
| IKEv2 unanswered, or refused by version, at every address: a whole attempt | another one |
| the second such attempt, which began APART seconds after the first or later | main mode at once, and once at every address |
| the peer has authenticated by IKEv1 | the tunnel has fallen: from now on one whole attempt is enough |
| main mode came to nothing everywhere | IKEv2 again, from the beginning, or once where the tunnel has fallen |
| anything else that may be the peer's answer to IKEv2 | everything so far is forgotten |
| the peer has authenticated with IKEv2 | pinned: IKEv1 never again |

Neither silence nor a refusal is authenticated: whoever sits on the way can make a peer fall that is not pinned, and no other.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from ipsec_dp.ike.actions import Cause

if TYPE_CHECKING:
    from ipsec_dp.ike.actions import Event, Path
    from ipsec_dp.ike.peer import Peer, Version
    from ipsec_dp.ipsec.addresses import Address
    from ipsec_dp.ipsec.selectors import SelectorPair

APART: Final = 30.0  # seconds from the beginning of one whole attempt to that of the one that confirms it
PATIENCE: Final = 15.0  # seconds that a renewal of phase 1 leaves to IKEv2, before main mode: longer than a call to one address

# Ends of a call that say nothing about which version the peer speaks.
_OURS: Final = frozenset({Cause.LOCAL, Cause.REPLACED, Cause.CLONED})

_FELL: Final = f"it did not answer IKEv2, or refused that version, twice and {APART:g} s or more apart"
_CALLED: Final = "it calls by IKEv1, and has not authenticated with IKEv2 so far"


class Call(NamedTuple):
    """To one address, and the packet that asked for it."""

    path: Path
    packet: SelectorPair | None = None


@dataclass(slots=True)
class _Round:
    """Calls by one version, until each address had its turn."""

    began: float
    calls: int = 0
    failed: set[Address] = field(default_factory=set)

    def whole(self, peer: Peer) -> bool:
        """Whether no address that the peer is known to have was left out, and no name."""
        return self.calls >= peer.places and self.failed.issuperset(peer.remotes)


class VersionChoice:
    """Of one tunnel. `peer` is what it says now, `pinned` whether its peer has ever authenticated with IKEv2."""

    def __init__(self, peer: Peer, *, pinned: bool) -> None:
        self.peer = peer
        self.pinned = pinned
        self.renewing = False  # what is tried by IKEv2 is to take the place of what is up by IKEv1
        self.main_mode_waits = False  # for what comes of that
        self.reason: str | None = None  # why the peer was last met by IKEv1
        self._fallen = False
        self._next: Version = 2
        self._round: _Round | None = None
        self._first: float | None = None  # when the whole attempt began that one more is to confirm
        self.last: Call | None = None  # what is under way, or came to nothing last

    @property
    def memory(self) -> tuple[bool, float | None, str | None]:
        """What it knows of the peer: whether it fell, since when that is to be confirmed, and why it is met by IKEv1."""
        return self._fallen, self._first, self.reason

    def resume(self, memory: tuple[bool, float | None, str | None]) -> None:
        """It goes on from the `memory` of another."""
        self._fallen, self._first, self.reason = memory

    @property
    def ikev1_peer(self) -> Peer | None:
        """The peer by IKEv1: from its own addresses alone; None: it may not speak that, or has none."""
        fallback = self.peer.fallback
        may = fallback is not None and not self.pinned and bool(self.peer.remotes)
        return replace(fallback, remotes=self.peer.remotes) if may and fallback is not None else None

    def call(self, call: Call, now: float) -> Version:
        """One begins, when nothing of the tunnel is up or under way: by which version."""
        if self.ikev1_peer is None:
            self._next = 2
        if self._round is None:
            self._round = _Round(now)
        self.last = call
        return self._next

    def failed(self, event: Event) -> bool:
        """That call came to nothing. True: it was the last by IKEv2 that was needed, and main mode is due."""
        before = self._next
        if self._round is None or self.last is None or event.cause in _OURS or self.ikev1_peer is None:
            return False
        if self._next == 2 and not event.unspoken:
            self._begin_anew()
            return False
        self._round.calls += 1
        self._round.failed.add(self.last.path.remote.address)
        if self._round.whole(self.peer):
            began, self._round = self._round.began, None
            self._passed(began)
        return before != self._next == 1

    def _passed(self, began: float) -> None:
        """Every address had its turn."""
        if self._next == 1:
            self._next, self._first = 2, None
        elif self._fallen or (self._first is not None and began - self._first >= APART):
            self._next = 1
        elif self._first is None:
            self._first = began

    def _begin_anew(self) -> None:
        self._round, self._first, self._next, self._fallen = None, None, 2, False

    def authenticated(self, version: Literal[1, 2], *, called: bool) -> None:
        """The peer has shown who it is. `called`: by us."""
        if version == 2:
            self._begin_anew()
            self.pinned, self.renewing, self.main_mode_waits, self.reason = True, False, False, None
            return
        self._fallen = self._fallen or called
        self._round, self._first, self._next = None, None, 2
        self.reason = _FELL if self._fallen else _CALLED
