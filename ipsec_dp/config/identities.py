"""Two identities, one prefix: where a peer that may call from anywhere could have what another one is to have."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from ipsec_dp.config.check import tunnel_place
from ipsec_dp.ike.identity import Identity
from ipsec_dp.ike.selector_index import SelectorIndex
from ipsec_dp.ike.traffic_selectors import proxy_id_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from ipsec_dp.config import model
    from ipsec_dp.config.findings import Findings
    from ipsec_dp.ipsec.addresses import AddressRange
    from ipsec_dp.ipsec.selectors import Range, SelectorPair

LOOKED_AT: Final = 1000  # selectors of others beside one: those that may stand there cost time and say nothing


def check_identities(tunnels: Sequence[model.Tunnel], findings: Findings) -> None:
    """Warns of selectors of a tunnel with remote = "any" that hold addresses of another identity's. One that lies wholly within
    another's takes nothing that is not written for it."""
    index: SelectorIndex[tuple[model.Tunnel, SelectorPair]] = SelectorIndex()
    for tunnel in tunnels:
        for selector in tunnel.selectors if tunnel.auth is not None else ():
            index.add(proxy_id_of(selector), (tunnel, selector))
    for tunnel in tunnels:
        if tunnel.auth is None or tunnel.remotes:
            continue
        found = _taken(tunnel, index)
        if found is not None:
            selector, other, theirs = found
            key = "proxy_id" if tunnel.proxy_ids else "interface"
            wrong = (
                f'whoever is {tunnel.auth.remote_id} may have {selector}, of which tunnel "{other.name}" has {theirs} for another'
            )
            right = "the first one that is up keeps it: give each identity a prefix of its own, or both tunnels one remote_id"
            findings.at(tunnel_place(tunnel.name)).warn(key, wrong, right)


def _taken(
    tunnel: model.Tunnel, index: SelectorIndex[tuple[model.Tunnel, SelectorPair]]
) -> tuple[SelectorPair, model.Tunnel, SelectorPair] | None:
    who = _who(tunnel)
    for selector in tunnel.selectors:
        for other, theirs in islice(index.meeting(proxy_id_of(selector)), LOOKED_AT):
            if selector.overlaps(theirs) and not _lies_within(selector, theirs) and _who(other) != who:
                return selector, other, theirs
    return None


def _who(tunnel: model.Tunnel) -> Hashable:
    """The same for tunnels whose peers are the same."""
    if tunnel.auth is None or tunnel.auth.remote_id is None:
        return tunnel.remotes
    return Identity.from_text(tunnel.auth.remote_id).meaning()


def _lies_within(one: SelectorPair, other: SelectorPair) -> bool:
    """True when `other` holds all of `one` and more."""
    ranges: tuple[tuple[AddressRange | Range, AddressRange | Range], ...] = (
        (one.local, other.local),
        (one.remote, other.remote),
        (one.protocol, other.protocol),
        (one.local_ports, other.local_ports),
        (one.remote_ports, other.remote_ports),
    )
    return one != other and all(int(low.low) >= int(high.low) and int(low.high) <= int(high.high) for low, high in ranges)
