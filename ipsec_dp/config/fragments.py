"""What selectors with ports mean for datagrams in fragments, of which only the first shows ports (RFC 4301 §7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.config.check import tunnel_place

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ipsec_dp.config import model
    from ipsec_dp.config.findings import Findings
    from ipsec_dp.ipsec.selectors import SelectorPair

TCP = 6  # cuts its stream to what passes
WHAT_IS_LOST = "hosts' datagrams that arrive in fragments do not pass, since later ones show no ports"
UNLESS = (
    "where the peer agrees to NON_FIRST_FRAGMENTS_ALSO they do (strongSwan and Libreswan do not); what arrives whole passes; "
    'a further proxy_id with ports "opaque", at the peer too, carries them'
)


def check_fragments(policies: Sequence[tuple[int, model.Policy]], tunnels: Sequence[model.Tunnel], findings: Findings) -> None:
    """One line where selectors of protected traffic ask for ports of what may come in fragments and none is for later ones; and
    what is wrong with such as are for those alone (RFC 4301 §7.2)."""
    by_name = {tunnel.name: tunnel.selectors for tunnel in tunnels}
    places = [(tunnel_place(tunnel.name), "proxy_id", tunnel.selectors, tunnel.selectors) for tunnel in tunnels]
    places += [
        (f"policy #{number}", "", policy.selectors, by_name.get(policy.tunnel, ()))
        for number, policy in policies
        if policy.tunnel is not None
    ]
    asking = [(where, key) for where, key, selectors, carried in places if _loses(selectors, carried)]
    if asking:
        more = f" (and {len(asking) - 1} more)" if len(asking) > 1 else ""
        findings.at(asking[0][0]).warn(asking[0][1], f"asks for ports{more}: {WHAT_IS_LOST}", UNLESS)
    for tunnel in tunnels:
        _check_opaque(tunnel, findings)


def _loses(selectors: Iterable[SelectorPair], carried: Iterable[SelectorPair]) -> bool:
    opaque = [selector for selector in carried if selector.opaque]
    return any(
        selector.asks_ports and selector.protocol.single != TCP and not any(_is_of(each, selector) for each in opaque)
        for selector in selectors
    )


def _is_of(opaque: SelectorPair, ports: SelectorPair) -> bool:
    """Whether it carries all later fragments of what the other one carries."""
    return opaque.protocol == ports.protocol and opaque.local.covers(ports.local) and opaque.remote.covers(ports.remote)


def _check_opaque(tunnel: model.Tunnel, findings: Findings) -> None:
    place = findings.at(tunnel_place(tunnel.name))
    opaque = [selector for selector in tunnel.selectors if selector.opaque]
    shown = [selector for selector in tunnel.selectors if not selector.opaque]
    if opaque and shown and tunnel.manual is not None:
        place.error(
            "proxy_id",
            "keys set by hand are one pair of SAs, and later fragments take SAs of their own (RFC 4301 §7.2)",
            "leave the ports out, or use IKE",
        )
    for selector in opaque:
        if not any(selector.protocol.overlaps(each.protocol) and _meets(selector, each) for each in shown):
            place.warn(
                "proxy_id",
                f"{selector} carries later fragments alone, and nothing here carries their first ones",
                "add the proxy_id for those, with their ports",
            )


def _meets(one: SelectorPair, other: SelectorPair) -> bool:
    return one.local.overlaps(other.local) and one.remote.overlaps(other.remote)
