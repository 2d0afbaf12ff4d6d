"""Attempts that wait for an answer: how many there may be at once, in all and to one peer. Pure: no clock, no socket.

A thousand requests at once would meet a full receive buffer and the limits on half-open IKE SAs of the peer, and be repeated.
Beyond a few from one address a peer asks for cookies, which makes each of them a message longer in both directions: so there are no
more at once than keep it busy. How many that are follows from the quickest answer: far away it takes more of them.
"""

from __future__ import annotations

from collections import Counter, deque
from math import ceil, inf
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

CALLS_AT_ONCE: Final = 24  # in all, and to one peer at the most
CALLS_OF_PEER: Final = 5  # to one that answers quickly: what it takes without cookies, if it is one of ours
CALLS_A_SECOND: Final = 50  # that one peer is to have to do, if it is far away
CALL_FRESH_S: Final = 1.0  # an attempt that has no answer after so long does not count


class _Call(NamedTuple):
    peer: Hashable
    began: float


class Calls:
    """By tunnel. A peer is what is called: an address, or a name."""

    def __init__(self) -> None:
        self._fresh: dict[str, _Call] = {}
        self._of_peer: Counter[Hashable] = Counter()  # of those
        self._quickest: dict[Hashable, float] = {}  # seconds to the quickest answer, of peers that are being called
        self._aside: dict[Hashable, deque[str]] = {}  # tunnels that are due, and wait for others of their peer
        self.held_back = False  # others are due, which all that are under way do not let begin

    @property
    def full(self) -> bool:
        return len(self._fresh) >= CALLS_AT_ONCE

    @property
    def waiting(self) -> bool:
        """Whether an attempt may begin when one is answered."""
        return self.held_back or bool(self._aside)

    def busy(self, peer: Hashable) -> bool:
        """Whether it is called often enough just now."""
        seconds = self._quickest.get(peer, 0.0)
        return self._of_peer[peer] >= min(max(CALLS_OF_PEER, ceil(seconds * CALLS_A_SECOND)), CALLS_AT_ONCE)

    def begin(self, tunnel: str, peer: Hashable, now: float) -> None:
        self.forget(tunnel)
        self._fresh[tunnel] = _Call(peer, now)
        self._of_peer[peer] += 1

    def answered(self, tunnel: str, now: float) -> bool:
        """Whether it was under way."""
        call = self._fresh.get(tunnel)
        if call is None:
            return False
        self._quickest[call.peer] = min(self._quickest.get(call.peer, inf), now - call.began)
        self.forget(tunnel)
        return True

    def forget(self, tunnel: str) -> None:
        """It is not under way any more, or was not."""
        call = self._fresh.pop(tunnel, None)
        if call is None:
            return
        self._of_peer[call.peer] -= 1
        if self._of_peer[call.peer] <= 0:
            del self._of_peer[call.peer]
            if call.peer not in self._aside:
                self._quickest.pop(call.peer, None)

    def expire(self, now: float) -> None:
        """Those without an answer for too long count no more."""
        for tunnel in [tunnel for tunnel, call in self._fresh.items() if now - call.began >= CALL_FRESH_S]:
            self.forget(tunnel)

    def set_aside(self, tunnel: str, peer: Hashable) -> None:
        """It is due, and its peer is busy."""
        self._aside.setdefault(peer, deque()).append(tunnel)

    def ready(self) -> Iterator[str]:
        """Tunnels that were set aside and whose turn it is now; each is to begin, or is forgotten here."""
        for peer in list(self._aside):
            waiting = self._aside[peer]
            while waiting and not self.full and not self.busy(peer):
                yield waiting.popleft()
            if not waiting:
                del self._aside[peer]
                if peer not in self._of_peer:
                    self._quickest.pop(peer, None)
