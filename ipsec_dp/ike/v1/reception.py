"""Tells whoever looks at datagrams first which ISAKMP SAs there are: by their cookies, for there is no ICV to know more by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.ike.environment import IkeSaTraits

if TYPE_CHECKING:
    from ipsec_dp.ike.environment import KeyEar, Watcher
    from ipsec_dp.ike.v1.context import IsakmpContext


class IsakmpReception:
    """Of all ISAKMP SAs: what was told of each, so that only what is new is told."""

    def __init__(self, watcher: Watcher, keys: KeyEar) -> None:
        self._watcher, self._keys = watcher, keys
        self._told: dict[bytes, IkeSaTraits] = {}  # by our cookie

    def note(self, session: IsakmpContext) -> None:
        """It has done something."""
        sa = session.sa
        own, peer = (sa.cookie_i, sa.cookie_r) if sa.initiator else (sa.cookie_r, sa.cookie_i)
        traits = IkeSaTraits(own, peer, sa.initiator, session.path.natt, session.established)
        if self._told.get(own) != traits:
            self._told[own] = traits
            self._watcher.known(traits, None)
            if traits.authenticated:
                self._keys.isakmp(sa)

    def gone(self, session: IsakmpContext) -> None:
        """It is closed."""
        if self._told.pop(session.sa.own_cookie, None) is not None:
            self._watcher.gone(session.sa.own_cookie)
