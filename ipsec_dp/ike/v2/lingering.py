"""IKE SAs that have ended and only answer a repeat of the last request: so many of an identity, and in all, the newest."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from typing import Generic, TypeVar

from ipsec_dp.ike.authenticated import PEER_LIMITS

S = TypeVar("S")


class Lingering(Generic[S]):
    """Whose peers had authenticated themselves: they take no place of one that is up, and few of their own."""

    def __init__(self) -> None:
        self._all: OrderedDict[S, object] = OrderedDict()  # oldest first, with whose it is
        self._of: defaultdict[object, dict[S, None]] = defaultdict(dict)

    def __len__(self) -> int:
        return len(self._all)

    def add(self, session: S, who: object) -> S | None:
        """It has ended; once for each. The oldest one when that is too many: it is to be closed."""
        self._all[session] = who
        own = self._of[who]
        own[session] = None
        if len(own) > PEER_LIMITS.lingering:
            return next(iter(own))
        return next(iter(self._all)) if len(self._all) > PEER_LIMITS.lingering_in_all else None

    def __contains__(self, session: S) -> bool:
        return session in self._all

    def discard(self, session: S) -> None:
        """It is closed."""
        if session not in self._all:
            return
        who = self._all.pop(session)
        del self._of[who][session]
        if not self._of[who]:
            del self._of[who]
