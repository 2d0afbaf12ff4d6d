"""The proxy IDs of one tunnel, of which those that concern a message or a packet are found without looking at the others."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from ipsec_dp.ike.selector_index import FEW, SelectorIndex
from ipsec_dp.ike.traffic_selectors import ProxyId

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ipsec_dp.ike.traffic_selectors import TrafficSelector


class ProxyIds(tuple[ProxyId, ...]):  # noqa: SLOT001 - each keeps its index
    """In the order of the configuration."""

    @cached_property
    def _index(self) -> SelectorIndex[ProxyId]:
        return SelectorIndex((each, each) for each in self)

    def near(self, local: Iterable[TrafficSelector], remote: Iterable[TrafficSelector]) -> Sequence[ProxyId]:
        """Those that meet one of `local` and one of `remote`, and perhaps some more: of few all, which need no index."""
        return self if len(self) <= FEW else self._index.near_any(local, remote)

    def count_near(self, local: Iterable[TrafficSelector], remote: Iterable[TrafficSelector]) -> int:
        """No fewer than `near` looks at, found without doing so."""
        return len(self) if len(self) <= FEW else self._index.count_near(local, remote)


def near(proxy_ids: Sequence[ProxyId], pair: ProxyId) -> Sequence[ProxyId]:
    """Those of a tunnel that meet `pair`, and perhaps some more, in their order."""
    return proxy_ids.near(pair[:1], pair[1:]) if isinstance(proxy_ids, ProxyIds) else proxy_ids


def count_near(proxy_ids: Sequence[ProxyId], local: Iterable[TrafficSelector], remote: Iterable[TrafficSelector]) -> int:
    """How many of a tunnel's proxy IDs are compared with `local` and `remote`, at the most."""
    return proxy_ids.count_near(local, remote) if isinstance(proxy_ids, ProxyIds) else len(proxy_ids)
