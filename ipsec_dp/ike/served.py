"""Which CHILD_SAs of an IKE SA came of which proxy ID of its tunnel: of all of it, or of what the peer narrowed it to."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING

from ipsec_dp.ike.proxy_ids import near

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from ipsec_dp.ike.traffic_selectors import ProxyId


class Served:
    """The CHILD_SAs that are there to stay, by proxy ID. What the peer once took all of is served only as a whole from then on."""

    def __init__(self, configured: tuple[ProxyId, ...]) -> None:
        self.configured = Configured(configured)
        self._up: dict[int, tuple[ProxyId, ...]] = {}  # at the last look, and their selectors
        self._bearers: dict[ProxyId, dict[int, bool]] = {}  # True: of all of the proxy ID
        self._wholes: Counter[ProxyId] = Counter()  # how many of them are
        self._whole: set[ProxyId] = set()

    @property
    def up(self) -> dict[int, tuple[ProxyId, ...]]:
        """The CHILD_SAs that were there at the last look, and their selectors."""
        return dict(self._up)

    @property
    def whole(self) -> set[ProxyId]:
        """What is served as a whole alone."""
        return set(self._whole)

    def resume(self, up: dict[int, tuple[ProxyId, ...]], whole: set[ProxyId]) -> None:
        """It goes on from what another had."""
        self.look(up, ())
        self._whole = whole

    def configure(self, configured: tuple[ProxyId, ...]) -> None:
        """Other proxy IDs, and the same CHILD_SAs."""
        self.configured = Configured(configured)
        self._whole.intersection_update(configured)
        self._bearers.clear()
        self._wholes.clear()
        for number, pairs in self._up.items():
            self._came(number, pairs)

    def look(self, came: Mapping[int, tuple[ProxyId, ...]], went: Iterable[int]) -> dict[ProxyId, int]:
        """What is there now and was not, and what is no longer. The proxy IDs that this may concern, each with the CHILD_SA of it
        that went last, -1: none."""
        new = {number: pairs for number, pairs in came.items() if number not in self._up}
        self._up |= new
        affected = {one: -1 for number, pairs in new.items() for one in self._came(number, pairs)}
        for number in sorted(went):
            pairs = self._up.pop(number, None)
            if pairs is not None:
                affected |= dict.fromkeys(self._left(number, pairs), number)
        return affected

    def _came(self, number: int, pairs: tuple[ProxyId, ...]) -> Collection[ProxyId]:
        served = self.configured.served(pairs)
        for proxy_id, whole in served.items():
            self._bearers.setdefault(proxy_id, {})[number] = whole
            self._wholes[proxy_id] += whole
        return served

    def _left(self, number: int, pairs: tuple[ProxyId, ...]) -> Collection[ProxyId]:
        served = self.configured.served(pairs)
        for proxy_id in served:
            self._wholes[proxy_id] -= self._bearers.get(proxy_id, {}).pop(number, False)
        return served

    def holds(self, proxy_id: ProxyId) -> bool:
        whole = self._wholes[proxy_id] > 0
        held = bool(self._bearers.get(proxy_id)) and (whole or proxy_id not in self._whole)
        if whole:
            self._whole.add(proxy_id)
        return held

    def held(self) -> set[ProxyId]:
        """All of them."""
        return {one for one in self._bearers if self.holds(one)}

    def by(self, child: int) -> Collection[ProxyId]:
        """What a CHILD_SA serves."""
        return self.configured.served(self._up.get(child, ()))

    def has_shrunk(self, proxy_ids: Iterable[ProxyId]) -> bool:
        """True when the peer once took all of one of these, and takes less now."""
        return any(self._bearers.get(one) and not self.holds(one) for one in proxy_ids)

    def granted(self, proxy_ids: Iterable[ProxyId]) -> None:
        """The peer has answered the question for these: what it gives now is what there is, be it less than before."""
        self._whole.difference_update(proxy_ids)

    def any_of(self, pairs: tuple[ProxyId, ...], proxy_ids: Iterable[ProxyId]) -> bool:
        """True when a CHILD_SA with these selectors came of one of `proxy_ids`."""
        served = self.configured.served(pairs)
        return any(one in served for one in proxy_ids)


class Configured:
    """The proxy IDs of a tunnel, found by the selectors of a CHILD_SA without looking at each."""

    def __init__(self, proxy_ids: tuple[ProxyId, ...]) -> None:
        self.all = proxy_ids

    @cached_property
    def known(self) -> frozenset[ProxyId]:
        """All of them, in no order."""
        return frozenset(self.all)

    def served(self, pairs: tuple[ProxyId, ...]) -> dict[ProxyId, bool]:
        """The proxy IDs that a CHILD_SA with these selectors came of: of all of it (True), or narrowed by the peer.

        Of several that hold what was agreed on it came of the narrowest; a single packet's selectors come of none.
        """
        found: dict[ProxyId, bool] = {}
        for pair in pairs:
            meeting = near(self.all, pair)
            found |= dict.fromkeys((one for one in meeting if pair.covers(one)), True)
            if pair not in self.known and not _of_one_packet(pair):
                around = [one for one in meeting if one.covers(pair)]
                narrowest = [one for one in around if not any(other != one and one.covers(other) for other in around)]
                for one in narrowest:
                    found.setdefault(one, False)
        return found


def _of_one_packet(pair: ProxyId) -> bool:
    return pair.local.start == pair.local.end and pair.remote.start == pair.remote.end
